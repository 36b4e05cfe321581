"""The laws of the metrics that need no oracle, and what is right by hand."""

import math
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from training.samples import cases, sample, single

from mlplab.training.metrics import METRICS, compute, confusion_matrix, probabilities


def test_calibration_error_by_hand() -> None:
    # [12/15, 13/15): 0.8 right and 0.85 wrong, |1 - 1.65|; [9/15, 10/15): 0.6 wrong, |0 - 0.6|; 1 alone, right: 0.
    probs = torch.tensor([[0.8, 0.2], [0.15, 0.85], [1.0, 0.0], [0.4, 0.6]], dtype=torch.float64)
    assert single(probs, torch.tensor([0, 0, 0, 0]))["ece"] == pytest.approx((0.65 + 0.6) / 4, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("lead", "rows", "n_classes"), [((100,), 36, 3), ((2, 3), 101, 2), ((1,), 50_000, 3), ((3,), 30_001, 10)]
)
def test_networks_together_equal_one_by_one_bitwise(
    lead: tuple[int, ...], rows: int, n_classes: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    probs = torch.randn(*lead, rows, n_classes, generator=generator, dtype=dtype).softmax(-1)
    shared = torch.randint(0, n_classes, (rows,), generator=generator)
    own = torch.randint(0, n_classes, (*lead, rows), generator=generator)
    for targets in (shared, own):
        together = compute(probs, targets)
        for index in np.ndindex(*lead):
            alone = compute(probs[index], targets if targets.ndim == 1 else targets[index])
            for name in METRICS:
                assert together[name].shape == lead
                assert together[name].dtype == torch.float64
                assert together[name][index].item() == alone[name].item(), name


def test_threads_layout_and_order_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(2)
    probs = torch.randn(3, 40_000, 4, generator=generator).softmax(-1)
    targets = torch.randint(0, 4, (40_000,), generator=generator)
    expected = compute(probs, targets)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = compute(probs, targets)
    finally:
        torch.set_num_threads(threads)
    strided = compute(probs.permute(2, 1, 0).contiguous().permute(2, 1, 0), targets)
    order = torch.randperm(40_000, generator=generator)
    shuffled = compute(probs[:, order], targets[order])
    for name in METRICS:
        assert torch.equal(alone[name], expected[name]), name
        assert torch.equal(shuffled[name], expected[name]), name
        assert torch.equal(strided[name], expected[name]), name


def test_targets_may_have_the_more_leading_dimensions() -> None:
    probs, targets = sample(30, 3, 3)
    several = torch.stack((targets, targets.flip(0), (targets + 1) % 3))
    together = compute(probs, several)
    for i, own in enumerate(several):
        assert {name: value[i].item() for name, value in together.items()} == single(probs, own)


@settings(max_examples=100, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_ranges_and_the_order_of_rows(case: tuple[Tensor, Tensor], random: Random) -> None:
    probs, targets = case
    ours = single(probs, targets)
    for name, value in ours.items():
        if name == "auroc" and len(targets.unique()) == 1:
            assert math.isnan(value)
        else:
            assert 0 <= value <= (-math.log(torch.finfo(probs.dtype).eps) if name == "log_loss" else 1), name
    order = list(range(len(targets)))
    random.shuffle(order)
    shuffled = single(probs[order], targets[order])
    for name, value in ours.items():
        assert shuffled[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@settings(max_examples=100, deadline=None)
@given(cases())
def test_auroc_is_the_share_of_pairs_won(case: tuple[Tensor, Tensor]) -> None:
    """The definition itself, pair by pair; reversing the scores gives the complement."""
    probs, targets = case
    p = torch.stack((1 - probs[:, 0], probs[:, 0]), dim=-1)
    y = (targets == 0).long()
    difference = p[y == 1, 1].unsqueeze(1) - p[y == 0, 1].unsqueeze(0)
    area = single(p, y)["auroc"]
    if difference.numel() == 0:
        assert math.isnan(area)
        return
    won = (difference > 0).double() + 0.5 * (difference == 0).double()
    assert area == pytest.approx(won.mean().item(), abs=1e-12)
    assert single(p.flip(-1), y)["auroc"] == pytest.approx(1 - area, abs=1e-12)


def test_auroc_of_two_classes_ranks_class_1() -> None:
    # In float32 1 - p is 1 for all of these: class 0's column would rank none of them.
    p = torch.tensor([1e-12, 1e-11, 1e-10, 1e-9])
    assert single(torch.stack((1 - p, p), dim=-1), torch.tensor([0, 0, 1, 1]))["auroc"] == 1


def test_perfect_and_opposite_predictions() -> None:
    targets = torch.tensor([0, 1, 2, 1, 0])
    perfect = single(torch.nn.functional.one_hot(targets, 3).double(), targets)
    assert perfect.pop("log_loss") == pytest.approx(0, abs=1e-15)
    assert perfect.pop("ece") == 0
    assert set(perfect.values()) == {1.0}
    opposite = single(torch.nn.functional.one_hot(1 - targets[targets < 2], 2).double(), targets[targets < 2])
    assert opposite["accuracy"] == opposite["auroc"] == opposite["f1"] == 0
    assert opposite["ece"] == 1


def test_equal_probabilities_predict_the_lowest_class() -> None:
    ours = single(torch.full((4, 2), 0.5), torch.tensor([0, 0, 0, 1]))
    assert ours["accuracy"] == 0.75
    assert ours["auroc"] == 0.5


def test_zero_rows_are_nan() -> None:
    for lead in [(), (4,), (2, 3)]:
        result = compute(torch.empty(*lead, 0, 3), torch.empty(0, dtype=torch.int64))
        assert list(result) == list(METRICS)
        for value in result.values():
            assert value.shape == lead
            assert value.dtype == torch.float64
            assert value.isnan().all()


def test_zero_networks() -> None:
    result = compute(torch.empty(0, 5, 3), torch.zeros(5, dtype=torch.int64))
    assert {value.shape for value in result.values()} == {(0,)}


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_diverged_network_is_nan_and_alone(poison: float) -> None:
    probs = torch.stack([sample(36, 3, 3, seed=seed)[0] for seed in range(4)])
    targets = sample(36, 3, 3)[1]
    healthy = compute(probs, targets)
    probs[2, 17, 1] = poison
    result = compute(probs, targets)
    for name, value in result.items():
        assert value.isnan().tolist() == [False, False, True, False], name
        assert torch.equal(value[[0, 1, 3]], healthy[name][[0, 1, 3]]), name
    assert all(math.isnan(value) for value in single(probs[2], targets).values())


def test_wrong_arguments_are_refused() -> None:
    probs, targets = sample(6, 3, 3)
    with pytest.raises(ValueError, match="rows"):
        compute(probs, targets[:1])
    with pytest.raises(ValueError, match="targets must be classes from 0 to 2"):
        compute(probs, targets + 3)
    with pytest.raises(ValueError, match="targets must be classes"):
        compute(probs, targets - 3)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        compute(probs * 40 - 3, targets)
    with pytest.raises(ValueError, match="predictions must be classes"):
        confusion_matrix(targets + 3, targets, 3)
    with pytest.raises(ValueError, match="rows"):
        confusion_matrix(targets[:1], targets, 3)


def test_probabilities_of_one_and_of_several_outputs() -> None:
    logits = torch.tensor([[-200.0], [-30.0], [0.0], [2.0], [200.0]])
    one = probabilities(logits)
    assert one.shape == (5, 2)
    torch.testing.assert_close(one[:, 1], torch.sigmoid(logits[:, 0]))
    torch.testing.assert_close(one.sum(-1), torch.ones(5))
    assert one[1, 1] > 0  # and the same on the other side, where 1 - p would be 0
    assert torch.equal(probabilities(-logits), one.flip(-1))
    # One logit is the difference between two.
    torch.testing.assert_close(one, probabilities(torch.cat((torch.zeros_like(logits), logits), dim=-1)))
    several = torch.randn(2, 7, 4)
    torch.testing.assert_close(probabilities(several), several.softmax(-1))
    assert probabilities(several.bfloat16()).dtype == torch.float32
    assert probabilities(several.double()).dtype == torch.float64


def test_confusion_matrix_of_no_rows() -> None:
    empty = torch.empty(2, 0, dtype=torch.int64)
    assert torch.equal(confusion_matrix(empty, empty, 3), torch.zeros(2, 3, 3, dtype=torch.int64))


def test_names_and_directions() -> None:
    probs, targets = sample(5, 2, 2)
    assert list(compute(probs, targets)) == list(METRICS)
    assert {name for name, better in METRICS.items() if better == "min"} == {"log_loss", "ece"}
    assert set(METRICS.values()) == {"min", "max"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 5, 26, 40])
def test_a_rows_probabilities_do_not_depend_on_its_place(n_classes: int, dtype: torch.dtype) -> None:
    row = torch.randn(1, n_classes, dtype=dtype)
    for rows in (1, 7, 16, 37, 1001):
        probs = probabilities(row.expand(rows, n_classes))
        assert (probs == probs[0]).all()
        torch.testing.assert_close(probs, row.softmax(-1).expand(rows, n_classes))
