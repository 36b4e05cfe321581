"""Each data set has its known size and law."""

import numpy as np
import pytest
from sklearn import datasets
from training.loops import config_of

from mlplab.compose import CONF
from mlplab.config import Config, SettingError
from mlplab.data.tables import LOADERS, Table, read

CLOUD = ("data=xor", "data.samples=400", "data.noise=0.1")


def table(*overrides: str) -> Table:
    config: Config = config_of(*overrides)
    return read(config.data)


def custom(function: str, *overrides: str) -> Table:
    return table("data=custom", f"data.target=data.own.{function}", *overrides)


def test_every_data_set_of_conf_has_its_loader() -> None:
    names = {path.stem for path in (CONF / "data").iterdir()}
    images = {name for name in names if "workers" in (CONF / "data" / f"{name}.yaml").read_text()}
    images |= {name for name in names if "fashion_mnist" in (CONF / "data" / f"{name}.yaml").read_text()}
    assert set(LOADERS) == names - images - {"table"}  # tests/data/test_images.py, test_table_file_reading.py


@pytest.mark.parametrize(
    ("name", "rows", "features", "classes"),
    [("wine", 178, 13, 3), ("iris", 150, 4, 3), ("breast_cancer", 569, 30, 2), ("digits", 1797, 64, 10)],
)
def test_bundled_tables_are_scikit_learns_own(name: str, rows: int, features: int, classes: int) -> None:
    ours = table(f"data={name}")
    theirs = getattr(datasets, f"load_{name}")()
    assert ours.x.shape == (rows, features)
    assert len(ours.class_names) == classes
    assert np.array_equal(ours.x, theirs.data)
    assert np.array_equal(ours.y, theirs.target)
    assert ours.feature_names == [str(n) for n in theirs.feature_names]


def test_synthetic_is_make_classification() -> None:
    ours = table(
        *("data=synthetic", "data.samples=300", "data.features=9", "data.informative=4", "data.redundant=3"),
        *("data.classes=3", "data.clusters_per_class=1", "data.class_separation=1.5", "data.label_noise=0.2"),
        "data.seed=6",
    )
    x, y = datasets.make_classification(
        300,
        9,
        n_informative=4,
        n_redundant=3,
        n_classes=3,
        n_clusters_per_class=1,
        class_sep=1.5,
        flip_y=0.2,
        random_state=6,
    )
    assert np.array_equal(ours.x, x)
    assert np.array_equal(ours.y, y)


def test_moons_are_make_moons_and_circles_make_circles() -> None:
    ours = table("data=moons", "data.samples=70", "data.noise=0.3", "data.seed=2")
    x, y = datasets.make_moons(70, noise=0.3, random_state=2)
    assert np.array_equal(ours.x, x)
    assert np.array_equal(ours.y, y)
    ours = table("data=circles", "data.samples=70", "data.noise=0.05", "data.factor=0.3", "data.seed=2")
    x, y = datasets.make_circles(70, noise=0.05, factor=0.3, random_state=2)
    assert np.array_equal(ours.x, x)
    assert np.array_equal(ours.y, y)


def test_xor_is_the_four_points_and_exclusive_or_of_them() -> None:
    four = table("data=xor")
    assert sorted(map(tuple, four.x.tolist())) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert np.array_equal(four.y, four.x[:, 0].astype(int) ^ four.x[:, 1].astype(int))


def test_xor_cloud_lies_around_the_corners_with_the_noise_as_spread() -> None:
    cloud = table(*CLOUD)
    corners = cloud.x.round().clip(0, 1)
    assert np.array_equal(cloud.y, corners.sum(1) == 1)
    away = cloud.x - corners
    assert away.std() == pytest.approx(0.1, rel=0.1)
    assert cloud.parts is None
    assert np.bincount(cloud.y).tolist() == [200, 200]


def test_spirals_arms_are_turned_copies_of_radius_0_to_1() -> None:
    arms, turns = 4, 1.5
    spirals = table("data=spirals", f"data.arms={arms}", f"data.turns={turns}", "data.noise=0.0", "data.samples=800")
    radius = np.hypot(*spirals.x.T)
    assert radius.max() <= 1
    assert np.bincount(spirals.y).tolist() == [200] * 4
    angle = np.arctan2(spirals.x[:, 1], spirals.x[:, 0])
    off = (angle - 2 * np.pi * (turns * radius + spirals.y / arms)) / (2 * np.pi)
    assert np.abs(off - off.round()).max() < 1e-9
    assert np.mean(radius < 0.5) == pytest.approx(0.25, abs=0.05)  # as dense in the middle as outside


def test_spirals_noise_is_the_spread_of_each_coordinate() -> None:
    noisy, plain = (table("data=spirals", f"data.noise={noise}").x for noise in (0.2, 0.0))
    assert (noisy - plain).std() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("name", ["synthetic", "moons", "circles", "spirals"])
def test_made_data_follows_its_own_seed_and_not_the_runs(name: str) -> None:
    one = table(f"data={name}").x
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(one, table(f"data={name}", "seed=9").x)
    assert not np.array_equal(one, table(f"data={name}", "data.seed=1").x)


def test_custom_data_may_have_any_labels() -> None:
    animals = custom("animals", "+data.kwargs.rows=30")
    assert animals.x.shape == (30, 2)
    assert animals.class_names == ["ant", "cat", "dog"]
    assert [animals.class_names[c] for c in animals.y[:3]] == ["cat", "dog", "ant"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("no pair", r"must return \(x, y\), but returned ndarray"),
        ("flat", r"but returned shapes \(60,\) and \(60,\)"),
        ("short", r"but returned shapes \(60, 2\) and \(59,\)"),
        ("missing", r"column 'x0' is nan, and \d+ more values are not finite"),
        ("one class", "all rows have the same class"),
    ],
)
def test_custom_data_that_cannot_be_used_is_refused(kind: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        custom("odd", f"+data.kwargs.kind={kind}")
