"""A run killed at any moment and resumed ends bitwise as one that was never interrupted."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from data.people import HEADER, people
from scripts.command import ROOT, refusal, script
from scripts.killed import assert_same_training, kill_during, start, table, wait_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.evaluate import evaluate
from mlplab.training import checkpoints

LONG = ("data=digits", "trainer.checkpoint_seconds=0.05")
RUNS = {
    "dropout and augmentation": (
        "data=digits_images",
        "trainer.checkpoint_seconds=0.05",
        "regularization=dropout",
        "augmentation=[shift,noise]",
        "trainer.max_epochs=25",
    ),
    "mixup and schedule": (*LONG, "regularization=mixup", "scheduler=cosine", "trainer.max_epochs=40"),
    "early stopping and plateau": (
        *LONG,
        "regularization=early_stopping",
        "regularization.early_stopping.patience=12",
        "scheduler=plateau",
        "scheduler.patience=2",
        "optimizer.lr=0.01",
        "trainer.max_epochs=60",
    ),
    "momentum buffers": (*LONG, "optimizer=adamw", "regularization=[batch_norm,input_noise]", "trainer.max_epochs=40"),
}
KILLS = 5
"""Moments for each of the four configurations, in the slow suite."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody interrupts, made when first asked for."""
    return {"": tmp_path_factory.mktemp("whole")}


def uninterrupted(whole: dict[str, Path], name: str) -> Path:
    if name not in whole:
        run = script("train", *RUNS[name], f"hydra.run.dir={name.replace(' ', '_')}", cwd=whole[""])
        assert run.returncode == 0, run.stderr
        whole[name] = whole[""] / name.replace(" ", "_")
    return whole[name]


def seconds(folder: Path) -> float:
    return float(json.loads((folder / "result.json").read_text())["seconds"]["fit"])


def killed_and_resumed(name: str, like: Path, moments: list[float], cwd: Path) -> None:
    """Kill a run at shares of its time, resuming it after each, and hold its end against one never interrupted."""
    arguments = (*RUNS[name], "hydra.run.dir=run")
    for i, share in enumerate(moments):
        file = "run/metrics.csv" if i == 0 else "run/.lock"
        words = arguments if i == 0 else ("resume=run",)
        startup = 0 if i == 0 else 2.5  # of a resumed process the lock is the first sign, some seconds early
        status, screen, _ = kill_during(*words, cwd=cwd, file=file, after=startup + share * seconds(like))
        assert status in (-signal.SIGKILL, 0), screen
        if status == 0:
            break  # it was faster
    run = script("train", "resume=run", cwd=cwd)
    assert run.returncode == 0, run.stderr
    assert_same_training(cwd / "run", like)
    events = EventAccumulator(str(cwd / "run")).Reload()
    steps = [e.step for e in events.Scalars("train/loss")]
    assert steps == list(range(len(table(like)))), "TensorBoard shows each epoch once"


@pytest.mark.parametrize(
    "name", [next(iter(RUNS)), *(pytest.param(name, marks=pytest.mark.slow) for name in list(RUNS)[1:3])]
)
def test_a_run_killed_at_a_random_moment_ends_as_if_nothing_had_happened(
    name: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    killed_and_resumed(name, uninterrupted(whole, name), [random.random() * 0.9], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
@pytest.mark.parametrize("name", RUNS)
def test_twenty_random_kills(name: str, kill: int, whole: dict[str, Path], tmp_path: Path) -> None:
    moments = [random.random() * 0.9] if kill else [0.3, 0.2, 0.2]  # once in each, killed three times over
    killed_and_resumed(name, uninterrupted(whole, name), moments, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["optimizer=muon"],
        ["optimizer=nadam"],
        ["optimizer=nadam", "accelerator.precision=64"],
        ["optimizer=rmsprop", "optimizer.momentum=0.9"],
        ["optimizer=lbfgs", "data.batch_size=full"],
        ["optimizer=custom", "optimizer.target=training.own.SignDescent", "optimizer.lr=0.001"],
        ["accelerator.precision=bf16-mixed"],
        ["data.split=[0.8,0.2]"],
        ["embedding=periodic", "regularization=[mixup,input_noise]"],
        ["embedding=piecewise_linear", "optimizer=muon"],
    ],
    ids=" ".join,
)
def test_any_optimizer_resumes_from_its_last_checkpoint(settings: list[str], tmp_path: Path) -> None:
    """From Python: half the epochs, then the rest, against all at once."""
    from mlplab.compose import load_config
    from mlplab.experiment import run
    from mlplab.resume import resume

    words = ["data=wine", "logger=csv", *settings]
    run(load_config(*words, "trainer.max_epochs=8"), tmp_path / "whole")
    run(load_config(*words, "trainer.max_epochs=3"), tmp_path / "halves")
    resume([f"resume={tmp_path / 'halves'}", "trainer.max_epochs=8"])
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


@pytest.mark.parametrize("embedding", ["none", "periodic", "piecewise_linear"])
def test_learned_vectors_of_categories_resume_too(embedding: str, tmp_path: Path) -> None:
    from mlplab.compose import load_config
    from mlplab.experiment import run
    from mlplab.reports.tables import write_csv
    from mlplab.resume import resume

    write_csv(tmp_path / "people.csv", HEADER, people(150))
    data = ["data=table", f"data.path={tmp_path / 'people.csv'}", "data.encode=embedding"]
    words = [*data, "accelerator=cpu", "logger=csv", f"embedding={embedding}", "regularization=dropout"]
    run(load_config(*words, "trainer.max_epochs=5"), tmp_path / "whole")
    run(load_config(*words, "trainer.max_epochs=2"), tmp_path / "halves")
    resume([f"resume={tmp_path / 'halves'}", "trainer.max_epochs=5"])
    assert_same_training(tmp_path / "halves", tmp_path / "whole")


def test_times_add_up_and_more_epochs_may_be_asked_for(tmp_path: Path) -> None:
    from mlplab.compose import load_config
    from mlplab.experiment import run
    from mlplab.resume import resume

    words = ["data=wine", "scheduler=step"]
    run(load_config(*words, "trainer.max_epochs=9"), tmp_path / "whole")
    first = run(load_config(*words, "trainer.max_epochs=4"), tmp_path / "halves").values["seconds"]
    result = resume([f"resume={tmp_path / 'halves'}", "trainer.max_epochs=9"])
    assert_same_training(tmp_path / "halves", tmp_path / "whole")
    assert result.values["seconds"]["fit"] > first["fit"]
    with (tmp_path / "halves" / "metrics.csv").open() as file:
        clock = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert clock == sorted(clock)
    events = EventAccumulator(str(tmp_path / "halves")).Reload()
    assert [e.step for e in events.Scalars("best/val_accuracy")] == [8], "the shorter run's end is forgotten"
    assert len(events.Tensors("config/text_summary")) == 1


@pytest.mark.slow
def test_what_makes_it_another_run_is_refused(tmp_path: Path) -> None:
    run = script("train", "scheduler=cosine", "trainer.max_epochs=3", "logger=csv", "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != ".lock"}
    assert "optimizer.lr cannot change" in refusal(script("train", "resume=run", "optimizer.lr=1", cwd=tmp_path))
    assert "max_epochs=2 is less than the 3" in refusal(
        script("train", "resume=run", "trainer.max_epochs=2", cwd=tmp_path)
    )
    assert "scheduler=cosine" in refusal(script("train", "resume=run", "trainer.max_epochs=9", cwd=tmp_path))
    assert "-m" in refusal(script("train", "-m", "resume=run", cwd=tmp_path))
    assert "nowhere is not a folder" in refusal(script("train", "resume=nowhere", cwd=tmp_path))
    (tmp_path / "empty").mkdir()
    assert "no run to resume" in refusal(script("train", "resume=empty", cwd=tmp_path))
    done = script("train", "resume=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before, "a finished run is left as it is"


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_within_a_second_with_a_checkpoint(signum: int, status: int, tmp_path: Path) -> None:
    arguments = ("data=digits", "trainer.max_epochs=2000", "hydra.run.dir=run")  # no checkpoint for 5 seconds
    found, screen, took = kill_during(*arguments, cwd=tmp_path, file="run/metrics.csv", after=0.7, signum=signum)
    assert found == status, screen
    assert took < 1.0
    assert "python src/train.py resume=" in screen
    assert "Traceback" not in screen
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["status"] == "interrupted"
    done = len(table(tmp_path / "run"))
    run = script("train", f"resume={tmp_path / 'run'}", "--help", cwd=tmp_path)
    assert run.returncode == 2, "resume takes no flags"
    kept = checkpoints.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert 0 < kept["epochs"] <= done
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    arguments = (*LONG, "regularization=dropout", "trainer.max_epochs=40", "logger=csv")
    whole = script("train", *arguments, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    words = (*arguments, "trainer.checkpoint_seconds=1000", "hydra.run.dir=run")
    status, screen, _ = kill_during(*words, cwd=tmp_path, file="run/metrics.csv", after=0.4, signum=signal.SIGINT)
    assert status == 130, screen
    run = script("train", "resume=run", "trainer.checkpoint_seconds=0.05", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert_same_training(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_in_use_is_not_resumed_by_another_process(tmp_path: Path) -> None:
    process = start("data=digits", "trainer.max_epochs=5000", "hydra.run.dir=run", cwd=tmp_path)
    try:
        wait_for(tmp_path / "run" / "metrics.csv", process)
        message = refusal(script("train", "resume=run", cwd=tmp_path))
        assert f"in use by process {process.pid}" in message
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    status, screen, _ = kill_during("resume=run", cwd=tmp_path, file="run/metrics.csv", after=4, signum=signal.SIGINT)
    assert status == 130, f"the dead hold no lock: {screen}"


ROOMY = ("data=digits", "trainer.max_epochs=200", "trainer.checkpoint_seconds=0.05", "logger=csv")


@pytest.mark.slow
def test_no_room_to_write_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; last.ckpt grows with its history until it is too large."""
    limited = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT})); "
    limited += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [str(ROOT / "src" / "train.py"), *ROOMY, "hydra.run.dir=run"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"OMP_NUM_THREADS": "1"}
    env |= {"PYTHONPATH": str(ROOT / "src")}
    run = subprocess.run([sys.executable, "-c", limited, *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    ends_well_without_room(run, tmp_path / "run", tmp_path)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        run = script("train", *ROOMY, f"hydra.run.dir={small / 'run'}", cwd=tmp_path)
        ends_well_without_room(run, small / "run", tmp_path)
    finally:
        subprocess.run(["umount", str(small)], check=True)


LIMIT = 70_000


def ends_well_without_room(run: subprocess.CompletedProcess[str], folder: Path, cwd: Path) -> None:
    assert run.returncode == 1, (run.stdout, run.stderr)
    assert "no room to write" in run.stderr
    assert "resume=" in run.stderr
    assert "Traceback" not in run.stderr
    kept = checkpoints.load(folder / "checkpoints" / "last.ckpt")
    assert 0 < kept["epochs"] == len(kept["history"]) < 200
    assert evaluate(folder).metrics["val"]["accuracy"] > 0.5
    assert list(folder.rglob("*.part")) == []
    shutil.copytree(folder, cwd / "moved")
    again = script("train", f"resume={cwd / 'moved'}", cwd=cwd)
    assert again.returncode == 0, again.stderr
    assert len(table(cwd / "moved")) == 200
