"""Jobs of a fused sweep that are refused, fail, diverge or cannot be fused: it is said, and the others complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts.command import refusal, script
from sweeps.launched import PLAIN, SMALL, files, result


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
