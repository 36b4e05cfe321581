"""Runs read back for a comparison, from their result.json alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlplab.config.base import SettingError
from mlplab.runs import read_result

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Settings that repeat an experiment instead of changing it."""


INSIDE = (".hydra", "checkpoints", "figures")
"""Folders of a run, in which no other runs are."""


class ComparisonError(ValueError):
    """There is nothing to compare, or not by what was asked for."""


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        settings: name of the setting -> value, flat (`optimizer.lr`); of a group its option (`optimizer`).
    """

    folder: Path
    values: Mapping[str, Any]
    settings: Mapping[str, Any]

    def score(self, metric: str) -> float:
        """A metric such as `val/accuracy`; NaN where the run has none."""
        part, _, name = metric.partition("/")
        value = self.values.get("metrics", {}).get(part, {}).get(name)
        return math.nan if value is None else float(value)

    @property
    def repeat(self) -> tuple[Any, ...]:
        """What tells it from other runs of the same settings."""
        return tuple(self.settings.get(name) for name in REPEATS)


@dataclass(frozen=True)
class Missing:
    """A run that came to no score, and why."""

    folder: Path
    status: str
    reason: str


def find(places: Iterable[Path]) -> tuple[list[Run], list[Missing]]:
    """Read every run at or below the given folders.

    Raises:
        ComparisonError: a folder does not exist or holds no runs.
    """
    runs: list[Run] = []
    missing: list[Missing] = []
    for place in places:
        if not place.is_dir():
            raise ComparisonError(f"{place} does not exist or is not a folder")
        folders = sorted(_run_folders(place), key=_natural)
        if not folders:
            raise ComparisonError(f"{place} holds no runs: no result.json in it or below it")
        for folder in folders:
            found = _read(folder)
            (runs if isinstance(found, Run) else missing).append(found)  # type: ignore[arg-type]
    return runs, missing


def _run_folders(place: Path) -> set[Path]:
    """Folders with a result, and those where a run was begun; a sweep's own folder is none of them."""
    found, started, above = set(), set(), set()
    for folder, inside, files in os.walk(place):
        if "result.json" in files:
            found.add(folder)
            while (folder := folder.rpartition(os.sep)[0]) and folder not in above:
                above.add(folder)
        elif ".hydra" in inside:
            started.add(folder)
        inside[:] = [name for name in inside if name not in INSIDE]
    return {Path(folder) for folder in found | (started - above)}


def _natural(folder: Path) -> tuple[Any, ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in folder.parts)


def _read(folder: Path) -> Run | Missing:
    path = folder / "result.json"
    if not path.is_file():
        return Missing(folder, "missing", "no result.json: killed, or still running")
    try:
        values = read_result(folder).values
        status = values["status"]
    except SettingError as error:
        return Missing(folder, "damaged", str(error).removeprefix(f"{folder}/"))
    if status == "pruned":
        return Missing(folder, status, _stopped(values))
    if status not in ("completed", "diverged"):
        return Missing(folder, status, (values.get("failure") or {}).get("message", "no reason given"))
    if status == "diverged":
        return Missing(folder, status, (values.get("failure") or {}).get("message", "the loss left the numbers"))
    if "settings" not in values:
        return Missing(folder, "unknown", "result.json names no settings: written by an older mlplab")
    return Run(folder, values, dict(_flat(values["settings"])))


def _stopped(values: Mapping[str, Any]) -> str:
    rungs = values.get("rungs") or {}
    score = f" with {list(rungs.values())[-1]:.4f}" if rungs else ""
    return f"stopped by its search after {values.get('epochs')} epochs{score}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            if value:
                yield from _flat(value, f"{prefix}{name}.")
        elif name == "name" and prefix:
            yield prefix.rstrip("."), value
        else:
            yield prefix + name, tuple(map(str, value)) if isinstance(value, list) else value
