"""Classes and probabilities of new rows, a chunk at a time, as CSV."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from mlplab.config import SettingError
from mlplab.config.messages import nearest
from mlplab.config.tools import Predict
from mlplab.data.folder import SHOWN, SUFFIXES, decode
from mlplab.data.images import shape_of
from mlplab.data.reading import Form, TableReader
from mlplab.data.schema import Schema
from mlplab.reports.cells import csv_bytes
from mlplab.restore import Restored, restore
from mlplab.runs import written_whole
from mlplab.training.evaluation import ROWS_AT_ONCE

CHUNK = 2 * ROWS_AT_ONCE
"""Rows of a table that are in work at a time."""
FILES = 256
"""Images that are in work at a time."""
PREDICTED = "predicted"

In, Out = TypeVar("In"), TypeVar("Out")


@dataclass
class Predicted:
    """What a prediction came to."""

    file: Path
    rows: int = 0
    seconds: float = 0.0
    left_out: list[str] = field(default_factory=list)
    """Image files that could not be read, and why."""


@dataclass(frozen=True)
class Chunk:
    """Some rows of the output."""

    content: bytes
    rows: int
    left_out: list[str]


def predict(chosen: Predict) -> Predicted:
    """Write the output file, or nothing.

    Raises:
        SettingError: the run or the input cannot be read, or the input is not what the run was trained on.
    """
    started = time.perf_counter()
    output = Path(chosen.output)
    _check_output(output, chosen)
    run = restore(Path(chosen.run))
    chunks, total = _of_images(run, chosen) if run.schema is None else _of_table(run, run.schema, chosen)
    told = Predicted(output)
    with _one_thread_each(), written_whole(output) as file, _progress(total) as advance:
        for chunk in chunks:
            file.write(chunk.content)
            told.rows += chunk.rows
            told.left_out += chunk.left_out
            advance(told.rows)
        if told.left_out and chosen.on_bad_file == "error":
            shown = "".join(f"\n  {line}" for line in told.left_out[:SHOWN])
            more = f"\n  and {len(told.left_out) - SHOWN} more" if len(told.left_out) > SHOWN else ""
            raise SettingError(
                f"input={chosen.input}: {len(told.left_out)} files cannot be read as images:{shown}{more}\n"
                "Mend or remove them, or leave them out with on_bad_file=skip"
            )
    told.seconds = time.perf_counter() - started
    return told


def _check_output(output: Path, chosen: Predict) -> None:
    if output.suffix != ".csv":
        raise SettingError(f"output={output} must end in .csv")
    if output.is_dir() or (output.exists() and not chosen.overwrite):
        raise SettingError(f"output={output} exists; use overwrite=true, or choose another file")
    if output.exists() and output.samefile(chosen.input):
        raise SettingError(f"output={output} is the input; choose another file")


def _of_table(run: Restored, schema: Schema, chosen: Predict) -> tuple[Iterator[Chunk], int | None]:
    import pyarrow as pa

    reader = TableReader(Path(chosen.input), Form(schema.header, schema.separator))
    names = _names(reader, schema)
    kept, problems = _kept(names, schema, chosen)
    numbers = [c.name for c in schema.columns if c.kind == "number" and c.name not in kept]

    def numbered() -> Iterator[tuple[pa.Table, int]]:
        row = 1
        for table in reader.chunks(CHUNK, numbers, schema.missing):
            yield table.rename_columns(names), row
            row += table.num_rows

    def work(item: tuple[pa.Table, int]) -> Chunk:
        table, first = item
        found: list[str] = []
        try:
            raw = schema.encode(table, first)
            found = _gaps(raw, run, schema, first)
        except SettingError as error:
            found = str(error).splitlines()
        except pa.ArrowException as error:
            found = [str(error).splitlines()[0][:200]]
        if found or problems:
            lines = "".join(f"\n  {line}" for line in dict.fromkeys([*found, *problems]))
            raise SettingError(f"{chosen.input} does not fit run={chosen.run}:{lines}")
        columns = [(name, table.column(name)) for name in kept]
        return _chunk(run, columns, torch.from_numpy(raw), header=first == 1)

    def chunks() -> Iterator[Chunk]:
        for chunk in _in_order(work, numbered()):
            yield chunk
        ...

    return chunks(), None
