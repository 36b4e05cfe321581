"""Ctrl-C and SIGTERM as one exception, so that a training can leave its checkpoint before it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Interrupted(BaseException):
    """The process was asked to end; not a KeyboardInterrupt, at which Lightning would leave with a status of its own.

    Attributes:
        signum: signal.SIGINT (Ctrl-C) or signal.SIGTERM (a cluster takes the machine back).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    def leave(self) -> NoReturn:
        """End as the signal is meant to: exit status 130 or 143."""
        if self.signum == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + self.signum) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, the first SIGINT or SIGTERM raises Interrupted and further ones are ignored: the end is on its way."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    told = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise Interrupted(signum)

    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
