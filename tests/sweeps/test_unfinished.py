"""A chunk of a sweep that is killed in the middle goes on there, and ends bitwise as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts.command import script
from scripts.killed import assert_same_training, start, wait_for
from sweeps.groups import CPU, composed, one_group, option, varied

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.fused.halving import Halving
from mlplab.fused.trained import Trained
from mlplab.fused.training import FusedTraining
from mlplab.sweeps.run import run_batch
from mlplab.sweeps.unfinished import NAME
from mlplab.training import checkpoints

STOPPING = option("regularization", "early_stopping", patience=0, min_delta=0.02)
GROUPS: dict[str, Callable[[], list[Config]]] = {
    "adam": lambda: [composed(f"seed={i}", f"optimizer.lr={0.003 * (i + 1)}") for i in range(4)],
    "amsgrad, one leaves early": lambda: [
        composed(f"seed={i}", "optimizer.amsgrad=true", *(("regularization=early_stopping",) * (i % 2)))
        for i in range(3)
    ]
    + [varied(composed("optimizer.amsgrad=true", "seed=9"), regularization=STOPPING)],
    "dropout, batch_norm, mixup, one diverges": lambda: [
        composed(
            f"seed={i}",
            "regularization=[dropout,batch_norm,mixup,input_noise]",
            "optimizer=momentum",
            f"optimizer.lr={1e200 if i == 1 else 0.05}",
        )
        for i in range(3)
    ],
    "all leave early": lambda: [varied(composed(f"seed={i}"), regularization=STOPPING) for i in range(2)],
    "centered rmsprop, plateau": lambda: [
        composed(
            f"seed={i}", "optimizer=rmsprop", "optimizer.centered=true", "optimizer.momentum=0.5", "scheduler=plateau",
            "scheduler.patience=0", "activation=prelu",
        )
        for i in range(2)
    ],
    "adagrad, cosine, folds": lambda: [
        composed("optimizer=adagrad", "scheduler=cosine", "data.folds=4", f"data.fold={i}", "scheduler.warmup_epochs=1")
        for i in range(4)
    ],
}  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Bitwise, NaN being NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(7.5), b.nan_to_num(7.5))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def told(trained: Trained) -> dict[str, Any]:
    return {
        "history": trained.history,
        "best": trained.best,
        "last": trained.last,
        "optimizer": trained.optimizer,
        "selection": trained.selection.state_dict(),
        "plateau": trained.plateau.state_dict(),
        "scores": {part: [scores.metrics, scores.probs] for part, scores in trained.scores.items()},
        "diverged": trained.diverged and (trained.diverged.step, trained.diverged.cause),
    }


@pytest.mark.parametrize("after", [1, 4, 10])
@pytest.mark.parametrize("name", GROUPS)
def test_a_group_goes_on_from_any_epoch_bit_for_bit(name: str, after: int, tmp_path: Path) -> None:
    jobs = one_group(GROUPS[name]())

    def keep(epochs: int, networks: int, best: float) -> None:
        if epochs == min(after, lasting):
            checkpoints.save_last(whole.state(), tmp_path / "state")

    lasting = 10 if name != "all leave early" else 1
    whole = FusedTraining(jobs, CPU, keep)
    expected = [told(trained) for trained in whole.run()]
    assert ("diverges" in name) == any(one["diverged"] for one in expected)
    assert ("early" in name) == any(len(one["history"]) < 10 for one in expected if not one["diverged"])
    halves = FusedTraining(jobs, CPU)
    halves.restore(checkpoints.load(tmp_path / "state"))
    assert halves.epochs == min(after, lasting)
    for trained, one in zip(halves.run(), expected, strict=True):
        for key, value in told(trained).items():
            assert same(value, one[key]), key


def test_a_halving_search_goes_on_with_what_its_rungs_have_seen(tmp_path: Path) -> None:
    jobs = one_group([composed(f"seed={i}", f"optimizer.lr={0.0003 * 3**i}") for i in range(6)])

    def keep(epochs: int, networks: int, best: float) -> None:
        if epochs == 3:
            checkpoints.save_last(whole.state(), tmp_path / "state")

    whole = FusedTraining(jobs, CPU, keep, Halving("val/accuracy", smaller_is_better=False))
    expected = whole.run()
    assert 3 <= sum(trained.pruned for trained in expected) < 6
    halves = FusedTraining(jobs, CPU, halving=Halving("val/accuracy", smaller_is_better=False))
    halves.restore(checkpoints.load(tmp_path / "state"))
    for trained, one in zip(halves.run(), expected, strict=True):
        assert same(told(trained), told(one))
        assert (trained.pruned, trained.rungs) == (one.pruned, one.rungs)


SWEEP = (
    *("data=digits", "model.hidden=24", "trainer.max_epochs=60", "logger=csv", "regularization=dropout"),
    *("optimizer.lr=0.01,0.003", "seed=0,1,2,3", "trainer.checkpoint_seconds=0.05"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one chunk that nobody interrupts."""
    work = tmp_path_factory.mktemp("whole")
    run = script("train", "-m", *SWEEP, "hydra.sweep.dir=s", cwd=work)
    assert run.returncode == 0, run.stderr
    assert not (work / "s" / "0" / NAME).exists()
    return work / "s"


def seconds(sweep: Path) -> float:
    return 8 * float(json.loads((sweep / "0" / "result.json").read_text())["seconds"]["fit"])


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_unfinished_chunk_goes_on_where_it_was(signum: int, whole: Path, tmp_path: Path) -> None:
    process = start("-m", *SWEEP, "hydra.sweep.dir=s", cwd=tmp_path)
    wait_for(tmp_path / "s" / "0" / NAME, process)
    time.sleep(random.random() * 0.6 * seconds(whole))
    os.kill(process.pid, signum)
    process.communicate()
    assert not list((tmp_path / "s").glob("*/result.json")), "it was in the middle"
    assert (tmp_path / "s" / "0" / NAME).is_file()
    run = script("train", "-m", *SWEEP, "hydra.sweep.dir=s", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "8 jobs go on after epoch" in run.stdout
    for job in range(8):
        assert_same_training(tmp_path / "s" / str(job), whole / str(job))
    assert not list((tmp_path / "s").rglob(NAME)), "it is removed when the chunk is done"


@pytest.mark.slow
def test_workers_that_are_interrupted_leave_their_state_too(tmp_path: Path) -> None:
    words = (*SWEEP[:-1], "trainer.max_epochs=3000", "trainer.checkpoint_seconds=1000", "hydra.launcher.workers=2")
    process = start("-m", *words, "hydra.sweep.dir=s", cwd=tmp_path)
    assert process.stdout is not None
    assert "8 jobs in 2 tasks, 2 at once" in process.stdout.readline()
    assert all("4 jobs fused" in process.stdout.readline() for _ in range(2)), "both have begun"
    time.sleep(5)
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate()
    assert time.monotonic() - sent < 1.5
    assert process.returncode == 143, err
    assert len(list((tmp_path / "s").rglob(NAME))) == 2


def test_a_damaged_or_foreign_state_is_left_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("data=iris", "trainer.max_epochs=3", "logger=csv", "model.hidden=4")
    configs = [load_config(*words, f"seed={i}") for i in range(2)]
    run_batch(configs, [tmp_path / "like" / str(i) for i in range(2)])
    others = one_group([load_config(*words, f"seed={i}") for i in (5, 6)])
    foreign = FusedTraining(others, CPU)
    checkpoints.save_last({**foreign.state(), "chunk": ["a", "b"]}, tmp_path / "foreign")
    for name, content in {"a": b"", "b": b"nonsense", "c": (tmp_path / "foreign").read_bytes()}.items():
        folders = [tmp_path / name / str(i) for i in range(2)]
        folders[0].mkdir(parents=True)
        (folders[0] / NAME).write_bytes(content)
        capsys.readouterr()
        run_batch(configs, folders)
        assert ("is damaged: 2 jobs begin again" in capsys.readouterr().out) == (name != "c")
        for i in range(2):
            assert_same_training(folders[i], tmp_path / "like" / str(i))
        assert not (folders[0] / NAME).exists()
