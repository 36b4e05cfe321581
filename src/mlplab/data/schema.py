"""What a trained network knows of its table: columns, kinds and vocabularies, and how raw rows become numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlplab.config.base import SettingError

UNKNOWN, MISSING = "unknown", "missing"


@dataclass(frozen=True)
class Column:
    """One column of the table that the network uses."""

    name: str
    kind: str
    """number, boolean, date or category."""
    vocabulary: list[str | None] | None = None
    """Categories: the values of the training rows, None being a missing one; the code of a value is its place here
    counted from 1, and 0 is any value that is not here ("unknown")."""
    form: str = ""
    """Dates: how they are written."""

    @property
    def raw_names(self) -> list[str]:
        """Names of its columns in the matrix of raw numbers."""
        from mlplab.data.kinds import DATE_PARTS

        return [f"{self.name}.{part}" for part in DATE_PARTS] if self.kind == "date" else [self.name]


@dataclass(frozen=True)
class Schema:
    """The columns of a table in the order of the raw matrix: what is a number first, the categories after it."""

    columns: list[Column]
    target: str | None
    """Name of the label's column."""
    unused: list[str]
    """Further columns of the training file, which a file to predict may have or not."""
    missing: list[str]
    """What stands for a missing value."""
    header: bool
    separator: str

    @property
    def numeric(self) -> list[Column]:
        """Numbers, booleans and dates."""
        return [column for column in self.columns if column.vocabulary is None]

    @property
    def categorical(self) -> list[Column]:
        """Categories, in the order of their codes."""
        return [column for column in self.columns if column.vocabulary is not None]

    @property
    def n_numbers(self) -> int:
        """Columns of the raw matrix before the codes."""
        return sum(len(column.raw_names) for column in self.numeric)

    @property
    def sizes(self) -> list[int]:
        """Number of codes of each category, 0 for unknown included."""
        return [len(column.vocabulary or []) + 1 for column in self.categorical]

    @property
    def raw_names(self) -> list[str]:
        """Names of the raw matrix's columns."""
        return [name for column in (*self.numeric, *self.categorical) for name in column.raw_names]

    def words(self, raw: np.ndarray) -> list[float | str]:
        """A row of the raw matrix for a person: codes as the words that they stand for, nothing where it is missing."""
        numbers = ["" if np.isnan(value) else value for value in raw[: self.n_numbers].tolist()]
        codes = raw[self.n_numbers :].astype(int).tolist()
        known = [[UNKNOWN, *column.vocabulary] for column in self.categorical if column.vocabulary]
        return [*numbers, *(words[code] or "" for words, code in zip(known, codes, strict=True))]

    def plain(self) -> dict[str, Any]:
        """Plain types, for a checkpoint or JSON."""
        return vars(self) | {"columns": [vars(column) for column in self.columns]}

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> Schema:
        """From what `plain` gave."""
        return cls(**{**values, "columns": [Column(**column) for column in values["columns"]]})

    @classmethod
    def of_numbers(cls, names: Sequence[str]) -> Schema:
        """Of a table that holds nothing but numbers."""
        return cls([Column(name, "number") for name in names], None, [], [""], True, "auto")

    def mismatches(self, names: Sequence[str]) -> list[str]:
        """What a file with columns of these names lacks or has too much, one sentence each; their order is free."""
        lacking = [f"column '{column.name}' is missing" for column in self.columns if column.name not in names]
        known = {column.name for column in self.columns} | {*self.unused, self.target}
        return lacking + [
            f"column '{name}' is not one that the network was trained with" for name in names if name not in known
        ]

    def encode(self, table: Any, first_row: int = 1) -> np.ndarray:
        """The raw matrix, float64 of shape (rows, n_numbers + categories): NaN where a number is missing, then codes.

        Args:
            table: rows from a TableReader, with any further columns.
            first_row: number of the first row, for messages.

        Raises:
            SettingError: one line for each column that is missing or holds what its kind does not allow.
        """
        from mlplab.data import kinds

        problems = [line for line in self.mismatches(table.column_names) if line.endswith("is missing")]
        raw = np.empty((table.num_rows, len(self.raw_names)))
        at = 0
        for column in (*self.numeric, *self.categorical):
            width = len(column.raw_names)
            if column.name in table.column_names:
                values = table.column(column.name)
                found: Any
                if column.vocabulary is not None:
                    found = kinds.codes(values, self.missing, column.vocabulary)
                elif column.kind == "boolean":
                    found = kinds.booleans(values, self.missing)
                elif column.kind == "date":
                    found = kinds.dates(values, self.missing, column.form)
                else:
                    found = kinds.numbers(values, self.missing)
                if isinstance(found, kinds.Wrong):
                    problems.append(not_this_kind(column.name, column.kind, found, first_row))
                else:
                    raw[:, at : at + width] = found.reshape(len(raw), width)
            at += width
        if problems:
            raise SettingError("\n".join(problems))
        return raw


def not_this_kind(name: str, kind: str, wrong: Any, first_row: int = 1) -> str:
    """What to say of a value that is not what its column holds."""
    what = {"boolean": "yes or no", "date": "a date"}.get(kind, "a finite number")
    more = f" ({wrong.count - 1} more like it)" if wrong.count > 1 else ""
    return f"row {wrong.row + first_row - 1}, column '{name}' is '{wrong.value[:60]}', not {what}{more}"
