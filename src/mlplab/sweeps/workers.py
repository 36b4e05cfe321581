"""Chunks of a sweep in several processes: on the cores of one machine, or one process a GPU."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from mlplab.config import Config


def shares(configs: Sequence[Config], workers: int) -> list[list[int]]:
    """Job numbers for each worker: even shares, jobs of like settings kept together."""
    order = sorted(range(len(configs)), key=lambda i: (configs[i].model.model_dump_json(), configs[i].optimizer.name))
    size = -(-len(order) // workers)
    return [sorted(order[i : i + size]) for i in range(0, len(order), size)]


def run_in_workers(configs: Sequence[Config], folders: Sequence[Path], max_jobs: int | None, workers: int) -> list[Any]:
    """Outcomes of all jobs, in their order; a worker that dies takes only its own share with it."""
    parts = shares(configs, workers)
    outcomes: list[Any] = [None] * len(configs)
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(len(parts), mp_context=context) as pool:
        futures = [
            pool.submit(_share, [configs[i] for i in part], [folders[i] for i in part], max_jobs, w, len(parts))
            for w, part in enumerate(parts)
        ]
        for part, future in zip(parts, futures, strict=True):
            try:
                found: list[Any] = future.result()
            except BrokenProcessPool:
                found = [RuntimeError("the worker process died before the job was written")] * len(part)
            for i, outcome in zip(part, found, strict=True):
                outcomes[i] = outcome
    return outcomes


def _share(configs: list[Config], folders: list[Path], max_jobs: int | None, worker: int, workers: int) -> list[Any]:
    import torch

    from mlplab.sweeps.run import run_batch

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if torch.cuda.is_available():
        torch.cuda.set_device(worker % torch.cuda.device_count())
    outcomes = run_batch(configs, folders, max_jobs)
    return [RuntimeError(str(o)) if isinstance(o, Exception) and not _travels(o) else o for o in outcomes]


def _travels(error: Exception) -> bool:
    """Whether an exception can be handed to another process."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
