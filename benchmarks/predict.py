"""Rows a second of predict, from CSV to CSV, against the target and against reader and writer alone.

`python benchmarks/predict.py`: 20 numeric columns through a 64-64 MLP on at most two cores. The bound is what is left
without the network: the same chunks are read, and the same columns written. Both are taken in turns, n times each.

Found on two busy cores of an AMD EPYC: 339 000 rows/s (a million rows, median of 5), 0.64 of the bound.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import measure

TARGET = 200_000
"""Rows a second."""
COLUMNS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write benchmarks/predict.json")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), given.rows, given.repeats, given.save)


def compare(folder: Path, rows: int, repeats: int, save: bool) -> None:
    import pyarrow as pa

    from mlplab.compose import load_config
    from mlplab.config.tools import Predict
    from mlplab.experiment import run
    from mlplab.predict import CHUNK, predict
    from mlplab.reports import cells

    features = (f"data.features={COLUMNS}", "data.informative=10", "model.hidden=[64,64]")
    choices = ("data=synthetic", *features, "trainer.max_epochs=2", "logger=none", "accelerator=cpu")
    trained = run(load_config(*choices), folder / "run")
    table, told = folder / "rows.csv", folder / "told.csv"
    write_rows(table, rows)
    chosen = Predict(
        run=str(trained.folder),
        input=str(table),
        output=str(told),
        keep="auto",
        overwrite=True,
        on_bad_file="error",
        allow_targets=[],
    )
    probs = [pa.array(p) for p in chunk_of_probabilities(CHUNK)]
    classes = pa.array(["0", "1"] * (CHUNK // 2))

    def bound() -> None:
        from mlplab.data.reading import Form, TableReader

        names = [f"x{i}" for i in range(COLUMNS)]
        with (folder / "bound.csv").open("wb") as file:
            for chunk in TableReader(table, Form(True, "auto")).chunks(CHUNK, names, [""]):
                columns = [column[: chunk.num_rows] for column in (classes, *probs)]
                file.write(cells.lines(["predicted", "p(0)", "p(1)"], columns, header=False))

    predict(chosen)  # imports and caches
    sides = {"predict": lambda: measure.clock(lambda: predict(chosen)), "bound": lambda: measure.clock(bound)}
    seconds = measure.interleave(sides, repeats)
    speed = {name: rows / statistics.median(taken) for name, taken in seconds.items()}
    goal = min(TARGET, speed["bound"])
    size = table.stat().st_size / 1e6
    print(f"{rows:,} rows of {COLUMNS} columns, {size:.0f} MB, {len(os.sched_getaffinity(0))} cores")
    print(f"reader and writer alone: {speed['bound']:,.0f} rows/s; predict: {speed['predict']:,.0f} rows/s")
    share = 1 / measure.ratio(seconds["predict"], seconds["bound"])
    print(f"predict reaches {share:.2f} of the bound (median of {repeats} pairs)")
    more = {"rows_per_second": speed["predict"], "bound": speed["bound"], "share_of_bound": share}
    found = measure.claim(f"against {goal:,.0f} rows/s", speed["predict"] / goal, 1, False, repeats, **more)
    if save:
        measure.record(measure.BENCHMARKS / "predict.json", {"predict": found})


def write_rows(path: Path, rows: int) -> None:
    """Normal numbers with six decimals."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as arrow

    rng = np.random.default_rng(0)
    with arrow.CSVWriter(path, pa.schema([(f"x{i}", pa.float64()) for i in range(COLUMNS)])) as file:
        for start in range(0, rows, 100_000):
            x = rng.normal(size=(min(100_000, rows - start), COLUMNS)).round(6)
            file.write_table(pa.table({f"x{i}": x[:, i] for i in range(COLUMNS)}))


def chunk_of_probabilities(rows: int) -> list:
    """Two float32 columns that sum to one."""
    import numpy as np

    p = np.random.default_rng(1).random(rows, dtype=np.float32)
    return [1 - p, p]


if __name__ == "__main__":
    main()
