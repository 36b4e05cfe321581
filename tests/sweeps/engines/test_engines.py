"""Every engine keeps the one promise: each task's outcome, whatever becomes of its process, and no process left."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sweeps.fates import DEADLY, batch, meet, one_after_the_other, pruning, with_state

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.config.launching import Launching, check_launching
from mlplab.fused.halving import Halving
from mlplab.runs import finished
from mlplab.sweeps.engines import Engine, Task, WorkerDied, close_all, engine_for
from mlplab.sweeps.run import NotStarted
from mlplab.sweeps.tasks import shares, spread
from mlplab.sweeps.unfinished import NAME

NAMES = (
    "local",
    "joblib",
    pytest.param("ray", marks=pytest.mark.slow),
    pytest.param("submitit", marks=pytest.mark.slow),
)
SLURM = dict.fromkeys(("partition", "account", "qos", "constraint", "mem")) | {
    "timeout_min": 60,
    "setup": [],
    "more": {},
}
SETTINGS: dict[str, Any] = {
    "engine": "local",
    "max_jobs": "auto",
    "workers": 2,
    "jobs_per_task": "auto",
    "cpus_per_task": 1,
    "gpus_per_task": 0,
    "ray_address": None,
    "cluster": "local",
    "slurm": SLURM,
}


def settings(**given: Any) -> Launching:
    return check_launching(SETTINGS | given)


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    found = engine_for(settings(engine=request.param))
    assert found is not None
    found.start()
    yield found
    close_all()


def test_each_task_has_its_own_end(engine: Engine, tmp_path: Path) -> None:
    fates = ["a", "raise", "b", "kill", "c", "odd", "d", "exit", "e", "f"]
    found = dict(engine.run([Task(meet, (fate,)) for fate in fates], tmp_path))
    assert sorted(found) == list(range(len(fates)))
    for i, fate in enumerate(fates):
        match fate:
            case "raise":
                assert isinstance(found[i], ValueError)
                assert str(found[i]) == "a hole"
            case "odd":
                assert isinstance(found[i], RuntimeError)
                assert "a hole" in str(found[i])
            case "kill" | "exit":
                assert isinstance(found[i], WorkerDied), found[i]
            case _:
                assert found[i] == (fate, str(Path.cwd()))
    again = dict(engine.run([Task(meet, ("again",))], tmp_path))
    assert again == {0: ("again", str(Path.cwd()))}


def test_closing_ends_what_runs(engine: Engine, tmp_path: Path) -> None:
    tasks = [Task(meet, ("first",)), Task(meet, ("wait", tmp_path / "pid")), Task(meet, ("wait", tmp_path / "later"))]
    with closing(engine.run(tasks, tmp_path)) as ended:
        assert next(ended)[0] == 0
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
    process, end = int((tmp_path / "pid").read_text()), time.monotonic() + 5
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]:
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.05)


class Stop(Exception):
    """Stands for Ctrl-C in the launching process."""


def test_what_is_told_to_end_has_time_to_write(engine: Engine, tmp_path: Path) -> None:
    marks = [tmp_path / "a", tmp_path / "b"]

    def told(*_: object) -> None:
        raise Stop

    def tell() -> None:
        while not all(mark.exists() for mark in marks):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, told)
    threading.Thread(target=tell, daemon=True).start()
    try:
        with closing(engine.run([Task(meet, ("leave", mark)) for mark in marks], tmp_path)) as ended:
            assert list(ended) == [], "it was told before"
    except Stop:
        pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert all(mark.with_suffix(".left").exists() for mark in marks)


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config("data=wine", "model.hidden=4")


def jobs(config: Config, seeds: list[int], sweep: Path, **more: Any) -> tuple[list[Config], list[Path]]:
    return [config.model_copy(update={"seed": s, **more}) for s in seeds], [sweep / str(s) for s in seeds]


def local(**given: Any) -> Engine:
    found = engine_for(settings(**given))
    assert found is not None
    return found


def test_a_deadly_network_of_a_chunk_is_found_and_the_others_finish(config: Config, tmp_path: Path) -> None:
    seeds = list(range(8, 18))
    outcomes = spread(batch, *jobs(config, seeds, tmp_path), local(), tmp_path)
    for seed, outcome in zip(seeds, outcomes, strict=True):
        if seed == DEADLY:
            assert isinstance(outcome, WorkerDied)
            assert "SIGKILL" in str(outcome)
        else:
            assert outcome.status == "completed"
    assert finished(tmp_path / str(DEADLY)) is None
    assert not (tmp_path / ".tasks").exists()
    outcomes = spread(batch, *jobs(config, [s for s in seeds if s != DEADLY], tmp_path), local(), tmp_path)
    assert {o.status for o in outcomes} == {"completed"}


@pytest.mark.parametrize("first", [20, 10])
def test_a_chunk_that_has_left_a_state_is_tried_as_it_was_first(first: int, config: Config, tmp_path: Path) -> None:
    seeds = list(range(first, first + 6))
    outcomes = spread(with_state, *jobs(config, seeds, tmp_path), local(), tmp_path, jobs_per_task=6)
    begun = (tmp_path / "begun").read_text().splitlines()
    assert begun[:2] == ["6 False", "6 True"]
    if DEADLY in seeds:
        assert len(begun) > 2
        assert all(line.endswith("False") for line in begun[2:]), "the state was of the whole chunk"
        assert [isinstance(outcome, WorkerDied) for outcome in outcomes] == [seed == DEADLY for seed in seeds]
        assert not list(tmp_path.rglob(NAME))
    else:
        assert len(begun) == 2
        assert {outcome.status for outcome in outcomes} == {"completed"}


def test_a_job_that_a_search_has_stopped_has_ended(config: Config, tmp_path: Path) -> None:
    seeds, halving = [11, 12, 13, 14], Halving("val/accuracy", smaller_is_better=False)
    outcomes = spread(
        pruning, *jobs(config, seeds, tmp_path), local(), tmp_path, jobs_per_task=4, halving=halving
    )  # fmt: skip
    assert [type(outcome).__name__ for outcome in outcomes] == ["Result", "Result", "WorkerDied", "Result"]
    assert {outcome.values["by"] for outcome in outcomes if not isinstance(outcome, Exception)} == {"val/accuracy"}


def test_a_job_that_dies_alone_is_the_only_one_lost(config: Config, tmp_path: Path) -> None:
    seeds = list(range(10, 28))
    outcomes = spread(one_after_the_other, *jobs(config, seeds, tmp_path), local(), tmp_path)
    for seed, outcome in zip(seeds, outcomes, strict=True):
        kind = WorkerDied if seed == DEADLY else ValueError if seed % 10 == 7 else None
        assert outcome.status == "completed" if kind is None else isinstance(outcome, kind)
    begun = (tmp_path / "begun").read_text().split()
    assert begun.count(str(DEADLY)) == 1, "none is tried again unless on_error=retry"
    assert all(begun.count(str(s)) == 1 for s in seeds if s % 10 != 7)


def test_on_error_retry_tries_a_deadly_job_once_again(config: Config, tmp_path: Path) -> None:
    outcomes = spread(one_after_the_other, *jobs(config, [12, 13, 14], tmp_path, on_error="retry"), local(), tmp_path)
    assert [type(o).__name__ for o in outcomes] == ["Result", "WorkerDied", "Result"]
    assert (tmp_path / "begun").read_text().split().count("13") == 2


def test_on_error_stop_starts_no_more(config: Config, tmp_path: Path) -> None:
    seeds = [17, 28, *range(20, 26)]  # 28 waits until 17 has begun
    outcomes = spread(
        one_after_the_other,
        *jobs(config, seeds, tmp_path, on_error="stop"),
        local(),
        tmp_path,
        jobs_per_task=1,
    )
    assert isinstance(outcomes[0], ValueError)
    assert isinstance(outcomes[-1], NotStarted)
    assert "job 0 failed and on_error=stop" in str(outcomes[-1])


@pytest.mark.parametrize(("n", "size"), [(1, 1), (7, 3), (8, 4), (100, 1), (1000, 100), (101, 100)])
def test_shares_are_even_and_hold_every_job_once(config: Config, n: int, size: int) -> None:
    wide = load_config("data=wine", "model.hidden=8")
    parts = shares([(config, wide)[i % 2] for i in range(n)], size)
    assert sorted(i for part in parts for i in part) == list(range(n))
    assert len(parts) == -(-n // size)
    assert max(map(len, parts)) <= size
    assert max(map(len, parts[:-1] or parts)) == min(map(len, parts[:-1] or parts)), "even but for the last"
    mixed = [part for part in parts if len({i % 2 for i in part}) == 2]
    assert len(mixed) <= 1, "jobs of like settings are together"


def test_ten_thousand_jobs_are_a_hundred_tasks_and_few_jobs_one_for_every_worker(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(shares([config] * 10_000, 100)) == 100
    spread(batch, *jobs(config, list(range(20, 25)), tmp_path), local(workers=3), tmp_path)
    assert "5 jobs in 3 tasks, 3 at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "rai"}, "hydra.launcher.engine='rai' is not allowed: it must be 'local', 'joblib', 'ray'"),
        ({"workers": 0}, "hydra.launcher.workers=0 is not allowed"),
        ({"jobs_per_task": "many"}, "hydra.launcher.jobs_per_task='many' is not allowed"),
        ({"gpus_per_task": -1}, "hydra.launcher.gpus_per_task=-1 is not allowed"),
        ({"slurm": SLURM | {"timeout_min": 0}}, "hydra.launcher.slurm.timeout_min=0 is not allowed"),
    ],
)
def test_a_wrong_setting_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=re.escape(said)):
        settings(**given)


def test_one_worker_of_our_own_is_this_process() -> None:
    assert engine_for(settings(workers=1)) is None
    assert engine_for(settings(workers="auto")) is None
