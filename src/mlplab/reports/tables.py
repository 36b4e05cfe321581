"""Tables on the screen and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from mlplab.runs import write_atomic


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], words: int = 1) -> None:
    """Print a table; numbers with four decimals, nothing for None.

    Args:
        words: so many columns, the first ones, are words and stand to the left.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for i, name in enumerate(header):
        is_word = i < words
        widest = max(len(word) for word in name.split())
        justify: Literal["left", "right"] = "left" if is_word else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=is_word and i < 2, min_width=widest)
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    Console().print(table, markup=False)


def _text(value: object) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"
    return "" if value is None else escape(str(value))


_WHITE, _DIGITS = r"[\t\n\v\f\r ]*", "[0-9]+"  # spelt out: Python's \s and \d mean more than Arrow's
FORMULA = rf"^{_WHITE}[=+\-@]"
NUMBER = rf"^{_WHITE}[+\-]?({_DIGITS}\.?[0-9]*|\.{_DIGITS})([eE][+\-]?{_DIGITS})?{_WHITE}$"


def text_cell(text: str) -> str:
    """A text that a spreadsheet shows and does not execute: one that begins with =, +, - or @ gets a ' in front.

    Numbers stay as they are: -1 is harmless.
    """
    return f"'{text}" if re.search(FORMULA, text) and not re.search(NUMBER, text) else text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, floats in full, with no cell that a spreadsheet would take for a formula."""
    buffer = io.StringIO()
    table = csv.writer(buffer)
    for row in (header, *rows):
        table.writerow([text_cell(value) if isinstance(value, str) else value for value in row])
    write_atomic(path, buffer.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, each by its header's names."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_numbers(path: Path, name: str) -> list[float] | None:
    """A column of a CSV file, NaN where a cell is empty; None where the file is damaged or has no such column."""
    try:
        return [float(row[name] or "nan") for row in read_csv(path)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
