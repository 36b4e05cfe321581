"""Many runs in one process, and many jobs in one sweep: memory, threads and files stay as they are."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scripts.command import ROOT

from mlplab.compose import load_config
from mlplab.experiment import run
from mlplab.reports.events import EventFile

RUNS, WARM = int(os.environ.get("MLPLAB_SOAK", "500")), 30
KINDS = (
    ("model.hidden=8", "logger.figures=false", "logger.graph=false"),
    ("optimizer=sgd", "regularization=[dropout,batch_norm]", "logger=csv"),
    ("data=digits_images", "augmentation=[shift,noise]", "data.workers=0", "trainer.max_batches=2", "logger=none"),
    ("optimizer=lbfgs", "optimizer.max_iter=2", "data.batch_size=full", "logger=csv"),
    ("model=numpy_mlp", "data=iris", "logger=csv"),
    ("optimizer=adamw", "scheduler=cosine", "data=moons", "data.samples=60", "loss=bce", "logger=csv"),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc to know what is in use"),
]


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_five_hundred_runs_in_one_process(tmp_path: Path) -> None:
    configs = [load_config(*words, "trainer.max_epochs=1") for words in KINDS]
    for i in range(RUNS + WARM):
        if i == WARM:
            gc.collect()
            memory, threads, files = resident(), threading.active_count(), open_files()
        run(configs[i % len(configs)], tmp_path / "run")
        shutil.rmtree(tmp_path / "run")
    gc.collect()
    grown = (resident() - memory) / 2**20
    print(f"{RUNS} runs: {grown:+.1f} MB, {threading.active_count() - threads:+d} threads")
    assert grown < 50
    assert threading.active_count() <= threads
    assert open_files() <= files
    assert not [kept for kept in gc.get_objects() if type(kept) is EventFile], "writers of TensorBoard"


SWEEP = """
import json, resource, sys
from pathlib import Path
from mlplab.compose import load_config
from mlplab.config import parse
from mlplab.sweeps.run import run_batch

base = load_config("data=wine", "trainer.max_epochs=3", "logger=csv").model_dump()
configs = [
    parse(base | {"seed": i, "optimizer": base["optimizer"] | {"lr": 0.0001 * (1 + i % 50)}}) for i in range(1000)
]
done = run_batch(configs, [Path("s") / str(i) for i in range(1000)])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "completed": sum(not isinstance(o, Exception) for o in done)}))
"""


def test_a_sweep_of_a_thousand_jobs_peaks_below_two_gigabytes(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SWEEP]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    print(f"1000 jobs: peak {told['peak'] / 2**30:.2f} GB")
    assert told["completed"] == 1000
    assert told["peak"] < 2 * 2**30
    assert len(list((tmp_path / "s").glob("*/checkpoints/best.ckpt"))) == 1000
