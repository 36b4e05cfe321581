"""A fused sweep against its peers: `python benchmarks/fused_sweep.py [--only training] [--large]`.

Each figure is the median of neighbouring pairs taken in turns.

- process: 100 jobs of Wine as a whole process, against `hydra/launcher=basic` (measured on two smaller sweeps and
  extrapolated along a straight line: a basic sweep costs so much at its start and so much a job).
- training: the training alone against a plain PyTorch loop over networks (measured on a few), without dropout and with.
- sizes: cost of a job against the size of its group, as a table and a picture.
- stages: where the time of the whole process goes.
- one: a group of one against a run alone.
- large (with --large): 1000 jobs of breast_cancer, a job, against 50 jobs with `hydra/launcher=basic`.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from measure import BENCHMARKS, TRAIN, claim, clock, interleave, limit_threads, process, ratio, record

RATES = [0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02]
SPLIT = "data.split=[0.8,0.2]"
SIZES = (1, 4, 16, 64, 256)


def grid(jobs: int) -> list[str]:
    """Overrides of a sweep of so many jobs of Wine: learning rates x seeds."""
    rates = RATES if jobs >= 20 and jobs % 10 == 0 else RATES[:2] if jobs % 2 == 0 else RATES[:1]
    return ["-m", SPLIT, f"optimizer.lr={','.join(map(str, rates))}", f"seed=range({jobs // len(rates)})"]


def whole(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The fused sweep's process against the basic one's."""
    few, more = chosen.basic
    sides = {
        "fused": lambda: process(TRAIN, *grid(chosen.jobs), "hydra/launcher=fused", folder=scratch),
        "few": lambda: process(TRAIN, *grid(few), "hydra/launcher=basic", folder=scratch),
        "more": lambda: process(TRAIN, *grid(more), "hydra/launcher=basic", folder=scratch),
    }
    sides["fused"]()
    found = interleave(sides, chosen.process_repeats)
    a_job = [(b - a) / (more - few) for a, b in zip(found["few"], found["more"], strict=True)]
    slope = median(a_job)
    basic = [a + (chosen.jobs - few) * slope for a in found["few"]]
    seconds = median(found["fused"])
    details = {
        "jobs": chosen.jobs,
        "fused_s": seconds,
        "fused_ms_a_job": 1000 * seconds / chosen.jobs,
        "basic_s": median(basic),
        "basic_ms_a_job": 1000 * slope,
        "basic_measured_at": f"{few} and {more} jobs",
    }
    value = ratio(basic, found["fused"])
    return claim(f"{chosen.jobs} jobs, basic / fused", value, 20, False, chosen.process_repeats, **details)


def jobs_of(scratch: Path, n: int, *overrides: str) -> list[Any]:
    """Jobs of a grid of learning rates x seeds, each with a folder of its own."""
    from mlplab.compose import load_config
    from mlplab.data.prepared import prepare
    from mlplab.fused.plan import Job

    first = load_config(SPLIT, *overrides)
    prepared = prepare(first.data)
    top = Path(tempfile.mkdtemp(dir=scratch))
    made = []
    for i in range(n):
        optimizer = first.optimizer.model_copy(update={"lr": RATES[i % len(RATES)]})
        config = first.model_copy(update={"seed": i // len(RATES), "optimizer": optimizer})
        made.append(Job(config, top / str(i), prepared, i))
    return made


def batch_seconds(jobs: list[Any]) -> float:
    """Seconds of a group from its configs to its finished folders; what it prints is swallowed."""
    from mlplab.sweeps.run import run_batch

    with redirect_stdout(io.StringIO()):
        return clock(lambda: run_batch([job.config for job in jobs], [job.folder for job in jobs], max_jobs=len(jobs)))


def fused_seconds(jobs: list[Any]) -> tuple[float, float]:
    """Seconds of the training of one group, its set-up included, and how many of them went into scores."""
    import torch

    from mlplab.fused.training import FusedTraining

    scoring = 0.0

    class Timed(FusedTraining):
        def _seen_scores(self, seen: list[Any]) -> dict[str, list[float]]:
            nonlocal scoring
            began = time.perf_counter()
            scores = super()._seen_scores(seen)
            scoring += time.perf_counter() - began
            return scores

    seconds = clock(lambda: Timed(jobs, torch.device("cpu")).run())
    return seconds, scoring


def training(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The training alone against the plain loop, per network.

    The plain loop scores nothing, so the figure leaves out the eight metrics of the training part that a fused group
    computes after each epoch; `with_scores` is the same ratio with them.
    """
    import plain_wine

    parts = plain_wine.rows(0.8)
    found = {}
    for name, p in {"without dropout": 0.0, "with dropout 0.2": 0.2}.items():
        jobs = jobs_of(scratch, chosen.jobs, *(["regularization=dropout"] if p else []))

        def plain(p: float = p) -> float:
            rates = RATES[: chosen.sample]
            return sum(plain_wine.train(parts, lr, i, p) for i, lr in enumerate(rates)) / chosen.sample

        scoring: list[float] = []

        def fused(jobs: list[Any] = jobs, scoring: list[float] = scoring) -> float:
            seconds, scored = fused_seconds(jobs)
            scoring.append(scored / chosen.jobs)
            return (seconds - scored) / chosen.jobs

        plain(), fused()
        scoring.clear()
        times = interleave({"plain": plain, "fused": fused}, chosen.repeats)
        more = {
            "networks": chosen.jobs,
            "plain_sample": chosen.sample,
            "fused_ms_a_network": 1000 * median(times["fused"]),
            "plain_ms_a_network": 1000 * median(times["plain"]),
            "scores_ms_a_network": 1000 * median(scoring),
            "with_scores": ratio(times["plain"], [a + b for a, b in zip(times["fused"], scoring, strict=True)]),
        }
        value = ratio(times["plain"], times["fused"])
        found[name] = claim(f"training {name}, plain / fused", value, 40, False, chosen.repeats, **more)
    return found


def sizes(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Cost of one job, trained alone and complete with its folder, against the size of its group."""
    rows = []
    batch_seconds(jobs_of(scratch, 1))
    for n in SIZES:
        sides = {
            "train": lambda n=n: fused_seconds(jobs_of(scratch, n))[0],
            "complete": lambda n=n: batch_seconds(jobs_of(scratch, n)),
        }
        times = interleave(sides, max(3, chosen.repeats // 2))
        train, total = (1000 * median(times[side]) / n for side in ("train", "complete"))
        rows.append({"group": n, "train_ms": round(train, 2), "complete_ms": round(total, 2)})
        print(f"group of {n:4d}: {train:8.2f} ms a job to train, {total:8.2f} ms complete", flush=True)
    _draw(rows, chosen.picture)
    return {"rows": rows}


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for column, label in {"complete_ms": "complete, with its folder", "train_ms": "training alone"}.items():
        axes.loglog([r["group"] for r in rows], [r[column] for r in rows], marker="o", label=label)
    axes.set_xticks(SIZES, [str(n) for n in SIZES])
    marks = (2, 5, 10, 20, 50, 100)
    axes.set_yticks(marks, [str(n) for n in marks])
    axes.minorticks_off()
    axes.set_xlabel("networks in the group")
    axes.set_ylabel("ms a job")
    axes.set_title("Wine, 13-32-32-3, batch 16, 30 epochs", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def stages(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each stage of the whole process, median of several."""
    line = [sys.executable, str(BENCHMARKS / "stages.py"), str(chosen.jobs), *grid(chosen.jobs)]
    found = []
    for _ in range(chosen.process_repeats):
        done = subprocess.run(line, cwd=scratch, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    names = sorted(found[-1], key=lambda name: -found[-1][name])
    table = {name: round(median(f.get(name, 0.0) for f in found), 3) for name in names if name != "jobs"}
    for name, seconds in table.items():
        print(f"{name:20s} {seconds:7.3f} s {1000 * seconds / chosen.jobs:7.2f} ms a job")
    return {"jobs": chosen.jobs, "seconds": table, "n": chosen.process_repeats}


def one(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """A group of one against the same run alone, both complete with folders."""
    from mlplab.experiment import run

    def fused() -> float:
        return batch_seconds(jobs_of(scratch, 1))

    def alone() -> float:
        job = jobs_of(scratch, 1)[0]
        return clock(lambda: run(job.config, job.folder, in_sweep=True))

    fused(), alone()
    found = interleave({"fused": fused, "alone": alone}, chosen.repeats)
    more = {f"{name}_ms": 1000 * median(times) for name, times in found.items()}
    return claim("group of one / run alone", ratio(found["fused"], found["alone"]), 1.2, True, chosen.repeats, **more)


def large(scratch: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """1000 jobs against 50 of the same sweep with the basic launcher, per job."""
    rates = ",".join(f"{0.0005 * 1.25**i:.6f}" for i in range(20))
    shared = ["-m", "data=breast_cancer", "data.folds=5"]
    everything = [*shared, "data.fold=range(5)", "seed=range(10)", f"optimizer.lr={rates}"]
    sample = [*shared, "data.fold=range(5)", "seed=range(10)"]
    sides = {
        "fused": lambda: process(TRAIN, *everything, "hydra/launcher=fused", folder=scratch) / 1000,
        "basic": lambda: process(TRAIN, *sample, "hydra/launcher=basic", folder=scratch) / 50,
    }
    found = interleave(sides, chosen.large_repeats)
    more = {f"{name}_ms_a_job": 1000 * median(times) for name, times in found.items()}
    value = ratio(found["basic"], found["fused"])
    return claim("1000 jobs of breast_cancer, basic / fused a job", value, 30, False, chosen.large_repeats, **more)


PARTS = {"process": whole, "training": training, "sizes": sizes, "stages": stages, "one": one, "large": large}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--basic", type=int, nargs=2, default=(10, 20), help="sizes of the two basic sweeps")
    parser.add_argument("--sample", type=int, default=5, help="networks of the plain loop")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--process-repeats", type=int, default=3)
    parser.add_argument("--large-repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of torch on every side; 0: as installed")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(PARTS))
    parser.add_argument("--picture", type=Path, default=BENCHMARKS.parent / "docs" / "fused_cost.png")
    parser.add_argument("--record", type=Path, default=BENCHMARKS / "fused_sweep.json")
    chosen = parser.parse_args()
    limit_threads(chosen.threads)
    names = chosen.only or [name for name in PARTS if name != "large" or chosen.large]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: PARTS[name](Path(folder), chosen) for name in names}
    record(chosen.record, found)
    print(f"measured in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
