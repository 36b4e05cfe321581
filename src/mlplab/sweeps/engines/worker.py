"""The far side of every engine: how a task is called in the process that an engine provides."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlplab.sweeps.engines import Task

_followed: set[int] = set()


@dataclass(frozen=True)
class Place:
    """What a process is made to look like before it runs a task: the launching process."""

    folder: str
    path: tuple[str, ...]
    host: str
    process: int

    @classmethod
    def here(cls) -> Place:
        """That of this process."""
        return cls(str(Path.cwd()), tuple(sys.path), socket.gethostname(), os.getpid())


def pass_on_path() -> None:
    """Have programs that this process starts find the modules that it finds."""
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)


def call(place: Place, task: Task) -> Any:
    """Run a task; its exception is returned. One that leaves Python takes the process with it."""
    try:
        return run(place, task)
    except SystemExit as leaving:  # SIGTERM, or a call of sys.exit
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
    except KeyboardInterrupt:
        os._exit(130)


def run(place: Place, task: Task) -> Any:
    """Run a task in a process made to look like the launching one."""
    os.chdir(place.folder)
    sys.path.extend(entry for entry in place.path if entry not in sys.path)
    _follow(place)
    try:
        return task.function(*task.arguments)
    except Exception as error:
        return travelling(error)


def _follow(place: Place) -> None:
    """End with the launching process, where it can be seen: nobody would hear of what comes out."""
    if place.host != socket.gethostname() or place.process in _followed or not alive(place.process):
        return

    def watch() -> None:
        while alive(place.process):
            time.sleep(0.5)
        os._exit(1)

    _followed.add(place.process)
    threading.Thread(target=watch, daemon=True).start()


def alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # one that has ended and that nobody has waited for is still there
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def travelling(found: Any) -> Any:
    """What a task returned, with an exception that cannot be handed to another process replaced by its message."""
    if isinstance(found, Exception) and not _travels(found):
        return RuntimeError(f"{type(found).__name__}: {found}")
    return found


def _travels(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


def how_it_ended(code: Any) -> str:
    """An exit status in words."""
    import signal

    return (
        f"was killed by {signal.Signals(-code).name}"
        if isinstance(code, int) and code < 0
        else f"ended with status {code}"
    )
