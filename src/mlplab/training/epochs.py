"""What happens at the end of each epoch: scores, the best weights, metrics.csv, checkpoints, observers, stopping."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import lightning.pytorch as L
import torch
from torch import Tensor

from mlplab.data.prepared import Prepared
from mlplab.runs import RunFolder
from mlplab.training.classifier import Classifier
from mlplab.training.evaluation import score
from mlplab.training.selection import Selection

Row = dict[str, float]


class Observer(Protocol):
    """Somebody who watches a training: a progress bar, TensorBoard."""

    def on_epoch(self, row: Row, classifier: Any) -> None:
        """An epoch has ended; `row` is its line of metrics.csv."""

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        """A step was taken."""

    def close(self) -> None:
        """The training is over, whatever its end."""


class Diverged(Exception):
    """The loss became NaN or infinite; `step` says at which step, counted from 0."""

    def __init__(self, step: int, cause: str) -> None:
        super().__init__(f"the loss became NaN or infinite at step {step}: {cause}")
        self.step, self.cause = step, cause


class EpochEnd(L.Callback):
    """Scores each epoch and keeps the record.

    Args:
        save_best: writes best.ckpt from (weights, epoch, value).
        main: whether this is the process that writes files.
    """

    def __init__(
        self,
        prepared: Prepared,
        folder: RunFolder | None,
        selection: Selection,
        observers: list[Observer],
        save_best: Callable[[dict[str, Tensor], int, float], None],
        checkpoint_seconds: float,
        write_metrics: bool,
    ) -> None:
        self.prepared, self.folder, self.selection, self.observers = prepared, folder, selection, observers
        self.save_best, self.checkpoint_seconds = save_best, checkpoint_seconds
        self.history: list[Row] = []
        self.best_weights: dict[str, Tensor] = {}
        self._unsaved_best = False
        self._started = self._written = time.monotonic()
        self._csv = MetricsFile(folder.metrics) if folder and write_metrics else None
        val = prepared.parts["val"]
        self.val = val if len(val) else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for observer in self.observers:
            observer.on_batch(trainer.current_epoch, batch_idx, int(trainer.num_training_batches))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch
        self._stop_if_diverged(pl_module, epoch)
        row: Row = {"epoch": epoch, "step": (epoch + 1) * pl_module.batches_per_epoch, "lr": pl_module.lr}
        row |= {f"train/{name}": v for name, v in pl_module.seen_metrics().items()}
        if self.val is not None:
            if self.val.x.device != pl_module.device:
                self.val = self.val.to(pl_module.device)
            scores = score(
                pl_module.network, self.val, pl_module.config, pl_module.n_classes, pl_module.class_weights
            )
            row |= {f"val/{name}": v for name, v in scores.metrics.items()}
        row["seconds"] = time.monotonic() - self._started
        self.history.append(row)
        value = row.get(self.selection.monitor) if self.selection.monitor else None
        if self.selection.update(epoch, value):
            self.best_weights = {k: v.detach().to("cpu", copy=True) for k, v in pl_module.network.state_dict().items()}
            self._unsaved_best = True
        pl_module.plateau.update(row.get(pl_module.config.trainer.monitor, row["train/loss"]))
        if self._csv:
            self._csv.append(row)
        for observer in self.observers:
            observer.on_epoch(row, pl_module)
        if self.selection.stop:
            trainer.should_stop = True
        if time.monotonic() - self._written >= self.checkpoint_seconds:
            self.write(trainer)

    def write(self, trainer: L.Trainer) -> None:
        """Write the checkpoints: the best first, so that a kill in between leaves two that fit together."""
        if self.folder is None:
            return
        self.write_best()
        trainer.save_checkpoint(self.folder.last)
        self._written = time.monotonic()

    def write_best(self) -> None:
        """Write the best weights if they are newer than best.ckpt."""
        if self._unsaved_best and self.folder is not None:
            self.save_best(self.best_weights, self.selection.best_epoch, self.selection.best)
            self._unsaved_best = False

    def _stop_if_diverged(self, classifier: Classifier, epoch: int) -> None:
        values = torch.stack([loss for loss, _, _ in classifier.seen])
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            step = epoch * classifier.batches_per_epoch + int(bad[0])
            raise Diverged(step, _likely_cause(classifier, values[: int(bad[0])].tolist(), self.history))

    def state_dict(self) -> dict[str, Any]:
        return {"selection": self.selection.state_dict(), "history": self.history, "best_weights": self.best_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.selection.load_state_dict(state_dict["selection"])
        self.history, self.best_weights = state_dict["history"], state_dict["best_weights"]

    def close(self) -> None:
        """Close files and observers."""
        if self._csv:
            self._csv.close()
        for observer in self.observers:
            observer.close()


def _likely_cause(classifier: Classifier, before: list[float], history: list[Row]) -> str:
    config = classifier.config
    losses = [row["train/loss"] for row in history] + before
    rate = f"optimizer.lr={config.optimizer.lr:g}"
    if config.accelerator.precision == "16-mixed":
        return "16-bit numbers overflow above 65504; use accelerator.precision=bf16-mixed or 32"
    if len(losses) >= 2 and losses[-1] > 2 * min(losses):
        return (
            f"it had grown from {min(losses):.3g} to {losses[-1]:.3g}, so the steps are too long: lower {rate}, add "
            "scheduler.warmup_epochs=1 or regularization=gradient_clipping"
        )
    if not losses:
        return f"at the first step already: the features or the initial weights are too large, or {rate} is"
    return f"a single step too long: lower {rate}, or add regularization=gradient_clipping"


class MetricsFile:
    """metrics.csv: a header and one row an epoch, on disk as soon as the epoch has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def append(self, row: Row) -> None:
        """Write one row; the first one gives the columns."""
        if self._file is None:
            self._file = self.path.open("a", newline="")
            csv.writer(self._file).writerow(row)
        csv.writer(self._file).writerow("" if isinstance(v, float) and math.isnan(v) else v for v in row.values())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
