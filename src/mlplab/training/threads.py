"""How many threads a training uses: small steps are faster on one, and several trainings on one each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")

SMALL_STEP = 10_000_000
"""Multiplications of a step below which handing work to a second thread costs more than it saves: about 0.1 ms of
work, where waiting for a thread that another program has displaced takes milliseconds."""


@contextmanager
def threads_for(multiplications: int) -> Iterator[None]:
    """Use one thread inside for small steps, and all of them for large ones."""
    before = torch.get_num_threads()
    if multiplications < SMALL_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Stopped(Exception):
    """Ends a work that is no longer wanted."""


def side_by_side(works: Sequence[Callable[[Callable[[], None]], T]]) -> list[T]:
    """What each work gives, in their order; as many at a time as torch may use threads, each on one.

    Args:
        works: each is given a function that it calls every now and then, and which raises `Stopped` once another work
            has failed or this call was interrupted.
    """
    workers = min(torch.get_num_threads(), len(works))
    if workers < 2:
        return [work(lambda: None) for work in works]
    stop = threading.Event()

    def go_on() -> None:
        if stop.is_set():
            raise Stopped

    with threads_for(0), ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1)) as pool:
        trials = [pool.submit(work, go_on) for work in works]
        try:
            done = wait(trials, return_when=FIRST_EXCEPTION).done
            failed = [trial for trial in done if trial.exception()]
            return [trial.result() for trial in failed or trials]
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
