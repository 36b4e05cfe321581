"""Batches cover each row once an epoch, in an order that (seed, epoch) alone decides."""

import numpy as np
import pytest
import torch

from mlplab.data.batches import Batches
from mlplab.data.prepared import Part

N = 23
ROWS = Part(torch.arange(N).double()[:, None], torch.arange(N) % 3, np.arange(N))


def order(epoch: int = 0, size: object = 5, seed: int = 0, **more: object) -> list[list[int]]:
    """Rows of each batch."""
    return [batch.x.flatten().long().tolist() for batch in Batches(ROWS, size, seed, lambda: epoch, **more)]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


@pytest.mark.parametrize("size", [1, 5, 22, 23, 100, "full"])
def test_an_epoch_covers_each_row_once(size: object) -> None:
    batches = order(size=size)
    assert sorted(flat(batches)) == list(range(N))
    rows = N if size == "full" else min(size, N)
    assert [len(b) for b in batches] == [rows] * (N // rows) + [N % rows] * bool(N % rows)
    assert len(Batches(ROWS, size, 0)) == len(batches)


def test_classes_go_with_their_rows() -> None:
    for batch in Batches(ROWS, 4, 0):
        assert torch.equal(batch.y, batch.x.flatten().long() % 3)
        assert (batch.first_row, batch.share) == (0, 1.0)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first = order(epoch=3, seed=8)
    torch.manual_seed(0)
    torch.rand(9)
    assert order(epoch=3, seed=8) == first
    others = [flat(order(epoch=e, seed=s)) for e in range(6) for s in range(6)]
    assert len({tuple(o) for o in others}) == 36


def test_one_loader_shows_a_new_order_each_epoch() -> None:
    epoch = 0
    loader = Batches(ROWS, 5, 0, lambda: epoch)
    zero = [b.y.tolist() for b in loader]
    epoch = 1
    assert [b.y.tolist() for b in loader] != zero
    assert flat(order(epoch=1)) == [int(i) for b in loader for i in b.x.flatten()]


def test_every_row_comes_at_every_place_equally_often() -> None:
    places = torch.tensor([flat(order(epoch=e)) for e in range(2000)])
    counts = torch.stack([(places == row).sum(0) for row in range(N)]).double()
    expected = 2000 / N
    chi2 = ((counts - expected) ** 2 / expected).sum().item()
    degrees = (N - 1) ** 2
    assert abs(chi2 - degrees) < 4 * (2 * degrees) ** 0.5


def test_full_batches_keep_the_rows_in_place() -> None:
    assert order(size="full") == [list(range(N))]


@pytest.mark.parametrize(("limit", "n"), [(1, 1), (3, 3), (99, 5), (None, 5)])
def test_limit_shows_the_first_batches_only(limit: int | None, n: int) -> None:
    assert order(limit=limit) == order()[:n]
    assert len(Batches(ROWS, 5, 0, limit=limit)) == n


def test_fixed_is_the_first_batch_whatever_the_epoch() -> None:
    assert order(epoch=7, fixed=True) == order(epoch=0)[:1]
    assert len(Batches(ROWS, 5, 0, fixed=True)) == 1


@pytest.mark.parametrize("size", [1, 2, 7, "full"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_divide_each_batch_and_their_shares_give_the_whole_mean(size: object, world: int) -> None:
    ranks = [list(Batches(ROWS, size, 0, rank=rank, world=world)) for rank in range(world)]
    for whole, *parts in zip(Batches(ROWS, size, 0), *ranks, strict=True):
        counted = [part for part in parts if part.share > 0]
        assert torch.equal(torch.cat([part.x for part in counted]), whole.x)
        assert torch.equal(torch.cat([part.y for part in counted]), whole.y)
        assert [p.first_row for p in counted] == np.cumsum([0, *[len(p.y) for p in counted]])[:-1].tolist()
        assert all(len(part.y) for part in parts), "a process without a row falls out of step"
        mean = sum(float(part.x.mean()) * part.share for part in parts) / world  # as DDP averages gradients
        assert mean == pytest.approx(float(whole.x.mean()))
