"""data=table: any form of file gives the same table, and what is wrong with one gets one clear message."""

from __future__ import annotations

import gzip
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data import memory
from mlplab.data.prepared import Prepared, prepare
from mlplab.data.reading import Form, TableReader
from mlplab.data.schema import Schema

SPLIT = "data.split=[0.6,0.2,0.2]"


def prepared(path: Path, *overrides: str) -> Prepared:
    return prepare(load_config("data=table", f"data.path={path}", *overrides).data)


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(SettingError) as error:
        prepared(path, *overrides)
    return str(error.value)


def rows(n: int = 40) -> list[list[str]]:
    """age (a number), colour (a category), smoker (yes or no), born (a date), label."""
    rng = np.random.default_rng(0)
    table = []
    for i in range(n):
        born = f"{1950 + i}-{1 + i % 12:02d}-{1 + i % 28:02d}"
        colour = str(rng.choice(["red", "green", "blue"]))
        table.append([f"{rng.normal():.3f}", colour, str(rng.choice(["yes", "no"])), born, "ab"[i % 2]])
    return table


HEADER = ["age", "colour", "smoker", "born", "label"]


def text(table: list[list[str]], separator: str = ",", end: str = "\n", header: bool = True) -> str:
    return "".join(separator.join(row) + end for row in ([HEADER] * header + table))


def written(folder: Path, content: str | bytes, name: str = "my.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def spoilt(row: int, column: int, value: str, n: int = 40) -> list[list[str]]:
    table = rows(n)
    table[row][column] = value
    return table


def test_kinds_are_recognised_and_features_are_named(tmp_path: Path) -> None:
    data = prepared(written(tmp_path, text(rows())))
    assert data.understood is not None
    kinds = {column["name"]: column["kind"] for column in data.understood["columns"]}
    assert kinds == {"age": "number", "smoker": "boolean", "born": "date", "colour": "category"}
    assert data.feature_names == [
        *("age", "smoker", "born.day", "born.month", "born.weekday"),
        *("colour=blue", "colour=green", "colour=red"),
    ]
    assert data.class_names == ["a", "b"]
    x = data.parts["train"].x
    assert x.shape == (24, 8)
    assert np.allclose(x[:, :5].mean(0), 0, atol=1e-6)
    assert np.array_equal(x[:, 5:].sum(1), np.ones(24))


@pytest.mark.parametrize(
    ("content", "name", "overrides"),
    [
        (text(rows(), ";"), "my.csv", []),
        (text(rows(), "\t"), "my.tsv", []),
        (text(rows(), "|"), "my.txt", ["data.separator='|'"]),
        (text(rows(), end="\r\n"), "my.csv", []),
        (b"\xef\xbb\xbf" + text(rows()).encode(), "my.csv", []),
        (gzip.compress(text(rows()).encode()), "my.csv.gz", []),
        (text([[f"  {v} " for v in row] for row in rows()]), "my.csv", []),
        (text([[f'"{v}"' for v in row] for row in rows()]), "my.csv", []),
        (text(rows()).rstrip("\n"), "my.csv", []),
        (text(rows(), header=False), "my.csv", ["data.header=false"]),
    ],
    ids=["semicolons", "tsv", "bars", "crlf", "bom", "gz", "white space", "quotes", "no last newline", "no header"],
)
def test_any_form_of_the_file_gives_the_same_table(
    content: str | bytes, name: str, overrides: list[str], tmp_path: Path
) -> None:
    plain = prepared(written(tmp_path, text(rows()), "plain.csv"))
    other = prepared(written(tmp_path, content, name), *overrides)
    for part in ("train", "val", "test"):
        assert np.array_equal(plain.parts[part].x, other.parts[part].x)
        assert np.array_equal(plain.parts[part].y, other.parts[part].y)


def test_parquet_gives_the_same_table_from_its_own_types(tmp_path: Path) -> None:
    table = list(zip(*rows(), strict=True))
    columns = {
        "age": pa.array([float(v) for v in table[0]]),
        "colour": pa.array(table[1]).dictionary_encode(),
        "smoker": pa.array([v == "yes" for v in table[2]]),
        "born": pa.array([date.fromisoformat(v) for v in table[3]]),
        "label": pa.array(table[4]),
    }
    pq.write_table(pa.table(columns), tmp_path / "my.parquet")
    plain, other = prepared(written(tmp_path, text(rows()))), prepared(tmp_path / "my.parquet")
    assert plain.raw is not None
    assert np.array_equal(plain.raw, other.raw)
    assert np.array_equal(plain.parts["train"].x, other.parts["train"].x)


def test_quoted_newlines_and_separators_are_part_of_the_value(tmp_path: Path) -> None:
    table = rows()
    for row in table:
        row[1] = '"dark\n' + row[1] + ', a ""hue"""'
    data = prepared(written(tmp_path, text(table)))
    assert 'colour=dark\nred, a "hue"' in data.feature_names
    assert sum(len(part) for part in data.parts.values()) == 40


def test_gaps_get_the_training_median_and_a_column_of_their_own(tmp_path: Path) -> None:
    table = rows(60)
    for row in table[::4]:
        row[0], row[1] = "?", " NA "
    data = prepared(written(tmp_path, text(table)), "data.scaling=none")
    assert data.understood is not None
    assert "age missing" in data.feature_names
    assert "colour=missing" in data.feature_names
    assert {c["name"]: c["missing"] for c in data.understood["columns"]}["age"] == 0.25
    which = data.parts["train"].rows
    known = [float(table[i][0]) for i in which if i % 4]
    x = data.parts["train"].x
    gone = which % 4 == 0
    assert np.allclose(x[gone, 0], np.median(known))
    assert np.array_equal(x[:, data.feature_names.index("age missing")], gone)
    assert np.array_equal(x[:, data.feature_names.index("colour=missing")], gone)


def test_everything_is_fitted_on_the_training_rows_alone(tmp_path: Path) -> None:
    first = prepared(written(tmp_path, text(rows(60)), "one.csv"))
    table = rows(60)
    for i in np.concatenate([first.parts["val"].rows, first.parts["test"].rows]):
        table[i][0], table[i][1] = "1e6", "violet"
    second = prepared(written(tmp_path, text(table), "two.csv"))
    assert first.feature_names == second.feature_names
    for name, value in first.preprocess.state_dict().items():
        assert np.array_equal(value, second.preprocess.state_dict()[name]), name
    assert np.array_equal(first.parts["train"].x, second.parts["train"].x)
    unknown = second.parts["test"].x[:, second.feature_names.index("colour=blue") :]
    assert float(unknown.abs().sum()) == 0  # a value not seen in training is none of those seen
    assert any("'unknown'" in note for note in (second.understood or {})["notes"])


def test_constant_empty_and_identifier_columns_are_left_out_and_named(tmp_path: Path) -> None:
    lines = [["id", "same", "void", *HEADER]]
    lines += [[f"person {i}", "7", "", *row] for i, row in enumerate(rows())]
    data = prepared(written(tmp_path, "".join(",".join(line) + "\n" for line in lines)))
    told = data.understood or {}
    assert told["dropped"].keys() == {"id", "same", "void"}
    assert "identifier" in told["dropped"]["id"]
    assert any("'id'" in note and "data.categorical=[id]" in note for note in told["notes"])
    kept = prepared(tmp_path / "my.csv", "data.categorical=[id]")
    assert sum(name.startswith("id=") for name in kept.feature_names) == 24
    assert json.loads(json.dumps(told)) == told


def test_columns_by_name_and_position(tmp_path: Path) -> None:
    path = written(tmp_path, text(rows()))
    by_name = prepared(path, "data.target=colour", "data.drop=[born]")
    by_position = prepared(path, "data.target=1", "data.drop=[-2]")
    assert by_name.class_names == ["blue", "green", "red"]
    assert by_name.feature_names == by_position.feature_names == ["age", "smoker", "label=a", "label=b"]


def test_numbers_can_be_taken_as_categories(tmp_path: Path) -> None:
    table = [[str(i % 3), *row[1:]] for i, row in enumerate(rows())]
    data = prepared(written(tmp_path, text(table)), "data.categorical=[age]")
    assert [name for name in data.feature_names if name.startswith("age")] == ["age=0", "age=1", "age=2"]


def test_an_official_test_file_stays_the_test_part(tmp_path: Path) -> None:
    path = written(tmp_path, text(rows()))
    turned = [[*row[::-1]] for row in rows(12)]
    other = "".join(",".join(row) + "\n" for row in [HEADER[::-1], *[[r[0] + ".", *r[1:]] for r in turned]])
    test = written(tmp_path, other, "test.csv")
    with pytest.raises(SettingError, match=r"labels that .* has not: 'a\.', 'b\.'; 'data\.label_map="):
        prepared(path, f"data.test_path={test}")
    data = prepared(path, f"data.test_path={test}", 'data.label_map=[["a.","a"],["b.","b"]]')
    assert {name: len(part) for name, part in data.parts.items()} == {"train": 30, "val": 10, "test": 12}
    assert data.raw is not None
    assert np.array_equal(data.raw[40:], data.raw[:12])  # columns in another order are matched by name


@pytest.mark.parametrize("labels", ["10", "1.0"])
def test_whole_numbers_as_labels_are_classes_in_their_order(labels: str, tmp_path: Path) -> None:
    table = [[*row[:4], labels if i % 2 else "9"] for i, row in enumerate(rows())]
    expected = ["9", "10"] if labels == "10" else ["1", "9"]
    assert prepared(written(tmp_path, text(table))).class_names == expected


def test_uneven_classes_are_named_with_the_switch_that_helps(tmp_path: Path) -> None:
    table = [[*row[:4], "rare" if i % 8 == 0 else "common"] for i, row in enumerate(rows(80))]
    told = prepared(written(tmp_path, text(table))).understood or {}
    assert any("'rare'" in note and "loss.class_weights=balanced" in note for note in told["notes"])


def test_a_schema_survives_a_checkpoint_and_encodes_a_file_in_chunks(tmp_path: Path) -> None:
    path = written(tmp_path, text(rows()))
    data = prepared(path)
    assert data.schema is not None
    assert data.raw is not None
    schema = Schema.of_plain(json.loads(json.dumps(data.schema.plain())))
    assert schema == data.schema
    chunks = list(TableReader(path, Form(True, "auto")).chunks(7))
    assert len(chunks) == 6
    assert np.array_equal(np.concatenate([schema.encode(chunk) for chunk in chunks]), data.raw)


def big(columns: int) -> str:
    names = ",".join(f"x{i}" for i in range(columns)) + ",y\n"
    return names + "".join(",".join(str((i * j) % 7) for j in range(columns)) + f",{i % 2}\n" for i in range(20))


@pytest.mark.slow
def test_a_file_of_ten_thousand_columns(tmp_path: Path) -> None:
    data = prepared(written(tmp_path, big(10_000)))
    dropped = len((data.understood or {})["dropped"])
    assert data.n_features + dropped == 10_000


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


def _kinds(data: Prepared) -> dict[str, Any]:
    return {column["name"]: column["kind"] for column in (data.understood or {})["columns"]}


def test_codes_of_numbers_and_a_few_words_are_categories(tmp_path: Path) -> None:
    table = [[["2", "3", "4", "5more"][i % 4], *row[1:]] for i, row in enumerate(rows(80))]
    assert _kinds(prepared(written(tmp_path, text(table))))["age"] == "category"
