"""A run's row of TensorBoard's HPARAMS tab: which settings it shows, and which scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlplab.reports.events import EventFile
from mlplab.runs import RunFolder, write_atomic

Row = dict[str, bool | int | float | str]

SHORT = ("data", "model.hidden", "optimizer", "optimizer.lr", "seed")
"""Settings that the row of a run alone has beside its overrides."""
BEFORE_ALL = "events.out.tfevents.0000000000.row"
"""TensorBoard reads the files of a folder by name and believes the first row that it meets."""


def row_of(folder: Path, settings: Mapping[str, Any]) -> Row:
    """The settings that a run's row shows: those that its sweep varies, or a short list and its own overrides.

    Args:
        folder: the run folder; a sweep's launcher leaves the row there.
        settings: the run's settings, nested.
    """
    paths = RunFolder(folder)
    import yaml

    given: list[str] = []
    try:
        if paths.swept.is_file():
            return dict(json.loads(paths.swept.read_text()))
        if paths.overrides.is_file():
            given = [str(text) for text in yaml.safe_load(paths.overrides.read_text()) or []]
    except (ValueError, TypeError, yaml.YAMLError):  # damaged: no reason not to train on, the row is shorter
        given = []
    return row(settings, SHORT) | row(settings, [key_of(text) for text in given], given)


def row(settings: Mapping[str, Any], keys: Iterable[str], overrides: Iterable[str] = ()) -> Row:
    """Values of some settings (`optimizer.lr`) and groups (`optimizer`); what is no setting, from its override."""
    texts = {key_of(text): text.partition("=")[2] for text in overrides}
    found: Row = {}
    for key in keys:
        value = value_of(settings, key)
        if value is None:
            value = texts.get(key)
        if value is not None:
            found[key] = value
    return found


def key_of(override: str) -> str:
    """`optimizer.lr` of `+optimizer.lr=0.1`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def value_of(settings: Mapping[str, Any], key: str) -> bool | int | float | str | None:
    """A setting's value, a group's option, or None where the run has no such setting; lists as text."""
    node: Any = settings
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    if isinstance(node, Mapping):
        chosen = [name for name, value in node.items() if value is not None]
        node = node.get("name") or ("none" if not chosen else chosen[0] if len(chosen) == 1 else chosen)
    if isinstance(node, list | tuple):
        return f"[{','.join(map(str, node))}]"
    return node if isinstance(node, bool | int | float | str) else None


def final(metrics: Mapping[str, Mapping[str, float]], objectives: Iterable[str]) -> dict[str, float]:
    """The scores in a run's row: loss and what is searched for, else accuracy.

    Five, for the tab shows no more at first, and `best/` comes before all other scalars, for it goes by the alphabet.

    Args:
        metrics: part -> name -> value, of the best epoch.
        objectives: the run's objectives, such as `val/f1`.
    """
    names = [name.partition("/")[2] for name in objectives]  # a cost has no part and so no name here
    chosen = next((name for name in names if name and name != "loss"), "accuracy")
    wanted = {"train": (chosen,), "val": (chosen, "loss"), "test": (chosen, "loss")}
    return {
        f"best/{part}_{name}": metrics[part][name]
        for part, of_part in wanted.items()
        for name in of_part
        if name in metrics.get(part, {})
    }


def add_columns(folder: Path, keys: Iterable[str]) -> None:
    """Show more settings in the row of a finished job, whose sweep has since been widened by them."""
    paths = RunFolder(folder)
    settings = json.loads(paths.result.read_bytes()).get("settings", {})
    old = json.loads(paths.swept.read_text()) if paths.swept.is_file() else {}
    new = old | row(settings, [key for key in keys if key not in old])
    if new == old:
        return
    write_atomic(paths.swept, json.dumps(new).encode())
    if any(folder.glob("events.out.tfevents.*")):
        (folder / BEFORE_ALL).unlink(missing_ok=True)
        with EventFile(folder, BEFORE_ALL) as file:
            file.add_hparams(new, {})
