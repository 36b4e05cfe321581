"""The state of a group's training between two epochs: what it takes to go on in another process, bit for bit.

No generator's state is in it, for every draw is a function of seed, purpose, step and position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlplab.training.evaluation import Scores
from mlplab.training.history import Diverged, Row

if TYPE_CHECKING:
    from mlplab.fused.trained import Trained
    from mlplab.fused.training import FusedTraining

WHOLE = ("epoch", "step")
"""Columns of a history that are whole numbers."""


def capture(training: FusedTraining) -> dict[str, Any]:
    """Copy the state to the CPU: plain types and tensors."""
    number = {id(trained): i for i, trained in enumerate(training.all)}
    return {
        "epochs": training.epochs,
        "seconds": training.seconds,
        "alive": [number[id(trained)] for trained in training.alive],
        "weights": [_copied(value) for value in training.stack.snapshot()],
        "best": [_copied(value) for value in training.best],
        "steps": training.update.steps,
        "optimizer": {name: _copied(flat) for name, flat in training.update.state.items()},
        "jobs": [_of_job(trained) for trained in training.all],
        "halving": list(training.halving.seen.items()) if training.halving else [],
    }


def _copied(value: Tensor) -> Tensor:
    return value.to("cpu", copy=True)


def _of_job(trained: Trained) -> dict[str, Any]:
    rows = trained.history
    return {
        "selection": trained.selection.state_dict(),
        "plateau": trained.plateau.state_dict(),
        "columns": list(rows[0]) if rows else [],
        "history": torch.tensor([list(row.values()) for row in rows], dtype=torch.float64),
        "diverged": [trained.diverged.step, trained.diverged.cause] if trained.diverged else None,
        # of a job that has left the batch, which nothing changes any more
        "best": trained.best,
        "last": trained.last,
        "optimizer": trained.optimizer,
        "temperature": trained.temperature,
        "rungs": list(trained.rungs.items()),
        "pruned": trained.pruned,
        "scores": {part: {"metrics": of.metrics, "probs": of.probs} for part, of in trained.scores.items()},
    }


@torch.no_grad()
def put_back(training: FusedTraining, kept: dict[str, Any]) -> None:
    """Bring a training that has not begun to a captured state."""
    for trained, job in zip(training.all, kept["jobs"], strict=True):
        trained.selection.load_state_dict(job["selection"])
        trained.plateau.load_state_dict(job["plateau"])
        trained.history = _rows(job["columns"], job["history"])
        trained.diverged = Diverged(*job["diverged"]) if job["diverged"] else None
        trained.best, trained.last, trained.optimizer = job["best"], job["last"], job["optimizer"]
        trained.temperature, trained.rungs, trained.pruned = job["temperature"], dict(job["rungs"]), job["pruned"]
        trained.scores = {part: Scores(of["metrics"], of["probs"]) for part, of in job["scores"].items()}
    training.epochs, training.seconds = kept["epochs"], kept["seconds"]
    if training.halving:
        training.halving.seen = {epoch: list(scores) for epoch, scores in kept["halving"]}
    if len(kept["alive"]) < len(training.all):
        training.compact(kept["alive"])
    if training.alive:
        device = training.stack.device
        training.stack.restore([value.to(device) for value in kept["weights"]])
        training.best = [value.to(device) for value in kept["best"]]
        for name, flat in training.update.state.items():
            flat.copy_(kept["optimizer"][name])
    training.update.steps = kept["steps"]


def _rows(columns: Sequence[str], values: Tensor) -> list[Row]:
    return [
        {name: int(value) if name in WHOLE else value for name, value in zip(columns, row, strict=True)}
        for row in values.tolist()
    ]
