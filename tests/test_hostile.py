"""Files from elsewhere: nothing in them is executed, and nothing leads out of their folder."""

from __future__ import annotations

import csv
import math
import os
import pickle
import random
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from scripts.command import ROOT, refusal, script

from mlplab.compare import answer
from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.config.data import CustomData
from mlplab.config.tools import Compare, Explain
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.explain import explain
from mlplab.training import checkpoints


class Bomb:
    """What pickle would execute on loading."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(load_config("data=iris", "trainer.max_epochs=1", "logger=csv"), folder)
    return folder


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("form", ["torch", "pickle", "inside"])
def test_a_pickle_bomb_is_refused_and_not_executed(name: str, form: str, trained: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "run", tmp_path / "executed"
    shutil.copytree(trained, folder)
    path = folder / "checkpoints" / f"{name}.ckpt"
    if form == "torch":
        torch.save(Bomb(mark), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(mark)))
    else:  # a whole checkpoint with a bomb among its values
        torch.save(torch.load(path, weights_only=True) | {"value": Bomb(mark)}, path)
    words = [f"run={folder}"] if name == "best" else [f"resume={folder}", "trainer.max_epochs=2"]
    message = refusal(script("evaluate" if name == "best" else "train", *words, cwd=tmp_path))
    assert f"{name}.ckpt is damaged or not a checkpoint" in message
    assert not mark.exists()


def test_the_bomb_is_one(tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "executed"), tmp_path / "bomb")
    torch.load(tmp_path / "bomb", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_nothing_is_loaded_in_any_other_way() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only=True" in call, path
        assert not re.search(
            r"(?<![\w.])(eval|exec|os\.system|os\.popen|pickle\.load|yaml\.load)\(", text
        ) or path.name in (
            "worker.py",  # pickle.loads of what this process has just dumped
        ), path
        assert "shell=True" not in text, path


TARGETS = {
    "data": ["data=custom", "data.target=os.system", "+data.kwargs.command=true"],
    "model": ["model=custom", "model.target=subprocess.Popen"],
    "activation": ["activation=custom", "activation.target=torch.hub.load"],
    "optimizer": ["optimizer=custom", "optimizer.target=numpy.fromfile"],
}


@pytest.mark.parametrize("group", TARGETS)
def test_a_target_outside_the_allow_list_is_refused(group: str) -> None:
    words = TARGETS[group]
    target = words[1].split("=")[1]
    top = target.split(".")[0]
    with pytest.raises(SettingError, match=re.escape(f"allow_targets=[{top}]")):
        load_config(*words)
    assert load_config(*words, f"allow_targets=[{top}]").allow_targets == [top]
    with pytest.raises(SettingError):
        load_config(*words, f"allow_targets=[{top[:-1]}]")


def test_torch_s_own_and_one_s_own_are_allowed() -> None:
    load_config("activation=custom", "activation.target=torch.nn.Tanh")
    load_config("model=custom", "model.target=models.own.Net")


def test_a_checkpoint_cannot_allow_itself(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    path, mark = tmp_path / "run" / "checkpoints" / "best.ckpt", tmp_path / "executed"
    content = checkpoints.load(path)
    config = content["config"]
    own = {"name": "custom", "target": "os.system", "kwargs": {"command": f"touch {mark}"}}
    shared = {k: v for k, v in config["data"].items() if k in CustomData.model_fields}
    content["config"] = config | {"data": shared | own, "allow_targets": ["os"]}
    checkpoints.save(content, path)
    with pytest.raises(SettingError, match=r"data\.target=os\.system"):
        evaluate(tmp_path / "run")
    assert not mark.exists()


@pytest.mark.slow
def test_paths_inside_a_run_folder_do_not_lead_out_of_it(trained: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    shutil.copytree(trained, folder)
    outside.write_text("precious")
    path = folder / "checkpoints" / "last.ckpt"
    content = checkpoints.load(path)
    checkpoints.save_last(content | {"events": {"../outside": 0, "/etc/hostname": 0}}, path)
    done = script("train", f"resume={folder}", "trainer.max_epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outside.read_text() == "precious"
    shutil.rmtree(folder / "checkpoints")
    (tmp_path / "elsewhere").mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert "leads out of" in refusal(script("train", f"resume={folder}", cwd=tmp_path))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_job_s_folder_does_not_lead_out_of_the_sweep_s(tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", "hydra.sweep.dir=s", "hydra.sweep.subdir=../${hydra.job.num}")
    assert "leads out of" in refusal(script("train", *words, cwd=tmp_path))
    assert not (tmp_path / "0").exists()


def test_tensorboard_is_for_this_machine_alone() -> None:
    (line,) = re.findall(r"^.*tensorboard --logdir.*$", (ROOT / "Makefile").read_text(), re.M)
    assert "--host localhost" in line
    assert "bind_all" not in line


BAD = {"lightning": {"2.6.2", "2.6.3"}}
"""Releases that must never be installed: GHSA-w37p-236h-pfx3."""


def test_dependencies_have_bounds_and_leave_out_known_bad_releases() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    needs = [*project["project"]["dependencies"], *(n for e in extras for n in e), *project["build-system"]["requires"]]
    for text in needs:
        need = Requirement(text)
        if need.name == "mlplab":
            continue  # an extra made of others
        operators = {s.operator for s in need.specifier}
        assert operators & {">=", ">", "=="}, f"{text} has no lower bound"
        assert operators & {"<", "<=", "=="}, f"{text} has no upper bound"
        for version in BAD.get(need.name, ()):
            assert version not in need.specifier, f"{text} lets in {version}"


def test_constraints_are_exact_and_good() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    for line in filter(None, lines):
        assert re.fullmatch(r"[\w.\-\[\]]+==[\w.+!]+( ;.*)?", line), line
        name, version = line.split("==")
        assert version.split(" ")[0] not in BAD.get(name, ()), line


FORMULA = "=cmd|'/C calc'!A0"


def test_no_csv_of_a_run_holds_a_formula(tmp_path: Path) -> None:
    """Columns, categories and classes of a hostile table: in no file of a run, an explanation or a comparison."""
    draw = random.Random(0)
    kinds, classes = [FORMULA, "@SUM(A1)", "-1+2"], [f"+{FORMULA}", "=1+1"]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["=height", "@kind", "-label"])
        table.writerows([f"{draw.gauss(0, 1):.3f}", draw.choice(kinds), draw.choice(classes)] for _ in range(90))
    words = ["data=table", f"data.path={tmp_path / 'rows.csv'}", "data.target=-1", "trainer.max_epochs=1", "logger=csv"]
    for i in range(2):
        run(load_config(*words, "model.hidden=4", f"seed={i}", 'name="=name"'), tmp_path / "runs" / str(i))
    shared = {"metric": "val/accuracy", "out": None, "best": False, "retrain": 0, "ensemble": 0, "allow_targets": []}
    answer(Compare(runs=str(tmp_path / "runs"), **shared))
    explained = {"part": "test", "metric": "accuracy", "repeats": 2, "rows": 20, "seed": 0, "columns": "auto"}
    explained |= {"curves": 1, "points": 2, "patch": 1, "allow_targets": []}
    explain(Explain(run=str(tmp_path / "runs" / "0"), **explained))
    files = sorted((tmp_path / "runs").rglob("*.csv"))
    assert {f.name for f in files} >= {"misclassified.csv", "metrics.csv", "comparison.csv", "importance.csv"}
    seen = 0
    for path in files:
        with path.open(newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                assert not cell.strip().startswith(("=", "+", "-", "@")) or math.isfinite(float(cell)), (path, cell)
                seen += cell.startswith(("'=", "'+", "'-", "'@"))
    assert seen > 30, "the formulas are there, as text"
    assert "'=height" in (tmp_path / "runs" / "0" / "misclassified.csv").read_text()
