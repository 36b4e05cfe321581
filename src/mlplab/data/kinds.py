"""What a column of a table holds: numbers, yes and no, dates, categories or identifiers; and its values as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["number", "boolean", "date", "category"]
YES, NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
)
"""Tried in this order; the first that reads every value is taken."""
DATE_PARTS = ("day", "month", "weekday")
"""What a date becomes: days since 1970-01-01, month 1 to 12, weekday 1 (Monday) to 7."""


@dataclass(frozen=True)
class Wrong:
    """A value that is not what its column holds."""

    row: int
    """Counted from 1, without the header."""
    value: str
    count: int
    """How many there are in all."""


def texts(column: pa.ChunkedArray, missing: Sequence[str]) -> pa.Array:
    """A column as text without white space around it; null where it is missing. Numbers as they are written."""
    column = _one(column)
    if pa.types.is_floating(column.type):  # 2.0 is the category 2
        whole = pc.and_(pc.equal(pc.round(column), column), pc.less(pc.abs(column), 2.0**53))
        if pc.all(whole, min_count=0).as_py():
            column = pc.cast(column, pa.int64(), safe=False)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = pc.cast(column, pa.string())
    column = pc.utf8_trim_whitespace(column)
    gone = pc.is_in(column, value_set=pa.array(list(missing), column.type))
    return pc.if_else(gone, pa.scalar(None, column.type), column)


def numbers(column: pa.ChunkedArray, missing: Sequence[str]) -> np.ndarray | Wrong:
    """A column as float64 with NaN where it is missing, or the first value that is no finite number."""
    one = _one(column)
    kind = one.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        cast = pc.cast(one, pa.float64(), safe=False)
        return _finite(cast, cast)
    text = texts(one, missing)
    first = next((value for value in text[:100].to_pylist() if value is not None), None)
    if first is None or _is_number(first):  # else there is no need to try
        try:
            return _finite(pc.cast(text, pa.float64()), text)
        except pa.ArrowInvalid:
            pass
    distinct = text.dictionary_encode()
    bad = np.array([not _is_number(value) for value in distinct.dictionary.to_pylist()], dtype=bool)
    if not bad.any():  # written as numbers, and yet the library has none for them
        bad[:] = True
    return _wrong(text, _of_codes(distinct, bad, False))


def _finite(cast: pa.Array, written: pa.Array) -> np.ndarray | Wrong:
    values = cast.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    bad = np.isinf(values)
    if pa.types.is_string(written.type) or pa.types.is_large_string(written.type):  # "nan" that is not in `missing`
        bad |= np.isnan(values) & np.asarray(written.is_valid())
    return _wrong(written, bad) if bad.any() else values


def booleans(column: pa.ChunkedArray, missing: Sequence[str]) -> np.ndarray | Wrong:
    """1 for true, yes, t, y; 0 for false, no, f, n; NaN where missing; or the first value that is neither."""
    distinct = texts(column, missing).dictionary_encode()
    lower = [value.lower() for value in distinct.dictionary.to_pylist()]
    values = np.array([1.0 if v in YES else 0.0 if v in NO else np.inf for v in lower], dtype=np.float64)
    found = _of_codes(distinct, values, np.nan)
    return _wrong(distinct.dictionary_decode(), np.isinf(found)) if np.isinf(found).any() else found


def dates(column: pa.ChunkedArray, missing: Sequence[str], form: str) -> np.ndarray | Wrong:
    """Shape (rows, 3): `DATE_PARTS` of each date, NaN where missing; or the first value that is no such date."""
    one = _one(column)
    if pa.types.is_temporal(one.type):
        moments = pc.cast(one, pa.timestamp("s"), safe=False)
    else:
        text = texts(one, missing)
        moments = pc.strptime(text, format=form, unit="s", error_is_null=True)
        bad = np.asarray(text.is_valid()) & np.asarray(moments.is_null())
        if bad.any():
            return _wrong(text, bad)
    valid = np.asarray(moments.is_valid())
    seconds = pc.fill_null(pc.cast(moments, pa.int64()), 0).to_numpy(zero_copy_only=False)
    weekday = pc.add(pc.day_of_week(moments), 1)
    parts = [
        seconds / 86400,
        *(pc.fill_null(p, 0).to_numpy(zero_copy_only=False) for p in (pc.month(moments), weekday)),
    ]
    return np.where(valid[:, None], np.stack(parts, 1).astype(np.float64), np.nan)


def codes(column: pa.ChunkedArray, missing: Sequence[str], vocabulary: Sequence[str | None]) -> np.ndarray:
    """Place in the vocabulary counted from 1, as float64; 0 for a value that is not in it.

    None in the vocabulary stands for a missing value; without it a missing value is one not seen, too.
    """
    distinct = texts(column, missing).dictionary_encode()
    place = {value: i + 1 for i, value in enumerate(vocabulary)}
    found = np.array([place.get(value, 0) for value in distinct.dictionary.to_pylist()], dtype=np.float64)
    return _of_codes(distinct, found, float(place.get(None, 0)))


def _of_codes(distinct: Any, values: np.ndarray, of_null: Any) -> np.ndarray:
    values = np.append(values, np.array([of_null], dtype=values.dtype))
    return values[pc.fill_null(distinct.indices, len(values) - 1).to_numpy(zero_copy_only=False)]


def _wrong(written: pa.Array, bad: np.ndarray) -> Wrong:
    row = int(bad.argmax())
    return Wrong(row + 1, str(written[row].as_py()), int(bad.sum()))


_NUMBER = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _one(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


@dataclass(frozen=True)
class Recognised:
    """What a column was found to hold."""

    kind: Kind | Literal["identifier", "empty"]
    values: np.ndarray | None
    """float64, NaN where missing, of numbers, booleans (rows,) and dates (rows, 3); None of the others."""
    text: Any = None
    """Categories as a dictionary array of text."""
    form: str = ""
    """How dates are written."""
    missing: int = 0
    wrong: Wrong | None = None
    """Numbers with some values that are none: a person has to say what they mean."""


def recognise(column: Any, missing: Sequence[str], as_category: bool, max_categories: int) -> Recognised:
    """Kind and values of a column, from all its rows but no label."""
    one = _one(column)
    if pa.types.is_null(one.type):
        return Recognised("empty", None, missing=len(one))
    if not as_category:
        if pa.types.is_temporal(one.type):
            values = dates(one, missing, "")
            assert isinstance(values, np.ndarray)
            return Recognised("date", values, form="", missing=one.null_count)
        found = booleans(one, missing) if pa.types.is_boolean(one.type) else numbers(one, missing)
        if isinstance(found, np.ndarray):
            gone = int(np.isnan(found).sum())
            kind: Any = "empty" if gone == len(found) else "boolean" if pa.types.is_boolean(one.type) else "number"
            return Recognised(kind, found, missing=gone)
        if pa.types.is_floating(one.type):
            return Recognised("number", None, wrong=found)
    else:
        found = None
    distinct = texts(one, missing).dictionary_encode()
    words: list[str] = distinct.dictionary.to_pylist()
    filled = len(one) - distinct.null_count
    gone = len(one) - filled
    if not filled:
        return Recognised("empty", None, missing=gone)
    if as_category:
        return Recognised("category", None, distinct, missing=gone)
    if len({w.lower() for w in words}) == 2 and all(w.lower() in (*YES, *NO) for w in words):
        values = booleans(one, missing)
        assert isinstance(values, np.ndarray)
        return Recognised("boolean", values, missing=gone)
    for form in DATE_FORMATS:
        if pc.strptime(pa.array(words[:3]), format=form, unit="s", error_is_null=True).null_count:
            continue
        days = dates(distinct.dictionary_decode(), missing, form)
        if isinstance(days, np.ndarray):
            return Recognised("date", days, form=form, missing=gone)
    if isinstance(found, Wrong) and (_is_number(found.value) or _looks_like_numbers(found, filled, len(words))):
        return Recognised("number", None, missing=gone, wrong=found)
    many = len(words) > max_categories or (len(words) > 20 and 2 * len(words) > filled)
    return Recognised("identifier" if many else "category", None, distinct, missing=gone)


def _looks_like_numbers(wrong: Wrong, filled: int, distinct: int) -> bool:
    """Whether text among numbers is a slip, not a code such as 2, 3, 4, 5more."""
    are_codes = distinct <= 20 and filled >= 5 * distinct and wrong.count >= 0.02 * filled
    return not are_codes and 2 * wrong.count <= filled
