"""What the benchmarks share: interleaved timing, medians of pairwise ratios, and a record of where they ran."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
TRAIN = BENCHMARKS.parent / "src" / "train.py"
PLAIN = BENCHMARKS / "plain_wine.py"
sys.path.insert(0, str(BENCHMARKS.parent / "src"))  # mlplab, where it is not installed

Timed = Callable[[], float]


def limit_threads(n: int) -> None:
    """Give torch n threads, here and in the processes to come; 0 leaves both as they are.

    One is the default of the benchmarks, for all sides alike: handing tiny tensors from thread to thread on a machine
    that does something else too can make any of them a hundred times slower.
    """
    if n:
        import torch

        torch.set_num_threads(n)
        os.environ["OMP_NUM_THREADS"] = str(n)


def interleave(sides: dict[str, Timed], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, taken in turns: what disturbs the machine disturbs all of them alike.

    Args:
        sides: name -> function that does the work once and returns its seconds.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        order = list(sides) if turn % 2 == 0 else list(reversed(sides))
        for name in order:
            found[name].append(sides[name]())
    return found


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median of the ratios of neighbouring measurements."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def clock(work: Callable[[], Any]) -> float:
    """Wall seconds of a piece of work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def process(*command: str | Path, folder: Path) -> float:
    """Wall seconds of a Python process started in a folder."""
    line = [sys.executable, *map(str, command)]
    started = time.perf_counter()
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def machine() -> dict[str, Any]:
    """Where and with what the numbers were taken."""
    model = platform.processor() or platform.machine()
    about = Path("/proc/cpuinfo")
    if about.is_file():
        names = [line.partition(":")[2].strip() for line in about.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    packages = ("torch", "lightning", "hydra-core", "numpy", "scikit-learn", "tensorboard")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def claim(name: str, value: float, target: float, at_most: bool, n: int, **more: Any) -> dict[str, Any]:
    """One figure with its target; printed as it is found."""
    met = value <= target if at_most else value >= target
    sign = "<=" if at_most else ">="
    details = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in more.items())
    print(f"{name}: {value:.2f}x (target {sign} {target}x: {'met' if met else 'MISSED'}; n={n}; {details})", flush=True)
    return {"ratio": round(value, 3), "target": f"{sign} {target}", "met": met, "n": n, **more}


def record(path: Path, found: dict[str, Any]) -> None:
    """Write the figures with the machine, keeping those of parts that were not measured this time."""
    before = json.loads(path.read_text()) if path.is_file() else {}
    about = machine()
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    fresh = {name: value | {"machine": about} for name, value in found.items()}
    path.write_text(json.dumps(before | fresh, indent=2) + "\n")
