"""A damaged job of a sweep is trained again, the others are not; a damaged list of jobs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damage import assert_one_sentence, damaged
from scripts.killed import assert_same_training

from mlplab import runs
from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.ledger import Ledger
from mlplab.resume import resume
from mlplab.sweeps.run import run_batch


@pytest.mark.slow
def test_a_damaged_job_of_a_sweep_is_trained_again_and_the_others_are_not(tmp_path: Path) -> None:
    words = ("data=iris", "trainer.max_epochs=2", "logger=csv", "model.hidden=4")
    configs = [load_config(*words, f"seed={i}") for i in range(2)] + [load_config(*words, "optimizer=nadam")]
    folders = [tmp_path / "s" / str(i) for i in range(3)]
    run_batch(configs, folders)
    shutil.copytree(tmp_path / "s", tmp_path / "like")
    for job in (0, 2):  # one of a group, one alone
        for file in sorted(path for path in folders[job].rglob("*") if path.is_file()):
            content = file.read_bytes()
            for how, bad in damaged(content, 2):
                before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("s/*/result.json")}
                file.unlink() if bad is None else file.write_bytes(bad)
                outcomes = run_batch(configs, folders)
                assert all(isinstance(o, runs.Result) for o in outcomes), f"{file} {how}: {outcomes}"
                if file.name == "result.json":
                    assert_same_training(folders[job], tmp_path / "like" / str(job))
                for other in {0, 1, 2} - {job}:
                    path = folders[other] / "result.json"
                    assert path.stat().st_mtime_ns == before[path]
                if file.name == "best.ckpt":
                    resume([f"resume={folders[job]}"])
                if file.name == "last.ckpt" and "bit" not in how:
                    with pytest.raises(SettingError, match=r"last\.ckpt"):
                        resume([f"resume={folders[job]}", "trainer.max_epochs=3"])
                shutil.rmtree(folders[job])
                shutil.copytree(tmp_path / "like" / str(job), folders[job])


def test_a_damaged_list_of_jobs_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    configs = [load_config("data=iris", f"seed={i}") for i in range(3)]
    keys = ledger.keys(configs)
    ledger.add(keys, [0, 1, 2], [tmp_path / str(i) for i in range(3)])
    path = tmp_path / "jobs.json"
    for _, bad in damaged(path.read_bytes(), 300):
        path.write_bytes(bad or b"")
        try:
            again = Ledger(tmp_path)
        except SettingError as error:
            assert_one_sentence(str(error), path)
            continue
        numbers = again.numbers(again.keys(configs), 0)
        assert len(set(numbers)) == 3, "no two jobs in one folder"
