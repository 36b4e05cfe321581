"""The process that outlives a killed sweep just long enough to end the helpers it left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

NAME = "MLPLAB_GUARDED"
SECONDS = 10.0
"""For how long processes that are being born are looked for."""

Found = set[tuple[int, str]]
"""Processes by number and the moment they were started: numbers are used again."""


class Guard:
    """Ends, when this process does or when told, each process that was started within `with guard:`, and theirs.

    They are known by a word of their environment, which they hand on: a cluster's helpers are nobody's children once
    the sweep was killed. One that writes a title over its environment is known if it was a descendant of such a one
    at the end of the block. On Linux; elsewhere they are left to end by themselves.
    """

    def __init__(self) -> None:
        self.word = uuid4().hex
        command = [sys.executable, "-I", "-S", __file__, self.word]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Guard:
        os.environ[NAME] = self.word
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop(NAME, None)
        assert self.process.stdin is not None
        self.process.stdin.write(b"look\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End what is left, and come back when it has ended."""
        self.process.communicate()


def watch(word: str) -> None:
    """Remember the processes with this word whenever told to, and end them when the other end of the pipe does."""
    seen: Found = set()
    for _ in sys.stdin.buffer:
        seen |= family(word)
    end = time.monotonic() + SECONDS
    while (left := family(word) | (seen & _living().keys())) and time.monotonic() < end:
        for number, _ in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.05)


def family(word: str) -> Found:
    """Living processes with this word in their environment, and their descendants."""
    living = _living()
    found = {one for one in living if _has(one[0], f"{NAME}={word}")}
    while more := {one for one, parent in living.items() if parent in {n for n, _ in found}} - found:
        found |= more
    return found


def _living() -> dict[tuple[int, str], int]:
    """The number of each process's parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            state, parent, *others = (folder / "stat").read_text().rpartition(")")[2].split()
            if state != "Z":
                found[int(folder.name), others[17]] = int(parent)
    return found


def _has(number: int, setting: str) -> bool:
    with suppress(OSError):  # it has ended, or is somebody else's
        return setting.encode() in Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
    return False


if __name__ == "__main__":
    for quiet in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(quiet, signal.SIG_IGN)
    watch(sys.argv[1])
