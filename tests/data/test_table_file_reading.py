"""data=table: any form of file gives the same table, and its columns become features as they should."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data.written import HEADER, prepared, rows, text, written

from mlplab.config import SettingError
from mlplab.data.prepared import Prepared
from mlplab.data.reading import Form, TableReader
from mlplab.data.schema import Schema


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


def _kinds(data: Prepared) -> dict[str, Any]:
    return {column["name"]: column["kind"] for column in (data.understood or {})["columns"]}


def test_codes_of_numbers_and_a_few_words_are_categories(tmp_path: Path) -> None:
    table = [[["2", "3", "4", "5more"][i % 4], *row[1:]] for i, row in enumerate(rows(80))]
    assert _kinds(prepared(written(tmp_path, text(table))))["age"] == "category"
