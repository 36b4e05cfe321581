"""jobs.json of a sweep's folder: which job is where, so that the same command again trains only what is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mlplab.config import Config, SettingError
from mlplab.config.identity import identity
from mlplab.runs import write_atomic

NAME = "jobs.json"


@dataclass(frozen=True)
class Entry:
    """One job of a sweep."""

    number: int
    """Its number, hydra.job.num."""
    folder: str
    """Its folder, from the sweep's."""
    launch: int
    """Jobs that were first planned together train together again, for a network's last bits depend on whom it is
    stacked with."""


class Ledger:
    """The jobs that a sweep's folder has."""

    def __init__(self, sweep: Path) -> None:
        self.sweep, self.path = sweep, sweep / NAME
        self.entries: dict[str, Entry] = {}
        if self.path.is_file():
            try:
                self.entries = {k: Entry(**v) for k, v in json.loads(self.path.read_text()).items()}
                for name, kind in (("number", int), ("folder", str), ("launch", int)):
                    if not all(isinstance(getattr(entry, name), kind) for entry in self.entries.values()):
                        raise ValueError(f"a {name} is none")
                for name in ("number", "folder"):
                    if len({getattr(entry, name) for entry in self.entries.values()}) < len(self.entries):
                        raise ValueError(f"two jobs share a {name}")
            except (ValueError, TypeError, AttributeError) as error:
                raise SettingError(
                    f"{self.path} is damaged ({error}); its jobs keep their folders, but the sweep cannot go on in "
                    "it: choose another hydra.sweep.dir"
                ) from None

    def keys(self, configs: Sequence[Config]) -> list[str]:
        """The name of each job in the ledger: its identity, numbered where a command asks for the same twice."""
        seen: Counter[str] = Counter()
        found = []
        for config in configs:
            name = identity(config)
            seen[name] += 1
            found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        return found

    def numbers(self, keys: Sequence[str], first: int) -> list[int]:
        """The number of each job: a known one's own, and for new ones numbers that no job has."""
        following = max([first - 1, *(entry.number for entry in self.entries.values())])
        found = []
        for key in keys:
            if key in self.entries:
                found.append(self.entries[key].number)
            else:
                following += 1
                found.append(following)
        return found

    def add(self, keys: Sequence[str], numbers: Sequence[int], folders: Sequence[Path]) -> list[int]:
        """Enter the new jobs and write the file; the launch of each job.

        Raises:
            SettingError: a new job would take another's folder.
        """
        launch = max((entry.launch for entry in self.entries.values()), default=-1) + 1
        taken = {entry.folder for entry in self.entries.values()}
        for key, number, folder in zip(keys, numbers, folders, strict=True):
            if key in self.entries:
                continue
            if self.sweep.resolve() not in folder.resolve().parents:
                raise SettingError(f"hydra.sweep.subdir leads out of the sweep's folder, to {folder.resolve()}")
            name = str(folder.resolve().relative_to(self.sweep.resolve()))
            if name in taken:
                raise SettingError(
                    f"two jobs would share the folder {folder}; put what they differ in into hydra.sweep.subdir, or "
                    "leave it out"
                )
            taken.add(name)
            self.entries[key] = Entry(number, name, launch)
        content = {k: asdict(v) for k, v in self.entries.items()}
        write_atomic(self.path, (json.dumps(content, indent=1) + "\n").encode())
        return [self.entries[key].launch for key in keys]
