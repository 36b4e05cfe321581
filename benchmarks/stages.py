"""Where a fused sweep's time goes: runs `src/train.py` with its functions timed from outside.

`python benchmarks/stages.py <jobs> -m optimizer.lr=0.1,0.01 seed=0,1` prints the seconds of each stage as JSON on its
last line. A stage's time is its own: what a stage inside it takes is counted there.
"""

import functools
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from measure import TRAIN

STARTED = time.perf_counter()

STAGES = {
    "hydra_plugins.mlplab_launcher._planned:Planner.plan": "compose",
    "hydra_plugins.mlplab_launcher._batch:_check": "compose",
    "hydra_plugins.mlplab_launcher._batch:_open": "write .hydra",
    "mlplab.sweeps.run:prepare": "read data",
    "mlplab.fused.training:FusedTraining.__init__": "train",
    "mlplab.fused.training:FusedTraining.run": "train",
    "mlplab.fused.training:FusedTraining._seen_scores": "score",
    "mlplab.fused.training:FusedTraining._scores": "score",
    "mlplab.sweeps.recording:write": "write the rest",
    "mlplab.sweeps.run:in_halves": "write the rest",
    "mlplab.training.checkpoints:save": "write checkpoints",
    "mlplab.training.checkpoints:best_content": "write checkpoints",
    "mlplab.training.checkpoints:last_content": "write checkpoints",
    "mlplab.record:make_board": "write events",
    "mlplab.reports.tensorboard:Board.on_epoch": "write events",
    "mlplab.reports.tensorboard:Board.finish": "write events",
    "mlplab.runs:write_result": "write result.json",
    "mlplab.record:outcome": "write result.json",
    "os:fsync": "flush to disk",
    "os:sync": "flush to disk",
}
"""Function -> the stage that its time belongs to."""

spent: dict[str, float] = {}
inner: list[float] = []


def timed(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
    """The function, its own seconds added to a stage."""

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        inner.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            seconds = time.perf_counter() - began
            spent[stage] = spent.get(stage, 0.0) + seconds - inner.pop()
            if inner:
                inner[-1] += seconds

    return measured


def main() -> None:
    for address, stage in STAGES.items():
        module, _, path = address.partition(":")
        *owners, name = path.split(".")
        owner: Any = functools.reduce(getattr, owners, import_module(module))
        setattr(owner, name, timed(getattr(owner, name), stage))
    spent["import"] = time.perf_counter() - STARTED
    jobs = int(sys.argv.pop(1))
    sys.argv[0] = str(TRAIN)
    import_module("mlplab.cli")._leave_at_once = sys.exit  # type: ignore[attr-defined]  # there is a table to print
    try:
        runpy.run_path(str(TRAIN), run_name="__main__")
    finally:
        total = time.perf_counter() - STARTED
        spent["everything else"] = total - sum(spent.values())
        print(json.dumps({"jobs": jobs, "total": total, **spent}), flush=True)
        os._exit(0)  # what the interpreter does at its end is not the sweep's


if __name__ == "__main__":
    main()
