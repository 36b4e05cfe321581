"""Everything a person can get wrong: one short message, exit status 2, no traceback, no folder left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts.command import ROOT, refusal, script

MISTAKES = {
    "misspelt group": (["optimiser=adam"], ["optimiser", "'optimizer'"]),
    "misspelt option": (["optimizer=adm"], ["optimizer=adm", "'adam'", "sgd"]),
    "misspelt key": (["model.hiden=64"], ["model.hiden", "'model.hidden'"]),
    "added key": (["+model.width=64"], ["model.width"]),
    "wrong type": (["optimizer.lr=fast"], ["optimizer.lr", "'fast'", "number"]),
    "negative rate": (["optimizer.lr=-1"], ["optimizer.lr=-1", "greater than 0"]),
    "dropout above one": (
        ["regularization=dropout", "regularization.dropout.p=1.5"],
        ["regularization.dropout.p=1.5", "less than 1"],
    ),
    "no hidden units": (["model.hidden=[]"], ["model.hidden=[]", "at least 1"]),
    "fold beyond": (["data.folds=5", "data.fold=7"], ["data.fold=7", "0 to 4"]),
    "lbfgs with mini-batches": (["optimizer=lbfgs"], ["lbfgs", "data.batch_size=full"]),
    "loss for two classes": (["loss=bce"], ["loss=bce", "3", "cross_entropy"]),
    "option of another": (["optimizer.momentum=0.9"], ["optimizer.momentum", "nesterov"]),
    "unparsable": (["optimizer.lr=[1"], ["optimizer.lr=[1"]),
    "misspelt launcher": (["-m", "hydra/launcher=fusd", "seed=0,1"], ["hydra/launcher=fusd", "'fused'", "joblib"]),
    "group as a number": (["model=5"], ["model"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_bad_setting_is_refused_before_torch(mistake: str, tmp_path: Path) -> None:
    arguments, expected = MISTAKES[mistake]
    probe = tmp_path / "probe"
    probe.mkdir()
    # a torch that ends the process at once if anything imports it
    (probe / "torch.py").write_text("import os; os._exit(99)")
    work = tmp_path / "work"
    work.mkdir()
    message = refusal(script("train", *arguments, cwd=work, PYTHONPATH=str(probe)))
    for part in expected:
        assert part in message, message
    assert list(work.rglob("*.*")) == [], "a refused run leaves nothing behind"


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["--info", "defaults"]])
def test_looking_at_the_settings_does_not_import_torch(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(99)")
    run = script("train", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert "optimizer" in run.stdout


DATA_MISTAKES = {
    "rarest class": (["data=custom", "data.target=tables.with_a_rare_class"], ["class 'c'", "1 row", "stratified"]),
    "not a number": (["data=custom", "data.target=tables.with_a_hole"], ["row 3", "'x1'", "nan"]),
    "one class": (["data=custom", "data.target=tables.of_one_class"], ["same class"]),
    "loss on unknown data": (["data=custom", "data.target=tables.of_three_classes", "loss=bce"], ["loss=bce", "3"]),
    "no module": (["data=custom", "data.target=tabels.x"], ["no module 'tabels'"]),
    "no validation part": (
        ["data.split=[0.8,0.2]", "regularization=early_stopping"],
        ["early_stopping", "validation part"],
    ),
}


@pytest.mark.parametrize("mistake", DATA_MISTAKES)
def test_a_setting_that_the_data_refuse(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "tables.py").write_text(
        "import numpy as np\n"
        "x = np.random.default_rng(0).normal(size=(41, 2))\n"
        "def with_a_rare_class(): return x, np.array(list('ab' * 20) + ['c'])\n"
        "def of_three_classes(): return x, np.arange(41) % 3\n"
        "def of_one_class(): return x, np.zeros(41)\n"
        "def with_a_hole():\n"
        "    y = x.copy(); y[3, 1] = np.nan\n"
        "    return y, np.arange(41) % 2\n"
    )
    arguments, expected = DATA_MISTAKES[mistake]
    message = refusal(script("train", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path)))
    for part in expected:
        assert part in message, message
    assert not list((tmp_path / "outputs").rglob("*.*")), "a refused run leaves nothing behind"


@pytest.mark.parametrize("name", ["gpu", "mps", "ddp"])
def test_an_accelerator_that_is_not_there_is_refused_by_what_is(name: str, tmp_path: Path) -> None:
    import torch

    if {"gpu": torch.cuda.is_available(), "ddp": torch.cuda.is_available(), "mps": False}[name]:
        pytest.skip("this machine has it")
    message = refusal(script("train", f"accelerator={name}", cwd=tmp_path))
    assert f"accelerator={name} needs" in message
    assert "cores" in message
    assert len(message.splitlines()) == 1


def test_a_run_never_writes_over_another(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    message = refusal(script("train", "hydra.run.dir=mine", cwd=tmp_path))
    assert "hydra.run.dir=mine" in message
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_evaluate_without_or_with_a_wrong_run(tmp_path: Path) -> None:
    assert "run=" in refusal(script("evaluate", cwd=tmp_path))
    assert "nowhere" in refusal(script("evaluate", "run=nowhere", cwd=tmp_path))


def test_a_reader_who_has_read_enough_is_no_failure(tmp_path: Path) -> None:
    line = f"{sys.executable} {ROOT / 'src' / 'train.py'} --cfg job | head -c 1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
