"""Cells come back from CSV as they were, but for those that a spreadsheet would execute."""

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlplab.reports.cells import lines, text_cells
from mlplab.reports.tables import text_cell

# what stands in one line of a file that was read as CSV in UTF-8
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"))


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1))
def test_a_column_of_texts_is_made_harmless_as_each_of_its_cells(texts: list[str]) -> None:
    assert text_cells(pa.array(texts)).to_pylist() == [text_cell(text) for text in texts]


@settings(deadline=None)
@given(TEXT)
def test_no_cell_begins_a_formula_unless_it_is_a_number(text: str) -> None:
    cell = text_cell(text)
    assert cell in (text, f"'{text}")
    if cell.lstrip("\t\n\v\f\r ").startswith(("=", "+", "-", "@")):
        assert cell == text
        float(text)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, st.floats(width=32, allow_nan=False, allow_infinity=False)), min_size=1))
def test_what_is_written_can_be_read_again(rows: list[tuple[str, float]]) -> None:
    texts, numbers = [row[0] for row in rows], np.array([row[1] for row in rows], np.float32)
    content = lines(["=name", "p,q"], [pa.array(texts), pa.array(numbers)], header=True)
    header, *read = csv.reader(io.StringIO(content.decode(), newline=""))
    assert header == ["'=name", "p,q"]
    assert [row[0] for row in read] == [text_cell(text) for text in texts]
    assert np.array_equal(np.array([float(row[1]) for row in read], np.float32), numbers)


@pytest.mark.parametrize("value", ["-1", "+2.5", "-1e-3", " -.5 ", "-7."])
def test_numbers_are_no_formulas(value: str) -> None:
    assert text_cell(value) == value
