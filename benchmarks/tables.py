"""Accuracy on tables, beside scikit-learn's MLP, gradient boosting and the strongest published MLPs.

`python benchmarks/tables.py --record benchmarks/tables.json`: five stratified 80/20 splits (random_state 0 to 4, the
seed of all else too; adult on its official split, three seeds), the same rows for all. Each result is kept in that
file as it comes, so that an interrupted comparison goes on where it was. `--peers realmlp,tabm` needs
`pip install "mlplab[peers]"`. `--pairs 7` trains a plain network and table_best in turn on each table, seven times, and
states how many times longer the second took; nothing is scored.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pandas as pd
from table_peers import OPTIONAL, PEERS

DATA = Path(os.environ.get("MLPLAB_DATA", "data")) / "tabular"
BUNDLED = ("wine", "iris", "breast_cancer", "digits")
FILES = {
    "german": "german.csv",
    "pima": "pima-indians-diabetes.csv",
    "sonar": "sonar.csv",
    "banknote": "banknote_authentication.csv",
}
OURS = {
    "plain": (),
    "ensemble": ("ensemble.size=8",),
    "table_best": ("experiment=table_best",),
}
"""Ways to train with mlplab; `plain` is what `train.py data=table` does: 32-32, Adam, 30 epochs."""
METRICS = ("accuracy", "balanced_accuracy", "log_loss", "auroc")
TARGETS = {
    "digits": 0.984,
    "german": 0.755,
    "sonar": 0.88,
    "pima": 0.75,
    "breast_cancer": 0.98,
    "wine": 0.985,
    "iris": 0.953,
    "banknote": 1.0,
    "adult": 0.869,
}
"""Mean accuracy that `table_best` is to reach."""
ADULT = (
    *("data=table", f"data.path={DATA}/adult-train.csv", f"data.test_path={DATA}/adult-test.csv", "data.header=false"),
    'data.label_map=[["<=50K.","<=50K"],[">50K.",">50K"]]',
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=",".join(TARGETS))
    parser.add_argument("--peers", default=",".join(p for p in PEERS if p not in OPTIONAL))
    parser.add_argument("--ours", default=",".join(OURS))
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--record", type=Path, help="JSON file that keeps the results")
    parser.add_argument("--pairs", type=int, default=0, help="time table_best against plain, so many times in turn")
    given = parser.parse_args()
    if given.pairs:
        for name in given.data.split(","):
            times(name, given.pairs)
        return
    file = given.record
    found: dict[str, Any] = json.loads(file.read_text())["runs"] if file and file.exists() else {}
    for name in given.data.split(","):
        for split in range(min(given.splits, 3) if name == "adult" else given.splits):
            for who in (*given.ours.split(","), *given.peers.split(",")):
                key = f"{name}/{split}/{who}"
                if who and key not in found:
                    found[key] = score(name, split, who)
                    print(key, {k: round(v, 4) for k, v in found[key].items()}, flush=True)
                    if file:
                        file.write_text(json.dumps({"where": measure.machine(), "runs": found}, indent=1) + "\n")
    report(found)


def times(name: str, pairs: int) -> None:
    """Print how many times longer table_best trains than one plain network, the two in turn."""
    fits = [[ours(name, i % 5, OURS[who])["fit"] for who in ("plain", "table_best")] for i in range(pairs + 1)][1:]
    ratios = [best / plain for plain, best in fits]
    plain, best = np.median(fits, 0)
    low, middle, high = np.quantile(ratios, [0, 0.5, 1])
    print(
        f"{name}: {plain:.2f} s plain, {best:.2f} s table_best: {middle:.1f} times ({low:.1f} to {high:.1f})",
        flush=True,
    )


def score(name: str, split: int, who: str) -> dict[str, float]:
    """Test metrics and seconds of one classifier on one split."""
    started = time.perf_counter()
    scores = ours(name, split, OURS[who]) if who in OURS else of_peer(name, split, who)
    return {**scores, "seconds": time.perf_counter() - started}


def ours(name: str, split: int, settings: Sequence[str]) -> dict[str, float]:
    """A run of mlplab; its test part is what scikit-learn's train_test_split(random_state=split) gives."""
    from mlplab.compose import load_config
    from mlplab.experiment import run

    if name == "adult":
        data = ADULT
    elif name in BUNDLED:
        data = (f"data={name}", f"data.split_seed={split}")
    else:
        data = ("data=table", f"data.path={DATA}/{FILES[name]}", "data.header=false", f"data.split_seed={split}")
    config = load_config(*settings, *data, f"seed={split}", "data.split=[0.8,0.2]", "logger=none")
    with tempfile.TemporaryDirectory() as folder:
        result = run(config, Path(folder) / "run")
    return {metric: result.metrics["test"][metric] for metric in METRICS} | {"fit": result.values["seconds"]["fit"]}


def of_peer(name: str, split: int, who: str) -> dict[str, float]:
    """One of the others on the same rows."""
    x, y, test, y_test, categories = rows(name, split)
    probs = PEERS[who](x, y, test, categories, split)
    return scored(probs / probs.sum(1, keepdims=True), y_test)


def rows(name: str, split: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray, list[str]]:
    """Training and test rows as raw columns, classes as numbers, and the columns that are categories."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    if name == "adult":
        parts = [
            pd.read_csv(DATA / f"adult-{part}.csv", header=None, skipinitialspace=True, na_values="?")
            for part in ("train", "test")
        ]
        x, test = (part.iloc[:, :-1] for part in parts)
        y, y_test = (part.iloc[:, -1].str.startswith(">").to_numpy().astype(int) for part in parts)
    else:
        if name in BUNDLED:
            bunch = getattr(datasets, f"load_{name}")()
            whole, classes = pd.DataFrame(bunch.data), np.asarray(bunch.target)
        else:
            frame = pd.read_csv(DATA / FILES[name], header=None)
            whole, classes = frame.iloc[:, :-1], np.unique(frame.iloc[:, -1], return_inverse=True)[1]
        train_rows, test_rows = train_test_split(
            np.arange(len(classes)), test_size=0.2, random_state=split, stratify=classes
        )
        x, test = whole.iloc[train_rows], whole.iloc[test_rows]
        y, y_test = classes[train_rows], classes[test_rows]
    x, test = (frame.rename(columns=lambda c: f"c{c}").reset_index(drop=True) for frame in (x, test))
    categories = [c for c in x if not pd.api.types.is_numeric_dtype(x[c])]
    for frame in (x, test):
        frame[categories] = frame[categories].astype(object).where(frame[categories].notna(), "missing")
    return x, y, test, y_test, categories


def scored(probs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Metrics of probabilities (rows, n_classes), by scikit-learn."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

    auroc = roc_auc_score(y, probs[:, 1]) if probs.shape[1] == 2 else roc_auc_score(y, probs, multi_class="ovr")
    told = probs.argmax(1)
    return {
        "accuracy": float(accuracy_score(y, told)),
        "balanced_accuracy": float(balanced_accuracy_score(y, told)),
        "log_loss": float(log_loss(y, probs)),
        "auroc": float(auroc),
    }


def report(found: dict[str, Any]) -> None:
    """Print mean and standard deviation of each classifier, and each peer's paired difference from table_best."""
    names = list(dict.fromkeys(key.split("/")[0] for key in found))
    who = list(dict.fromkeys(key.split("/")[2] for key in found))
    for metric in METRICS:
        print(f"\n{metric}: mean ± standard deviation (difference of table_best, * if |t| > 2.8 over the splits)")
        print(f"{'':14}" + "".join(f"{name:>26}" for name in who))
        for name in names:
            print(f"{name:14}" + "".join(f"{_cell(found, name, w, metric):>26}" for w in who))
        full = [w for w in who if all(_values(found, name, w, metric) for name in names)]
        means = {w: np.mean([np.mean(_values(found, name, w, metric)) for name in names]) for w in full}
        print(f"{'mean':14}" + "".join(f"{means[w]:>26.4f}" if w in means else f"{'':>26}" for w in who))
    print("\nseconds to train: " + ", ".join(f"{name} {_seconds(found, name)}" for name in names))
    for name, target in TARGETS.items():
        if values := _values(found, name, "table_best", "accuracy"):
            verdict = "reached" if np.mean(values) >= target else "missed"
            print(f"{name}: {np.mean(values):.4f}, target {target}: {verdict}")


def _values(found: dict[str, Any], name: str, who: str, metric: str) -> list[float]:
    return [v[metric] for key, v in found.items() if key.split("/")[0] == name and key.split("/")[2] == who]


def _cell(found: dict[str, Any], name: str, who: str, metric: str) -> str:
    values, best = _values(found, name, who, metric), _values(found, name, "table_best", metric)
    if not values:
        return ""
    told = f"{np.mean(values):.4f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.4f}"
    if who == "table_best" or len(values) != len(best) or len(values) < 2:
        return told
    difference = np.subtract(best, values)
    spread = float(np.std(difference, ddof=1)) / math.sqrt(len(difference))
    t = abs(float(difference.mean())) / spread if spread > 0 else 0.0
    return f"{told} ({difference.mean():+.3f}{'*' if t > 2.8 else ''})"


def _seconds(found: dict[str, Any], name: str) -> str:
    plain, best = _values(found, name, "plain", "fit"), _values(found, name, "table_best", "fit")
    return f"{np.median(best):.1f} against {np.median(plain):.2f} plain" if plain and best else "-"


if __name__ == "__main__":
    main()
