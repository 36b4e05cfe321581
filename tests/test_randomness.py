"""Addressed randomness: a draw is a function of its address alone, and each law holds.

The statistical tests look at fixed draws: they are deterministic. Their bounds are 4 standard deviations, or a p-value
above 0.001, unless a test says otherwise.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mlplab import randomness
from mlplab.randomness import at, bits, keep, key, normal, permutation, threshold, uniform

DRAWS: dict[str, Callable[[int | Tensor], Tensor]] = {
    "bits": lambda k: bits(k, 37),
    "bits from a place": lambda k: bits(k, 37, start=11),
    "uniform": lambda k: uniform(k, (9, 5)),
    "normal": lambda k: normal(k, (9, 5)),
    "permutation": lambda k: permutation(k, 37),
    "keep": lambda k: keep(k, 9, 5, 0.3, first_row=2),
    "at, then bits": lambda k: bits(at(k, 12), 5),
}
RELEASED = {  # of key(0, "released")
    "bits": [-3596584339123429258, 3904995142452465039, 2542122378824336705],
    "bits from a place": [-9142242595331423084, 4212816968721147307, -370140829304964750],
    "uniform": [0.8050287722997518, 0.21169021084961515, 0.13780873029226814],
    "normal": [0.43107088046503766, 1.7561276887331887, 0.08424588811395131],
    "permutation": [20, 11, 32],
    "keep": [True, True, False],
    "at, then bits": [-562792501158869358, -7096092460742756670, -6079746946837512017],
}
KEYS = [key(0), key(1), key(0, "dropout", 1), -(1 << 63), (1 << 63) - 1, 0, -1]


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("one", KEYS)
def test_draws_are_the_same_whatever_else_is_drawn_in_between(name: str, one: int) -> None:
    first = DRAWS[name](one)
    torch.manual_seed(3)
    torch.rand(5)
    for other in DRAWS.values():
        other(one + 1 if one < (1 << 63) - 1 else 0)
    assert torch.equal(first, DRAWS[name](one))


@pytest.mark.parametrize("name", DRAWS)
def test_a_row_of_many_networks_is_bitwise_what_its_own_key_gives(name: str) -> None:
    together = DRAWS[name](torch.tensor(KEYS))
    assert len(together) == len(KEYS)
    for row, one in zip(together, KEYS, strict=True):
        assert torch.equal(row, DRAWS[name](one))


def test_draws_may_be_changed_in_place_without_changing_later_ones() -> None:
    for name, draw in DRAWS.items():
        first = draw(5)
        kept = first.clone()
        first.zero_()
        assert torch.equal(draw(5), kept), name


@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_are_those_of_the_first_release(name: str) -> None:
    """Runs of years ago must be repeated: these values never change."""
    flat = DRAWS[name](key(0, "released")).flatten()[:3].tolist()
    exact = name != "normal"  # logarithm and cosine may round differently elsewhere
    assert flat == (RELEASED[name] if exact else pytest.approx(RELEASED[name], rel=1e-12))


def test_keys_differ_by_seed_and_purpose() -> None:
    keys = {key(s, p, i) for s in range(20) for p in ("order", "dropout") for i in range(20)}
    assert len(keys) == 800
    assert key(0, "a", 1) == key(0, "a", 1)
    assert key(1, 2) != key(12)
    assert all(-(1 << 63) <= k < 1 << 63 for k in keys)


@pytest.mark.parametrize("one", KEYS)
def test_steps_of_one_key_are_distinct_and_equal_for_tensors(one: int) -> None:
    steps = [at(one, i) for i in range(1000)]
    assert len(set(steps)) == 1000
    assert all(-(1 << 63) <= s < 1 << 63 for s in steps)
    assert [int(at(torch.tensor([one]), i)[0]) for i in range(20)] == steps[:20]


def test_bits_are_those_of_splitmix64() -> None:
    """Steele, Lea and Flood's generator seeded with s gives finalise(s + golden), finalise(s + 2 golden) ..."""
    mask, golden = (1 << 64) - 1, 0x9E3779B97F4A7C15
    for one in KEYS:
        state, expected = (one - golden) & mask, []
        for _ in range(10):
            state = (state + golden) & mask
            z = state
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            expected.append(z ^ (z >> 31))
        assert [b & mask for b in bits(one, 10).tolist()] == expected


def test_bits_from_a_place_are_a_slice_of_all_bits() -> None:
    assert torch.equal(bits(7, 20, start=30), bits(7, 50)[30:])
    large = 1 << 17  # beyond what is kept between calls
    assert torch.equal(bits(7, large)[:50], bits(7, 50))


def test_each_of_the_64_bits_is_fair_and_uncorrelated_with_the_others() -> None:
    n = 20_000
    words = bits(3, n).numpy().view(np.uint64)
    ones = (words[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).astype(float)
    assert np.abs(ones.mean(0) - 0.5).max() < 4 * 0.5 / n**0.5
    correlations = np.corrcoef(ones.T) - np.eye(64)
    assert np.abs(correlations).max() < 5 / n**0.5  # the largest of 2016 pairs


def test_uniform_lies_in_0_to_1_without_1_and_is_uniform() -> None:
    draws = uniform(1, (50_000,))
    assert draws.dtype == torch.float64
    assert 0 <= draws.min() < 1e-3
    assert 1 - 1e-3 < draws.max() < 1
    assert stats.kstest(draws.numpy(), "uniform").pvalue > 0.001


@pytest.mark.parametrize("shape", [(40_000,), (200, 200), (3, 5, 7), (1,), (0,), (4, 0)])
def test_shapes_are_as_asked_with_networks_in_front(shape: tuple[int, ...]) -> None:
    for draw in (uniform, normal):
        assert draw(1, shape).shape == shape
        assert draw(torch.tensor([1, 2]), shape).shape == (2, *shape)


def test_normal_has_the_moments_and_the_law_of_a_standard_normal() -> None:
    n = 100_000
    draws = normal(2, (n,)).numpy()
    assert abs(draws.mean()) < 4 / n**0.5
    assert abs(draws.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((draws**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((draws**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert stats.kstest(draws, "norm").pvalue > 0.001
    assert np.isfinite(draws).all()


def test_the_two_normals_of_one_pair_are_independent() -> None:
    """Box and Muller's cosine and sine share a radius: neither they nor their squares may correlate."""
    n = 50_000
    cosine, sine = normal(4, (2 * n,)).numpy().reshape(2, n)
    assert abs(np.corrcoef(cosine, sine)[0, 1]) < 4 / n**0.5
    assert abs(np.corrcoef(cosine**2, sine**2)[0, 1]) < 4 / n**0.5


@pytest.mark.parametrize("n", [0, 1, 2, 178, 5000])
def test_permutation_is_a_permutation(n: int) -> None:
    assert sorted(permutation(9, n).tolist()) == list(range(n))
    rows = permutation(torch.tensor([9, 10]), n)
    assert all(sorted(row) == list(range(n)) for row in rows.tolist())


def test_all_orders_of_four_things_come_equally_often() -> None:
    orders = permutation(torch.arange(24_000), 4)
    codes = (orders * torch.tensor([64, 16, 4, 1])).sum(1)
    _, counts = codes.unique(return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.5, 0.8, 0.999])
def test_keep_drops_a_share_p_with_the_variance_of_coin_tosses(p: float) -> None:
    rows, width = 2000, 64
    kept = keep(6, rows, width, p).double()
    sigma = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(kept.mean() - (1 - p)) <= 4 * sigma + 1 / 65536
    of_row = kept.sum(1)  # binomial: variance width p (1 - p)
    expected = width * p * (1 - p)
    assert abs(of_row.var() - expected) <= 4 * expected * (2 / rows) ** 0.5 + 1e-2
    assert abs(kept.sum(0).var() / rows - p * (1 - p)) <= 4 * p * (1 - p) * (2 / width) ** 0.5 + 1e-3


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten().numpy(), b.double().flatten().numpy())[0, 1])


def test_masks_of_other_steps_layers_and_seeds_are_independent() -> None:
    rows, width = 400, 50
    keys = [at(key(seed, "dropout", layer), step) for seed in (0, 1) for layer in (0, 1) for step in (0, 1, 2, 1000)]
    masks = [keep(k, rows, width, 0.5) for k in keys]
    for a, b in combinations(masks, 2):
        assert abs(correlation(a, b)) < 4.5 / (rows * width) ** 0.5  # the largest of 120 pairs


@pytest.mark.parametrize("width", [1, 3, 4, 7, 64])
def test_rows_and_units_of_one_mask_are_independent(width: int) -> None:
    rows = 60_000 // width
    mask = keep(8, rows, width, 0.5)
    flat = mask.flatten()
    for lag in (1, 2, 3, 4, 5, 8, width):  # four neighbours share a word of bits
        assert abs(correlation(flat[:-lag], flat[lag:])) < 4 / len(flat) ** 0.5


@pytest.mark.parametrize("width", [1, 3, 5, 8, 13])
@pytest.mark.parametrize(("first", "rows"), [(0, 4), (1, 7), (5, 1), (9, 11)])
def test_the_rows_of_one_process_are_a_slice_of_the_whole_batchs(width: int, first: int, rows: int) -> None:
    whole = keep(10, 20, width, 0.4)
    assert torch.equal(keep(10, rows, width, 0.4, first_row=first), whole[first : first + rows])
    keys = torch.tensor([10, 11])
    many = keep(keys, rows, width, 0.4, first_row=first)
    assert torch.equal(many[0], whole[first : first + rows])


def test_a_larger_p_drops_what_a_smaller_one_drops_and_more() -> None:
    """The mask of one address is one set of draws: networks that differ in p alone differ as little as they can."""
    small, large = keep(11, 50, 20, 0.2), keep(11, 50, 20, 0.6)
    assert not (large & ~small).any()
    assert small.sum() > large.sum()


def test_networks_may_have_a_p_each() -> None:
    shares = [0.0, 0.3, 0.9]
    limits = torch.tensor([threshold(p) for p in shares], dtype=torch.int16)
    together = keep(torch.tensor([1, 2, 3]), 30, 7, limits)
    for mask, one, p in zip(together, (1, 2, 3), shares, strict=True):
        assert torch.equal(mask, keep(one, 30, 7, p))


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.75, 1 - 2**-16])
def test_threshold_leaves_a_share_p_of_all_int16_values_below(p: float) -> None:
    values = torch.arange(-32768, 32768)
    assert (values < threshold(p)).double().mean().item() == pytest.approx(p, abs=1 / 65536)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_draws_the_same() -> None:
    for one in KEYS:
        assert torch.equal(bits(one, 100, device="cuda").cpu(), bits(one, 100))
        assert torch.equal(uniform(one, (100,), "cuda").cpu(), uniform(one, (100,)))
        assert torch.equal(permutation(one, 100, "cuda").cpu(), permutation(one, 100))
        assert torch.equal(keep(one, 9, 7, 0.3, device="cuda").cpu(), keep(one, 9, 7, 0.3))
        torch.testing.assert_close(
            randomness.normal(one, (100,), "cuda").cpu(), normal(one, (100,)), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_mask_of_numbers_is_the_mask_of_booleans(dtype: torch.dtype) -> None:
    for k, p in ((3, 0.3), (torch.tensor([3, 4]), 0.6)):
        mask = keep(k, 7, 5, p, first_row=1, dtype=dtype)
        assert mask.dtype == dtype
        assert torch.equal(mask, keep(k, 7, 5, p, first_row=1).to(dtype))


def test_several_counters_at_once_are_each_counters_key() -> None:
    keys, steps = torch.tensor([5, -9, 2**62]), torch.arange(4)
    together = at(keys, steps[:, None])
    for step in range(4):
        assert torch.equal(together[step], at(keys, step))
        assert [at(int(k), step) for k in keys] == together[step].tolist()
