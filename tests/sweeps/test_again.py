"""The same sweep again into the same folder trains only what is missing or failed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from scripts.command import refusal, script
from scripts.killed import assert_same_training, start, wait_for

SETTINGS = ("data=digits", "model.hidden=16", "trainer.max_epochs=8", "logger=csv", "regularization=dropout")
GRID = ("optimizer=adam,momentum", "optimizer.lr=0.01,0.003", "seed=0,1,2,3")
SWEEP = (*SETTINGS, *GRID, "hydra.launcher.max_jobs=4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nobody interrupts."""
    work = tmp_path_factory.mktemp("whole")
    run = script("train", "-m", *SWEEP, "hydra.sweep.dir=s", cwd=work)
    assert run.returncode == 0, run.stderr
    return work / "s"


def written(sweep: Path) -> dict[str, int]:
    """Job -> when its result.json was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in sweep.glob("*/result.json")}


@pytest.mark.parametrize("kill", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 6))])
def test_a_sweep_killed_at_a_random_moment_ends_as_if_nothing_had_happened(
    kill: int, whole: Path, tmp_path: Path
) -> None:
    times = sorted(p.stat().st_mtime for p in whole.glob("*/result.json"))
    process = start("-m", *SWEEP, "hydra.sweep.dir=s", cwd=tmp_path)
    wait_for(tmp_path / "s" / "0" / "result.json", process)  # some chunk is done, and others are not
    time.sleep(random.random() * (times[-1] - times[0]) * 0.9)
    process.kill()
    process.communicate()
    before = written(tmp_path / "s")
    run = script("train", "-m", *SWEEP, "hydra.sweep.dir=s", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert f"{len(before)} of 16 jobs finished before" in run.stdout
    after = written(tmp_path / "s")
    assert {job: when for job, when in after.items() if job in before} == before, "what is done is not done again"
    for job in range(16):
        assert_same_training(tmp_path / "s" / str(job), whole / str(job))


@pytest.mark.slow
def test_a_wider_grid_trains_only_the_new_cells(tmp_path: Path) -> None:
    first = script("train", "-m", *SETTINGS, "optimizer.lr=0.01,0.003", "hydra.sweep.dir=s", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    files = {p: p.read_bytes() for p in (tmp_path / "s").rglob("*") if p.is_file() and p.parent != tmp_path / "s"}
    wider = script("train", "-m", *SETTINGS, "optimizer.lr=0.02,0.01,0.005,0.003", "hydra.sweep.dir=s", cwd=tmp_path)
    assert wider.returncode == 0, wider.stderr
    assert "2 of 4 jobs finished before" in wider.stdout
    assert {p: p.read_bytes() for p in files} == files
    rates = {
        p.parent.parent.name: [line for line in p.read_text().splitlines() if "optimizer.lr" in line]
        for p in (tmp_path / "s").glob("*/.hydra/overrides.yaml")
    }
    assert rates == {str(i): [f"- optimizer.lr={lr}"] for i, lr in enumerate(("0.01", "0.003", "0.02", "0.005"))}
    again = script("train", "-m", *SETTINGS, "optimizer.lr=0.005,0.01", "hydra.sweep.dir=s", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "2 jobs: 2 completed" in again.stdout


@pytest.mark.slow
def test_failed_jobs_are_tried_again_and_jobs_alone_resumed(tmp_path: Path) -> None:
    nets = tmp_path / "nets.py"
    text = (
        "import torch\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self, a, b, broken): super().__init__(a, b); self.broken = broken\n"
        "    def forward(self, x):\n        if self.broken: raise RuntimeError('a hole')\n"
        "        return super().forward(x)\n"
    )
    nets.write_text(text)
    words = ("model=custom", "model.target=nets.Net", "+model.kwargs.broken=false,true", "trainer.max_epochs=3")
    sweep = ("-m", *words, "logger=csv", "hydra.sweep.dir=s")
    run = script("train", *sweep, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 1, run.stderr
    first = written(tmp_path / "s")
    nets.write_text(text.replace("if self.broken", "if False"))
    run = script("train", *sweep, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert written(tmp_path / "s")["0"] == first["0"]
    assert json.loads((tmp_path / "s" / "1" / "result.json").read_text())["status"] == "completed"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_ends_at_once_and_says_how_to_go_on(signum: int, status: int, tmp_path: Path) -> None:
    long = ("data=digits", "seed=0,1", "trainer.max_epochs=1,3000", "hydra.sweep.dir=s")
    process = start("-m", *long, cwd=tmp_path)
    wait_for(tmp_path / "s" / "0" / "result.json", process)
    time.sleep(0.5)
    sent = time.monotonic()
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 1
    assert process.returncode == status, err
    assert "hydra.sweep.dir=s" in err
    assert "2 of 4 jobs are done" in err
    assert "Traceback" not in err


def test_a_sweep_at_work_is_not_joined_and_basic_takes_no_old_folder(tmp_path: Path) -> None:
    words = ("-m", "data=digits", "seed=0,1", "trainer.max_epochs=3000", "hydra.sweep.dir=s")
    process = start(*words, cwd=tmp_path)
    try:
        wait_for(tmp_path / "s" / "jobs.json", process)
        assert f"in use by process {process.pid}" in refusal(script("train", *words, cwd=tmp_path))
        said = refusal(script("train", *words, "hydra/launcher=basic", cwd=tmp_path))
        assert "not empty" in said
        assert "hydra/launcher=fused" in said
    finally:
        process.kill()
        process.communicate()
