"""train.py on a file of one's own: what it says before it trains, what it leaves, and how it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from scripts.command import refusal, script

QUICK = ("trainer.max_epochs=2", "accelerator=cpu", "hydra.run.dir=run")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [
        f"p{i},{i % 13 if i % 5 else ''},{['red', 'blue'][i * 7 % 11 % 2]},{['no', 'yes'][i % 6 == 0]}"
        for i in range(120)
    ]
    (tmp_path / "my.csv").write_text("id,size,colour,ill\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_it_says_what_it_understood_before_it_trains(table: Path) -> None:
    run = script("train", "data=table", "data.path=my.csv", "data.target=ill", *QUICK, cwd=table)
    assert run.returncode == 0, run.stderr
    said = run.stdout.split("parameters on cpu")[0]
    for part in (
        "my.csv: 120 rows (72 train, 24 val, 24 test), 4 features",
        "1 number: size",
        "1 category: colour (2)",
        "missing: size 20.0%",
        "left out: id (text with 120 different values: an identifier)",
        "classes of ill: no 100, yes 20",
        "data.categorical=[id]",
        "loss.class_weights=balanced",
    ):
        assert part in said, said
    told = json.loads((table / "run" / "data.json").read_text())
    assert told["rows"] == {"train": 72, "val": 24, "test": 24}
    assert told["dropped"].keys() == {"id"}
    assert told["classes"]["yes"] == {"train": 12, "val": 4, "test": 4}
    header, *rows = (table / "run" / "misclassified.csv").read_text().splitlines()
    assert header.endswith("size,colour")
    assert all(row.endswith(("red", "blue")) for row in rows)


@pytest.mark.slow
def test_evaluate_gets_the_same_numbers_and_refuses_a_changed_file(table: Path) -> None:
    more = ("data.encode=embedding", "data.scaling=quantile")
    run = script("train", "data=table", "data.path=my.csv", *more, *QUICK, cwd=table)
    assert run.returncode == 0, run.stderr
    again = script("evaluate", "run=run", cwd=table)
    assert again.returncode == 0, again.stderr
    loss = json.loads((table / "run" / "result.json").read_text())["metrics"]["test"]["loss"]
    assert f"{loss:.4f}" in again.stdout
    (table / "my.csv").write_text((table / "my.csv").read_text().replace("p7,7,", "p7,8,"))
    assert "has changed since it was trained" in refusal(script("evaluate", "run=run", cwd=table))


def test_a_sweep_over_scalings_and_encodings_fuses(table: Path) -> None:
    sweep = ("data.scaling=standard,quantile", "data.encode=onehot,embedding", "trainer.max_epochs=2")
    run = script("train", "-m", "data=table", "data.path=my.csv", *sweep, "hydra.sweep.dir=all", cwd=table)
    assert run.returncode == 0, run.stderr
    assert "4 jobs fused in 2 groups of 2, 2" in run.stdout
    assert len(list((table / "all").glob("*/data.json"))) == 4


BAD = {
    "no such file": (["data.path=none.csv"], ["none.csv does not exist"]),
    "no target": (["data.path=my.csv", "data.target=sick"], ["data.target=sick is no column", "ill"]),
    "ragged": (["data.path=ragged.csv"], ["ragged.csv, line 3: 1 field"]),
    "text among numbers": (["data.path=odd.csv"], ["row 9, column 'size' is 'big'", "data.missing"]),
    "too large": (["data.path=large.csv"], ["large.csv", "GB of memory"]),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_bad_file_is_refused_and_nothing_is_left(mistake: str, table: Path) -> None:
    whole = (table / "my.csv").read_text()
    (table / "ragged.csv").write_text(whole.replace("p1,1,red,no\n", "p1\n").replace("p1,1,blue,no\n", "p1\n"))
    (table / "odd.csv").write_text(whole.replace("\np8,8,", "\np8,big,"))
    (table / "large.csv").write_text(whole)
    os.truncate(table / "large.csv", 1 << 42)  # four terabytes of holes
    arguments, expected = BAD[mistake]
    message = refusal(script("train", "data=table", *arguments, cwd=table))
    for part in expected:
        assert part in message, message
    assert not list((table / "outputs").rglob("*.*")), "a refused run leaves nothing behind"
