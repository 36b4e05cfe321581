"""Many small works in half the time: the later half of them is done by a fork of this process."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from mlplab.sweeps.engines.worker import travelling

LEAST = 32
"""Fewer works than that take no longer than the fork does."""

T = TypeVar("T")
R = TypeVar("R")


def in_halves(work: Callable[[T], R], items: Sequence[T], least: int = LEAST) -> list[R]:
    """`work` of each item, in their order; it must be such that doing it twice does no harm.

    What the fork does not deliver, as when it is killed, is done here. It ends with this process, at the latest after
    the item that it is at.
    """
    if len(items) < least or not _may_fork():
        return [work(item) for item in items]
    middle = len(items) // 2
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    here = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _other_half(work, items[middle:], writer, here)
    os.close(writer)
    try:
        done = [work(item) for item in items[:middle]]
        with os.fdopen(reader, "rb", closefd=False) as file:
            content = file.read()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        os.close(reader)
        _, status = os.waitpid(child, 0)
    return done + (pickle.loads(content) if status == 0 else [work(item) for item in items[middle:]])


def _other_half(work: Callable[[T], R], items: Sequence[T], writer: int, parent: int) -> None:
    """In the fork: do the works, hand over what comes out and end without a trace."""
    status = 1
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)  # at once: whoever started it tells what became of it
        torch.set_num_threads(1)  # the threads of OpenMP do not come along
        found = []
        for item in items:
            if os.getppid() != parent:
                return
            found.append(travelling(work(item)))
        with os.fdopen(writer, "wb") as file:
            pickle.dump(found, file)
        status = 0
    finally:
        os._exit(status)


def _may_fork() -> bool:
    """Whether a fork is harmless and of use: nothing of a GPU's or another thread's state, and a core to run on."""
    alone = threading.active_count() == 1 and not torch.cuda.is_initialized()
    return sys.platform == "linux" and alone and len(os.sched_getaffinity(0)) > 1
