"""data=table: what is wrong with a file gets one clear message."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.written import prepared, refused, rows, spoilt, text, written

from mlplab.data import memory
from mlplab.data.reading import Form, TableReader

BAD: dict[str, tuple[str | bytes, list[str], list[str]]] = {
    "empty": (b"", [], ["is empty"]),
    "header only": (text([]), [], ["a header and no row"]),
    "target missing": (text(rows()), ["data.target=lable"], ["data.target=lable is no column", "'label'"]),
    "target beyond": (text(rows()), ["data.target=5"], ["data.target=5 is no column", "5 columns"]),
    "dropped beyond": (text(rows()), ["data.drop=[eye]"], ["data.drop=eye is no column", "colour"]),
    "one class": (text([[*row[:4], "a"] for row in rows()]), [], ["all rows have the class 'a'"]),
    "class of one row": (text(spoilt(3, 4, "c")), [], ["class 'c' has 1 row", "data.stratified=false"]),
    "no label": (text(spoilt(6, 4, " ")), [], ["row 7 has no label in column 'label'"]),
    "infinity": (text(spoilt(4, 0, "inf")), [], ["row 5, column 'age' is 'inf', not a finite number"]),
    "too large": (text(spoilt(4, 0, "1e999")), [], ["row 5, column 'age' is '1e999'"]),
    "nan": (text(spoilt(4, 0, "nan")), ["data.missing=['']"], ["row 5, column 'age' is 'nan'", "data.missing"]),
    "text among numbers": (text(spoilt(11, 0, "n.n.")), [], ["row 12, column 'age' is 'n.n.'", "data.missing"]),
    "same names": (text(rows()).replace("colour", "age"), [], ["the column name 'age' stands twice"]),
    "header is data": (
        "".join(f"{i},{i + 0.5},{i % 2}\n" for i in range(40)),
        [],
        ["data.header=false"],
    ),
    "short row": (text([*rows(9), ["1", "red"], *rows(9)]), [], ["line 11: 2 fields", "first line has 5"]),
    "long row": (text([*rows(9), [*rows(1)[0], "x"], *rows(9)]), [], ["line 11: 6 fields", "first line has 5"]),
    "short row below a quoted newline": (
        text([["1", '"a\nb"', "yes", "2020-01-01", "a"], ["1"]]),
        [],
        ["line 4: 1 field,", "first line has 5"],
    ),
    "mixed encodings": (
        text(rows()).encode() + "1,grün,yes,2020-01-01,a\n".encode("latin-1"),
        [],
        ["line 42: not UTF-8"],
    ),
    "utf-16": (text(rows()).encode("utf-16"), [], ["UTF-16"]),
    "excel": (b"PK\x03\x04" + bytes(99), [], ["save it as CSV"]),
    "labels as fractions": (
        text([[*row[:4], f"0.{i}1"] for i, row in enumerate(rows())]),
        [],
        ["numbers with fractions", "0.01"],
    ),
    "one column": ("a\n1\n2\n", [], ["has one column"]),
    "nothing to learn from": ("a,y\n" + "1,p\n1,q\n" * 9, [], ["no column left", "constant"]),
    "damaged gz": (gzip.compress(text(rows()).encode())[:60], [], ["my.csv"]),
    "folds of an official test": (
        text(rows()),
        ["data.test_path=x.csv", "data.folds=5", "data.fold=0"],
        ["data.test_path", "data.folds"],
    ),
    "target is dropped": (text(rows()), ["data.drop=[label]"], ["'label'", "data.target"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_message(name: str, tmp_path: Path) -> None:
    content, overrides, said = BAD[name]
    message = refused(written(tmp_path, content), *overrides)
    assert all(part in message for part in said), message
    assert len(message) < 400, message
    assert len(message.splitlines()) <= 2


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.csv")
    assert "is a folder" in refused(tmp_path)


def test_a_parquet_that_is_not_one(tmp_path: Path) -> None:
    assert "is not a Parquet file" in refused(written(tmp_path, text(rows()), "my.parquet"))
    pq.write_table(pa.table({"a": [1, 2], "y": ["p", "q"]}), tmp_path / "whole.parquet")
    half = (tmp_path / "whole.parquet").read_bytes()
    assert "Parquet file" in refused(written(tmp_path, half[: len(half) // 2], "half.parquet"))


def test_a_parquet_with_nested_columns_or_infinity(tmp_path: Path) -> None:
    y = ["p", "q"] * 10
    pq.write_table(pa.table({"a": [[1, 2]] * 20, "y": y}), tmp_path / "nested.parquet")
    assert "column 'a' holds neither numbers nor text nor dates" in refused(tmp_path / "nested.parquet")
    pq.write_table(pa.table({"a": [1.0, float("inf")] * 10, "y": y}), tmp_path / "inf.parquet")
    assert "row 2, column 'a' is 'inf'" in refused(tmp_path / "inf.parquet")


def test_a_test_file_of_other_columns_or_values(tmp_path: Path) -> None:
    path = written(tmp_path, text(rows()))
    other = written(tmp_path, text(rows(9)).replace("colour", "color"), "test.csv")
    message = refused(path, f"data.test_path={other}")
    assert "lacks colour and has color too much" in message
    other.write_text(text(spoilt(2, 0, "old", 9)))
    assert "row 3, column 'age' is 'old'" in refused(path, f"data.test_path={other}")


def test_a_file_larger_than_memory_is_refused_with_size_and_limit(tmp_path: Path) -> None:
    path = written(tmp_path, text(rows(2000)))
    room = TableReader(path, Form(True, "auto")).memory_needed()
    assert path.stat().st_size < room < 20 * path.stat().st_size
    assert prepared(path)
    os.truncate(path, 2 * memory.available())  # a file of holes: it takes no room on disk
    message = refused(path)
    assert "GB of memory" in message
    assert "GB are free" in message


def test_the_machine_says_how_much_memory_is_free() -> None:
    assert 1e8 < memory.available() < 1e14
