"""Runs the project's scripts as a person would: in a process of their own, from a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python src/<name>.py <arguments>` in a folder; never raises for a bad exit status."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "MLPLAB_PLAIN", "PYTHON", "COV"))}
    env |= {"OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, str(ROOT / "src" / f"{name}.py"), *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def refusal(run: subprocess.CompletedProcess[str]) -> str:
    """The message of a run that must have refused its settings in the right way."""
    assert run.returncode == 2, (run.returncode, run.stdout, run.stderr)
    assert "Traceback" not in run.stderr, run.stderr
    assert "HYDRA_FULL_ERROR" not in run.stderr, run.stderr
    message = run.stderr.strip()
    assert message, "nothing was said"
    assert len(message.splitlines()) <= 3, message
    return message
