"""The verdict follows its numbers."""

import math

import pytest

from mlplab.reports.verdict import judge


def scores(accuracy: float, log_loss: float) -> dict[str, float]:
    return {"accuracy": accuracy, "log_loss": log_loss}


ROWS = {"train": 600, "val": 200, "test": 200}


def test_a_gap_beyond_chance_is_overfitting() -> None:
    verdict = judge({"train": scores(1.0, 0.01), "val": scores(0.85, 0.6), "test": scores(0.99, 0.1)}, ROWS, 3)
    assert verdict is not None
    assert verdict.name == "overfitting"
    assert "1.000 in training, 0.850 in validation" in verdict.numbers
    assert "log loss 0.010 and 0.600" in verdict.numbers
    assert "dropout" in verdict.advice


@pytest.mark.parametrize(("rows", "name"), [(20, "good fit"), (2000, "overfitting")])
def test_the_same_gap_may_be_luck_on_few_rows(rows: int, name: str) -> None:
    verdict = judge({"train": scores(0.99, 0.05), "val": scores(0.92, 0.2)}, {"train": 9, "val": rows}, 2)
    assert verdict is not None
    assert verdict.name == name
    assert f"chance {math.sqrt(0.92 * 0.08 / rows):.3f}" in verdict.numbers


@pytest.mark.parametrize(
    ("losses", "advice"),
    [([0.69, 0.67, 0.65], "max_epochs"), ([0.69] + [0.62] * 50, "model.hidden"), ([0.7], "max_epochs"), ([], "hidden")],
)
def test_a_training_part_not_learned_is_underfitting(losses: list[float], advice: str) -> None:
    verdict = judge({"train": scores(0.66, 0.62), "val": scores(0.65, 0.63)}, ROWS, 2, losses)
    assert verdict is not None
    assert verdict.name == "underfitting"
    assert "training log loss 0.620, guessing costs 0.693" in verdict.numbers
    assert advice in verdict.advice
    assert ("still fell" in verdict.numbers) == (len(losses) == 3)


def test_without_validation_it_warns_of_looking_at_the_test_part() -> None:
    verdict = judge({"train": scores(1, 0.01), "test": scores(1, 0.02)}, {"train": 9, "val": 0, "test": 9}, 2)
    assert verdict is not None
    assert verdict.name == "good fit"
    assert "do not choose by it" in str(verdict)


def test_nothing_to_compare() -> None:
    assert judge({"train": scores(1, 0.01)}, {"train": 9}, 2) is None
    assert judge({}, {}, 2) is None
