"""Starts a run, kills it at a moment, and says whether two run folders hold the same training."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from scripts.command import ROOT

from mlplab.training import checkpoints

TIMES = ("seconds", "samples_per_second", "command", "crc32")
"""What may differ between a run and its like: times, the words it was started with, and the checksum of all."""


def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """`python src/train.py <arguments>`, not waited for."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "MLPLAB_PLAIN", "PYTHON", "COV"))}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "train.py"), *arguments],
        cwd=cwd,
        env=env | {"OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.005)


def kill_during(
    *arguments: str, cwd: Path, file: str, after: float, signum: int = signal.SIGKILL
) -> tuple[int, str, float]:
    """Start a run, send a signal so many seconds after a file has appeared; (exit status, screen, seconds to end)."""
    process = start(*arguments, cwd=cwd)
    wait_for(cwd / file, process)
    time.sleep(after)
    sent = time.monotonic()
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    return process.returncode, out + err, time.monotonic() - sent


def table(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without its times."""
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _same(a: Any, b: Any, but: tuple[str, ...]) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k], but) for k in a if k not in but)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y, but) for x, y in zip(a, b, strict=True))
    return bool(a == b or (a != a and b != b))


def assert_same_training(folder: Path, like: Path, but: tuple[str, ...] = ()) -> None:
    """Checkpoints bitwise, metrics.csv and result.json but for the times, and for what `but` names."""
    but = (*but, "seconds", "events", "command")
    for name in ("best", "last"):
        a, b = (checkpoints.load(f / "checkpoints" / f"{name}.ckpt") for f in (folder, like))
        assert _same(a, b, but), f"{name}.ckpt differs in {[k for k in a if not _same(a[k], b[k], but)]}"
    assert table(folder) == table(like)
    a, b = (json.loads((f / "result.json").read_text()) for f in (folder, like))
    assert {k: v for k, v in a.items() if k not in TIMES} == {k: v for k, v in b.items() if k not in TIMES}
    assert list(folder.rglob("*.part")) == []
