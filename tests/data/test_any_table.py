"""Whatever the file: a trained run on every row of it, or one clear error; never a traceback, never a row less."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.prepared import Prepared, prepare
from mlplab.training.fit import fit

PHASES = (Phase.explicit, Phase.generate)  # tables shrink slowly
NUMBERS = st.one_of(
    st.integers(-1000, 1000).map(str),
    st.floats(width=64).map(repr),
    st.floats(-10, 10).map(lambda v: f" {v:.3f} "),
)
WORDS = st.sampled_from(
    ["red", "Green ", '"', "a,b", "two\nlines", "", "NA", "?", "ü", "1", "2", "yes", "no", "\u2003x"]
)
DATES = st.dates().map(str)
GAPS = st.sampled_from(["", "?", "NA", "nan", "  "])


@st.composite
def columns(draw: st.DrawFn, rows: int) -> list[str]:
    kind = draw(st.sampled_from([NUMBERS, WORDS, DATES, st.sampled_from(["yes", "no"]), st.text(max_size=5)]))
    values = draw(st.lists(kind, min_size=rows, max_size=rows))
    for row in draw(st.lists(st.integers(0, rows - 1), max_size=rows // 3)):
        values[row] = draw(GAPS)
    if draw(st.integers(0, 9)) == 0:
        values[draw(st.integers(0, rows - 1))] = draw(st.text(max_size=8))
    return values


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, int]:
    """A file's text and how many rows it has."""
    rows = draw(st.integers(1, 40))
    n = draw(st.integers(1, 5))
    made = [draw(columns(rows)) for _ in range(n)]
    labels = draw(st.lists(st.sampled_from(draw(st.sampled_from(["ab", "01", "abc"]))), min_size=rows, max_size=rows))
    names = [draw(st.sampled_from([f"x{i}", f" x{i} ", f"é {i}", "same"])) for i in range(n)]
    file = io.StringIO()
    writer = csv.writer(
        file,
        delimiter=draw(st.sampled_from(",;\t|")),
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerows([[*names, "label"], *zip(*made, labels, strict=True)])
    text = file.getvalue()
    if draw(st.integers(0, 9)) == 0:  # a slip of the keyboard somewhere
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([",", '"', "\n", "\x00", "x"])) + text[at:]
        rows = -1
    return text, rows


def outcome(text: str, *overrides: str) -> Prepared | None:
    """The data, trained on; None where the file was refused in one clear message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "my.csv"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        small = ("trainer.max_epochs=2", "model.hidden=[4]", "logger=none", "accelerator=cpu", "data.stratified=false")
        config = load_config("data=table", f"data.path={path}", *small, *overrides)
        try:
            data = prepare(config.data)
        except SettingError as error:
            message = str(error)
            assert 10 < len(message) < 3000
            assert "Traceback" not in message
            return None
        fitted = fit(config, data, "cpu", None, [])
        assert fitted.diverged is None
        assert all(math.isfinite(row["train/loss"]) for row in fitted.history)
        return data


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True, phases=PHASES)
@given(
    table=tables(),
    scaling=st.sampled_from(["standard", "minmax", "robust", "quantile"]),
    encode=st.sampled_from(["onehot", "embedding"]),
)
def test_a_messy_table_is_trained_on_whole_or_refused(table: tuple[str, int], scaling: str, encode: str) -> None:
    text, rows = table
    data = outcome(text, f"data.scaling={scaling}", f"data.encode={encode}")
    if data is None:
        return
    assert rows in (-1, sum(len(part) for part in data.parts.values()))
    used = torch.cat([torch.from_numpy(part.rows) for part in data.parts.values()])
    assert used.sort().values.tolist() == list(range(len(used)))
    assert all(part.x.isfinite().all() for part in data.parts.values())


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True, phases=PHASES)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(content: bytes) -> None:
    outcome(content.decode("latin-1"))


def test_most_clean_tables_are_trained_on() -> None:
    lines = "".join(f"{i * 7 % 5},{'ab'[i * 3 % 2]},{'xy'[i % 2]}\n" for i in range(30))
    data = outcome("one,two,y\n" + lines)
    assert data is not None
    assert sum(len(part) for part in data.parts.values()) == 30
