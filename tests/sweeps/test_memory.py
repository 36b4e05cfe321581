"""A chunk that does not fit the memory is halved until it does, and its jobs end as they would have had."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.command import ROOT

SWEEP = """
import resource, sys
from pathlib import Path
import torch
from mlplab.compose import load_config
from mlplab.sweeps.run import run_batch

torch.set_num_threads(1)
top, megabytes = Path(sys.argv[1]), int(sys.argv[2])
common = ("data=iris", "model.hidden=[1024,1024]", "trainer.max_epochs=1",
          "logger=csv", "accelerator=cpu", "accelerator.precision=32")
configs = [load_config(*common, f"seed={i}") for i in range(8)]
small = [load_config("data=iris", "model.hidden=4", "trainer.max_epochs=1", "logger=csv", "accelerator=cpu")]
run_batch(small, [top / "first"])  # what is imported and cached is there before the limit
if megabytes:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + megabytes * 2**20,) * 2)
outcomes = run_batch(configs, [top / str(i) for i in range(8)], max_jobs=8)
print([getattr(o, "status", repr(o)) for o in outcomes])
"""


def sweep(top: Path, megabytes: int) -> str:
    """Eight networks of 4 MB in a process that may take so much more memory (0: any amount)."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(top), str(megabytes)],
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc to know the memory in use")
def test_a_chunk_that_does_not_fit_is_halved_until_it_does(tmp_path: Path) -> None:
    free, tight = sweep(tmp_path / "free", 0), sweep(tmp_path / "tight", 160)
    assert "do not fit" not in free
    halvings = re.findall(r"(\d+) networks at once do not fit the memory: trying (\d+)", tight)
    assert halvings, tight
    assert halvings[0] == ("8", "4")
    assert str(["completed"] * 8) in tight
    for i in range(8):
        one, two = (json.loads((tmp_path / kind / str(i) / "result.json").read_text()) for kind in ("free", "tight"))
        assert one["metrics"]["test"]["loss"] == pytest.approx(two["metrics"]["test"]["loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc to know the memory in use")
def test_one_network_that_does_not_fit_alone_fails_and_says_so(tmp_path: Path) -> None:
    told = sweep(tmp_path, 8)
    assert "completed" not in told
    assert "memory" in told
