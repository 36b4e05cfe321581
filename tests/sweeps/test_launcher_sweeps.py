"""A fused sweep as a whole: experiments of one's own, a folder that no other sweep has, and what many jobs cost."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from scripts.command import refusal, script
from sweeps.launched import SMALL, result


def test_experiments_of_one_s_own_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    head = "# @package _global_\n"
    (folder / "narrow.yaml").write_text(head + "model:\n  hidden: 4\ntrainer:\n  max_epochs: 2\n")
    wide = "defaults:\n  - override /optimizer: sgd\nmodel:\n  hidden: [9, 9]\ntrainer:\n  max_epochs: 3\n"
    (folder / "wide.yaml").write_text(head + wide)
    sweep = ("experiment=narrow,wide", "seed=0,1", "hydra.sweep.dir=s")
    run = script("train", "-m", "--config-dir", "mine", *sweep, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "4 jobs fused in 2 groups of 2, 2"
    values = [result(tmp_path / "s" / str(i)) for i in range(4)]
    assert [v["epochs"] for v in values] == [2, 2, 3, 3]
    assert [v["seed"] for v in values] == [0, 1, 0, 1]
    assert "name: sgd" in (tmp_path / "s" / "3" / ".hydra" / "config.yaml").read_text()


def test_sweeps_that_start_in_the_same_second_never_share_a_folder(tmp_path: Path) -> None:
    now = datetime.now()
    taken = [tmp_path / "outputs/wine" / f"multirun_{now + timedelta(seconds=s):%Y-%m-%d_%H-%M-%S}" for s in range(60)]
    for folder in taken:
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "result.json").write_text("another's")
    run = script("train", "-m", *SMALL, "seed=0,1", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert all((folder / "0" / "result.json").read_text() == "another's" for folder in taken)
    assert all(sorted(p.name for p in folder.iterdir()) == ["0"] for folder in taken)
    (own,) = set((tmp_path / "outputs/wine").iterdir()) - set(taken)
    assert [result(own / str(i))["seed"] for i in (0, 1)] == [0, 1]
    assert (own / "multirun.yaml").is_file()


def test_all_jobs_of_a_sweep_are_in_its_folder_whatever_their_names(tmp_path: Path) -> None:
    run = script("train", "-m", *SMALL, "name=one,two", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len(list(tmp_path.glob("outputs/*/*"))) == 1
    assert {p.parent.name for p in tmp_path.glob("outputs/wine/*/*/result.json")} == {"0", "1"}


def test_a_sweep_takes_no_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine.txt").write_text("keep")
    message = refusal(script("train", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=s", cwd=tmp_path))
    assert "hydra.sweep.dir=s" in message
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_a_sweep_of_many_costs_little_more_than_one_of_few(tmp_path: Path) -> None:
    def seconds(seeds: int) -> float:
        started = time.perf_counter()
        run = script("train", "-m", *SMALL, f"seed=range({seeds})", f"hydra.sweep.dir=s{seeds}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        assert result(tmp_path / f"s{seeds}" / str(seeds - 1))["status"] == "completed"
        return time.perf_counter() - started

    few, many = seconds(2), seconds(102)
    assert many < 5 * few, (few, many)  # 51 times the jobs
