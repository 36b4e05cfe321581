"""Batches of tensors in memory, indexed a whole batch at a time, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mlplab import randomness
from mlplab.data.prepared import Part


class Batch(NamedTuple):
    """Some rows of the training part."""

    x: Tensor
    """Some rows of `Part.x`."""
    y: Tensor
    """Shape (rows,)."""
    first_row: int
    """Place of the first row in the batch that all processes share."""
    share: float
    """Weight of this process's mean loss in the mean of all processes: 1 where there is one process."""


class Place(NamedTuple):
    """Where a batch's rows are in the part."""

    rows: Tensor | slice
    """Row numbers, in order."""
    first_row: int
    share: float


class Batches:
    """The training part in batches, shuffled anew each epoch.

    Args:
        batch_size: rows in a batch that all processes share, or `full`.
        seed: the run's seed; the order of epoch e is a function of (seed, e) alone.
        epoch: tells the current epoch, so that a resumed run sees the order it would have seen.
        limit: at most so many batches.
        fixed: always the first batch of epoch 0.
        rank: number of this process; world: number of processes. Each takes an even share of every batch.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int | Literal["full"],
        seed: int,
        epoch: Callable[[], int] = lambda: 0,
        limit: int | None = None,
        fixed: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.part, self.seed, self.epoch, self.fixed = part, seed, epoch, fixed
        self.rank, self.world = rank, world
        self.batch_size = len(part) if batch_size == "full" else min(batch_size, len(part))
        in_all = -(-len(part) // self.batch_size)
        self.n = 1 if fixed else min(limit or in_all, in_all)

    def __len__(self) -> int:
        return self.n

    def order(self, epoch: int) -> Tensor | None:
        """Row numbers in the order of an epoch, int64 of shape (rows,); None where one batch is all rows."""
        if self.batch_size == len(self.part):
            return None
        address = randomness.at(randomness.key(self.seed, "order"), 0 if self.fixed else epoch)
        return randomness.permutation(address, len(self.part), self.part.y.device)

    def places(self) -> Iterator[Place]:
        """Where the rows of each batch of the current epoch are."""
        order = self.order(self.epoch())
        for i in range(self.n):
            start, stop = i * self.batch_size, min((i + 1) * self.batch_size, len(self.part))
            rows = stop - start
            first, last = rows * self.rank // self.world, rows * (self.rank + 1) // self.world
            share = (last - first) * self.world / rows
            last = max(last, first + 1)  # a process left without a row takes one with weight 0, to stay in step
            which = slice(first, last) if order is None else order[start + first : start + last]
            yield Place(which, first, share)

    def __iter__(self) -> Iterator[Batch]:
        rows = Rows(self.part)
        return (rows[place] for place in self.places())


class Rows(Dataset[Batch]):
    """A part, asked for a whole batch at a time."""

    def __init__(self, part: Part) -> None:
        self.part = part

    def __getitem__(self, place: Place) -> Batch:
        x, y, which = self.part.x, self.part.y, place.rows
        if isinstance(which, slice):
            return Batch(x[which], y[which], place.first_row, place.share)
        # index_select: up to ten times faster than x[which] for images
        return Batch(x.index_select(0, which), y.index_select(0, which), place.first_row, place.share)


BLOCK = 16
"""Batches that the trainer is handed at a time, where it is handed several."""


class Blocks:
    """Batches in lists of `BLOCK`, so that what a trainer spends on a batch is spent on sixteen."""

    def __init__(self, batches: Batches | Streamed) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return -(-len(self.batches) // BLOCK)

    def __iter__(self) -> Iterator[list[Batch]]:
        rest = iter(self.batches)
        while block := list(islice(rest, BLOCK)):
            yield block


class Streamed:
    """The same batches, fetched ahead by other processes and handed over in pinned memory: for data no device holds.

    Args:
        workers: number of processes; 0 fetches in this one.
        pin: hand over in page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(self, batches: Batches, workers: int, pin: bool) -> None:
        self.batches = batches
        self.loader: DataLoader[Batch] = DataLoader(
            Rows(batches.part),
            batch_size=None,  # a place is a whole batch
            sampler=Places(batches),
            collate_fn=cast(Any, _as_it_is),
            num_workers=workers,
            pin_memory=pin,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.loader)


class Places(Sampler[Place]):
    """The places of the current epoch's batches, in the form that a DataLoader asks for."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Place]:
        return self.batches.places()


def _as_it_is(batch: Batch) -> Batch:
    return batch
