"""One process at a time in a run's or sweep's folder; a lock dies with the process that holds it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mlplab.config.base import SettingError

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; where the system has no flock (Windows), nothing is held.

    Raises:
        SettingError: a living process holds it.
    """
    if any(int(os.environ.get(rank, "0")) > 0 for rank in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK")):
        yield  # a further process of one distributed run, whose first one holds the lock
        return
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        with (folder / NAME).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise SettingError(f"{folder} is in use by {holder}; wait for it, or end it") from None
            if not _is(file, folder / NAME):
                continue  # its holder has just removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            try:
                yield
            finally:
                (folder / NAME).unlink(missing_ok=True)
            return


def _is(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
