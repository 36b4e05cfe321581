"""Classes and probabilities of new rows, a chunk at a time, as CSV."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mlplab.config import SettingError
from mlplab.config.messages import nearest
from mlplab.config.tools import Predict
from mlplab.data.folder import SHOWN, SUFFIXES, decode
from mlplab.data.images import shape_of
from mlplab.data.reading import Form, TableReader
from mlplab.data.schema import Schema
from mlplab.reports.cells import lines
from mlplab.restore import Restored, restore
from mlplab.runs import written_whole
from mlplab.training.evaluation import ROWS_AT_ONCE

CHUNK = 2 * ROWS_AT_ONCE
"""Rows of a table that are in work at a time."""
FILES = 256
"""Images that are in work at a time."""
PROBLEMS = 20
"""Mistakes of an input that a message names."""
PREDICTED = "predicted"

In = TypeVar("In")
Out = TypeVar("Out")


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
    if not Path(chosen.input).exists():
        raise SettingError(f"input={chosen.input} does not exist")
    run = restore(Path(chosen.run), chosen.allow_targets)
    chunks, share = _of_images(run, chosen) if run.schema is None else _of_table(run, run.schema, chosen)
    told = Predicted(output)
    with _one_thread_each(), written_whole(output) as file, _progress(share) as advance:
        for chunk in chunks:
            file.write(chunk.content)
            told.rows += chunk.rows
            told.left_out += chunk.left_out
            advance(told.rows)
        if not told.rows and not told.left_out:
            raise SettingError(f"input={chosen.input} holds no row")
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
    if output.is_dir() or (output.exists() and not chosen.overwrite):
        raise SettingError(f"output={output} exists; use overwrite=true, or choose another file")
    if output.exists() and output.samefile(chosen.input):
        raise SettingError(f"output={output} is the input; choose another file")


def _of_table(run: Restored, schema: Schema, chosen: Predict) -> tuple[Iterator[Chunk], Callable[[], float]]:
    reader = TableReader(Path(chosen.input), Form(schema.header, schema.separator), least_columns=1)
    names = _names(reader.names, schema)
    kept = _kept(names, schema, chosen)
    if taken := [name for name in kept if name in _told_names(run)]:
        raise SettingError(f"keep: the column '{taken[0]}' of {chosen.input} has the name of one that predict writes")
    surplus = [] if chosen.keep == "all" else _surplus(names, kept, schema)
    as_text = set(kept) & {column.name for column in schema.columns}  # copied as they are written
    numbers = [c.name for c in schema.columns if c.kind == "number" and c.name not in as_text]
    of_reader = dict(zip(names, reader.names, strict=True))

    def numbered() -> Iterator[tuple[Any, int]]:
        row = 1
        wanted = [of_reader[name] for name in numbers if name in of_reader]
        for table in reader.chunks(CHUNK, wanted, schema.missing):
            yield table.rename_columns(names), row
            row += table.num_rows

    def work(item: tuple[Any, int]) -> Chunk:
        table, first = item
        try:
            raw = schema.encode(table, first)
        except SettingError as error:
            raise _misfit(chosen, [*str(error).splitlines(), *surplus]) from None
        if surplus:
            raise _misfit(chosen, surplus)
        columns = [table.column(name) for name in kept]
        return _told(run, kept, columns, torch.from_numpy(raw), header=first == 1)

    return _in_order(work, numbered()), reader.share_read


def _misfit(chosen: Predict, problems: list[str]) -> SettingError:
    told = "".join(f"\n  {line}" for line in problems[:PROBLEMS])
    more = f"\n  and {len(problems) - PROBLEMS} more" if len(problems) > PROBLEMS else ""
    return SettingError(f"input={chosen.input} does not fit run={chosen.run}:{told}{more}")


def _names(names: list[str], schema: Schema) -> list[str]:
    """Names of the input's columns. Without a header they are c0, c1 ...; a label that is left out is jumped."""
    if schema.header or schema.target is None:
        return names
    full = [f"c{i}" for i in range(len(schema.columns) + len(schema.unused) + 1)]
    return [name for name in full if name != schema.target] if len(names) == len(full) - 1 else names


def _kept(names: list[str], schema: Schema, chosen: Predict) -> list[str]:
    used = {column.name for column in schema.columns}
    if chosen.keep == "auto":
        kept = [name for name in names if name in schema.unused]
    elif chosen.keep == "all":
        kept = [name for name in names if name not in used]
    else:
        kept = chosen.keep
        for name in kept:
            if name not in names:
                raise SettingError(f"keep: {chosen.input} has no column '{name}'.{nearest(name, names)}")
    return kept


def _surplus(names: list[str], kept: list[str], schema: Schema) -> list[str]:
    unknown = [line for line in schema.mismatches(names) if not line.endswith("is missing")]
    return [f"{line}; keep=all copies it" for line in unknown if not any(f"'{name}'" in line for name in kept)]


def _of_images(run: Restored, chosen: Predict) -> tuple[Iterator[Chunk], Callable[[], float]]:
    root = Path(chosen.input)
    if not root.is_dir():
        raise SettingError(f"input={root} is not a folder; a run of images takes a folder of .png and .jpg files")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise SettingError(f"input={root} holds no {', '.join(SUFFIXES)} file")
    channels, height, width = shape_of(run.feature_names)
    color = "grey" if channels == 1 else "rgb"
    done = 0

    def work(block: list[Path]) -> Chunk:
        nonlocal done
        decoded = [decode(path, (height, width), color) for path in block]
        names = [path.relative_to(root).as_posix() for path in block]
        bad = [f"{name}: {why}" for name, why in zip(names, decoded, strict=True) if isinstance(why, str)]
        good = [image for image in decoded if not isinstance(image, str)]
        told = [name for name, image in zip(names, decoded, strict=True) if not isinstance(image, str)]
        x = torch.from_numpy(np.stack(good) if good else np.zeros((0, channels, height, width), np.uint8))
        done += len(block)
        return _told(run, ["file"], [pa.array(told, pa.string())], x, header=block[0] is files[0], left_out=bad)

    blocks = [files[i : i + FILES] for i in range(0, len(files), FILES)]
    return _in_order(work, blocks), lambda: done / len(files)


def _told(
    run: Restored, kept: list[str], columns: list[Any], raw: Tensor, header: bool, left_out: Sequence[str] = ()
) -> Chunk:
    probs = run.probabilities(raw) if len(raw) else torch.zeros(0, len(run.class_names))
    names = [*kept, *_told_names(run)]
    classes = pa.array(run.class_names).take(pa.array(probs.argmax(1).numpy()))
    content = lines(names, [*columns, classes, *(pa.array(p.numpy()) for p in probs.T)], header)
    return Chunk(content, len(raw), list(left_out))


def _told_names(run: Restored) -> list[str]:
    return [PREDICTED, *(f"p({name})" for name in run.class_names)]


def _in_order(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """Results of several threads in the order of the items, of which a few are in work at a time."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """The threads of `_in_order` share the processors: none of them takes further ones for its matrices."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(share: Callable[[], float]) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    text = TextColumn("{task.fields[rows]:,} rows")
    with Progress(BarColumn(), TimeRemainingColumn(), text, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0, rows=0)
        yield lambda rows: bar.update(task, completed=share(), rows=rows)
