"""A planned job has the config that Hydra itself would have composed for it, at a small part of the price."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from hydra_plugins.mlplab_launcher._compose import Composer
from hydra_plugins.mlplab_launcher._planned import Planner, plainly
from mlplab.cli import CheckSettings
from mlplab.compose import CONF, to_config
from mlplab.config import parse

Jobs = list[list[str]]


class Sweep:
    """A sweep as Hydra hands it to its launcher."""

    def __init__(self, *hydra_overrides: str) -> None:
        setup_globals()
        JobRuntime.instance().set("name", "train")
        self.loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
        named = any(o.startswith("hydra.sweep.dir") for o in hydra_overrides)
        given = [*(() if named else ("hydra.sweep.dir=sweep",)), "hydra/launcher=fused", *hydra_overrides]
        self.config = self.loader.load_configuration("train", given, run_mode=RunMode.MULTIRUN)

    def composer(self) -> Composer:
        return Composer(self.config, self.loader)

    def by_hydra(self, overrides: list[str], number: int) -> DictConfig:
        """What Hydra's own launcher does for each job."""
        config = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


@pytest.fixture
def sweep(hydra_restore_singletons: None) -> Iterator[Callable[..., Sweep]]:
    state = Singleton.get_state()
    yield Sweep
    Singleton.set_state(state)


SWEEPS: dict[str, Jobs] = {
    "numbers": [["optimizer.lr=0.1", "seed=0"], ["optimizer.lr=1e-3", "seed=1"], ["optimizer.lr=3", "seed=10"]],
    "every plain type": [
        ["model.depth=null", "model.bias=true", "name=one", "trainer.max_epochs=3"],
        ["model.depth=2", "model.bias=false", "name=two words", "trainer.max_epochs=4"],
        ["model.depth=null", "model.bias=True", "name='a: [b]'", "trainer.max_epochs=0x10"],
        ["model.depth=3", "model.bias=off", "name=${data.name}", "trainer.max_epochs=3"],
        ["model.depth=3", "model.bias=on", "name=001", "trainer.max_epochs=3.0"],
    ],
    "numbers that look like words": [["name=1e3"], ["name='1e3'"], ["name=null"], ["name='null'"], ["name=yes"]],
    "lists": [["model.hidden=[8,8]"], ["model.hidden=16"], ["model.hidden=[4]"], ["model.hidden=[8,8]", "seed=1"]],
    "groups": [["optimizer=sgd", "seed=0"], ["optimizer=adam", "seed=0"], ["optimizer=sgd", "seed=1"]],
    "groups and their numbers": [
        ["optimizer=sgd", "optimizer.lr=0.1"],
        ["optimizer=sgd", "optimizer.lr=0.2"],
        ["optimizer=nesterov", "optimizer.momentum=0.3"],
        ["optimizer.lr=0.3", "optimizer=sgd"],
    ],
    "lists of options": [
        ["regularization=[l2,dropout]", "seed=0"],
        ["regularization=none", "seed=0"],
        ["regularization=[l2,dropout]", "regularization.dropout.p=0.4"],
        ["regularization=[l2,dropout]", "regularization.dropout.p=0.5"],
    ],
    "a value that others refer to": [["data=iris", "seed=0"], ["data=moons", "seed=1"], ["data=iris", "seed=2"]],
    "the name in the folder": [["name=a", "seed=0"], ["name=b", "seed=0"]],
    "additions and deletions": [
        ["+more.one=1", "seed=0"],
        ["+more.one=2", "seed=0"],
        ["~scheduler", "seed=1"],
        ["++optimizer.lr=0.2", "seed=1"],
        ["++optimizer.lr=0.3", "seed=2"],
    ],
    "nothing": [[], []],
    "one given twice": [["seed=1", "seed=2"], ["seed=3", "seed=4"]],
    "hydra's own settings": [["hydra.job.name=mine", "seed=0"], ["seed=1"]],
    "dictionaries": [
        ["+more={a:1,b:2}", "seed=0"],
        ["+more={a:2,b:2}", "seed=0"],
        ["model=custom", "model.target=x.Y", "+model.kwargs={width:3}"],
        ["model=custom", "model.target=x.Y", "+model.kwargs={width:4}"],
        ["model=custom", "model.target=x.Z", "+model.kwargs.depth=4"],
    ],
    "quotes and commas": [["name='it\\'s'"], ['name="x,y"'], ["name=a\\,b"], ["name='@@0@@'"]],
}


@pytest.mark.parametrize("jobs", SWEEPS.values(), ids=SWEEPS.keys())
def test_composed_configs_equal_hydra_s(sweep: Callable[..., Sweep], jobs: Jobs) -> None:
    own = sweep()
    composer = own.composer()
    for number, overrides in enumerate(jobs):
        ours, theirs = composer.job(overrides, number), own.by_hydra(overrides, number)
        assert ours == theirs
        assert list(ours) == list(theirs)


@pytest.mark.parametrize(
    "hydra_overrides",
    [(), ("hydra.sweep.subdir=${hydra.job.override_dirname}",), ("hydra.sweep.subdir=${optimizer.name}_${seed}",)],
    ids=["numbered", "named by overrides", "named by settings"],
)
@pytest.mark.parametrize("jobs", SWEEPS.values(), ids=SWEEPS.keys())
def test_planned_folders_files_and_settings_equal_hydra_s(
    sweep: Callable[..., Sweep], jobs: Jobs, hydra_overrides: tuple[str, ...]
) -> None:
    own = sweep(*hydra_overrides)
    planner = Planner(own.composer())
    for number, overrides in enumerate(jobs):
        ours = planner.plan(overrides, number)
        theirs = plainly(own.by_hydra(overrides, number), overrides, number)
        assert ours.folder == theirs.folder
        assert ours.values == theirs.values
        assert repr(ours.values) == repr(theirs.values)  # 1 is not True, 1.0 is not 1
        assert ours.files == theirs.files
        assert (ours.overrides, ours.number) == (theirs.overrides, theirs.number)


def test_the_folder_may_hang_on_the_settings(sweep: Callable[..., Sweep]) -> None:
    own = sweep("hydra.sweep.dir=outputs/${name}/all")
    planner = Planner(own.composer())
    for number, overrides in enumerate([["name=a"], ["name=b"], ["name=c"]]):
        theirs = plainly(own.by_hydra(overrides, number), overrides, number)
        assert planner.plan(overrides, number).folder == theirs.folder


def test_planned_jobs_pass_the_same_checks(sweep: Callable[..., Sweep]) -> None:
    own = sweep()
    planner = Planner(own.composer())
    for number, overrides in enumerate([["optimizer.lr=0.1", "data.batch_size=full"], ["data.batch_size=3"]] * 2):
        config: Any = parse(planner.plan(overrides, number).values)
        assert config == to_config(own.by_hydra(overrides, number))


@pytest.mark.slow
def test_planning_a_job_costs_at_most_a_tenth_of_hydra_s_composition(
    sweep: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [
        [f"optimizer.lr={lr}", f"seed={s}", f"data.fold={s % 5}", "data.folds=5"] for s in range(5) for lr in (1, 2)
    ]
    monkeypatch.chdir(tmp_path)
    own = sweep("hydra.sweep.dir=outputs/${name}/all")
    CheckSettings().on_multirun_start(own.config)  # as at the start of each sweep: the folder has settings in its name
    planner = Planner(own.composer())
    ours, theirs = [], []
    for number, overrides in enumerate(jobs):
        started = time.perf_counter()
        planner.plan(overrides, number)
        between = time.perf_counter()
        plainly(own.by_hydra(overrides, number), overrides, number)
        ours.append(between - started)
        theirs.append(time.perf_counter() - between)
    assert median(ours) <= median(theirs) / 10
    assert sum(ours) <= sum(theirs) / 3  # the first of a kind is Hydra's own
