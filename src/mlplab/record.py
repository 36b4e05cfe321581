"""What a finished training leaves in its run folder, whether it ran alone or in a fused sweep."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlplab import runs
from mlplab.config import Config
from mlplab.config.images import ImageSettings
from mlplab.config.objectives import named
from mlplab.config.training import TensorBoardLogger
from mlplab.data.augmentation import addresses, augment
from mlplab.data.batches import Batches
from mlplab.data.prepared import Prepared
from mlplab.models.diagnostics import ROWS_PROBED, dead_units
from mlplab.models.ensemble import Calibrated, Ensemble
from mlplab.models.packed import PackedMLP
from mlplab.reports import figures
from mlplab.reports.hparams import row_of
from mlplab.reports.images import SHOWN, Gallery, mistakes, worst_mistakes
from mlplab.reports.rows import write_misclassified
from mlplab.reports.tensorboard import Board
from mlplab.training.evaluation import Scores, mean_score, probabilities_of
from mlplab.training.history import Fitted
from mlplab.training.metrics import confusion_matrix, per_class


def beginning(config: Config) -> dict[str, Any]:
    """What result.json says before anything has happened."""
    return {
        "status": "failed",
        "name": config.name,
        "metrics": {},
        "seed": config.seed,
        "versions": runs.versions(),
        "git_commit": runs.git_commit(),
        "command": " ".join(sys.argv),
        **settings(config),
    }


def settings(config: Config) -> dict[str, Any]:
    """The run's settings as result.json has them, so that runs can be compared by that file alone."""
    return {"settings": config.model_dump(mode="json", exclude_none=True)}


def outcome(config: Config, prepared: Prepared, fitted: Fitted, scores: dict[str, Scores]) -> dict[str, Any]:
    """What result.json says of a training that has ended, well or not."""
    values: dict[str, Any] = {
        "status": "diverged" if fitted.diverged else "completed",
        "metrics": {name: s.metrics for name, s in scores.items()},
        "best_epoch": fitted.best_epoch,
        "epochs": len(fitted.history),
        "samples_per_second": fitted.rows_seen / max(fitted.seconds, 1e-9),
        "n_parameters": fitted.n_parameters,
        "device": fitted.device,
        "precision": config.accelerator.precision,
        **settings(config),  # with what `auto` came to
        "data": prepared.describe(),
    }
    values["objective"] = None if fitted.diverged else objective_of(config, values["metrics"], fitted)
    if fitted.diverged:
        values["failure"] = {
            "message": str(fitted.diverged),
            "step": fitted.diverged.step,
            "cause": fitted.diverged.cause,
            "traceback": None,
        }
    if config.ensemble.size > 1:
        trained = fitted.n_members * config.ensemble.packed
        values["ensemble"] = {
            "size": config.ensemble.size,
            "trained": trained,
            "members": alone(config, prepared, fitted),
        }
    for part in ("val", "test"):
        if part in scores:
            predicted = scores[part].probs.argmax(1)
            matrix = confusion_matrix(predicted, prepared.parts[part].y, prepared.n_classes)
            values[f"{part}_confusion_matrix"] = matrix.tolist()
            values[f"{part}_per_class"] = dict(zip(prepared.class_names, per_class(matrix), strict=True))
    return values


def alone(config: Config, prepared: Prepared, fitted: Fitted) -> dict[str, dict[str, float]] | None:
    """Mean over an ensemble's members of what each scores alone, uncalibrated, on every part."""
    whole = fitted.network.network if isinstance(fitted.network, Calibrated) else fitted.network
    networks = list(whole.members) if isinstance(whole, Ensemble | PackedMLP) and fitted.history else []
    if len(networks) < 2:
        return None
    return {
        name: mean_score(networks, part, config, prepared.n_classes, fitted.class_weights)
        for name, part in prepared.parts.items()
        if len(part)
    }


def objective_of(
    config: Config, metrics: dict[str, dict[str, float]], fitted: Fitted
) -> float | list[float | None] | None:
    """What a search is told, of one objective or of each of several."""
    costs = {"parameters": fitted.n_parameters, "seconds": fitted.seconds}
    found = []
    for name in map(named, config.objectives):
        part, _, metric = name.partition("/")
        found.append(metrics.get(part, {}).get(metric) if metric else costs[name])
    return found[0] if isinstance(config.objective, str) else found


def wants_pictures(config: Config, in_sweep: bool) -> TensorBoardLogger | None:
    """The logger's settings if this run draws pictures, histograms and the graph; sweeps do so only when asked."""
    chosen = config.logger
    return chosen if isinstance(chosen, TensorBoardLogger) and (chosen.in_sweeps or not in_sweep) else None


def make_board(
    config: Config,
    prepared: Prepared,
    folder: Path,
    in_sweep: bool,
    epochs: int | None = None,
    at_once: bool = True,
) -> Board | None:
    """The run's TensorBoard events, if the logger is tensorboard.

    Args:
        epochs: epochs that a resumed run has behind it.
        at_once: make their file now and not with the first flush.
    """
    if not isinstance(config.logger, TensorBoardLogger):
        return None
    pictures = wants_pictures(config, in_sweep)
    single = None if config.several else pictures  # what shows one network's inside
    train = prepared.parts["train"]

    def boundary(network: torch.nn.Module) -> Any:
        assert prepared.raw is not None
        predict = probabilities_of(network, prepared.preprocess, config.accelerator.precision)
        names = prepared.feature_names, prepared.class_names
        return figures.decision_boundary(predict, prepared.raw[train.rows], train.y.numpy(), *names)

    values = config.model_dump(exclude_none=True)
    return Board(
        folder,
        values,
        row_of(folder, values),
        config.objectives,
        config.trainer.max_epochs,
        histograms=single is not None and single.histograms,
        boundary=boundary if single and single.figures and _is_plane(prepared) else None,
        example=train.inputs(train.x[:2]) if single and single.graph else None,
        dead=partial(dead_units, x=train.inputs(train.x[:ROWS_PROBED])) if single else None,
        epochs=epochs,
        at_once=at_once,
    )


def _is_plane(prepared: Prepared) -> bool:
    """Whether the raw columns are two numbers without gaps, which is what a decision boundary is drawn over."""
    schema = prepared.schema
    return prepared.n_features == 2 and schema is not None and schema.n_numbers == 2


def make_gallery(
    config: Config, prepared: Prepared, board: Board | None, in_sweep: bool, resumed: bool = False
) -> Gallery | None:
    """The pictures of image data in the run's TensorBoard events; samples as the first step sees them."""
    pictures = wants_pictures(config, in_sweep)
    wanted = pictures is not None and pictures.images and not config.several
    if board is None or not wanted or not isinstance(config.data, ImageSettings):
        return None
    train = prepared.parts["train"]
    order = Batches(train, SHOWN, config.seed).order(0)
    samples = train.x[:SHOWN] if order is None else train.x.index_select(0, order[:SHOWN])
    augmented = None
    if config.augmentation.chosen:
        address = addresses(config.augmentation, config.seed, 0)
        augmented = augment(samples, config.augmentation, address).numpy()
    return Gallery(board.file, samples.numpy(), augmented, board.every, resumed)


def write_end(
    config: Config,
    prepared: Prepared,
    fitted: Fitted,
    scores: dict[str, Scores],
    folder: Path,
    board: Board | None,
    gallery: Gallery | None,
    in_sweep: bool,
) -> None:
    """Write the wrongly told test rows, the figures, and what TensorBoard shows of the end."""
    paths = runs.RunFolder(folder)
    pictures = wants_pictures(config, in_sweep)
    drawn: dict[str, Any] = {}
    curves = None
    if "test" in scores:
        test, names = prepared.parts["test"], prepared.class_names
        targets, probs = test.y.numpy(), scores["test"].probs.double().numpy()
        write_misclassified(paths.misclassified, test.rows, targets, probs, names, prepared.schema, prepared.raw)
        if pictures and pictures.figures and bool(scores["test"].probs.isfinite().all()):
            curves = (names, targets, probs)
            matrix = confusion_matrix(scores["test"].probs.argmax(1), test.y, len(names)).numpy()
            drawn["confusion_matrix"] = figures.confusion_matrix(matrix, names)
            drawn["roc"] = figures.roc_curves(probs, targets, names)
            drawn["precision_recall"] = figures.precision_recall_curves(probs, targets, names)
            drawn["reliability"] = figures.reliability(probs, targets)
    if pictures and pictures.figures and fitted.history:
        columns = {name: [row[name] for row in fitted.history] for name in fitted.history[0]}
        drawn["learning_curves"] = figures.learning_curves(columns, fitted.best_epoch)
    if gallery and fitted.history and fitted.network is not None:
        gallery.first_layer(fitted.network, len(fitted.history))
        if "test" in scores:
            worst = worst_mistakes(targets, probs)
            drawn["misclassified"] = mistakes(test.x[worst].numpy(), targets[worst], probs[worst], names)
    for name, figure in drawn.items():
        runs.write_atomic(paths.figures / f"{name}.png", figures.png(figure))
    if board:
        if fitted.network is not None:
            board.graph(fitted.network)
        board.finish({name: s.metrics for name, s in scores.items()}, drawn, curves)
        board.file.close()
