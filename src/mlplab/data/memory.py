"""How much memory there is, so that data which would not fit is refused before the memory is gone."""

from __future__ import annotations

import os
from pathlib import Path

from mlplab.config.base import SettingError


def available() -> int:
    """Bytes that this process may still take: the least of the machine's, its container's and its own limit."""
    room = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    info = _text("/proc/meminfo")
    if "MemAvailable:" in info:
        room.append(int(info.split("MemAvailable:")[1].split()[0]) * 1024)
    limit, used = _text("/sys/fs/cgroup/memory.max"), _text("/sys/fs/cgroup/memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        room.append(int(limit) - int(used) + _cached())
    try:
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        if own != resource.RLIM_INFINITY:
            room.append(own - int(_text("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (ImportError, IndexError):  # Windows; a system without /proc
        pass
    return max(0, min(room))


def _cached() -> int:
    """Files in the container's memory, which it gives up when it needs room."""
    stat = dict(line.split() for line in _text("/sys/fs/cgroup/memory.stat").splitlines() if len(line.split()) == 2)
    return int(stat.get("inactive_file", 0))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def check(needed: int, what: str, instead: str) -> None:
    """Refuse what would not fit.

    Raises:
        SettingError: saying the size and the limit.
    """
    room = available()
    if needed > room:
        raise SettingError(
            f"{what} would take about {needed / 1e9:.2f} GB of memory, and {room / 1e9:.2f} GB are free; {instead}"
        )
