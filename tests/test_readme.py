"""What the README says is true: its table of groups, its table of files, its code and its worked example."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.command import ROOT, script

README = (ROOT / "README.md").read_text()
CONF = ROOT / "conf"


def table(heading: str) -> dict[str, str]:
    """First cell -> the rest, of the first table below a heading."""
    below = README.split(f"## {heading}\n")[1]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", below.split("\n## ")[0], re.M)
    return {first: rest for first, rest in rows if first not in ("group", "file")}


def test_the_table_of_groups_names_every_group_and_every_option() -> None:
    told = {first.strip("`"): rest for first, rest in table("Choices").items()}
    groups = {p.name for p in CONF.iterdir() if p.is_dir() and p.name not in ("hydra", "compare")}
    assert set(told) == groups
    for group, rest in told.items():
        options = {p.stem for p in (CONF / group).glob("*.yaml")}
        named = set(re.findall(r"`([a-z0-9_]+)`", rest))
        assert options <= named, f"{group}: {options - named} are not in the README"


def test_the_table_of_files_is_what_a_run_leaves(tmp_path: Path) -> None:
    run = script("train", "data=iris", "trainer.max_epochs=2", "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    told = [name.strip("`") for name in table("The run folder")]
    left = [p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*") if p.is_file()]
    for path in left:
        named = any(path.match(name) or str(path).startswith(name) for name in told if name)
        assert named or path.suffix == ".log", f"{path} is not in the README"
    others = [name.strip("`") for name, rest in table("The run folder").items() if rest.startswith("with `")]
    for name in set(told) - set(others):
        assert any((tmp_path / "run").glob(name.rstrip("/"))), f"{name} was not left"


def python_block(word: str) -> str:
    """The one block of Python that has this word."""
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", README, re.S) if word in b)
    return str(block)


@pytest.mark.slow
def test_the_exported_file_runs_in_ten_lines_without_mlplab_and_torch(tmp_path: Path) -> None:
    trained = script("train", "logger=none", "hydra.run.dir=run", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    exported = script("export", "run=run", "output=model.onnx", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    block = python_block("onnxruntime")
    assert len([line for line in block.splitlines() if line]) <= 10
    for name in ("mlplab", "torch"):  # whoever imports one of them ends the process at once
        (tmp_path / f"{name}.py").write_text("import os; os._exit(99)")
    run = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0] == "class_0"
    assert float(run.stdout.split()[1]) > 0.9


def test_the_python_block_runs(tmp_path: Path) -> None:
    block = python_block("load_config")
    run = subprocess.run(
        [sys.executable, "-c", block],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert 0 <= float(run.stdout.split()[-1]) <= 1


@pytest.mark.slow
def test_an_option_is_one_line_one_name_and_one_file(tmp_path: Path) -> None:
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    layers, network = tmp_path / "src/mlplab/models/layers.py", tmp_path / "src/mlplab/config/network.py"
    layers.write_text(
        layers.read_text().replace('    "tanh": lambda', '    "swish": lambda s: nn.SiLU(),\n    "tanh": lambda')
    )
    network.write_text(network.read_text().replace('"tanh", "identity"]', '"tanh", "identity", "swish"]'))
    (block,) = re.findall(r"```yaml\n# (conf/activation/swish.yaml)\n(.*?)```", README, re.S)
    (tmp_path / block[0]).write_text(block[1])
    run = subprocess.run(
        [sys.executable, "src/train.py", "activation=swish", "trainer.max_epochs=1", "logger=none"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("block", re.findall(r"```console\n(.*?)```", README, re.S))
def test_every_command_of_the_readme_names_a_script_and_settings_that_exist(block: str) -> None:
    from mlplab.compose import load_config

    for line in block.splitlines():
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file()
            if words[1] == "src/train.py" and "custom" not in line and "resume=" not in line and "optuna" not in line:
                given = [word.partition("=")[::2] for word in words[2:] if "=" in word]
                firsts = [f"{name}={values.split(',')[0]}" for name, values in given]
                for i, (name, values) in enumerate(given):
                    for value in values.split(","):
                        load_config(*firsts[:i], f"{name}={value}", *firsts[i + 1 :])


def test_a_second_make_installs_nothing() -> None:
    if not (ROOT / ".venv" / ".installed").is_file():
        pytest.skip("this environment was not made by make")
    run = subprocess.run(["make", "-n", "train"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pip" not in run.stdout
    assert "src/train.py" in run.stdout
