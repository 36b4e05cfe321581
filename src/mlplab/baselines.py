"""Traditional methods on the very same rows, scaling and metrics as a network: is it worth it?"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlplab.config import SettingError
from mlplab.data.prepared import Part, Prepared
from mlplab.training.metrics import METRICS, compute


@dataclass(frozen=True)
class Scored:
    """What one method does on every part."""

    method: str
    metrics: dict[str, dict[str, float]]
    """Part -> name -> value, the names of mlplab.training.metrics; empty where the method could not be used."""
    seconds: float | None
    """Time of the training."""
    note: str = ""
    """Why there are no scores, or what scikit-learn had to say of the training."""


def _logistic_regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000)  # scikit-learn's 100 stop short on scaled tables of many columns


def _knn(seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier()


def _svm(seed: int) -> Any:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    return CalibratedClassifierCV(SVC(), ensemble=False)  # its distances as probabilities (Platt 1999)


def _random_forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=seed)


def _gradient_boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _sklearn_mlp(seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(max_iter=500, random_state=seed)


METHODS: dict[str, Callable[[int], Any]] = {
    "logistic_regression": _logistic_regression,
    "knn": _knn,
    "svm": _svm,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
    "sklearn_mlp": _sklearn_mlp,
}
"""Name -> scikit-learn's estimator with its own default settings, from a seed."""


def score_methods(prepared: Prepared, methods: Sequence[str], seed: int, svm_rows: int) -> Iterator[Scored]:
    """Train each method on the training part and score it on every part.

    Args:
        seed: of the methods that draw.
        svm_rows: the support vector machine is left out above so many training rows.
    """
    for method in methods:
        rows = len(prepared.parts["train"])
        if method == "svm" and rows > svm_rows:
            yield Scored(method, {}, None, f"left out: {rows} training rows are more than svm_rows={svm_rows}")
        else:
            yield _score(method, METHODS[method](seed), prepared)


def _score(method: str, model: Any, prepared: Prepared) -> Scored:
    started = time.perf_counter()
    train = prepared.parts["train"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model.fit(_features(train), train.y.numpy())
            seconds = time.perf_counter() - started
            metrics = {name: _metrics(model, part, prepared) for name, part in prepared.parts.items() if len(part)}
        except ValueError as error:  # too few rows for this method: scikit-learn says of what
            return Scored(method, {}, None, str(error).splitlines()[0])
    stopped = any("onverge" in str(warning.message) for warning in said)
    return Scored(method, metrics, seconds, "not converged" if stopped else "")


def _features(part: Part) -> np.ndarray:
    return part.inputs(part.x).flatten(1).double().numpy()


def _metrics(model: Any, part: Part, prepared: Prepared) -> dict[str, float]:
    probs = torch.zeros(len(part), prepared.n_classes, dtype=torch.float64)
    # a class without a training row has no column
    probs[:, torch.from_numpy(model.classes_)] = torch.from_numpy(model.predict_proba(_features(part))).double()
    return {name: float(value) for name, value in compute(probs, part.y).items()}


def of_run(folder: Path, asked: Prepared | None) -> tuple[Scored, Prepared, int]:
    """A run's scores, its data as it was split and scaled for it, and its seed.

    Args:
        asked: data that the person named beside the run, which must then be the run's own.

    Raises:
        SettingError: the folder is no run folder, or the data is not the run's.
    """
    from mlplab.evaluate import evaluate, load
    from mlplab.runs import read_result

    run = load(folder)
    if asked is not None and asked.fingerprint != run.prepared.fingerprint:
        raise SettingError(
            f"run={folder} was trained on other rows than the data settings give (data={run.config.data.name}, split "
            f"{run.config.data.split}); leave out data=..., and the run's own are taken"
        )
    try:
        seconds = read_result(folder).values["seconds"].get("fit")
    except (ValueError, KeyError):  # a run that was killed has a network, but no result yet
        seconds = None
    return Scored(f"{run.config.name} (run)", evaluate(folder).metrics, seconds), run.prepared, run.config.seed


COLUMNS = ("accuracy", "balanced_accuracy", "auroc", "log_loss")
"""What fits on a screen; the files hold all."""


def table(scored: Sequence[Scored]) -> tuple[list[str], list[list[object]]]:
    """Header and rows: validation accuracy where there is a validation part, then the test part's metrics."""
    has_val = any("val" in s.metrics for s in scored)
    header = ["method", *(["val accuracy"] if has_val else []), *(c.replace("_", " ") for c in COLUMNS), "seconds"]
    rows: list[list[object]] = []
    for s in scored:
        test = s.metrics.get("test", {})
        val = [s.metrics.get("val", {}).get("accuracy")] if has_val else []
        seconds = None if s.seconds is None else f"{s.seconds:.2f}"
        rows.append([s.method, *val, *(test.get(c) for c in COLUMNS), seconds])
    return header, rows


def write(path: Path, scored: Sequence[Scored], fingerprint: str) -> None:
    """Write the scores as .json, or as .csv with a row for each method and part.

    Raises:
        SettingError: the file's name ends neither in .json nor in .csv.
    """
    from mlplab.reports.tables import write_csv
    from mlplab.runs import write_atomic

    check_file(path)
    if path.suffix == ".csv":
        rows = [
            [s.method, part, *(values[name] for name in METRICS), s.seconds, s.note]
            for s in scored
            for part, values in (s.metrics or {"": dict.fromkeys(METRICS, math.nan)}).items()
        ]
        write_csv(path, ["method", "part", *METRICS, "seconds", "note"], rows)
        return
    values: Mapping[str, Any] = {
        "fingerprint": fingerprint,
        "methods": [{"method": s.method, "metrics": s.metrics, "seconds": s.seconds, "note": s.note} for s in scored],
    }
    write_atomic(path, (json.dumps(values, indent=2) + "\n").encode())


def check_file(path: Path) -> None:
    """Refuse a file name that says neither JSON nor CSV."""
    if path.suffix not in (".json", ".csv"):
        raise SettingError(f"file={path} must end in .json or .csv")
