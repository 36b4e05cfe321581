"""compare.py on 1000 runs against the least that it could take: parsing their JSON files and importing pandas.

`python benchmarks/compare.py`: a sweep of 1000 small jobs is trained, then both are taken in turns as processes of
their own, n times each. `table` is the time until the ranked table and the verdict are on the screen, `all` until CSV,
Markdown, pictures and the page are written too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measure

TARGET = 3.0
"""`all` may take so many times the bare script; the table alone about as long as it."""
BARE = "import json, pathlib, pandas; [json.loads(p.read_bytes()) for p in pathlib.Path('s').glob('*/result.json')]"
GRID = (
    *("seed=range(0,50)", "optimizer.lr=0.1,0.03,0.01,0.003,0.001", "regularization=l2"),
    "regularization.l2.strength=0,0.001,0.01,0.1",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/compare.json")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small = ("data=wine", "model.hidden=16", "trainer.max_epochs=10", "logger=csv")
        measure.process(measure.TRAIN, "-m", *small, *GRID, "hydra.sweep.dir=s", folder=folder)
        script = measure.TRAIN.with_name("compare.py")
        seconds = measure.interleave(
            {
                "bare": lambda: measure.process("-c", BARE, folder=folder),
                "table": lambda: until_told(script, folder),
                "all": lambda: measure.process(script, "runs=s", folder=folder),
            },
            given.repeats,
        )
    middle = {name: statistics.median(of) for name, of in seconds.items()}
    ratios = {name: measure.ratio(seconds[name], seconds["bare"]) for name in ("table", "all")}
    found = {
        "compare_1000_runs_table": measure.claim(
            "table of 1000 runs", ratios["table"], 1.5, True, given.repeats, bare=middle["bare"], table=middle["table"]
        ),
        "compare_1000_runs_all": measure.claim(
            "all of 1000 runs", ratios["all"], TARGET, True, given.repeats, bare=middle["bare"], all=middle["all"]
        ),
    }
    if given.save:
        measure.record(measure.BENCHMARKS / "compare.json", found)


def until_told(script: Path, folder: Path) -> float:
    """Seconds until the verdict below the table is printed."""
    started = time.perf_counter()
    line = [sys.executable, str(script), "runs=s"]
    with subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = next(text for text in process.stdout if text.startswith("Best by"))
        seconds = time.perf_counter() - started
        process.stdout.read()
    assert "val/accuracy" in told
    return seconds


if __name__ == "__main__":
    main()
