"""Sweeps on each engine, as a person starts them: what fails is named, the others finish, the bits are the same."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scripts.command import ROOT, refusal, script
from scripts.killed import assert_same_training, start, wait_for

ENGINES = ("joblib", "ray", "submitit_local")
OF = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}

NETS = """
import os, signal, torch

class Net(torch.nn.Linear):
    def __init__(self, n_features, n_outputs, fate):
        super().__init__(n_features, n_outputs)
        self.fate = fate

    def forward(self, x):
        if self.fate == 1:
            raise RuntimeError("a hole in the net")
        if self.fate == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
"""


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["fused", *ENGINES])
def test_one_that_raises_and_one_that_is_killed_are_named_and_the_others_finish(engine: str, tmp_path: Path) -> None:
    nets = tmp_path / "nets.py"
    nets.write_text(NETS)
    words = ("model=custom", "model.target=nets.Net", "+model.kwargs.fate=range(6)", "trainer.max_epochs=2")
    of = (f"hydra/launcher={engine}", "hydra.launcher.workers=2", "logger=csv", "hydra.sweep.dir=s")
    run = script("train", "-m", *words, *of, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 1, run.stderr
    assert "6 jobs in 2 tasks, 2 at once" in run.stdout
    assert "6 jobs: 4 completed, 2 failed" in run.stdout or "2 failed, 4 completed" in run.stdout, run.stdout
    assert re.search(r"^job 1 \(.*fate=1.*\) failed: RuntimeError: a hole in the net$", run.stderr, re.M), run.stderr
    assert re.search(r"^job 2 \(.*fate=2.*\) failed: WorkerDied: ", run.stderr, re.M), run.stderr
    assert [result(tmp_path / "s" / str(i))["status"] for i in range(6)] == [
        "completed",
        *["failed"] * 2,
        *["completed"] * 3,
    ]
    assert "WorkerDied" in result(tmp_path / "s" / "2")["failure"]["message"]
    nets.write_text(NETS.replace("self.fate ==", "'none' =="))
    again = script("train", "-m", *words, *of, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert "4 of 6 jobs finished before" in again.stdout
    assert "6 jobs: 6 completed" in again.stdout


FUSED = (
    "data=digits",
    "model.hidden=16",
    "optimizer=adam,momentum",
    "seed=range(8)",
    "trainer.max_epochs=3",
    "logger=csv",
)
TASKS = ("hydra.launcher.workers=2", "hydra.launcher.jobs_per_task=4", "hydra.launcher.cpus_per_task=1")


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep in four tasks of mlplab's own processes."""
    work = tmp_path_factory.mktemp("ours")
    run = script("train", "-m", *FUSED, *TASKS, "logger=csv", "hydra.sweep.dir=s", cwd=work)
    assert run.returncode == 0, run.stderr
    assert "16 jobs in 4 tasks, 2 at once" in run.stdout
    return work / "s"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_engine_changes_no_bit(engine: str, by_hand: Path, tmp_path: Path) -> None:
    chosen = f"hydra.launcher.engine={OF[engine]}", "hydra.launcher.cluster=local"
    run = script("train", "-m", *FUSED, *TASKS, "logger=csv", *chosen, "hydra.sweep.dir=s", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "16 jobs in 4 tasks, 2 at once" in run.stdout
    for i in range(16):
        assert_same_training(tmp_path / "s" / str(i), by_hand / str(i))


def of_the_sweep(mark: Path) -> dict[int, str]:
    """Number and command of all living processes that were started, directly or not, with this MARK."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"MARK={mark}\0" in (folder / "environ").read_text():  # empty where it has ended and nobody has looked
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("engine", ["fused", *ENGINES])
def test_no_process_is_left(engine: str, signum: signal.Signals, tmp_path: Path) -> None:
    words = ("optimizer=nadam", "seed=0,1,2,3", "trainer.max_epochs=3000", "trainer.checkpoint_seconds=0.1")
    of = (f"hydra/launcher={engine}", "hydra.launcher.workers=2", "logger=csv", "hydra.sweep.dir=s")
    process = start("-m", *words, *of, cwd=tmp_path, MARK=str(tmp_path))
    wait_for(tmp_path / "s" / "0" / "checkpoints" / "last.ckpt", process, 120)
    wait_for(tmp_path / "s" / "2" / "checkpoints" / "last.ckpt", process, 120)
    assert len(of_the_sweep(tmp_path)) > 2
    os.kill(process.pid, signum)
    _, err = process.communicate(timeout=60)
    if signum != signal.SIGKILL:
        assert process.returncode == 128 + signum, err
        assert "0 of 4 jobs are done; to go on, the same command" in err
        assert "Traceback" not in err
    end = time.monotonic() + 5
    while left := of_the_sweep(tmp_path):
        assert time.monotonic() < end, left
        time.sleep(0.1)


@pytest.mark.slow
def test_a_task_that_slurm_wants_to_end_leaves_a_checkpoint_and_goes_on_in_the_queue(tmp_path: Path) -> None:
    words = ("optimizer=nadam", "seed=0", "trainer.max_epochs=150", "trainer.checkpoint_seconds=0.1", "logger=csv")
    process = start(
        "-m", "hydra/launcher=submitit_local", *words, "hydra.sweep.dir=s", cwd=tmp_path, MARK=str(tmp_path)
    )
    wait_for(tmp_path / "s" / "0" / "checkpoints" / "last.ckpt", process, 120)
    (task,) = [process for process, of in of_the_sweep(tmp_path).items() if "submitit.core._submit" in of]
    os.kill(task, signal.SIGUSR2)  # what submitit has Slurm send
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "1 jobs: 1 completed" in out
    logs = "".join(path.read_text() for path in (tmp_path / "s" / ".submitit").rglob("*log.*"))
    assert "preempted" in logs
    assert logs.count("Starting with") == 2
    alone = script("train", *words, "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert_same_training(tmp_path / "s" / "0", tmp_path / "alone")


@pytest.mark.parametrize("package", ["ray", "submitit", "joblib"])
def test_a_missing_package_is_named_before_anything_is_written(package: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules['{package}'] = None\n")  # as if not installed
    words = ("-m", f"hydra.launcher.engine={package}", "seed=0,1")
    message = refusal(script("train", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path)))
    assert f'pip install "mlplab[{package}]"' in message
    assert {p.name for p in tmp_path.iterdir()} <= {"sitecustomize.py", "__pycache__", "outputs"}
    assert not list(tmp_path.glob("outputs/*"))


def test_slurm_where_there_is_none_is_refused(tmp_path: Path) -> None:
    message = refusal(script("train", "-m", "hydra/launcher=submitit_slurm", "seed=0,1", cwd=tmp_path, PATH="/nowhere"))
    assert "sbatch" in message
    assert "submitit_local" in message


@pytest.mark.slow
def test_a_ray_cluster_out_of_reach_is_refused(tmp_path: Path) -> None:
    words = ("hydra/launcher=ray", "hydra.launcher.ray_address=127.0.0.1:1", "seed=0,1", "hydra.sweep.dir=s")
    assert "ray_address=127.0.0.1:1" in refusal(script("train", "-m", *words, cwd=tmp_path))
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_running_ray_cluster_is_used_and_left_running(tmp_path: Path) -> None:
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    key = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # of this cluster alone
    env = os.environ | key | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT / "src"), "MARK": str(tmp_path)}
    begin = ["start", "--head", "--port=46379", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    subprocess.run([*ray, *begin], env=env, check=True, capture_output=True, timeout=120)
    try:
        words = ("hydra.launcher.ray_address=127.0.0.1:46379", "seed=0,1,2,3", "trainer.max_epochs=1", "logger=csv")
        for folder in ("s", "t"):
            of = ("-m", "hydra/launcher=ray", f"hydra.sweep.dir={folder}")
            run = script("train", *of, *words, cwd=tmp_path, **key)
            assert run.returncode == 0, run.stderr
            assert "4 jobs in 2 tasks, 2 at once" in run.stdout
            assert "4 jobs: 4 completed" in run.stdout
            assert any("gcs_server" in command for command in of_the_sweep(tmp_path).values())
    finally:  # `ray stop` would end other tests' clusters too
        for process in of_the_sweep(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
