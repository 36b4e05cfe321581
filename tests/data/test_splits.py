"""Parts are disjoint, complete, of the right size and shares, and move with their own seed only."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from training.loops import config_of

from mlplab.config import SettingError
from mlplab.data.prepared import prepare
from mlplab.data.tables import read

Parts = dict[str, np.ndarray]


def parts(*overrides: str) -> Parts:
    prepared = prepare(config_of("data=wine", *overrides).data)
    return {name: part.rows for name, part in prepared.parts.items()}


def fold(k: int, folds: int = 5, *more: str) -> Parts:
    return parts(f"data.folds={folds}", f"data.fold={k}", *more)


WINE = load_wine().target


@pytest.mark.parametrize("stratified", ["true", "false"])
@pytest.mark.parametrize("split", [[0.6, 0.2, 0.2], [0.8, 0.2], [0.5, 0.0, 0.5], [0.7, 0.1, 0.2]])
def test_parts_are_disjoint_complete_and_of_the_asked_size(split: list[float], stratified: str) -> None:
    given = parts(f"data.split={split}", f"data.stratified={stratified}")
    assert sorted(np.concatenate(list(given.values()))) == list(range(178))
    shares = split if len(split) == 3 else [split[0], 0.0, split[1]]
    for rows, share in zip(given.values(), shares, strict=True):
        assert abs(len(rows) - 178 * share) < 1.5
        assert (len(rows) == 0) == (share == 0)


def test_a_round_number_of_rows_splits_exactly() -> None:
    given = prepare(config_of("data=iris").data).parts
    assert {name: len(part) for name, part in given.items()} == {"train": 90, "val": 30, "test": 30}


def test_stratified_parts_keep_each_classs_share() -> None:
    whole = np.bincount(WINE) / 178
    for rows in parts().values():
        counts = np.bincount(WINE[rows], minlength=3)
        assert np.abs(counts - whole * len(rows)).max() <= 1


def test_without_stratification_shares_may_differ() -> None:
    counts = np.bincount(WINE[parts("data.stratified=false", "data.split_seed=1")["test"]], minlength=3)
    assert np.abs(counts - np.bincount(WINE) / 178 * 36).max() > 1


@pytest.mark.parametrize("stratified", [True, False])
def test_80_20_is_the_split_of_the_tutorials(stratified: bool) -> None:
    given = parts("data.split=[0.8,0.2]", "data.split_seed=42", f"data.stratified={str(stratified).lower()}")
    train, test = train_test_split(
        np.arange(178), test_size=0.2, random_state=42, stratify=WINE if stratified else None
    )
    assert np.array_equal(given["train"], train)
    assert np.array_equal(given["test"], test)


def test_the_test_part_does_not_depend_on_the_validation_share() -> None:
    assert np.array_equal(parts()["test"], parts("data.split=[0.8,0.2]")["test"])


def test_the_split_moves_with_its_own_seed_only() -> None:
    one = parts()
    np.random.seed(3)  # noqa: NPY002
    assert all(np.array_equal(one[name], rows) for name, rows in parts("seed=7", "data.batch_size=4").items())
    assert not np.array_equal(one["test"], parts("data.split_seed=1")["test"])


@pytest.mark.parametrize("stratified", ["true", "false"])
def test_each_row_is_tested_exactly_once_over_the_folds(stratified: str) -> None:
    folds = [fold(k, 5, f"data.stratified={stratified}") for k in range(5)]
    assert sorted(np.concatenate([f["test"] for f in folds])) == list(range(178))
    for given in folds:
        assert sorted(np.concatenate(list(given.values()))) == list(range(178))
        assert len(given["test"]) in (35, 36)
        assert len(given["val"]) == pytest.approx(0.25 * (178 - len(given["test"])), abs=1)  # 0.2 of 0.6 + 0.2


@pytest.mark.parametrize("stratified", [True, False])
def test_folds_are_scikit_learns(stratified: bool) -> None:
    kind = StratifiedKFold if stratified else KFold
    theirs = kind(4, shuffle=True, random_state=0).split(np.arange(178), WINE)
    for k, (_, test) in enumerate(theirs):
        assert np.array_equal(fold(k, 4, f"data.stratified={str(stratified).lower()}")["test"], test)


def test_folds_without_validation_train_on_all_the_rest() -> None:
    given = fold(1, 5, "data.split=[0.8,0.2]")
    assert len(given["val"]) == 0
    assert len(given["train"]) + len(given["test"]) == 178


def test_the_four_points_of_xor_all_train_and_all_test() -> None:
    given = prepare(config_of("data=xor").data).parts
    assert [len(given[name]) for name in ("train", "val", "test")] == [4, 0, 4]
    assert np.array_equal(given["train"].x, given["test"].x)
    cloud = prepare(config_of("data=xor", "data.samples=40").data).parts
    assert [len(cloud[name]) for name in ("train", "val", "test")] == [24, 8, 8]


def test_folds_of_the_four_points_are_refused() -> None:
    """They bring their own split: a fold would be ignored in silence."""
    with pytest.raises(SettingError, match=r"data\.folds"):
        prepare(config_of("data=xor", "data.folds=2", "data.fold=1").data)


@pytest.mark.parametrize(
    ("counts", "overrides", "said"),
    [
        ([30, 30, 2], (), r"class '2' has 2 rows, but a stratified data.split=\[0.6, 0.2, 0.2\] needs at least 3"),
        ([30, 1], ("data.split=[0.8,0.2]",), "class '1' has 1 row, but"),
        ([30, 4], ("data.folds=5", "data.fold=0"), "class '1' has 4 rows, but .* needs at least 5 of each"),
        ([3, 3], ("data.folds=7", "data.fold=0"), "data.folds=7 is more than the 6 rows"),
        ([3, 3], ("data.folds=7", "data.fold=0", "data.stratified=false"), "data.folds=7 is more than the 6 rows"),
        ([4, 4, 4], ("data.split=[0.9,0.05,0.05]",), "cannot be made from 12 rows"),
    ],
)
def test_too_few_rows_are_refused_in_one_line_that_says_what_to_change(
    counts: list[int], overrides: tuple[str, ...], said: str
) -> None:
    config = config_of("data=custom", "data.target=data.own.rare", f"+data.kwargs.counts={counts}", *overrides)
    assert len(read(config.data).y) == sum(counts)
    with pytest.raises(SettingError, match=said) as refused:
        prepare(config.data)
    assert "\n" not in str(refused.value)


def test_a_rare_class_may_be_split_without_stratification() -> None:
    config = config_of(
        "data=custom", "data.target=data.own.rare", "+data.kwargs.counts=[30,30,2]", "data.stratified=false"
    )
    assert sum(len(part) for part in prepare(config.data).parts.values()) == 62
