"""How many threads a training uses: small steps are faster on one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
