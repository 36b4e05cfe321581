"""One run against its peers: `python benchmarks/wine_run.py [--repeats 7]`.

Wine, 13-32-32-3, batch 16, 30 epochs, TensorBoard and checkpoints on. Three ratios, each the median of neighbouring
pairs taken in turns: the training against a plain PyTorch loop, a whole process against the plain script's, and
`--cfg job` against the smallest program of Hydra.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measure import BENCHMARKS, PLAIN, TRAIN, claim, interleave, limit_threads, process, ratio, record


def fit(scratch: Path, repeats: int) -> dict[str, Any]:
    """Seconds of `fit`, and of a whole `run`, against the plain loop, all in this process."""
    import plain_wine

    from mlplab.compose import load_config
    from mlplab.experiment import run

    config, parts = load_config(), plain_wine.rows(0.6)
    totals: list[float] = []

    def ours() -> float:
        result = run(config, Path(tempfile.mkdtemp(dir=scratch)))
        totals.append(result.values["seconds"]["total"])
        return float(result.values["seconds"]["fit"])

    def plain() -> float:
        return plain_wine.train(parts)

    ours(), plain()  # imports and first calls
    totals.clear()
    found = interleave({"ours": ours, "plain": plain}, repeats)
    more = {
        "fit_ms": 1000 * median(found["ours"]),
        "plain_ms": 1000 * median(found["plain"]),
        "run_total_ms": 1000 * median(totals),
        "total_ratio": ratio(totals, found["plain"]),
    }
    return claim("fit / plain loop", ratio(found["ours"], found["plain"]), 2.5, True, repeats, **more)


def whole(scratch: Path, repeats: int) -> dict[str, Any]:
    """A whole process against the plain script's."""
    sides = {
        "ours": lambda: process(TRAIN, folder=scratch),
        "plain": lambda: process(PLAIN, folder=scratch),
    }
    interleave(sides, 1)  # files come into memory
    found = interleave(sides, repeats)
    more = {"ours_s": median(found["ours"]), "plain_s": median(found["plain"])}
    return claim("process / plain script", ratio(found["ours"], found["plain"]), 1.6, True, repeats, **more)


def compose(scratch: Path, repeats: int) -> dict[str, Any]:
    """Composing and showing the settings against the smallest program of Hydra."""
    sides = {
        "ours": lambda: process(TRAIN, "--cfg", "job", folder=scratch),
        "bare": lambda: process(BENCHMARKS / "bare_hydra.py", "--cfg", "job", folder=scratch),
    }
    interleave(sides, 1)
    found = interleave(sides, repeats)
    more = {"ours_s": median(found["ours"]), "bare_s": median(found["bare"])}
    return claim("--cfg job / bare Hydra", ratio(found["ours"], found["bare"]), 3.0, True, repeats, **more)


PARTS = {"fit": fit, "process": whole, "cfg_job": compose}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1, help="of torch on every side; 0: as installed")
    parser.add_argument("--record", type=Path, default=BENCHMARKS / "wine_run.json")
    chosen = parser.parse_args()
    limit_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: PARTS[name](Path(folder), chosen.repeats) for name in chosen.only}
    record(chosen.record, found)


if __name__ == "__main__":
    main()
