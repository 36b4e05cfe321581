"""A sweep of 50 jobs of which five come to grief in five ways: the others end as they would have without them."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from scripts.command import script
from scripts.killed import assert_same_training

NETS = """
import os, signal, sys
import torch

class Net(torch.nn.Linear):
    def __init__(self, n_features, n_outputs, number):
        super().__init__(n_features, n_outputs)
        self.number, self.fate = number, dict(enumerate(FATES)).get(number, "fine")

    def forward(self, x):
        if self.number == 100 and not open("tries").read():
            open("tries", "w").write("x")
            raise RuntimeError("only once")
        if self.training and self.number == 101 and not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.training and self.fate == "raise":
            raise RuntimeError("a hole in the net")
        if self.training and self.fate == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.training and self.fate == "exit":
            sys.exit(3)
        if self.training and self.fate == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x) * (float("nan") if self.fate == "diverge" else 1)
"""
FATES = {
    "raise": ("failed", "a hole in the net"),
    "memory": ("failed", "OutOfMemoryError"),
    "exit": ("failed", "sys.exit(3)"),
    "kill": ("failed", "SIGKILL"),
    "diverge": ("diverged", "NaN or infinite"),
}
COMMON = ("model=custom", "model.target=nets.Net", "seed=0", "trainer.max_epochs=2", "logger=csv")


def sweep(tmp_path: Path, jobs: str, folder: str, *more: str) -> CompletedProcess[str]:
    """A sweep of jobs by number; each of the first five has its own fate."""
    (tmp_path / "nets.py").write_text(NETS.replace("FATES", repr(list(FATES))))
    words = (*COMMON, f"+model.kwargs.number={jobs}", f"hydra.sweep.dir={folder}")
    return script("train", "-m", *words, *more, cwd=tmp_path, PYTHONPATH=str(tmp_path))


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
def test_forty_five_of_fifty_finish_as_if_the_other_five_were_not_there(tmp_path: Path) -> None:
    good = sweep(tmp_path, "range(5,50)", "good")
    assert good.returncode == 0, good.stderr
    run = sweep(tmp_path, "range(50)", "s", "hydra.launcher.workers=2")
    assert run.returncode == 1, run.stderr
    assert "50 jobs: 4 failed, 1 diverged, 45 completed" in run.stdout
    for i, (status, why) in enumerate(FATES.values()):
        values = result(tmp_path / "s" / str(i))
        assert values["status"] == status
        assert why in values["failure"]["message"]
        assert why in run.stderr or status == "diverged"
    for i in range(5, 50):
        assert_same_training(tmp_path / "s" / str(i), tmp_path / "good" / str(i - 5), but=("config",))
    again = sweep(tmp_path, "range(50)", "s", "hydra.launcher.workers=2")
    assert again.returncode == 1
    assert "46 of 50 jobs finished before" in again.stdout


@pytest.mark.slow
def test_on_error_stops_or_tries_again(tmp_path: Path) -> None:
    run = sweep(tmp_path, "5,0,6", "s", "on_error=stop")
    assert run.returncode == 1, run.stderr
    assert result(tmp_path / "s" / "0")["status"] == "completed"
    assert "not started: job 1 failed and on_error=stop" in run.stderr
    assert not (tmp_path / "s" / "2" / "result.json").exists()
    (tmp_path / "tries").write_text("")
    run = sweep(tmp_path, "5,100", "t", "on_error=retry")  # job 100 fails once
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "tries").read_text() == "x"
    run = sweep(tmp_path, "0", "u", "on_error=retry")
    assert run.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["fused", "basic"])
def test_a_failure_keeps_no_later_batch_from_starting(launcher: str, tmp_path: Path) -> None:
    words = (f"hydra/launcher={launcher}", "hydra.sweeper.max_batch_size=2")
    run = sweep(tmp_path, "0,5,4,6,7", "s", *words)  # 0 raises, 4 diverges
    assert run.returncode == 1, run.stderr
    found = [result(tmp_path / "s" / str(i))["status"] for i in range(5)]
    assert found == ["failed", "completed", "diverged", "completed", "completed"]


@pytest.mark.slow
def test_a_killed_worker_s_job_is_tried_once_again(tmp_path: Path) -> None:
    run = sweep(tmp_path, "5,101,6,7", "s", "on_error=retry", "hydra.launcher.workers=2")
    assert run.returncode == 0, run.stderr
    assert "4 jobs: 4 completed" in run.stdout
    assert (tmp_path / "killed").exists()
    run = sweep(tmp_path, "5,3,6", "t", "on_error=retry", "hydra.launcher.workers=2")
    assert run.returncode == 1, run.stderr
    assert result(tmp_path / "t" / "1")["status"] == "failed"
    assert "SIGKILL" in result(tmp_path / "t" / "1")["failure"]["message"]
    assert result(tmp_path / "t" / "2")["status"] == "completed"
