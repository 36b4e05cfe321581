"""The run folder, the record of a run: its paths, result.json, and files that are never half written."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import pydantic_core

from mlplab.config.base import SettingError


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def best(self) -> Path:
        """Weights of the best epoch with all that evaluate, predict and export need."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """State of the training after its last epoch, to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def result(self) -> Path:
        """What the run came to, as JSON."""
        return self.path / "result.json"

    @property
    def data(self) -> Path:
        """What was understood of a table file, as JSON."""
        return self.path / "data.json"

    @property
    def overrides(self) -> Path:
        """The settings that the run was started with, as Hydra writes them."""
        return self.path / ".hydra" / "overrides.yaml"

    @property
    def swept(self) -> Path:
        """The settings that the run's sweep varies, with its own values, as JSON."""
        return self.path / ".hydra" / "swept.json"

    @property
    def metrics(self) -> Path:
        """One row an epoch, as CSV."""
        return self.path / "metrics.csv"

    @property
    def figures(self) -> Path:
        """Pictures of the finished run."""
        return self.path / "figures"

    @property
    def first_step(self) -> Path:
        """Every number of the first step, with trainer.show_first_step=true, as CSV."""
        return self.path / "first_step.csv"

    @property
    def portfolio(self) -> Path:
        """The settings that a portfolio tried, with their scores and weights, as CSV."""
        return self.path / "portfolio.csv"

    @property
    def misclassified(self) -> Path:
        """The test rows that were told wrongly, with their probabilities, as CSV."""
        return self.path / "misclassified.csv"


@dataclass(frozen=True)
class Result:
    """A run's result.json."""

    folder: Path
    values: dict[str, Any]

    @property
    def status(self) -> str:
        """completed, diverged, failed, interrupted, or pruned: stopped early by a search."""
        return str(self.values["status"])

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Part -> name -> value, such as metrics["test"]["accuracy"]."""
        return dict(self.values["metrics"])

    @property
    def objective(self) -> Any:
        """What a search looks at: a number, or one for each of several objectives; NaN if the run failed."""
        value = self.values.get("objective")
        return math.nan if value is None and self.status in ("diverged", "failed") else value

    def unfinished(self) -> RuntimeError | None:
        """What to raise of a run that did not complete, such as one that diverged."""
        if self.status in ("completed", "pruned"):
            return None
        return RuntimeError(f"{self.status}: {(self.values.get('failure') or {}).get('message', 'no reason given')}")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(OSError):
    """There is no room to write: the disk is full, or a quota or limit is reached."""


_flush_each: ContextVar[bool] = ContextVar("flush_each", default=True)


@contextlib.contextmanager
def flushed_together() -> Iterator[None]:
    """Put the files written inside on disk all at once at the end: one flush for a hundred runs, not one a file.

    A kill still never leaves half a file; a power cut in between may lose files of this block, never older ones.
    """
    token = _flush_each.set(False)
    try:
        yield
    finally:
        _flush_each.reset(token)
        os.sync()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, never half of one."""
    with written_whole(path) as file:
        file.write(content)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that gets its name when all is written; after an error nothing of it is left."""
    # of this process and thread alone; what a killed one left under the same name is written over
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        file = temporary.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    try:
        with file:
            yield file
            if _flush_each.get():
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_inside(folder: Path) -> None:
    """Refuse a run folder from which a link leads out: it may be a stranger's, and a run writes into it.

    Raises:
        SettingError: a file or folder in it is a link to somewhere else.
    """
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and root not in path.resolve().parents:
            raise SettingError(f"{path} is a link that leads out of {folder}; replace it by what it leads to")


def remove_torn(folder: Path) -> None:
    """Remove what a killed `write_atomic` left beside the files of a run folder."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def write_result(folder: Path, values: Mapping[str, Any]) -> Result:
    """Write result.json, with a checksum of what it says; JSON has no NaN: it becomes null."""
    plain = pydantic_core.from_json(pydantic_core.to_json(values, inf_nan_mode="null"))
    content = pydantic_core.to_json({**plain, CHECKSUM: _checksum(plain)}, indent=2)
    write_atomic(RunFolder(folder).result, content + b"\n")
    return Result(folder, plain)


CHECKSUM = "crc32"
"""Key of result.json: the CRC-32 of everything else in it, as JSON with sorted keys."""


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def write_data(folder: Path, told: Mapping[str, Any] | None) -> None:
    """Write data.json, if there is anything to tell."""
    if told is not None:
        write_atomic(RunFolder(folder).data, (json.dumps(told, indent=2) + "\n").encode())


def read_result(folder: Path) -> Result:
    """Read result.json.

    Raises:
        SettingError: there is none, or it is damaged.
    """
    path = RunFolder(folder).result
    if not path.is_file():
        raise SettingError(f"{folder} holds no result.json; is it a run folder, and has its run ended?")
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict) or not isinstance(values.get("status"), str):
            raise ValueError("it names no status")
        parts = values.get("metrics", {})
        if not isinstance(parts, dict) or not all(isinstance(of_part, dict) for of_part in parts.values()):
            raise ValueError("its metrics are none")
        if values.pop(CHECKSUM, None) not in (None, _checksum(values)):
            raise ValueError("it has changed since it was written")
        return Result(folder, values)
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"{path} is damaged ({error}); python src/train.py resume={folder} writes it anew, and evaluate scores the "
            "run without it"
        ) from None


def finished(folder: Path, pruned: bool = False) -> Result | None:
    """The result of a run that came to an end of its own; None where it failed, was interrupted or never was.

    Args:
        pruned: count one that a search has stopped early.
    """
    try:
        result = read_result(folder)
        return result if result.status in ("completed", "diverged", *(["pruned"] if pruned else [])) else None
    except SettingError:
        return None


def discard_if_empty(folder: Path) -> None:
    """Remove a run's or sweep's folder in which nothing but the composed config was written."""
    composed = (".hydra", "multirun.yaml", ".lock")
    if folder.is_dir() and all(p.name in composed or p.suffix == ".log" for p in folder.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # its parent, outputs/<name>, unless it holds other runs
            folder.parent.rmdir()


PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "scikit-learn", "tensorboard")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """Commit of the code that runs, with `-dirty` where files were changed since; None outside a repository."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip()
