"""Permutation importance and partial dependence obey their definitions, on real runs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data.people import HEADER, people
from scripts.command import refusal, script
from sklearn.metrics import log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.config.tools import Explain
from mlplab.evaluate import load
from mlplab.experiment import run
from mlplab.explain import columns_of, dependence, explain, importance, patches
from mlplab.reports.tables import read_csv, write_csv
from mlplab.restore import Restored
from mlplab.training.evaluation import score
from mlplab.training.metrics import METRICS

FAST = ("accelerator=cpu", "logger=none", "trainer.max_epochs=20")
SETTINGS = {
    "part": "val",
    "metric": "accuracy",
    "allow_targets": [],
    "repeats": 5,
    "rows": 10000,
    "seed": 0,
    "columns": "auto",
    "curves": 3,
    "points": 30,
    "patch": 4,
}


def settings(folder: Path, **given: object) -> Explain:
    return Explain(run=str(folder), **{**SETTINGS, **given})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "wine"
    run(load_config(*FAST), folder)
    return folder


def double(restored: Restored, raw: torch.Tensor) -> np.ndarray:
    """Probabilities that sum to one as scikit-learn wants them to."""
    probs = restored.probabilities(raw).double().numpy()
    return probs / probs.sum(1, keepdims=True)


def test_importance_is_the_loss_of_the_score_when_the_column_is_in_another_order(wine: Path) -> None:
    loaded = load(wine)
    restored, raw, y = loaded.restored, loaded.raw("val"), loaded.prepared.parts["val"].y
    before = raw.clone()
    columns = columns_of(restored)
    found = importance(restored, columns, raw, y, settings(wine, metric="log_loss", repeats=20))
    assert torch.equal(raw, before), "the rows are left as they were"
    assert [one.mean for one in found] == sorted((one.mean for one in found), reverse=True)
    base = log_loss(y, double(restored, raw), labels=[0, 1, 2])
    one = next(one for one in found if one.name == "alcohol")
    rng = np.random.default_rng(0)
    told = []
    for _ in range(400):
        x = raw.clone()
        x[:, 0] = x[torch.from_numpy(rng.permutation(len(x))), 0]
        told.append(log_loss(y, double(restored, x), labels=[0, 1, 2]) - base)
    assert one.mean == pytest.approx(np.mean(told), abs=4 * np.std(told) / np.sqrt(20))
    assert one.deviation == pytest.approx(np.std(one.each, ddof=1))
    assert 0.5 < one.deviation / np.std(told) < 2


def test_a_column_that_the_network_does_not_look_at_has_importance_zero(wine: Path) -> None:
    loaded = load(wine)
    with torch.no_grad():
        next(loaded.network.parameters())[:, 3] = 0
    chosen = settings(wine, metric="log_loss")
    found = importance(
        loaded.restored, columns_of(loaded.restored), loaded.raw("val"), loaded.prepared.parts["val"].y, chosen
    )
    assert {one.name for one in found if one.each == [0.0] * 5} == {"alcalinity_of_ash"}
    (flat,) = [
        dependence(loaded.restored, c, loaded.raw("val"), 30) for c in columns_of(loaded.restored) if "alcal" in c.name
    ]
    assert torch.equal(flat.probabilities, flat.probabilities[:1].expand_as(flat.probabilities))


def test_the_shuffles_are_functions_of_seed_name_and_repeat(wine: Path) -> None:
    loaded = load(wine)
    columns, raw, y = columns_of(loaded.restored), loaded.raw("val"), loaded.prepared.parts["val"].y

    def each(columns: list, **given: object) -> dict[str, list[float]]:
        found = importance(loaded.restored, columns, raw, y, settings(wine, metric="log_loss", **given))
        return {one.name: one.each for one in found}

    first = each(columns)
    assert each(columns[::-1]) == first
    assert each(columns[2:3], repeats=2)["ash"] == first["ash"][:2]
    assert each(columns[2:3], seed=1)["ash"] != first["ash"]


def test_partial_dependence_is_the_mean_probability_with_the_column_set(wine: Path) -> None:
    loaded = load(wine)
    column, raw = columns_of(loaded.restored)[12], loaded.raw("test")
    found = dependence(loaded.restored, column, raw, 10)
    assert found.values.numpy() == pytest.approx(np.linspace(*np.quantile(raw[:, 12], [0.01, 0.99]), 10))
    x = raw.clone()
    x[:, 12] = found.values[4]
    assert found.probabilities[4].tolist() == loaded.restored.probabilities(x).double().mean(0).tolist()
    few = raw.clone()
    few[:, 12] = torch.arange(len(few)) % 3
    assert dependence(loaded.restored, column, few, 10).values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_chosen_and_worse_is_above_zero(metric: str, wine: Path) -> None:
    found = explain(settings(wine, metric=metric, part="test", curves=0))
    assert found.title == f"wine: how much worse {metric} gets by shuffling, test part, 36 rows"
    assert sum(one.mean for one in found.importances) > 0
    assert found.dependences == []


def test_fewer_rows_are_drawn_by_seed(wine: Path) -> None:
    assert explain(settings(wine, rows=20)).title.endswith("20 rows")
    first, again, other = (explain(settings(wine, rows=20, seed=s, curves=0)).importances for s in (0, 0, 1))
    assert [one.each for one in first] == [one.each for one in again]
    assert {one.name: one.each for one in first} != {one.name: one.each for one in other}


def test_the_script_writes_tables_figures_and_tensorboard(wine: Path) -> None:
    done = script("explain", f"run={wine}", "columns=[ash,hue]", "repeats=3", cwd=wine)
    assert done.returncode == 0, done.stderr
    assert "validation part" in done.stdout
    rows = read_csv(wine / "importance.csv")
    loaded = load(wine)
    assert {row["column"] for row in rows} == set(loaded.prepared.feature_names)
    assert list(rows[0]) == ["column", "importance", "spread", "repeat 1", "repeat 2", "repeat 3"]
    curves = read_csv(wine / "partial_dependence.csv")
    assert {row["column"] for row in curves} == {"ash", "hue"}
    for row in curves:
        assert sum(float(row[f"p({c})"]) for c in loaded.prepared.class_names) == pytest.approx(1, abs=1e-6)
    for name in ("importance", "partial_dependence"):
        assert (wine / "figures" / f"{name}.png").stat().st_size > 5000
    events = EventAccumulator(str(wine), size_guidance={"images": 0}).Reload()
    assert {"explain/importance", "explain/partial_dependence"} <= set(events.Tags()["images"])


def test_images_are_shuffled_square_by_square(tmp_path: Path) -> None:
    run(load_config("data=digits_images", "accelerator=cpu", "logger=none", "trainer.max_epochs=3"), tmp_path)
    found = explain(settings(tmp_path, patch=3, repeats=2))
    assert found.what == "patch of 3x3 pixels"
    assert {one.name for one in found.importances} == {f"{i},{j}" for i in (0, 3, 6) for j in (0, 3, 6)}
    assert found.importances[0].mean > 0.05
    assert (tmp_path / "figures" / "importance.png").is_file()
    assert not (tmp_path / "partial_dependence.csv").exists()
    with pytest.raises(SettingError, match="images have no columns to draw curves of"):
        explain(settings(tmp_path, columns=["0,0"]))


def test_a_column_of_a_table_is_shuffled_whole_whatever_it_became(tmp_path: Path) -> None:
    write_csv(tmp_path / "people.csv", HEADER, people(600))
    run(load_config("data=table", f"data.path={tmp_path}/people.csv", "data.target=label", *FAST), tmp_path / "run")
    found = explain(settings(tmp_path / "run", metric="log_loss", repeats=3))
    means = {one.name: one.mean for one in found.importances}
    assert means.keys() == {"age", "city", "since", "member"}, "one for each original column, none for identifiers"
    assert min(means["age"], means["city"], means["member"]) > 0 > means["since"] - 0.05
    assert [one.column for one in found.dependences] == ["age"], "curves are for numbers"
    assert len(found.dependences[0].values) == 30
    assert bool(found.dependences[0].probabilities.isfinite().all())
    with pytest.raises(SettingError, match="'city' does not hold numbers"):
        explain(settings(tmp_path / "run", columns=["city"]))


def test_patches_cover_every_pixel_once() -> None:
    seen = torch.zeros(1, 3, 7, 5)
    for patch in patches((3, 7, 5), 2):
        patch.of(seen).add_(1)
    assert (seen == 1).all()


def test_the_base_score_is_evaluates(wine: Path) -> None:
    loaded = load(wine)
    part = loaded.prepared.parts["val"]
    kept = score(loaded.network, part, loaded.config, 3, None).probs
    assert torch.equal(loaded.restored.probabilities(loaded.raw("val")), kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["metric=acuracy"], "metric='acuracy'"),
        (["part=train"], "part='train'"),
        (["repeats=1"], "repeats=1"),
        (["columns=[ashh]"], "Did you mean 'ash'?"),
        (["repeat=3"], "Did you mean 'repeats'?"),
    ],
)
def test_the_script_refuses_in_one_message(arguments: list[str], said: str, wine: Path, tmp_path: Path) -> None:
    assert said in refusal(script("explain", f"run={wine}", *arguments, cwd=tmp_path))


def test_a_part_without_rows_is_refused(tmp_path: Path) -> None:
    run(load_config("data.split=[0.8,0.2]", "accelerator=cpu", "logger=none", "trainer.max_epochs=1"), tmp_path)
    with pytest.raises(SettingError, match=r"the val part of .* has 0 rows; use part=test"):
        explain(settings(tmp_path))
