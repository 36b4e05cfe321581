"""hydra/sweeper=optuna on real sweeps: spaces, samplers, failures, a killed search gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from scripts.command import ROOT, refusal, script

from hydra_plugins.mlplab_launcher._search import space_of

SEARCH = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.seed=0", "data=iris", "trainer.max_epochs=3", "logger=csv")
RATE = "optimizer.lr=tag(log,interval(0.001,0.1))"


def study(folder: Path) -> Any:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    return optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))


def test_hydras_own_syntax_gives_the_space() -> None:
    space, fixed = space_of(
        [
            RATE,
            "model.hidden=int(interval(4,64))",
            "optimizer=adam,sgd",
            "seed=range(0,5)",
            "data=iris",
            "a=choice(1,2.5)",
        ]
    )
    kinds = optuna.distributions
    assert space["optimizer.lr"] == kinds.FloatDistribution(0.001, 0.1, log=True)
    assert space["model.hidden"] == kinds.IntDistribution(4, 64)
    assert space["seed"] == kinds.IntDistribution(0, 4)  # range(0,5) has no 5, as in Hydra's own sweeper
    assert space["optimizer"] == kinds.CategoricalDistribution(["adam", "sgd"])
    assert space["a"] == kinds.CategoricalDistribution(["1", "2.5"])
    assert fixed == ["data=iris"]


def test_a_search_trains_batches_and_keeps_its_record(tmp_path: Path) -> None:
    arguments = (*SEARCH, "hydra.sweeper.n_trials=6", "hydra.sweeper.batch_size=3", RATE, "model.hidden=8,16")
    run = script("train", *arguments, "hydra.sweep.dir=found", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("3 jobs: 3 completed") == 2
    trials = study(tmp_path / "found").trials
    assert len(trials) == 6
    for number, trial in enumerate(trials):
        values = json.loads((tmp_path / "found" / str(number) / "result.json").read_text())
        assert trial.value == pytest.approx(values["objective"])
        assert values["settings"]["optimizer"]["lr"] == trial.params["optimizer.lr"]
        assert str(values["settings"]["model"]["hidden"]) == trial.params["model.hidden"]
    best = yaml.safe_load((tmp_path / "found" / "optimization_results.yaml").read_text())
    assert best["best_evaluated_value"] == max(trial.value for trial in trials)
    again = script("train", *arguments, "hydra.sweep.dir=again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [t.params for t in study(tmp_path / "again").trials] == [t.params for t in trials]
    compared = script("compare", "runs=found", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "6 runs by val/accuracy" in compared.stdout


def test_a_trial_that_diverges_is_told_as_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    run = script(
        "train", *SEARCH, "hydra.sweeper.n_trials=9", "hydra.sweeper.batch_size=3", "optimizer=sgd",
        "hydra.sweeper.sampler=grid", "optimizer.lr=0.01,1e30,0.02,0.03", "hydra.sweep.dir=found", cwd=tmp_path,
    )  # fmt: skip
    states = {trial.params["optimizer.lr"]: trial.state.name for trial in study(tmp_path / "found").trials}
    assert states == {"0.01": "COMPLETE", "0.02": "COMPLETE", "0.03": "COMPLETE", "1e+30": "FAIL"}, run.stderr
    assert "3 trials complete, 1 failed" in run.stdout


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_samplers(sampler: str, tmp_path: Path) -> None:
    run = script(
        "train", *SEARCH, "hydra.sweeper.n_trials=3", f"hydra.sweeper.sampler={sampler}", RATE,
        "hydra.sweep.dir=found", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert len(study(tmp_path / "found").trials) == 3


def test_cmaes_moves_in_numbers(tmp_path: Path) -> None:
    run = script(
        "train", *SEARCH, "hydra.sweeper.n_trials=8", "hydra.sweeper.batch_size=4", "hydra.sweeper.sampler=cmaes",
        RATE, "regularization=l2", "regularization.l2.strength=interval(0,0.1)", "optimizer=adam,sgd",
        "hydra.sweep.dir=found", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "Warning" not in run.stderr
    trials = study(tmp_path / "found").trials
    assert len({trial.params["regularization.l2.strength"] for trial in trials}) == 8
    assert any(key.startswith("cma:") for trial in trials for key in trial.system_attrs), "it has kept its state"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_several_objectives_give_a_pareto_front(sampler: str, tmp_path: Path) -> None:
    run = script(
        "train", *SEARCH, "hydra.sweeper.n_trials=12", f"hydra.sweeper.sampler={sampler}",
        "objective=[val/accuracy,-parameters]", "model.hidden=2,4,8,16,32", RATE, "hydra.sweep.dir=found", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = study(tmp_path / "found")
    assert [direction.name for direction in told.directions] == ["MAXIMIZE", "MINIMIZE"]
    points = {}
    for trial in told.trials:
        values = json.loads((tmp_path / "found" / str(trial.number) / "result.json").read_text())
        assert values["objective"] == [values["metrics"]["val"]["accuracy"], values["n_parameters"]]
        assert trial.values == pytest.approx(values["objective"])
        points[str(trial.number)] = values["objective"]
    front = {
        name
        for name, (score, size) in points.items()
        if not any(s >= score and n <= size and (s, n) != (score, size) for s, n in points.values())
    }
    written = yaml.safe_load((tmp_path / "found" / "optimization_results.yaml").read_text())
    assert {Path(solution["job"]).name for solution in written["solutions"]} == front
    for solution in written["solutions"]:
        assert solution["values"] == pytest.approx(points[Path(solution["job"]).name])
    assert "Pareto front of 12 trials" in run.stdout
    compared = script("compare", "runs=found", cwd=tmp_path)
    assert "12 runs by val/accuracy" in compared.stdout, compared.stderr


def test_a_grid_records_each_of_several_objectives(tmp_path: Path) -> None:
    run = script(
        "train", "-m", "data=iris", "trainer.max_epochs=2", "objective=[val/loss,seconds]", "seed=0,1", "logger=none",
        "hydra.sweep.dir=s", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for job in ("0", "1"):
        values = json.loads((tmp_path / "s" / job / "result.json").read_text())
        assert values["objective"] == [values["metrics"]["val"]["loss"], values["seconds"]["fit"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra.sweeper.sampler=tpa", RATE], "tpe"),
        (["hydra.sweeper.direction=up", RATE], "minimize and maximize are"),
        (["hydra.sweeper.n_trials=0", RATE], "at least 1"),
        (["optimizer.lr=0.1"], "nothing to search"),
        (["hydra.sweeper.sampler=grid", RATE], "not an interval"),
        (["optimizer.lr=tag(log,interval(0,1))"], "optimizer.lr"),
        (["optimizer.lr=interval(-2,-1)", "hydra.sweeper.batch_size=2"], "must be greater than 0"),
        (["hydra.sweeper.storage=nowhere://x", RATE], "cannot be used"),
        (["objective=[val/accuracy,test/loss]", RATE], "the test part never chooses"),
        (["objective=[val/accuracy,-val/accuracy]", RATE], "names something twice"),
        (["objective=[val/loss,seconds]", "hydra.sweeper.direction=minimize", RATE], "is of one objective"),
        (["objective=[val/loss,seconds]", "hydra.sweeper.sampler=cmaes", RATE], "for one objective"),
        (["hydra.sweeper.sampler=cmaes", RATE], "two or more numbers"),
    ],
)
def test_a_search_that_cannot_be_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    run = script("train", *SEARCH, *arguments, "hydra.sweep.dir=found", cwd=tmp_path)
    assert message in refusal(run)
    assert not (tmp_path / "found").exists(), "nothing half begun"


@pytest.mark.slow
@pytest.mark.parametrize("choice", [("tpe", RATE), ("grid", "optimizer.lr=range(1,10)")], ids=["tpe", "grid"])
def test_a_killed_search_goes_on_where_it_was(choice: tuple[str, str], tmp_path: Path) -> None:
    sampler = f"hydra.sweeper.sampler={choice[0]}"
    batches = ("hydra.sweeper.n_trials=9", "hydra.sweeper.batch_size=3")
    arguments = (*SEARCH, "trainer.max_epochs=40", sampler, *batches, choice[1], "hydra.sweep.dir=found")
    line = [sys.executable, str(ROOT / "src" / "train.py"), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(line, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if told.startswith("trial 3 of 9"):
                break
        for _ in range(1000):  # its next jobs have begun
            if (tmp_path / "found" / "3").exists():
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    before = [trial.params for trial in study(tmp_path / "found").trials if trial.state.name == "COMPLETE"]
    assert 3 <= len(before) < 9
    lock = tmp_path / "found" / "study.journal.lock"
    if not lock.is_symlink():  # killed while it wrote: Optuna waits half a minute before it takes the lock away
        lock.symlink_to(tmp_path / "found" / "study.journal")
    run = script("train", *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    trials = study(tmp_path / "found").trials
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == 9
    assert [trial.params for trial in complete[: len(before)]] == before
    assert len({trial.params["optimizer.lr"] for trial in complete}) == 9, "no draw twice"
    jobs = json.loads((tmp_path / "found" / "jobs.json").read_text()).values()
    assert len(jobs) == 9, "the jobs that were killed have gone on in their folders"
    assert all((tmp_path / "found" / job["folder"] / "result.json").is_file() for job in jobs)


@pytest.mark.slow
def test_the_same_search_again_and_a_wider_one_train_only_what_is_new(tmp_path: Path) -> None:
    arguments = (*SEARCH, "hydra.sweeper.batch_size=4", "hydra.sweep.dir=found")
    first = (*arguments, "hydra.sweeper.n_trials=8", "model.hidden=8,16", RATE)
    run = script("train", *first, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").glob("*/result.json")}
    best = (tmp_path / "found" / "optimization_results.yaml").read_text()
    again = script("train", *first, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "fused" not in again.stdout
    assert (tmp_path / "found" / "optimization_results.yaml").read_text() == best
    wider = (*arguments, "hydra.sweeper.n_trials=12", "model.hidden=8,16,32", RATE)
    run = script("train", *wider, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "trial 12 of 12" in run.stdout
    found = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").glob("*/result.json")}
    assert len(found) == 12, "eight are inherited"
    assert {path: found[path] for path in files} == files
    again = script("train", *wider, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "fused" not in again.stdout


@pytest.mark.slow
def test_a_wider_grid_of_a_search_trains_only_its_new_cells(tmp_path: Path) -> None:
    arguments = (*SEARCH, "hydra.sweeper.sampler=grid", "hydra.sweep.dir=found")
    run = script("train", *arguments, "optimizer.lr=0.01,0.03", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").glob("*/result.json")}
    assert len(files) == 2
    wider = script("train", *arguments, "optimizer.lr=0.01,0.03,0.1", "model.hidden=8,16", cwd=tmp_path)
    assert wider.returncode == 0, wider.stderr
    again = script("train", *arguments, "optimizer.lr=0.01,0.03,0.1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    found = {path: path.stat().st_mtime_ns for path in (tmp_path / "found").glob("*/result.json")}
    assert {path: found[path] for path in files} == files
    settings = [json.loads(path.read_text())["settings"] for path in found]
    cells = sorted((values["optimizer"]["lr"], str(values["model"]["hidden"])) for values in settings)
    assert cells == sorted((lr, hidden) for lr in (0.01, 0.03, 0.1) for hidden in ("16", "8", "[32, 32]"))


@pytest.mark.slow
def test_two_processes_share_a_study_in_a_database(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/study.db"
    arguments = (*SEARCH[:2], *SEARCH[3:], "hydra.sweeper.n_trials=12", "hydra.sweeper.batch_size=2", RATE)
    line = [sys.executable, str(ROOT / "src" / "train.py"), *arguments, f"hydra.sweeper.storage={address}"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [*line, f"hydra.sweeper.seed={seed}", f"hydra.sweep.dir=machine{seed}"],
            cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in (1, 2)
    ]  # fmt: skip
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    trials = optuna.load_study(study_name="study", storage=address).trials
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    assert 12 <= len(trials) <= 14, "each may be at a batch when the other ends the study"
    jobs = {trial.user_attrs["job"] for trial in trials}
    assert jobs == {str(path.parent) for path in tmp_path.glob("machine*/*/result.json")}
    assert {Path(job).parent.name for job in jobs} == {"machine1", "machine2"}
    for trial in trials:
        values = json.loads((Path(trial.user_attrs["job"]) / "result.json").read_text())
        assert values["objective"] == pytest.approx(trial.value)
