"""One run from settings to its record: this page is the whole road."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlplab import runs
from mlplab.config import Config, SettingError
from mlplab.config.training import TensorBoardLogger
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.diagnostics import ROWS_PROBED, dead_units
from mlplab.reports import figures
from mlplab.reports.progress import ProgressBar
from mlplab.reports.rows import write_misclassified
from mlplab.reports.tables import write_csv
from mlplab.reports.tensorboard import Board
from mlplab.training import devices
from mlplab.training.by_hand import Number, first_step
from mlplab.training.epochs import Observer
from mlplab.training.evaluation import Scores, probabilities_of, score
from mlplab.training.fit import fit
from mlplab.training.history import Fitted
from mlplab.training.metrics import confusion_matrix, per_class


def run(config: Config, folder: Path, progress: bool = False) -> runs.Result:
    """Prepare the data, train, score the best epoch's weights on every part, and write the run folder.

    It can be called many times in one process: what it sets in torch it sets back.

    Args:
        config: from `mlplab.compose.load_config`.
        folder: an empty or new folder for this run alone.
        progress: show a progress bar.

    Raises:
        SettingError: the settings do not fit the data or the machine; nothing is left behind.
    """
    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"status": "failed", "name": config.name, "metrics": {}, "seed": config.seed}
    record |= {"versions": runs.versions(), "git_commit": runs.git_commit(), "command": " ".join(sys.argv)}
    try:
        with torch_left_as_found(config):
            device = devices.resolve(config.accelerator)
            prepared = prepare(config.data, torch.float64 if config.accelerator.precision == 64 else torch.float32)
            if config.trainer.show_first_step:
                write_csv(runs.RunFolder(folder).first_step, Number._fields, first_step(config, prepared))
            board = make_board(config, prepared, folder)
            bar = [ProgressBar(config.trainer.max_epochs)] if progress else []
            observers: list[Observer] = [*bar, *([board] if board else [])]
            fitted = fit(config, prepared, device, runs.RunFolder(folder), observers)
            if not fitted.main:
                raise SystemExit(0)  # one of several processes: the first keeps the record
            testing = time.perf_counter()
            scores = score_all(fitted, config, prepared)
            seconds = {"fit": fitted.seconds, "test": time.perf_counter() - testing}
            record |= outcome(config, prepared, fitted, scores)
            show_results(config, prepared, fitted, scores, folder, board)
        record["seconds"] = {"total": time.perf_counter() - started, **seconds}
        return runs.write_result(folder, record)
    except SettingError:
        runs.discard_if_empty(folder)
        raise
    except Exception as error:
        record["failure"] = {"message": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        record["seconds"] = {"total": time.perf_counter() - started}
        runs.write_result(folder, record)
        raise


def score_all(fitted: Fitted, config: Config, prepared: Prepared) -> dict[str, Scores]:
    """Scores on every part that has rows; the test part is read here and nowhere else."""
    if not fitted.history:
        return {}
    return {
        name: score(fitted.network, part, config, prepared.n_classes, fitted.class_weights)
        for name, part in prepared.parts.items()
        if len(part)
    }


def outcome(config: Config, prepared: Prepared, fitted: Fitted, scores: dict[str, Scores]) -> dict[str, Any]:
    """What result.json says of a training that has ended, well or not."""
    values: dict[str, Any] = {
        "status": "diverged" if fitted.diverged else "completed",
        "metrics": {name: s.metrics for name, s in scores.items()},
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "samples_per_second": fitted.rows_seen / max(fitted.seconds, 1e-9),
        "n_parameters": sum(p.numel() for p in fitted.network.parameters()),
        "device": fitted.device,
        "precision": config.accelerator.precision,
        "data": prepared.describe(),
    }
    part, name = config.objective.split("/")
    values["objective"] = values["metrics"].get(part, {}).get(name) if not fitted.diverged else None
    if fitted.diverged:
        values["failure"] = {
            "message": str(fitted.diverged),
            "step": fitted.diverged.step,
            "cause": fitted.diverged.cause,
            "traceback": None,
        }
    for part in ("val", "test"):
        if part in scores:
            predicted = scores[part].probs.argmax(1)
            matrix = confusion_matrix(predicted, prepared.parts[part].y, prepared.n_classes)
            values[f"{part}_confusion_matrix"] = matrix.tolist()
            table = zip(prepared.class_names, per_class(matrix), strict=True)
            values[f"{part}_per_class"] = {label: row for label, row in table}
    return values


def make_board(config: Config, prepared: Prepared, folder: Path) -> Board | None:
    """The run's TensorBoard events, if the logger is tensorboard."""
    chosen = config.logger
    if not isinstance(chosen, TensorBoardLogger):
        return None

    def boundary(network: torch.nn.Module) -> Any:
        test = prepared.parts["train"]
        predict = probabilities_of(network, prepared.preprocess, config.accelerator.precision)
        return figures.decision_boundary(
            predict, prepared.raw[test.rows], test.y.numpy(), prepared.feature_names, prepared.class_names
        )

    return Board(
        folder,
        config.model_dump(exclude_none=True),
        config.trainer.max_epochs,
        chosen.histograms,
        boundary if chosen.figures and prepared.n_features == 2 else None,
        prepared.parts["train"].x[:2] if chosen.graph else None,
        partial(dead_units, x=prepared.parts["train"].x[:ROWS_PROBED]),
    )


def show_results(
    config: Config, prepared: Prepared, fitted: Fitted, scores: dict[str, Scores], folder: Path, board: Board | None
) -> None:
    """Write the wrongly told test rows, the figures, and what TensorBoard shows of the end."""
    paths = runs.RunFolder(folder)
    drawn: dict[str, Any] = {}
    curves = None
    if "test" in scores:
        test = prepared.parts["test"]
        targets, probs = test.y.numpy(), scores["test"].probs.float().numpy()
        names = prepared.class_names
        write_misclassified(paths.misclassified, test.rows, targets, probs, names, prepared.feature_names, prepared.raw)
        if isinstance(config.logger, TensorBoardLogger) and config.logger.figures:
            curves = (names, targets, probs)
            matrix = confusion_matrix(scores["test"].probs.argmax(1), test.y, len(names)).numpy()
            drawn["confusion_matrix"] = figures.confusion_matrix(matrix, names)
            drawn["roc"] = figures.roc_curves(probs, targets, names)
            drawn["precision_recall"] = figures.precision_recall_curves(probs, targets, names)
    if isinstance(config.logger, TensorBoardLogger) and config.logger.figures and fitted.history:
        drawn["learning_curves"] = figures.learning_curves(
            {name: [row[name] for row in fitted.history] for name in fitted.history[0]}
        )
    for name, figure in drawn.items():
        figures.save(figure, paths.figures / f"{name}.png")
    if board:
        board.finish({name: s.metrics for name, s in scores.items()}, drawn, curves)
        board.file.close()


@contextmanager
def torch_left_as_found(config: Config) -> Iterator[None]:
    """Set back what a run sets for the whole process: torch's generators and its demand for determinism."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
