"""Which dotted names a config may call: a config is a file that may come from somebody else."""

from __future__ import annotations

import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from mlplab.config.base import Target

ALLOWED = ("torch.nn", "torch.optim")
"""Prefixes that are always allowed; so is code in the folder one is in or on PYTHONPATH, which is one's own."""


def refused(config: BaseModel, allowed: Sequence[str]) -> Iterator[str]:
    """Why each target of a config may not be called, as `path=target ...`.

    Args:
        allowed: further prefixes, from the setting `allow_targets`.
    """
    for name, group in config:
        if not isinstance(group, Target):
            continue
        within = any(group.target == p or group.target.startswith(f"{p}.") for p in (*ALLOWED, *allowed))
        top = group.target.split(".")[0]
        if not within and _installed(top):
            yield (
                f"{name}.target={group.target} is none of {', '.join(ALLOWED)} nor your own code in this folder or on "
                f"PYTHONPATH; if you trust it, add allow_targets=[{top}]"
            )


@cache
def _installed(module: str) -> bool:
    """Whether a top-level module is Python's own or an installed package's, rather than a person's own file."""
    if module in sys.stdlib_module_names or module in sys.builtin_module_names or module == "mlplab":
        return True
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False  # the message that it is not there comes when it is looked for
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    libraries = [Path(p).resolve() for p in (*sysconfig.get_paths().values(), site.getusersitepackages())]
    roots = [library for library in libraries if library.name in ("site-packages", "dist-packages")]
    return any(root in Path(place).resolve().parents for place in places for root in roots)
