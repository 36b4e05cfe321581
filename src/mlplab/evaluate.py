"""Scores a finished run again from its folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mlplab.config import Config, SettingError
from mlplab.data.prepared import Prepared, prepare
from mlplab.models.build import build
from mlplab.runs import RunFolder
from mlplab.training import checkpoints, losses
from mlplab.training.evaluation import score


@dataclass(frozen=True)
class Loaded:
    """A run's best network, ready to use."""

    config: Config
    network: torch.nn.Module
    prepared: Prepared


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
    path = RunFolder(folder).best
    checkpoint = checkpoints.load(path)
    config = checkpoints.config_of(checkpoint, path, allow_targets)
    dtype = torch.float64 if config.accelerator.precision == 64 else torch.float32
    prepared = prepare(config.data, dtype)
    if prepared.fingerprint != checkpoint["fingerprint"]:
        raise SettingError(
            f"the data of {folder} has changed since it was trained (fingerprint {prepared.fingerprint}, then "
            f"{checkpoint['fingerprint']}); its scores would not compare. Put the old data back or train again."
        )
    network = build(config, len(checkpoint["feature_names"]), checkpoint["n_outputs"]).to(dtype)
    network.load_state_dict(checkpoint["network"])
    return Loaded(config, network.eval(), prepared)


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
