"""What was understood of a table file, on the screen before the training begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

SHOWN = 12
"""Columns, or classes, that one line names at most."""


def show(told: Mapping[str, Any]) -> None:
    """Print what data.json holds in a few lines."""
    from rich.console import Console

    console = Console()
    for line in lines(told):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def lines(told: Mapping[str, Any]) -> list[str]:
    """One line each for rows, each kind of columns, gaps, what is left out, classes, and each note."""
    rows = ", ".join(f"{n} {part}" for part, n in told["rows"].items())
    files = told["path"] + (f" and {told['test_path']}" if told["test_path"] else "")
    found = [f"{files}: {sum(told['rows'].values())} rows ({rows}), {told['features']} features"]
    kinds: dict[str, list[str]] = defaultdict(list)
    gaps: list[str] = []
    for column in told["columns"]:
        values = f" ({column['values']})" if "values" in column else ""
        kinds[column["kind"]].append(column["name"] + values)
        if column["missing"]:
            gaps.append(f"{column['name']} {column['missing']:.1%}")
    found += [f"  {len(names)} {kind}: {_some(names)}" for kind, names in kinds.items()]
    if gaps:
        found.append(f"  missing: {_some(gaps)}")
    if told["dropped"]:
        found.append(f"  left out: {_some([f'{name} ({why})' for name, why in told['dropped'].items()])}")
    classes = [f"{name} {sum(counts.values())}" for name, counts in told["classes"].items()]
    found.append(f"  classes of {told['target']}: {_some(classes)}")
    return found + [f"  note: {note}" for note in told["notes"]]


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
