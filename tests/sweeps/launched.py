"""Small sweeps by the script, and what is in the folder of a job."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mlplab.runs import read_result

PLAIN = ("logger.histograms=false", "logger.figures=false", "logger.graph=false")
SMALL = ("accelerator=cpu", "model.hidden=8", "trainer.max_epochs=4")


def result(folder: Path) -> dict[str, Any]:
    return read_result(folder).values


def files(folder: Path) -> set[str]:
    """Names of all files; hosts and times of event files, the job's own log and what is the sweep's left out."""
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "swept.json"}
    return {re.sub(r"events\.out.*", "events", n) for n in names if not n.endswith(".log")}
