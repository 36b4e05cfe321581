"""Predictions are evaluate's probabilities, row for row, whatever the file's order, size and form; or one refusal."""

import csv
import gzip
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.csv as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from data.people import HEADER, people
from predictions import FAST, kept_by_evaluate, probs, told
from scripts.command import ROOT, refusal, script

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.evaluate import load
from mlplab.experiment import run
from mlplab.predict import CHUNK
from mlplab.reports.tables import read_csv, write_csv


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with people.csv and the run `run` that was trained on it."""
    folder = tmp_path_factory.mktemp("people")
    with (folder / "people.csv").open("w", newline="") as file:  # as it is, with a class that begins with a minus
        csv.writer(file).writerows([HEADER, *people(600)])
    run(load_config("data=table", f"data.path={folder}/people.csv", "data.target=label", *FAST), folder / "run")
    return folder


def test_rows_of_the_training_file_get_evaluates_probabilities_to_the_last_bit(trained: Path, tmp_path: Path) -> None:
    rows = told(trained / "run", trained / "people.csv", tmp_path / "told.csv")
    assert list(rows[0]) == ["id", "predicted", "p(-bad)", "p(good)"]
    kept = kept_by_evaluate(trained / "run")
    assert torch.equal(probs(rows), kept)
    assert [row["id"] for row in rows] == [f"p{i:05d}" for i in range(600)]
    classes = ["'-bad", "good"]  # what a spreadsheet would compute is written as text
    assert [row["predicted"] for row in rows] == [classes[i] for i in kept.argmax(1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices", [["data.encode=embedding"], ["data.scaling=quantile"], ["accelerator.precision=bf16-mixed"]]
)
def test_every_preprocessing_and_precision_gives_evaluates_probabilities(choices: list[str], tmp_path: Path) -> None:
    write_csv(tmp_path / "people.csv", HEADER, people(600))
    run(
        load_config("data=table", f"data.path={tmp_path}/people.csv", "data.target=label", *choices, *FAST),
        tmp_path / "run",
    )
    assert torch.equal(
        probs(told(tmp_path / "run", tmp_path / "people.csv", tmp_path / "t.csv")), kept_by_evaluate(tmp_path / "run")
    )


def test_columns_are_matched_by_name_in_any_order_and_form(trained: Path, tmp_path: Path) -> None:
    rows = [dict(zip(HEADER, row, strict=True)) for row in people(200, seed=1)]
    names = ["member", "age", "id", "since", "city"]
    values = [[row[name] for name in names] for row in rows]
    write_csv(tmp_path / "straight.csv", HEADER, people(200, seed=1))
    write_csv(tmp_path / "other.csv", names, values)
    with (tmp_path / "other.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([names, *values])
    (tmp_path / "other.csv.gz").write_bytes(gzip.compress((tmp_path / "other.csv").read_bytes()))
    columns = arrow.read_csv(tmp_path / "other.csv", convert_options=arrow.ConvertOptions(null_values=["?", ""]))
    parquet.write_table(columns, tmp_path / "other.parquet")
    straight = told(trained / "run", tmp_path / "straight.csv", tmp_path / "told.csv")
    for name in ("other.csv", "other.tsv", "other.csv.gz", "other.parquet"):
        assert told(trained / "run", tmp_path / name, tmp_path / f"told_{name}.csv") == straight


def test_values_that_were_not_seen_in_training_are_unknown(trained: Path, tmp_path: Path) -> None:
    row = people(1)[0]
    cities = ["Ulm", "Paris", "Rome", "", " Ulm "]
    write_csv(tmp_path / "in.csv", HEADER, [[*row[:2], city, *row[3:]] for city in cities])
    found = probs(told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv"))
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[0], found[4])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[3]), "missing was seen in training, so it is not unknown"


def test_all_that_does_not_fit_is_in_one_message(trained: Path, tmp_path: Path) -> None:
    rows = [[row[0], row[2], "soon", "maybe", "1"] for row in people(3)]
    write_csv(tmp_path / "in.csv", ["id", "city", "since", "member", "colour"], rows)
    run = script("predict", f"run={trained}/run", "input=in.csv", "output=told.csv", cwd=tmp_path)
    assert run.returncode == 2
    said = run.stderr.strip().splitlines()
    assert said[0].startswith("input=in.csv does not fit run=")
    for line in (
        "column 'age' is missing",
        "row 1, column 'since' is 'soon', not a date (2 more like it)",
        "row 1, column 'member' is 'maybe', not yes or no (2 more like it)",
        "column 'colour' is not one that the network was trained with; keep=all copies it",
    ):
        assert any(line in one for one in said), (line, said)
    assert len(said) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


def test_a_wrong_value_in_a_late_chunk_is_told_by_its_row_and_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    rows = people(50) * (3 * CHUNK // 50)
    wrong = [*rows, ["x", "old", *rows[0][2:]]]
    write_csv(tmp_path / "in.csv", HEADER, wrong)
    with pytest.raises(SettingError, match=rf"row {len(wrong)}, column 'age' is 'old', not a finite number"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e999"])
def test_what_is_not_finite_is_refused(value: str, trained: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", HEADER, [["x", value, *people(1)[0][2:]]])
    with pytest.raises(SettingError, match=r"column 'age' is '.*', not a finite number"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv")


def test_numbers_that_only_text_shows_get_the_same_as_clean_ones(trained: Path, tmp_path: Path) -> None:
    clean = people(CHUNK + 100, seed=2)
    messy = [[r[0], f"  {r[1]} ", *r[2:]] for r in clean]  # the reader takes no " ? " for missing in a number
    write_csv(tmp_path / "clean.csv", HEADER, clean)
    write_csv(tmp_path / "messy.csv", HEADER, messy)
    first = told(trained / "run", tmp_path / "clean.csv", tmp_path / "a.csv")
    assert told(trained / "run", tmp_path / "messy.csv", tmp_path / "b.csv") == first
    assert len(first) == CHUNK + 100


def test_a_row_gets_the_same_bits_alone_and_among_others(trained: Path, tmp_path: Path) -> None:
    rows = people(40)
    write_csv(tmp_path / "all.csv", HEADER, rows)
    write_csv(tmp_path / "one.csv", HEADER, rows[7:8])
    every = told(trained / "run", tmp_path / "all.csv", tmp_path / "a.csv")
    assert told(trained / "run", tmp_path / "one.csv", tmp_path / "b.csv") == every[7:8]


def test_which_columns_are_copied(trained: Path, tmp_path: Path) -> None:
    rows = [[*row, str(i)] for i, row in enumerate(people(3))]
    write_csv(tmp_path / "in.csv", [*HEADER, "note"], rows)
    every = told(trained / "run", tmp_path / "in.csv", tmp_path / "a.csv", keep="all")
    assert list(every[0])[:3] == ["id", "label", "note"]
    some = told(trained / "run", tmp_path / "in.csv", tmp_path / "b.csv", keep=["note", "age"])
    assert [(row["note"], row["age"]) for row in some] == [(row[6], row[1]) for row in rows]
    with pytest.raises(SettingError, match=r"has no column 'nate'\. Did you mean 'note'\?"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "c.csv", keep=["nate"])
    with pytest.raises(SettingError, match=r"'note' is not one that the network was trained with"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "c.csv")


def test_no_cell_is_a_formula_to_a_spreadsheet(trained: Path, tmp_path: Path) -> None:
    evil = [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        " =1",
        "\t=1",
        "-5",
        "+1.5e3",
        "plain, with a comma",
        'a "quote"',
    ]
    rows = [[text, *row[1:]] for text, row in zip(evil, people(len(evil)), strict=True)]
    write_csv(tmp_path / "in.csv", HEADER, rows)
    found = told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv")
    assert [row["id"] for row in found] == [*(f"'{text}" for text in evil[:6]), *evil[6:]]
    assert {row["predicted"] for row in found} <= {"'-bad", "good"}


def test_a_file_is_written_over_only_when_told(trained: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", HEADER, people(2))
    (tmp_path / "told.csv").write_text("mine")
    with pytest.raises(SettingError, match=r"told\.csv exists; use overwrite=true"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv")
    assert (tmp_path / "told.csv").read_text() == "mine"
    assert len(told(trained / "run", tmp_path / "in.csv", tmp_path / "told.csv", overwrite=True)) == 2
    with pytest.raises(SettingError, match="is the input"):
        told(trained / "run", tmp_path / "in.csv", tmp_path / "in.csv", overwrite=True)


def test_a_file_without_header_may_leave_the_label_out(tmp_path: Path) -> None:
    rows = [[row[5], *row[:5]] for row in people(300)]
    for name, part in (("train", rows), ("with", rows[:20]), ("without", [row[1:] for row in rows[:20]])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(part)
    chosen = ("data=table", f"data.path={tmp_path}/train.csv", "data.target=0", "data.header=false")
    run(load_config(*chosen, *FAST), tmp_path / "run")
    found = told(tmp_path / "run", tmp_path / "with.csv", tmp_path / "a.csv")
    assert found == told(tmp_path / "run", tmp_path / "without.csv", tmp_path / "b.csv")
    assert torch.equal(probs(found), kept_by_evaluate(tmp_path / "run")[:20])


@pytest.mark.slow
def test_a_job_of_a_fused_sweep_predicts_with_its_own_network(tmp_path: Path) -> None:
    sweep = script(
        "train", "-m", "seed=0,1", "data=iris", "trainer.max_epochs=3", "logger=none", "hydra.sweep.dir=s", cwd=tmp_path
    )
    assert sweep.returncode == 0, sweep.stderr
    for number in (0, 1):
        loaded = load(tmp_path / "s" / str(number))
        write_csv(tmp_path / "in.csv", loaded.prepared.feature_names, loaded.prepared.raw.tolist())
        done = script("predict", f"run=s/{number}", "input=in.csv", f"output={number}.csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("150 rows in ")
        assert torch.equal(probs(read_csv(tmp_path / f"{number}.csv")), kept_by_evaluate(tmp_path / "s" / str(number)))
    assert (tmp_path / "0.csv").read_bytes() != (tmp_path / "1.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["input=nowhere.csv"], "nowhere.csv does not exist"),
        (["keep=some"], "keep='some'"),
        (["outputs=x.csv"], "Did you mean 'output'?"),
        (["input=empty.csv"], "empty.csv is empty"),
        (["input=header.csv"], "header.csv holds no row"),
        (["input=taken.csv", "keep=all"], "has the name of one that predict writes"),
        (["input=ragged.csv"], "ragged.csv, line 3: 2 fields"),
    ],
)
def test_the_script_refuses_in_one_message(arguments: list[str], said: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text(",".join(HEADER) + "\n")
    write_csv(tmp_path / "taken.csv", [*HEADER, "predicted"], [[*row, "x"] for row in people(2)])
    (tmp_path / "ragged.csv").write_text("\n".join([",".join(HEADER), "a,1,Ulm,2020-01-01,no,good", "b,2"]))
    write_csv(tmp_path / "in.csv", HEADER, people(2))
    before = sorted(p.name for p in tmp_path.iterdir())
    given = [f"run={trained}/run", "input=in.csv", "output=told.csv"]
    given = [one for one in given if one.split("=")[0] not in {a.split("=")[0] for a in arguments}]
    assert said in refusal(script("predict", *given, *arguments, cwd=tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_file_of_any_size_passes_through_bounded_memory(trained: Path, tmp_path: Path) -> None:
    rows = people(1000)
    most = {}
    for name, times in (("small", 200), ("large", 2000)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerow(HEADER)
            for _ in range(times):
                csv.writer(file).writerows(rows)
        given = [f"run={trained}/run", f"input={name}.csv", f"output={name}_told.csv"]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        process = subprocess.Popen(
            [sys.executable, ROOT / "src" / "predict.py", *given], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        most[name] = usage.ru_maxrss / 1024
        assert sum(1 for _ in (tmp_path / f"{name}_told.csv").open()) == 1 + 1000 * times
    size = (tmp_path / "large.csv").stat().st_size / 2**20
    assert most["large"] - most["small"] < 0.5 * size, most


def test_a_kill_leaves_no_output_and_a_terminal_shows_a_bar(trained: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", HEADER, people(1000) * 400)
    ours, theirs = pty.openpty()
    command = [sys.executable, ROOT / "src" / "predict.py", f"run={trained}/run", "input=in.csv", "output=told.csv"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + 60
    while b" rows" not in shown and time.monotonic() < deadline:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(ours)
    assert b"rows" in shown
    assert not (tmp_path / "told.csv").exists()
