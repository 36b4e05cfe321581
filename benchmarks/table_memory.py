"""Claim: 1 000 000 rows x 50 columns of a CSV train within 4 GB: `python benchmarks/table_memory.py`.

Makes the file (40 numbers, 9 columns of 5 to 20 categories, a tenth of two columns missing, and the class), trains a
64-64 network on it for one epoch in a process of its own, and prints that process's largest resident memory. Takes a
minute or two and 1 GB of disk.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from measure import TRAIN, machine

LIMIT_GB = 4.0


def make(path: Path, rows: int) -> None:
    """Write the table."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": pa.array(rng.normal(size=rows)) for i in range(40)}
    for name in ("x0", "x1"):
        columns[name] = pa.array(columns[name].to_numpy(), mask=rng.random(rows) < 0.1)
    for i in range(9):
        words = np.array([f"value {j}" for j in range(5 + 15 * (i % 2))])
        columns[f"c{i}"] = pa.array(words[rng.integers(0, len(words), rows)])
    score = columns["x2"].to_numpy() + columns["x3"].to_numpy()
    columns["y"] = pa.array(np.where(score + rng.normal(size=rows) > 0, "yes", "no"))
    pyarrow.csv.write_csv(pa.table(columns), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        make(path, given.rows)
        started = time.perf_counter()
        settings = ["trainer.max_epochs=1", "data.batch_size=4096", "model.hidden=[64,64]", "accelerator=cpu"]
        command = [sys.executable, TRAIN, "data=table", f"data.path={path}", *settings]
        subprocess.run([str(part) for part in command], cwd=folder, check=True)
        seconds = time.perf_counter() - started
        size = path.stat().st_size / 1e9
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    met = "met" if used <= LIMIT_GB else "MISSED"
    print(f"{given.rows} rows x 50 columns, {size:.2f} GB of CSV: {used:.2f} GB (target <= {LIMIT_GB:g} GB: {met})")
    print(f"{seconds:.0f} s; " + ", ".join(f"{name} {value}" for name, value in machine().items()))


if __name__ == "__main__":
    main()
