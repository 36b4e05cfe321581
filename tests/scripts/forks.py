"""`python src/train.py` many times over: a process that has imported what is needed before torch, and its forks.

Each command runs in a fork of its own, by the script itself, to its exit status and what it left on the screen. torch
is not there to be imported: a command that gets so far ends with status 99.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Forks:
    """The process; to be closed.

    Args:
        cwd: where the commands run.
    """

    def __init__(self, cwd: Path) -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "MLPLAB_PLAIN", "PYTHON", "COV"))}
        self.cwd = cwd
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=cwd,
            env=env | {"PYTHONPATH": str(ROOT / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """One command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        done: dict[str, Any] = json.loads(self.process.stdout.readline())
        return subprocess.CompletedProcess(words, done["status"], done["out"], done["err"])

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def _serve() -> None:
    from hydra.core.plugins import Plugins

    import mlplab.cli
    import mlplab.compose
    import mlplab.resume

    Plugins.instance()
    mlplab.compose.load_config()  # what is read and parsed once is there for all
    gc.disable()
    sys.modules["torch"] = None  # type: ignore[assignment]
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.argv = ["train.py", *json.loads(line)]
                runpy.run_path(str(ROOT / "src" / "train.py"), run_name="__main__")
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            screens = []
            for file in (out, err):
                file.seek(0)
                screens.append(file.read().decode(errors="replace"))
        print(json.dumps({"status": status, "out": screens[0], "err": screens[1]}), flush=True)


if __name__ == "__main__":
    _serve()
