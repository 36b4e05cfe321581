"""A small table, written as a file and read as data=table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.prepared import Prepared, prepare


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
