"""Columns as lines of CSV, with no cell that a spreadsheet would take for a formula."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow

from mlplab.reports.tables import FORMULA, NUMBER, text_cell


def text_cells(column: Any) -> Any:
    """`tables.text_cell` for a column of texts; others stay as they are."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return column
    suspect = pc.match_substring_regex(column, FORMULA)
    if not pc.any(suspect, min_count=0).as_py():
        return column
    suspect = pc.and_(suspect, pc.invert(pc.match_substring_regex(column, NUMBER)))
    return pc.if_else(suspect, pc.binary_join_element_wise(pa.scalar("'", kind), column, pa.scalar("", kind)), column)


def lines(names: Sequence[str], columns: Sequence[Any], header: bool) -> bytes:
    """Lines of CSV; floats with as many digits as it takes to read the same number again.

    Args:
        columns: Arrow arrays of equal length.
        header: put the names in front.
    """
    table = pa.table([text_cells(column) for column in columns], [text_cell(name) for name in names])
    buffer = io.BytesIO()
    if header:
        head = pa.table([pa.array([name]) for name in table.column_names], table.column_names)
        _write(head, buffer)
    _write(table, buffer)
    return buffer.getvalue()


def _write(table: pa.Table, buffer: io.BytesIO) -> None:
    at = buffer.tell()
    try:  # without quotes; refused where a cell needs them
        arrow.write_csv(table, buffer, arrow.WriteOptions(include_header=False, quoting_style="none"))
    except pa.ArrowInvalid:
        buffer.truncate(at)
        buffer.seek(at)
        arrow.write_csv(table, buffer, arrow.WriteOptions(include_header=False, quoting_style="needed"))
