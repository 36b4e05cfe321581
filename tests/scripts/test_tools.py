"""predict, export and explain answer a bad setting before torch is imported."""

from pathlib import Path

import pytest
from scripts.command import refusal, script

GIVEN = {"predict": ["run=r", "input=i.csv", "output=o.csv"], "export": ["run=r"], "explain": ["run=r"]}
MISTAKES = {
    "predict": ("output=told.txt", "output=told.txt must end in .csv"),
    "export": ("tolerance=-1", "tolerance=-1 is not allowed: it must be greater than 0"),
    "explain": ("repeats=one", "repeats='one' is not allowed: it must be a whole number"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_bad_setting_is_refused_before_torch(name: str, tmp_path: Path) -> None:
    probe, work = tmp_path / "probe", tmp_path / "work"
    probe.mkdir()
    work.mkdir()
    (probe / "torch.py").write_text("import os; os._exit(99)")  # ends the process at once if anything imports it
    mistake, said = MISTAKES[name]
    assert said in refusal(script(name, *GIVEN[name], mistake, cwd=work, PYTHONPATH=str(probe)))
    assert "run has no value yet" in refusal(script(name, cwd=work, PYTHONPATH=str(probe)))
    helped = script(name, "--help", cwd=work, PYTHONPATH=str(probe))
    assert helped.returncode == 0, helped.stderr
    assert "run:" in helped.stdout
    assert not list(work.iterdir())


@pytest.mark.parametrize("name", GIVEN)
def test_a_run_that_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text("a,b\n1,2\n")
    (tmp_path / "r").mkdir()
    message = refusal(script(name, *GIVEN[name], cwd=tmp_path))
    assert "best.ckpt does not exist; is r a run folder" in message
