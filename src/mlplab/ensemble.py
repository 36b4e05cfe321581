"""Trains the networks of an ensemble, as one batched program where they can be one, and puts them together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlplab.config import Config
from mlplab.config.fusable import alone_because
from mlplab.data.prepared import Prepared
from mlplab.fused.plan import Job
from mlplab.fused.training import FusedTraining, Trained
from mlplab.models.build import members, together
from mlplab.reports.progress import ProgressBar
from mlplab.runs import RunFolder
from mlplab.training import checkpoints, losses
from mlplab.training.history import Fitted, Row, mean_row, write_metrics
from mlplab.training.selection import Selection

if TYPE_CHECKING:
    from mlplab.training.epochs import Observer


def fit_ensemble(
    config: Config, prepared: Prepared, device: str, folder: RunFolder, observers: list[Observer]
) -> Fitted:
    """Train `ensemble.size` networks that differ in their seeds alone; what is written is one run's.

    Each network keeps the weights of its own best epoch. One that diverges is left out; all of them is a divergence.

    Args:
        device: from `devices.resolve`.
        observers: told of each epoch, with the mean of the networks' scores as its row.
    """
    configs = members(config)
    one_by_one = alone_because(configs[0])
    trained = (_in_turn if one_by_one else _at_once)(configs, prepared, device, folder, observers)
    whole = _whole(config, prepared, trained, device)
    if one_by_one:  # what is not a bar hears of the means, when they are known
        for row in whole.history:
            _tell([o for o in observers if not isinstance(o, ProgressBar)], row)
    if whole.history:
        write_metrics(config, whole.history, folder.metrics)
        _save(config, prepared, whole, folder)
    for left in (_member_folder(folder, i) for i in range(len(configs))):
        shutil.rmtree(left, ignore_errors=True)
    return whole


def _at_once(
    configs: list[Config], prepared: Prepared, device: str, folder: RunFolder, observers: list[Observer]
) -> list[Fitted]:
    jobs = [Job(config, folder.path, prepared, i) for i, config in enumerate(configs)]

    def report(epochs: int, left: int, best: float) -> None:
        rows = [t.history[epochs - 1] for t in training.all if len(t.history) >= epochs]
        if rows:
            _tell(observers, mean_row(rows))

    training = FusedTraining(jobs, torch.device(device), report)
    return [_fitted(trained, prepared, device) for trained in training.run()]


def _fitted(trained: Trained, prepared: Prepared, device: str) -> Fitted:
    config = trained.job.config
    network = trained.network() if trained.history else None
    return Fitted(
        network=network,
        history=trained.history,
        best_epoch=trained.selection.best_epoch,
        seconds=trained.seconds,
        rows_seen=len(prepared.parts["train"]) * len(trained.history),
        n_parameters=0 if network is None else sum(p.numel() for p in network.parameters()),
        device=device,
        class_weights=losses.class_weights(config.loss, prepared.parts["train"].y, prepared.n_classes),
        diverged=trained.diverged,
    )


def _in_turn(
    configs: list[Config], prepared: Prepared, device: str, folder: RunFolder, observers: list[Observer]
) -> list[Fitted]:
    """One after the other by Lightning; a folder of its own for each until all are done, to go on from after a kill."""
    from mlplab.training.fit import fit  # imports Lightning

    done: list[Fitted] = []
    for i, config in enumerate(configs):
        own = RunFolder(_member_folder(folder, i))
        own.path.mkdir(parents=True, exist_ok=True)
        start = checkpoints.load(own.last) if own.last.is_file() else None
        watching: list[Any] = [_Member(observer, i, config.trainer.max_epochs) for observer in observers]
        done.append(fit(config, prepared, device, own, watching, start))
    return done


class _Member:
    """Passes a member's epochs on to a progress bar, which counts those of all members; others hear of the means."""

    def __init__(self, observer: Any, number: int, epochs: int) -> None:
        self.bar = observer if isinstance(observer, ProgressBar) else None
        self.before = number * epochs

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        if self.bar:
            self.bar.on_batch(self.before + epoch, batch, n_batches)

    def on_epoch(self, row: Row, classifier: Any) -> None:
        if self.bar:
            self.bar.on_epoch(row | {"epoch": self.before + row["epoch"]}, classifier)

    def close(self) -> None:
        """The bar goes on with the next member."""


def _member_folder(folder: RunFolder, number: int) -> Path:
    return folder.path / "checkpoints" / f"member_{number}"


def _tell(observers: Sequence[Any], row: Row) -> None:
    for observer in observers:
        observer.on_epoch(row, None)


def _whole(config: Config, prepared: Prepared, trained: list[Fitted], device: str) -> Fitted:
    good = [f for f in trained if f.diverged is None and f.network is not None]
    history: list[Row] = []
    for epoch in range(max((len(f.history) for f in trained), default=0)):
        history.append(mean_row([f.history[epoch] for f in good or trained if len(f.history) > epoch]))
    monitor = config.trainer.monitor
    selection = Selection(monitor if len(prepared.parts["val"]) else None)
    for row in history:
        selection.update(int(row["epoch"]), row.get(monitor))
    return Fitted(
        network=together(config, [f.network for f in good if f.network is not None]) if good else None,
        history=history if good else [],
        best_epoch=selection.best_epoch,
        seconds=sum(f.seconds for f in trained),
        rows_seen=sum(f.rows_seen for f in trained),
        n_parameters=sum(f.n_parameters for f in good),
        device=device,
        class_weights=trained[0].class_weights,
        diverged=None if good else trained[0].diverged,
        n_members=len(good),
    )


def _save(config: Config, prepared: Prepared, whole: Fitted, folder: RunFolder) -> None:
    assert whole.network is not None
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    weights = whole.network.state_dict()
    value = whole.history[whole.best_epoch].get(config.trainer.monitor, float("nan"))
    best = checkpoints.best_content(config, prepared, weights, n_outputs, whole.best_epoch, value)
    checkpoints.save(best, folder.best)
    checkpoints.save_last(checkpoints.ended(config, whole.history, prepared.fingerprint), folder.last)
