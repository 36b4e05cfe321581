"""What TensorBoard's HPARAMS tab shows of a sweep: the settings that it varies, the same ones in every job's row."""

from __future__ import annotations

import json
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.mlplab_launcher._planned import Planned
from mlplab.ledger import Ledger
from mlplab.reports import hparams
from mlplab.runs import RunFolder, finished, write_atomic


def swept(config: Any) -> list[str]:
    """Names of the settings that a sweep's command varies."""
    given = [str(text) for text in config.hydra.overrides.task]
    given += [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides(given)
    return list(dict.fromkeys(hparams.key_of(str(o.input_line)) for o in parsed if o.is_sweep_override()))


def columns(config: Any, ledger: Ledger) -> list[str]:
    """The settings that all rows of a sweep's folder show: those varied now, after those varied by earlier commands.

    Rows of earlier jobs are widened by what is new.
    """
    launches = {entry.launch: ledger.sweep / entry.folder for entry in ledger.entries.values()}
    before: dict[str, None] = {}
    for folder in launches.values():
        if (path := RunFolder(folder).swept).is_file():
            before |= dict.fromkeys(json.loads(path.read_text()))
    new = [key for key in swept(config) if key not in before]
    if new and launches:
        for entry in ledger.entries.values():
            if finished(folder := ledger.sweep / entry.folder, pruned=True):
                hparams.add_columns(folder, new)
    return [*before, *new]


def write(job: Planned, keys: list[str]) -> None:
    """Leave a job its row; its folder has its .hydra files."""
    if keys:
        values = hparams.row(job.values, keys, job.overrides)
        write_atomic(RunFolder(job.folder).swept, json.dumps(values).encode())
