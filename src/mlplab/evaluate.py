"""Scores a finished run again from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mlplab.config import Config, SettingError
from mlplab.data.prepared import Prepared, prepare, seen_through
from mlplab.data.preprocess import SideBySide
from mlplab.models.build import dtype_of
from mlplab.restore import Restored, restore
from mlplab.training import losses
from mlplab.training.evaluation import score


@dataclass(frozen=True)
class Loaded:
    """A run's best network, ready to use, with the data that it was trained on."""

    restored: Restored
    prepared: Prepared

    @property
    def config(self) -> Config:
        """The run's settings."""
        return self.restored.config

    @property
    def network(self) -> torch.nn.Module:
        """In evaluation mode."""
        return self.restored.network

    def raw(self, part: str) -> Tensor:
        """Rows of a part as they were read: what `Restored.probabilities` takes."""
        chosen = self.prepared.parts[part]
        if self.prepared.raw is None:  # images, kept as they were
            return chosen.x
        return torch.from_numpy(self.prepared.raw[chosen.rows])


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run's best network on every part."""

    title: str
    metrics: dict[str, dict[str, float]]
    rows: dict[str, int]


def load(folder: Path, allow_targets: Sequence[str] = ()) -> Loaded:
    """Rebuild the network of a run folder with its best weights, and its data.

    Raises:
        SettingError: the folder is no run folder, a file is damaged, or the data is no longer what it was.
    """
    run = restore(folder, allow_targets)
    prepared = prepare(run.config.data, dtype_of(run.config))
    if prepared.fingerprint != run.fingerprint:
        raise SettingError(
            f"the data of {folder} has changed since it was trained (fingerprint {prepared.fingerprint}, then "
            f"{run.fingerprint}); its scores would not compare. Put the old data back or train again."
        )
    if isinstance(run.preprocess, SideBySide):  # a blend, whose members see features of their own
        prepared = seen_through(prepared, run.preprocess)
    return Loaded(run, prepared)


def evaluate(folder: Path, allow_targets: Sequence[str] = ()) -> Evaluation:
    """Scores on every part, the numbers of the run's result.json."""
    run = load(folder, allow_targets)
    weights = losses.class_weights(run.config.loss, run.prepared.parts["train"].y, run.prepared.n_classes)
    metrics = {
        name: score(run.network, part, run.config, run.prepared.n_classes, weights).metrics
        for name, part in run.prepared.parts.items()
        if len(part)
    }
    rows = {name: len(part) for name, part in run.prepared.parts.items()}
    return Evaluation(f"{run.config.name}: {folder}", metrics, rows)
