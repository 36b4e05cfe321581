"""Numbers at the edge: each trains, alone and in a fused group alike, or is refused or ended in a sentence."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.runs import Result
from mlplab.sweeps.run import run_batch

RNG = np.random.default_rng(0)
ROWS = 90
Y = np.arange(ROWS) % 3
X = RNG.standard_normal((ROWS, 4)) + Y[:, None]
WORDS = ("data=custom", "data.target=data.saved.load", "logger=csv", "trainer.max_epochs=3", "data.batch_size=16")


def settings(folder: Path, x: np.ndarray, y: np.ndarray, *words: str) -> Config:
    np.savez(folder / "data.npz", x=x, y=y)
    return load_config(*WORDS, f"+data.kwargs.path={folder / 'data.npz'}", "model.hidden=8", *words)


def outcomes(folder: Path, config: Config) -> list[Result]:
    """Alone, and as one of a fused pair."""
    alone = run(config, folder / "alone")
    pair = [config, config.model_copy(update={"seed": config.seed + 1})]
    fused = run_batch(pair, [folder / "0", folder / "1"])
    for outcome in fused:
        if isinstance(outcome, Exception):
            raise outcome
    return [alone, *fused]  # type: ignore[list-item]


def assert_trained(folder: Path, config: Config) -> Result:
    """Completed, with numbers; alone and fused come to the same, and are scored again from their folders."""
    alone, fused, other = outcomes(folder, config)
    for result in (alone, fused, other):
        assert result.status == "completed", result.values["failure"]
        assert all(math.isfinite(of_part["loss"]) for of_part in result.metrics.values())
    for part, metrics in alone.metrics.items():
        assert fused.metrics[part]["loss"] == pytest.approx(metrics["loss"], rel=1e-3)
        assert evaluate(alone.folder).metrics[part]["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
        assert 0 <= metrics["accuracy"] <= 1
    return alone


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("minmax", "robust", "quantile")]


@pytest.mark.parametrize("scaling", ["standard", *OTHERS])
@pytest.mark.parametrize("size", [1e30, 1e-30, 1e300, 1e-300, 1e-312], ids=str)
def test_features_of_any_size_are_scaled_and_trained_on(size: float, scaling: str, tmp_path: Path) -> None:
    """1e-312 is denormal: a few bits are left of each number."""
    words = (f"data.scaling={scaling}", "trainer.max_epochs=1") if scaling != "standard" else ()
    assert_trained(tmp_path, settings(tmp_path, X * size, Y, *words))


def test_one_huge_column_beside_ordinary_ones(tmp_path: Path) -> None:
    x = np.column_stack([X, X[:, 0] * 1e30, X[:, 1] * 1e-320])
    result = assert_trained(tmp_path, settings(tmp_path, x, Y, "trainer.max_epochs=20", "optimizer.lr=0.02"))
    assert result.metrics["test"]["accuracy"] > 0.5


@pytest.mark.parametrize("size", [1e30, 1e60])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_huge_features_as_they_are_are_trained_on_or_diverge_and_say_so(
    optimizer: str, size: float, tmp_path: Path
) -> None:
    """They are cut at 1e30, which float32 holds; adam bounds its steps, sgd does not."""
    for result in outcomes(tmp_path, settings(tmp_path, X * size, Y, "data.scaling=none", f"optimizer={optimizer}")):
        if result.status == "completed":
            assert math.isfinite(result.metrics["train"]["loss"])
        else:
            assert result.status == "diverged"
            assert "NaN or infinite at step" in result.values["failure"]["message"]
    assert result.status == {"adam": "completed", "sgd": "diverged"}[optimizer]


@pytest.mark.parametrize("constant", [0.0, 7.1, 1e30, -1e-320])
def test_constant_columns_change_nothing(constant: float, tmp_path: Path) -> None:
    x = np.column_stack([X, np.full(ROWS, constant)])
    assert_trained(tmp_path, settings(tmp_path, x, Y))


def test_nothing_but_constant_columns(tmp_path: Path) -> None:
    result = assert_trained(tmp_path, settings(tmp_path, np.full((ROWS, 2), 3.0), Y))
    assert result.metrics["test"]["accuracy"] == pytest.approx(1 / 3, abs=0.05), "it can but guess"


def test_one_feature(tmp_path: Path) -> None:
    assert_trained(tmp_path, settings(tmp_path, X[:, :1], Y))


def test_one_hidden_unit(tmp_path: Path) -> None:
    assert_trained(tmp_path, settings(tmp_path, X, Y, "model.hidden=1"))
    assert_trained(tmp_path / "deep", settings(tmp_path, X, Y, "model.hidden=[1,1,1]"))


def test_a_batch_larger_than_the_data_is_full_batch(tmp_path: Path) -> None:
    large = assert_trained(tmp_path / "a", settings(tmp_path, X, Y, "data.batch_size=100000"))
    full = assert_trained(tmp_path / "b", settings(tmp_path, X, Y, "data.batch_size=full"))
    assert large.metrics["test"] == full.metrics["test"]


def test_a_batch_of_one_row(tmp_path: Path) -> None:
    assert_trained(tmp_path, settings(tmp_path, X, Y, "data.batch_size=1", "trainer.max_epochs=1"))


@pytest.mark.parametrize("fold", range(4))
def test_a_class_that_is_absent_from_some_parts(fold: int, tmp_path: Path) -> None:
    """Two rows of the last class in four folds: some part has none of them, and now and then the training part."""
    y = np.where(np.arange(ROWS) < 2, 2, np.arange(ROWS) % 2)
    words = ("data.folds=4", f"data.fold={fold}", "data.stratified=false", "loss.class_weights=balanced")
    config = settings(tmp_path, X, y, *words)
    prepared = prepare(config.data)
    rows = {name: int((part.y == 2).sum()) for name, part in prepared.parts.items()}
    assert prepared.n_classes == 3
    assert 0 in rows.values()
    result = assert_trained(tmp_path, config)
    assert len(result.values["data"]["classes"]) == 3


def test_a_class_of_two_rows_cannot_be_in_four_folds_alike(tmp_path: Path) -> None:
    y = np.where(np.arange(ROWS) < 2, 2, np.arange(ROWS) % 2)
    with pytest.raises(SettingError, match="stratified"):
        run(settings(tmp_path, X, y, "data.folds=4", "data.fold=0"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_thousand_classes(tmp_path: Path) -> None:
    y = np.arange(6000) % 1000
    x = np.random.default_rng(1).standard_normal((6000, 5)) + np.stack([y // 100, y // 10 % 10, y % 10, y, y], 1)
    words = ("data.batch_size=2000", "trainer.max_epochs=1")
    result = assert_trained(tmp_path, settings(tmp_path, x, y, *words))
    assert len(result.values["data"]["classes"]) == 1000
    assert result.metrics["train"]["log_loss"] == pytest.approx(math.log(1000), rel=0.2)


def test_every_label_of_the_validation_part_wrong(tmp_path: Path) -> None:
    y = Y % 2
    x = X + 9 * y[:, None]
    config = settings(tmp_path, x, y, "trainer.max_epochs=12", "optimizer.lr=0.02", "data.stratified=false")
    wrong = prepare(config.data).parts["val"].rows
    y[wrong] = 1 - y[wrong]
    result = assert_trained(tmp_path, settings(tmp_path, x, y, *("trainer.max_epochs=12", "data.stratified=false")))
    assert list(prepare(config.data).parts["val"].rows) == list(wrong)
    assert result.values["best_epoch"] == 0, "what is learnt makes validation worse from the start"
    last = [float(line.split(",")[3]) for line in (result.folder / "metrics.csv").read_text().splitlines()[1:]]
    assert last[-1] < last[0], "though it is learnt"


def test_two_rows_a_class(tmp_path: Path) -> None:
    x, y = X[:6], Y[:6]
    assert_trained(tmp_path / "two", settings(tmp_path, x, y, "data.split=[0.5,0.5]"))
    with pytest.raises(SettingError, match="stratified"):
        run(settings(tmp_path, x, y, "data.split=[0.34,0.33,0.33]"), tmp_path / "three")
