"""Fused sweeps as a person starts them: each job's folder is the one that the job alone would have left."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from scripts.command import script
from sweeps.launched import PLAIN, SMALL, files, result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from mlplab.evaluate import evaluate
from mlplab.training import checkpoints

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


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


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
