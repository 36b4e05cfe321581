"""Trainings side by side: their order, their failures, Ctrl-C, and torch's threads before and after."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from mlplab.training.threads import side_by_side

GoOn = Callable[[], None]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_two_at_a_time_on_one_thread_each_in_their_order() -> None:
    together, seen = threading.Barrier(2), []

    def work(number: int) -> Callable[[GoOn], int]:
        def run(go_on: GoOn) -> int:
            if number < 2:
                together.wait(10)  # raises unless both are at work
            seen.append(torch.get_num_threads())
            return number

        return run

    assert side_by_side([work(number) for number in range(5)]) == list(range(5))
    assert seen == [1] * 5


def for_ever(go_on: GoOn) -> None:
    while True:
        go_on()
        time.sleep(0.01)


@pytest.mark.usefixtures("two_threads")
def test_one_that_fails_ends_the_others() -> None:
    def fail(go_on: GoOn) -> None:
        raise ValueError("its own")

    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="its own"):
        side_by_side([for_ever, fail, for_ever])
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("two_threads")
def test_ctrl_c_ends_all() -> None:
    others = set(threading.enumerate())
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            side_by_side([for_ever, for_ever])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 3
    assert set(threading.enumerate()) <= others


def test_on_one_thread_one_after_the_other() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    here = threading.get_ident()
    assert side_by_side([lambda go_on: threading.get_ident()] * 3) == [here] * 3
    torch.set_num_threads(before)
