"""Which epoch is the best, and when training stops."""

import math

import pytest
from training.loops import config_of

from mlplab.training.selection import Selection, direction


def stopping(patience: int, min_delta: float = 0.0) -> object:
    return config_of(
        "regularization=early_stopping",
        f"regularization.early_stopping.patience={patience}",
        f"regularization.early_stopping.min_delta={min_delta}",
    ).regularization.early_stopping


def follow(selection: Selection, values: list[float]) -> int | None:
    """The epoch after which it stops, or None."""
    for epoch, value in enumerate(values):
        selection.update(epoch, value)
        if selection.stop:
            return epoch
    return None


@pytest.mark.parametrize(
    ("monitor", "better"),
    [
        *(("val/loss", "min"), ("val/log_loss", "min"), ("val/accuracy", "max")),
        *(("val/balanced_accuracy", "max"), ("val/f1", "max"), ("val/auroc", "max")),
    ],
)
def test_losses_are_better_low_and_scores_high(monitor: str, better: str) -> None:
    assert direction(monitor) == better
    selection = Selection(monitor)
    follow(selection, [0.5, 0.2, 0.9, 0.3])
    assert (selection.best_epoch, selection.best) == ((1, 0.2) if better == "min" else (2, 0.9))


def test_the_first_of_equal_epochs_is_the_best() -> None:
    selection = Selection("val/accuracy")
    follow(selection, [0.5, 0.9, 0.9])
    assert selection.best_epoch == 1


def test_without_anything_to_watch_the_last_epoch_is_the_best() -> None:
    selection = Selection(None)
    assert [selection.update(epoch, None) for epoch in range(3)] == [True, True, True]
    assert selection.best_epoch == 2


@pytest.mark.parametrize(("patience", "stops"), [(0, 2), (1, 5), (2, None)])
def test_patience_is_the_number_of_epochs_without_improvement_that_are_forgiven(
    patience: int, stops: int | None
) -> None:
    values = [3.0, 2.0, 2.5, 1.0, 1.5, 1.5, 0.5]
    assert follow(Selection("val/loss", stopping(patience)), values) == stops


def test_improvements_below_min_delta_do_not_buy_time_but_still_count_as_best() -> None:
    selection = Selection("val/loss", stopping(2, 0.1))
    assert follow(selection, [1.0, 0.95, 0.93, 0.91, 0.5]) == 3
    assert selection.best_epoch == 3


def test_small_steps_add_up_to_an_improvement() -> None:
    """Each value is held against the last one that counted, not against its neighbour."""
    assert follow(Selection("val/loss", stopping(2, 0.1)), [1.0, 0.95, 0.85, 0.8, 0.7, 0.65, 0.55]) is None


def test_a_value_that_is_no_number_never_is_the_best() -> None:
    selection = Selection("val/auroc", stopping(5))
    follow(selection, [math.nan, 0.6, math.nan, 0.5])
    assert selection.best_epoch == 1


def test_a_selection_continues_from_its_saved_state() -> None:
    values = [3.0, 2.0, 2.5, 2.4, 2.3, 1.0]
    first = Selection("val/loss", stopping(2))
    follow(first, values[:3])
    second = Selection("val/loss", stopping(2))
    second.load_state_dict(first.state_dict())
    assert follow(second, values[3:]) == 1  # counted from its own start: epoch 4 of the whole
    assert second.best == 2.0
