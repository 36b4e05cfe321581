"""What happens at the end of each epoch: scores, the best weights, metrics.csv, checkpoints, observers, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import lightning.pytorch as L
import torch
from torch import Tensor

from mlplab.data.prepared import Prepared
from mlplab.runs import RunFolder
from mlplab.training import checkpoints
from mlplab.training.classifier import Classifier
from mlplab.training.evaluation import score
from mlplab.training.history import Diverged, MetricsFile, Row, likely_cause
from mlplab.training.selection import Selection

CAPTURE_SECONDS = 0.25


class Observer(Protocol):
    """Somebody who watches a training: a progress bar, TensorBoard."""

    def on_epoch(self, row: Row, classifier: Any) -> None:
        """An epoch has ended; `row` is its line of metrics.csv."""

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        """A step was taken."""

    def close(self) -> None:
        """The training is over, whatever its end."""


class EpochEnd(L.Callback):
    """Scores each epoch and keeps the record.

    Args:
        save_best: writes best.ckpt from (weights, epoch, value).
        start: what last.ckpt holds, of a training that goes on.

    The state at the end of an epoch is copied every CAPTURE_SECONDS or so and written to last.ckpt less often; an
    interrupted training writes the newest copy. What followed it is trained again with the same draws.
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
        start: dict[str, Any] | None = None,
    ) -> None:
        self.prepared, self.folder, self.selection, self.observers = prepared, folder, selection, observers
        self.save_best, self.checkpoint_seconds = save_best, checkpoint_seconds
        self.history: list[Row] = []
        self.best_weights: dict[str, Tensor] = {}
        self._unsaved_best = False
        self._earlier_events: dict[str, int] = {}
        self._captured: dict[str, Any] | None = None
        self._started = self._written = self._captured_at = time.monotonic()
        if start is not None:
            self.history, self.best_weights = list(start["history"]), start["best"]
            selection.load_state_dict(start["selection"])
            self._earlier_events = start["events"]
            self._unsaved_best = bool(self.best_weights)  # best.ckpt may be of an epoch that is trained again
            self._started -= self.history[-1]["seconds"] if self.history else 0.0
        self._csv = MetricsFile(folder.metrics, self.history) if folder and write_metrics else None
        val = prepared.parts["val"]
        self.val = val if len(val) else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._capture(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.automatic_optimization:  # otherwise a block has ended, and the Classifier has told of its steps
            self.on_step(trainer.current_epoch, batch_idx, int(trainer.num_training_batches))

    def on_step(self, epoch: int, batch: int, n_batches: int) -> None:
        """Tell the observers that a step was taken."""
        for observer in self.observers:
            observer.on_batch(epoch, batch, n_batches)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Classifier)
        epoch = trainer.current_epoch
        self._stop_if_diverged(pl_module, epoch)
        row: Row = {"epoch": epoch, "step": (epoch + 1) * pl_module.batches_per_epoch, "lr": pl_module.lr}
        row |= {f"train/{name}": v for name, v in pl_module.seen_metrics().items()}
        if self.val is not None:
            if self.val.x.device != pl_module.device:
                self.val = self.val.to(pl_module.device)
            scores = score(pl_module.network, self.val, pl_module.config, pl_module.n_classes, pl_module.class_weights)
            row |= {f"val/{name}": v for name, v in scores.metrics.items()}
        row["seconds"] = time.monotonic() - self._started
        self.history.append(row)
        value = row.get(self.selection.monitor) if self.selection.monitor else None
        if self.selection.update(epoch, value):
            self.best_weights = {k: v.detach().to("cpu", copy=True) for k, v in pl_module.network.state_dict().items()}
            self._unsaved_best = True
        monitor = pl_module.config.trainer.monitor
        pl_module.plateau.update(row.get(monitor, row[monitor.replace("val/", "train/")]))
        if self._csv:
            self._csv.append(row)
        for observer in self.observers:
            observer.on_epoch(row, pl_module)
        if self.selection.stop:
            trainer.should_stop = True
        now = time.monotonic()
        due = now - self._written >= self.checkpoint_seconds
        if due or now - self._captured_at >= CAPTURE_SECONDS:
            self._capture(trainer)
        if due:
            self._save()

    def write(self, trainer: L.Trainer) -> None:
        """Write the checkpoints as the training stands."""
        self._capture(trainer)
        self._save()

    def write_captured(self) -> None:
        """Write the checkpoints as the training stood when it was last copied."""
        self._save()

    def _capture(self, trainer: L.Trainer) -> None:
        if self.folder is None:
            return
        classifier = trainer.lightning_module
        assert isinstance(classifier, Classifier)
        optimizer, network = trainer.optimizers[0], classifier.network
        events = dict(self._earlier_events)
        for observer in self.observers:
            events |= getattr(observer, "position", dict)()
        own_groups = classifier.config.optimizer.name == "custom"
        self._captured = checkpoints.last_content(
            classifier.config,
            _copied(network.state_dict()),
            [_copied(optimizer.state.get(p, {})) for p in network.parameters() if p.requires_grad],
            classifier.plateau.state_dict(),
            self.selection.state_dict(),
            list(self.history),
            self.best_weights,
            self.prepared.fingerprint,
            [_copied({k: v for k, v in g.items() if k != "params"}) for g in optimizer.param_groups]
            if own_groups
            else None,
            events,
        )
        self._captured_at = time.monotonic()

    def _save(self) -> None:
        """The best first: a kill in between leaves a best.ckpt that the resumed training writes anew."""
        if self.folder is None or self._captured is None:
            return
        self.write_best()
        checkpoints.save_last(self._captured, self.folder.last)
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
            raise Diverged(step, likely_cause(classifier.config, values[: int(bad[0])].tolist(), self.history))

    def close(self) -> None:
        """Close files and observers."""
        if self._csv:
            self._csv.close()
        for observer in self.observers:
            observer.close()


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state
