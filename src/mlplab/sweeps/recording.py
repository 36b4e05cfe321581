"""Writes the run folder of a job that trained in a group: the files that it would have had alone."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from mlplab import record, runs
from mlplab.fused.trained import Trained
from mlplab.fused.training import FusedTraining
from mlplab.reports.events import cut
from mlplab.training import checkpoints, losses
from mlplab.training.history import Fitted, write_metrics

TORCH_NAMES = {
    "momentum": {"momentum": "momentum_buffer"},
    "nesterov": {"momentum": "momentum_buffer"},
    "rmsprop": {"square": "square_avg", "momentum": "momentum_buffer", "mean": "grad_avg"},
    "adagrad": {"sum": "sum"},
    "adam": {"mean": "exp_avg", "square": "exp_avg_sq", "largest": "max_exp_avg_sq"},
    "adamw": {"mean": "exp_avg", "square": "exp_avg_sq", "largest": "max_exp_avg_sq"},
}
"""Optimizer -> name of a state here -> its name in torch's optimizer."""


def write(trained: Trained, training: FusedTraining, began: float) -> runs.Result:
    """Write everything that the job's run folder holds.

    Args:
        began: `time.time()` at the start of the training.
    """
    started = time.perf_counter()
    job, history = trained.job, trained.history
    config, prepared, paths = job.config, job.prepared, runs.RunFolder(job.folder)
    if job.folder.is_dir() and any(path.name != ".hydra" for path in job.folder.iterdir()):
        runs.remove_torn(job.folder)  # what a killed process wrote of this job
        cut(job.folder, {})
    n_rows = len(prepared.parts["train"])
    n_outputs = losses.n_outputs(config.loss.name, prepared.n_classes)
    packed = config.ensemble.packed > 1 and history  # result.json tells what its members come to alone
    fitted = Fitted(
        network=trained.network() if packed else None,
        history=history,
        best_epoch=trained.selection.best_epoch,
        seconds=trained.seconds,
        rows_seen=min(len(training.batches) * training.batches.size, n_rows) * len(history),
        n_parameters=sum(math.prod(p.shape) for p in training.stack.parameters),
        device=training.stack.device.type,
        class_weights=losses.class_weights(config.loss, prepared.parts["train"].y, prepared.n_classes),
        diverged=trained.diverged,
    )
    runs.write_data(job.folder, prepared.understood)
    if history:
        epoch, value = fitted.best_epoch, trained.selection.best
        best = checkpoints.best_content(config, prepared, trained.best, n_outputs, epoch, value, trained.temperature)
        checkpoints.save(best, paths.best)
    if history:
        write_metrics(config, history, paths.metrics)
    board = record.make_board(config, prepared, job.folder, in_sweep=True, at_once=False)
    if board:
        for row in history:
            board.on_epoch(row, None, wall_time=began + row["seconds"])
    events = board.position(flush=False) if board else {}
    values = record.beginning(config) | record.outcome(config, prepared, fitted, trained.scores)
    if trained.rungs:
        values["rungs"] = trained.rungs
    if trained.pruned:
        values["status"] = "pruned"
    record.write_end(config, prepared, fitted, trained.scores, job.folder, board, None, in_sweep=True)
    if history and trained.diverged is None:  # whose events are on disk by now
        checkpoints.save_last(_last(trained, events), paths.last)
    writing = time.perf_counter() - started
    values["seconds"] = {"total": trained.seconds + writing, "fit": trained.seconds, "test": 0.0}
    return runs.write_result(job.folder, values)


def _last(trained: Trained, events: dict[str, int]) -> dict[str, Any]:
    settings = trained.job.config.optimizer
    names = TORCH_NAMES.get(settings.name, {})
    steps = torch.tensor(trained.history[-1]["step"], dtype=torch.float32)

    def of_parameter(state: dict[str, Tensor]) -> dict[str, Tensor]:
        torchs = {names[name]: value for name, value in state.items()}
        if settings.name == "rmsprop" and not settings.momentum:
            torchs.pop("momentum_buffer", None)
        counted = settings.name in ("rmsprop", "adagrad", "adam", "adamw")
        return {**({"step": steps.clone()} if counted else {}), **torchs}

    return checkpoints.last_content(
        trained.job.config,
        trained.last,
        [of_parameter(state) for state in trained.optimizer],
        trained.plateau.state_dict(),
        trained.selection.state_dict(),
        trained.history,
        trained.best,
        trained.job.prepared.fingerprint,
        events=events,
    )
