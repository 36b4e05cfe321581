"""Fused sweeps as a person starts them: each job's folder is the one that the job alone would have left."""

from __future__ import annotations

import csv
import math
import re
import time
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from scripts.command import refusal, script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from mlplab.evaluate import evaluate
from mlplab.runs import read_result
from mlplab.training import checkpoints

PLAIN = ("logger.histograms=false", "logger.figures=false", "logger.graph=false")
SMALL = ("accelerator=cpu", "model.hidden=8", "trainer.max_epochs=4")
SHARED = (*SMALL, "optimizer=adamw", "data.folds=5", *PLAIN)
SWEPT = ("optimizer.lr=0.02,0.005", "regularization=[l2,dropout],[batch_norm,early_stopping]", "data.fold=0,3")
# the jobs of SWEPT in Hydra's order; the second and the seventh are trained alone as well
OWN = [
    ("optimizer.lr=" + lr, "regularization=" + regularization, "data.fold=" + fold)
    for lr in ("0.02", "0.005")
    for regularization in ("[l2,dropout]", "[batch_norm,early_stopping]")
    for fold in ("0", "3")
]
COMPARED = (1, 6)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="module")
def swept(work: Path) -> CompletedProcess[str]:
    run = script("train", "-m", *SHARED, *SWEPT, "hydra.sweep.dir=sweep", cwd=work)
    assert run.returncode == 0, run.stderr
    return run


@pytest.fixture(scope="module", params=[COMPARED[0], pytest.param(COMPARED[1], marks=pytest.mark.slow)])
def folders(request: pytest.FixtureRequest, work: Path, swept: CompletedProcess[str]) -> tuple[Path, Path]:
    """(folder of the job in the sweep, folder of the same job alone)."""
    solo = work / f"solo{request.param}"
    run = script("train", *SHARED, *OWN[request.param], f"hydra.run.dir={solo}", cwd=work)
    assert run.returncode == 0, run.stderr
    return work / "sweep" / str(request.param), solo


def result(folder: Path) -> dict[str, Any]:
    return read_result(folder).values


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def files(folder: Path) -> set[str]:
    """Names of all files; hosts and times of event files, the job's own log and what is the sweep's left out."""
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "swept.json"}
    return {re.sub(r"events\.out.*", "events", n) for n in names if not n.endswith(".log")}


def assert_alike(one: Any, two: Any, where: str = "", rel: float = 1e-4) -> None:
    """Same keys, types and shapes; same values, numbers up to rounding."""
    if isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            assert_alike(one[key], two[key], f"{where}.{key}", rel)
    elif isinstance(one, list | tuple):
        assert (type(one), len(one)) == (type(two), len(two)), where
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_alike(a, b, f"{where}[{i}]", rel)
    elif isinstance(one, torch.Tensor):
        assert isinstance(two, torch.Tensor), where
        assert (one.dtype, one.shape) == (two.dtype, two.shape), where
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5, msg=lambda m: f"{where}: {m}")
    elif isinstance(one, float) and isinstance(two, float):
        assert math.isclose(one, two, rel_tol=rel, abs_tol=1e-7) or (one != one and two != two), (where, one, two)
    else:
        assert one == two, where


def test_the_first_line_counts_groups_and_jobs(swept: CompletedProcess[str]) -> None:
    first, *_, last = swept.stdout.splitlines()
    assert first == "8 jobs fused in 3 groups of 4, 2, 2"  # batch statistics: one group for each number of rows
    assert "8 completed" in last
    assert "sweep" in last


def test_a_job_leaves_the_files_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    fused, solo = folders
    assert files(fused) == files(solo)
    assert {".hydra/config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "events"} <= files(fused)


def test_hydra_s_files_are_those_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    fused, solo = folders
    assert (fused / ".hydra/config.yaml").read_text() == (solo / ".hydra/config.yaml").read_text()
    one, two = ((folder / ".hydra/overrides.yaml").read_text() for folder in folders)
    assert one.lower() == two.lower()  # Hydra's sweeper writes false as False


def test_result_json_is_that_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    one, two = (result(folder) for folder in folders)
    changing = ("seconds", "samples_per_second", "command")
    assert list(one) == list(two)
    for name in changing:
        first, second = one.pop(name), two.pop(name)
        assert type(first) is type(second)
        assert not isinstance(first, dict) or list(first) == list(second)
    assert one["status"] == "completed"
    assert_alike(one, two, rel=1e-5)


def test_metrics_csv_is_that_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    one, two = (rows(folder) for folder in folders)
    assert len(one) == len(two) > 1
    for a, b in zip(one, two, strict=True):
        assert list(a) == list(b)
        assert float(a.pop("seconds")) > 0
        del b["seconds"]
        assert_alike({k: float(v) for k, v in a.items()}, {k: float(v) for k, v in b.items()})


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_are_those_of_a_run_alone(folders: tuple[Path, Path], name: str) -> None:
    one, two = (checkpoints.load(f / "checkpoints" / f"{name}.ckpt") for f in folders)
    for state in (one, two):
        assert len(state.pop("events", [1])) == 1
        state.pop("command", None)
        for row in state.get("history", []):
            assert row.pop("seconds") > 0
    if name == "last":
        assert {"step", "exp_avg", "exp_avg_sq"} == set(one["optimizer"][0])
    assert_alike(one, two)


def test_misclassified_csv_is_that_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    tables = []
    for folder in folders:
        with (folder / "misclassified.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    one, two = tables
    assert [list(row) for row in one] == [list(row) for row in two]
    for a, b in zip(one, two, strict=True):
        for key in a:
            if key.startswith("p("):
                assert math.isclose(float(a[key]), float(b[key]), rel_tol=1e-3, abs_tol=1e-5)
            else:
                assert a[key] == b[key]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    return found


def test_tensorboard_events_are_those_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    one, two = (events(folder) for folder in folders)
    assert {k: sorted(v) if isinstance(v, list) else v for k, v in one.Tags().items()} == {
        k: sorted(v) if isinstance(v, list) else v for k, v in two.Tags().items()
    }
    assert "val/loss" in one.Tags()["scalars"]
    assert [s.step for s in one.Scalars("val/loss")] == list(range(len(rows(folders[0]))))
    for tag in one.Tags()["scalars"]:
        first, second = one.Scalars(tag), two.Scalars(tag)
        assert [s.step for s in first] == [s.step for s in second], tag
        assert_alike([s.value for s in first], [s.value for s in second], tag)
        times = [s.wall_time for s in first]
        assert times == sorted(times)
    assert one.summary_metadata.keys() == two.summary_metadata.keys()


def test_the_hparams_row_shows_what_the_sweep_varies_with_the_values_of_a_run_alone(folders: tuple[Path, Path]) -> None:
    told = []
    for folder in folders:
        metadata = events(folder).summary_metadata
        content = metadata["_hparams_/session_start_info"].plugin_data.content
        hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
        told.append({name: str(value) for name, value in hparams.items()})
    swept = next(row for row in told if set(row) == {"optimizer.lr", "regularization", "data.fold"})
    assert all(row.items() >= swept.items() for row in told)


def test_evaluate_scores_a_job_from_its_folder(work: Path, swept: CompletedProcess[str]) -> None:
    for i in range(8):
        folder = work / "sweep" / str(i)
        assert_alike(result(folder)["metrics"], evaluate(folder).metrics, rel=1e-6)
    run = script("evaluate", f"run={work / 'sweep' / '3'}", cwd=work)
    assert run.returncode == 0, run.stderr
    for part in ("train", "val", "test"):
        assert f"{result(work / 'sweep' / '3')['metrics'][part]['loss']:.4f}" in run.stdout


def same_results(one: Path, two: Path, jobs: int, rel: float = 1e-5) -> None:
    for i in range(jobs):
        a, b = result(one / str(i)), result(two / str(i))
        for name in ("status", "metrics", "best_epoch", "epochs", "objective", "data"):
            assert_alike(a[name], b[name], f"job {i} {name}", rel)
        assert (one / str(i) / ".hydra/config.yaml").read_text() == (two / str(i) / ".hydra/config.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "number"),
    [("max_jobs", 3), ("max_jobs", 1), ("workers", 2)],
)
def test_chunks_and_workers_change_no_result(
    work: Path, swept: CompletedProcess[str], setting: str, number: int
) -> None:
    chosen = (f"hydra.launcher.{setting}={number}", f"hydra.sweep.dir={setting}_{number}")
    run = script("train", "-m", *SHARED, *SWEPT, *chosen, cwd=work)
    assert run.returncode == 0, run.stderr
    same_results(work / "sweep", work / f"{setting}_{number}", jobs=8)


@pytest.mark.slow
def test_basic_is_the_way_back(work: Path) -> None:
    both = (*SMALL, *PLAIN, "seed=0,1")
    for launcher in ("fused", "basic"):
        run = script("train", "-m", *both, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", cwd=work)
        assert run.returncode == 0, run.stderr
        assert ("fused" in run.stdout.splitlines()[0]) == (launcher == "fused")
    same_results(work / "fused", work / "basic", jobs=2)
    assert files(work / "fused") - {"jobs.json"} == files(work / "basic")  # which only the fused launcher goes on by


def left_in(folder: Path) -> list[Path]:
    """Everything below a folder, but for an empty outputs/."""
    return [p for p in folder.rglob("*") if p != folder / "outputs"]


def test_a_bad_job_is_refused_before_anything_trains(tmp_path: Path) -> None:
    run = script("train", "-m", *SMALL, "optimizer.lr=0.01,-1,0.1,-2", cwd=tmp_path)
    message = refusal(run)
    one, three = message.splitlines()
    assert one.startswith("job 1 (")
    assert "optimizer.lr=-1 is not allowed" in one
    assert three.startswith("job 3 (")
    assert "optimizer.lr=-2 is not allowed" in three
    assert left_in(tmp_path) == []


def test_many_bad_jobs_are_counted(tmp_path: Path) -> None:
    run = script("train", "-m", *SMALL, "optimizer.lr=range(-6,1)", cwd=tmp_path)
    assert run.returncode == 2
    assert "and 4 more of 7 jobs" in run.stderr
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "bad",
    [
        "optimizer=adam,adem",
        "optimizer.lr=0.1,fast",
        "model.hiden=3,4",
        "regularization=dropout,[batch_norm,layer_norm]",
    ],
)
def test_every_kind_of_mistake_is_refused_before_anything_trains(tmp_path: Path, bad: str) -> None:
    message = refusal(script("train", "-m", *SMALL, bad, cwd=tmp_path))
    assert any(word in message for word in ("adem", "fast", "hiden", "batch_norm")), message
    assert left_in(tmp_path) == []


def test_settings_that_the_data_refuse_fail_one_job_alone(tmp_path: Path) -> None:
    sweep = ("data.folds=5,100", "data.fold=0", "hydra.sweep.dir=s")
    run = script("train", "-m", *SMALL, *sweep, cwd=tmp_path)
    assert run.returncode != 0
    assert "data.folds=100" in run.stderr
    assert "Traceback" not in run.stderr
    assert result(tmp_path / "s" / "0")["status"] == "completed"


@pytest.mark.slow
def test_jobs_that_cannot_be_fused_run_the_ordinary_way(tmp_path: Path) -> None:
    run = script("train", "-m", *SMALL, "optimizer=adam,nadam,sgd,radam", "hydra.sweep.dir=s", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    first = run.stdout.splitlines()[0]
    assert first.startswith("2 jobs fused in 2 groups of 1, 1; ")
    for name in ("nadam", "radam"):
        assert f"1 alone because optimizer={name} has no stacked form" in first
    assert [result(tmp_path / "s" / str(i))["status"] for i in range(4)] == ["completed"] * 4
    assert files(tmp_path / "s" / "0") == files(tmp_path / "s" / "1")


NETS = """
import torch
class Fine(torch.nn.Module):
    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(n_features, n_outputs)
    def forward(self, x):
        return self.layer(x)
class Broken(Fine):
    def forward(self, x):
        raise RuntimeError("a hole in the net")
"""


def test_a_failing_job_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    targets = "model.target=nets.Fine,nets.Broken,nets.Fine"
    sweep = ("model=custom", targets, "trainer.max_epochs=2", "accelerator=cpu", "hydra.sweep.dir=s")
    run = script("train", "-m", *sweep, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 1, run.stderr
    said = r"^job 1 \(.*model.target=nets.Broken.*\) failed: RuntimeError: a hole in the net$"
    assert re.search(said, run.stderr, re.M)
    values = [result(tmp_path / "s" / str(i)) for i in range(3)]
    assert [v["status"] for v in values] == ["completed", "failed", "completed"]
    assert values[1]["failure"]["message"] == "RuntimeError: a hole in the net"
    assert "nets.py" in values[1]["failure"]["traceback"]
    assert values[1]["metrics"] == {}


@pytest.mark.slow
def test_a_diverged_job_says_so_and_the_others_complete(tmp_path: Path) -> None:
    wild = ("optimizer=sgd", "activation=identity", "optimizer.lr=0.01,1e6,0.02", "hydra.sweep.dir=s")
    run = script("train", "-m", *SMALL, *wild, cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert "optimizer.lr=1000000.0) diverged: the loss became" in run.stderr
    values = [result(tmp_path / "s" / str(i)) for i in range(3)]
    assert [v["status"] for v in values] == ["completed", "diverged", "completed"]
    assert values[1]["objective"] is None
    assert "NaN or infinite" in values[1]["failure"]["message"]
    assert "2 completed, 1 diverged" in run.stdout.splitlines()[-1]
    solo = script("train", *SMALL, *wild[:2], "optimizer.lr=1e6", "hydra.run.dir=solo", *PLAIN, cwd=tmp_path)
    assert solo.returncode == 1
    alone = result(tmp_path / "solo")
    assert values[1]["failure"] == alone["failure"]
    assert (values[1]["status"], values[1]["metrics"]) == (alone["status"], alone["metrics"])
    assert files(tmp_path / "s" / "1") == files(tmp_path / "solo")


def test_experiments_of_one_s_own_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    head = "# @package _global_\n"
    (folder / "narrow.yaml").write_text(head + "model:\n  hidden: 4\ntrainer:\n  max_epochs: 2\n")
    wide = "defaults:\n  - override /optimizer: sgd\nmodel:\n  hidden: [9, 9]\ntrainer:\n  max_epochs: 3\n"
    (folder / "wide.yaml").write_text(head + wide)
    sweep = ("experiment=narrow,wide", "seed=0,1", "hydra.sweep.dir=s")
    run = script("train", "-m", "--config-dir", "mine", *sweep, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "4 jobs fused in 2 groups of 2, 2"
    values = [result(tmp_path / "s" / str(i)) for i in range(4)]
    assert [v["epochs"] for v in values] == [2, 2, 3, 3]
    assert [v["seed"] for v in values] == [0, 1, 0, 1]
    assert "name: sgd" in (tmp_path / "s" / "3" / ".hydra" / "config.yaml").read_text()


def test_sweeps_that_start_in_the_same_second_never_share_a_folder(tmp_path: Path) -> None:
    now = datetime.now()
    taken = [tmp_path / "outputs/wine" / f"multirun_{now + timedelta(seconds=s):%Y-%m-%d_%H-%M-%S}" for s in range(60)]
    for folder in taken:
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "result.json").write_text("another's")
    run = script("train", "-m", *SMALL, "seed=0,1", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert all((folder / "0" / "result.json").read_text() == "another's" for folder in taken)
    assert all(sorted(p.name for p in folder.iterdir()) == ["0"] for folder in taken)
    (own,) = set((tmp_path / "outputs/wine").iterdir()) - set(taken)
    assert [result(own / str(i))["seed"] for i in (0, 1)] == [0, 1]
    assert (own / "multirun.yaml").is_file()


def test_all_jobs_of_a_sweep_are_in_its_folder_whatever_their_names(tmp_path: Path) -> None:
    run = script("train", "-m", *SMALL, "name=one,two", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1
    assert {p.parent.name for p in tmp_path.glob("outputs/wine/*/*/result.json")} == {"0", "1"}


def test_a_sweep_takes_no_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("keep")
    message = refusal(script("train", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=s", cwd=tmp_path))
    assert "hydra.sweep.dir=s" in message
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_sweep_of_many_costs_little_more_than_one_of_few(tmp_path: Path) -> None:
    def seconds(seeds: int) -> float:
        started = time.perf_counter()
        run = script("train", "-m", *SMALL, f"seed=range({seeds})", f"hydra.sweep.dir=s{seeds}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert result(tmp_path / f"s{seeds}" / str(seeds - 1))["status"] == "completed"
        return time.perf_counter() - started

    few, many = seconds(2), seconds(102)
    assert many < 5 * few, (few, many)  # 51 times the jobs
