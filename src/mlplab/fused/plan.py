"""Which jobs of a sweep can train together: jobs of one structure form a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlplab.config import Config
from mlplab.config.fusable import alone_because
from mlplab.data.prepared import Prepared


@dataclass
class Job:
    """One job of a sweep."""

    config: Config
    folder: Path
    prepared: Prepared
    number: int = 0


@dataclass
class Group:
    """Jobs that train as one program."""

    jobs: list[Job] = field(default_factory=list)


# settings that may differ between the networks of a group
_FREE_OPTIMIZER = ("lr", "weight_decay", "betas", "eps", "momentum", "alpha", "lr_decay")
_FREE_REGULARIZATION = (
    "l1",
    "l2",
    "elastic_net",
    "weight_decay",
    "label_smoothing",
    "early_stopping",
    "gradient_clipping",
    "max_norm",
)
_SHAPING = ("dropout", "batch_norm", "layer_norm", "input_noise", "mixup")


def structure(job: Job) -> str:
    """Jobs with the same text can train together."""
    c = job.config
    train, val = job.prepared.parts["train"], job.prepared.parts["val"]
    size = len(train) if c.data.batch_size == "full" else min(c.data.batch_size, len(train))
    regularization = c.regularization
    key: dict[str, Any] = {
        "features": list(train.x.shape[1:]),
        "dtype": str(train.x.dtype),
        "classes": job.prepared.n_classes,
        "numbers": job.prepared.n_numbers,
        "embedding": c.embedding.model_dump(exclude={"scale"}),
        "ensemble": c.ensemble.model_dump(),
        "categories": job.prepared.categories,
        "embedding_width": getattr(c.data, "embedding_width", None),
        "widths": getattr(c.model, "widths", None),
        "bias": getattr(c.model, "bias", None),
        "activation": c.activation.model_dump(),
        "optimizer": {k: v for k, v in c.optimizer.model_dump().items() if k not in _FREE_OPTIMIZER},
        "loss": {k: v for k, v in c.loss.model_dump().items() if k != "class_weights"},
        "accelerator": c.accelerator.model_dump(),
        "trainer": c.trainer.model_dump(exclude={"checkpoint_seconds"}),
        "batches": -(-len(train) // size),
        "batch_size": "full" if size == len(train) else size,
        "validates": len(val) > 0,
        "augmentation": c.augmentation.model_dump(),
        "calibration": c.calibration.name,
        "regularization": {name: getattr(regularization, name) is not None for name in _SHAPING},
    }
    if regularization.layer_norm:
        key["layer_norm"] = regularization.layer_norm.eps
    if regularization.batch_norm:  # statistics over a batch: rows that only fill it up would count
        key["rows"] = len(train)
    return json.dumps(key, sort_keys=True)


def plan(jobs: Sequence[Job]) -> tuple[list[Group], list[tuple[Job, str]]]:
    """Groups of jobs that train together, and the jobs that train alone, each with the reason."""
    groups: dict[str, Group] = {}
    alone: list[tuple[Job, str]] = []
    for job in jobs:
        if reason := alone_because(job.config):
            alone.append((job, reason))
        else:
            groups.setdefault(structure(job), Group()).jobs.append(job)
    return list(groups.values()), alone
