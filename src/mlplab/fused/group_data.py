"""The data of a group of jobs as stacked tensors, and each network's batches in its own order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mlplab import randomness
from mlplab.data.pixels import Pixels
from mlplab.data.prepared import Part
from mlplab.fused.layers import distinct
from mlplab.fused.plan import Job


@dataclass
class StackedPart:
    """One part of the data of every network. Networks with the same data share it.

    Attributes:
        x: (data sets, most rows, n_features); y: (data sets, most rows); rows that only fill up are 0.
        of: which data set each network uses, (networks,).
        n_rows: real rows of each network, (networks,).
        center, scale: of images, each data set's `Pixels`, (data sets, 1, channels, 1, 1).
    """

    x: Tensor
    y: Tensor
    of: Tensor
    n_rows: Tensor
    center: Tensor | None = None
    scale: Tensor | None = None

    @classmethod
    def stack(cls, parts: Sequence[Part], device: torch.device) -> StackedPart:
        """Stack the parts of the networks, each distinct one once."""
        distinct: dict[int, int] = {}
        for part in parts:
            distinct.setdefault(id(part), len(distinct))
        chosen = {distinct[id(part)]: part for part in parts}
        most = max(len(part) for part in parts)
        if len(chosen) == 1:
            x, y = parts[0].x.unsqueeze(0), parts[0].y.unsqueeze(0)
        else:
            x = torch.zeros(len(chosen), most, *parts[0].x.shape[1:], dtype=parts[0].x.dtype)
            y = torch.zeros(len(chosen), most, dtype=torch.int64)
            for i, part in chosen.items():
                x[i, : len(part)], y[i, : len(part)] = part.x, part.y
        of = torch.tensor([distinct[id(part)] for part in parts], device=device)
        n_rows = torch.tensor([len(part) for part in parts], device=device)
        pixels = [part.preprocess for part in chosen.values() if isinstance(part.preprocess, Pixels)]
        center = torch.stack([p.center for p in pixels]).unsqueeze(1).to(device) if pixels else None
        scale = torch.stack([p.scale for p in pixels]).unsqueeze(1).to(device) if pixels else None
        return cls(x.to(device), y.to(device), of, n_rows, center, scale)

    def inputs(self, x: Tensor) -> Tensor:
        """What the networks are given of rows x, (networks, rows, ...): (networks, rows, features), scaled."""
        if self.center is None or self.scale is None:
            return x.flatten(2)
        center, scale = (self.center, self.scale) if self.shared else (self.center[self.of], self.scale[self.of])
        return x.to(center.dtype).sub(center).div_(scale).flatten(2)

    def compact(self, keep: Tensor) -> StackedPart:
        """Only some networks."""
        return StackedPart(self.x, self.y, self.of[keep], self.n_rows[keep], self.center, self.scale)

    @property
    def shared(self) -> bool:
        """Whether all networks use one data set."""
        return len(self.x) == 1

    @cached_property
    def even(self) -> bool:
        """Whether every row of every network is a real one."""
        return bool((self.n_rows == self.x.shape[1]).all())


@dataclass
class StackedBatch:
    """One batch of every network.

    Attributes:
        x: (networks, rows, n_features). y: (networks, rows).
        real: 1 for rows that count and 0 for those that fill up, (networks, rows), or None where all count.
    """

    x: Tensor
    y: Tensor
    real: Tensor | None


GATHERED_BYTES = 1 << 22
"""Bytes of features that are gathered at once, so that they are still in the cache when their step comes."""


class StackedBatches:
    """Batches of the training part for every network, in the order that each would have alone."""

    def __init__(self, part: StackedPart, jobs: Sequence[Job]) -> None:
        config = jobs[0].config
        self.part = part
        most = part.x.shape[1]
        size = config.data.batch_size
        rows = len(jobs[0].prepared.parts["train"])
        self.size = most if size == "full" or size >= rows else size  # one batch for one network is one for all
        in_all = -(-most // self.size)
        self.fixed = config.trainer.overfit
        self.n = 1 if self.fixed else min(config.trainer.max_batches or in_all, in_all)
        keys = [randomness.key(job.config.seed, "order") for job in jobs]
        self.keys = torch.tensor(keys, dtype=torch.int64, device=part.x.device)

    def __len__(self) -> int:
        return self.n

    def compact(self, keep: Tensor, part: StackedPart) -> None:
        """Only some networks."""
        self.part, self.keys = part, self.keys[keep]

    def order(self, epoch: int) -> Tensor | None:
        """Row numbers (networks, most rows) of an epoch, real rows first; None where one batch is all rows."""
        most = self.part.x.shape[1]
        if self.size >= most:
            return None
        # networks of one seed go through the same rows in the same order
        which, of = distinct(list(zip(self.keys.tolist(), self.part.n_rows.tolist(), strict=True)), self.keys.device)
        address = randomness.at(self.keys[which], 0 if self.fixed else epoch)
        assert isinstance(address, Tensor)
        draws = randomness.bits(address, most)
        if not self.part.even:
            beyond = torch.arange(most, device=draws.device) >= self.part.n_rows[which, None]
            draws.masked_fill_(beyond, torch.iinfo(torch.int64).max)
        order = draws.argsort(dim=-1, stable=True)
        return order if of is None else order.index_select(0, of)

    def epoch(self, epoch: int) -> Iterator[StackedBatch]:
        """The batches of an epoch."""
        part, order = self.part, self.order(epoch)
        most = part.x.shape[1]
        positions = torch.arange(most, device=part.x.device)
        for i, (x, y) in enumerate(self._whole() if order is None else self._gathered(order)):
            real = None
            if not part.even and (i + 1) * self.size >= most:
                real = positions[i * self.size :] < part.n_rows[:, None]
            yield StackedBatch(x, y, real)

    def _whole(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows as one batch."""
        x, y, of = self.part.x, self.part.y, self.part.of
        yield (x.expand(len(of), *x.shape[1:]), y.expand(len(of), -1)) if self.part.shared else (x[of], y[of])

    def _gathered(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in order; of small rows many batches are gathered at once, as each gathering has its own price."""
        x, y, n_rows = self.part.x.flatten(0, 1), self.part.y.flatten(), self.part.x.shape[1]
        first = torch.zeros_like(self.part.of) if self.part.shared else self.part.of * n_rows
        places = order + first[:, None]
        size, networks = self.size, len(order)
        row_bytes = x[0].nbytes if len(x) else 1
        at_once = max(1, GATHERED_BYTES // (size * networks * row_bytes))
        stop = min(self.n * size, n_rows)
        for start in range(0, stop, at_once * size):
            full = min(start + at_once * size, stop - stop % size)
            if full > start:
                which = places[:, start:full].view(networks, -1, size).transpose(0, 1).reshape(-1)
                shape = (-1, networks, size)
                yield from zip(
                    x.index_select(0, which).view(*shape, *x.shape[1:]),
                    y.index_select(0, which).view(shape),
                    strict=True,
                )
            if full < min(start + at_once * size, stop):  # the last batch is a shorter one
                which, rest = places[:, full:stop].reshape(-1), (networks, stop - full)
                yield x.index_select(0, which).view(*rest, *x.shape[1:]), y.index_select(0, which).view(rest)


def one_hot(y: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Target probabilities (..., n_classes) of classes (...)."""
    out = torch.empty(*y.shape, n_classes, dtype=dtype, device=y.device)
    return torch.eq(y.unsqueeze(-1), torch.arange(n_classes, device=y.device), out=out)
