"""Finds a person's own class or function by its dotted name."""

from __future__ import annotations

import importlib
from typing import Any

from mlplab.config.base import SettingError


def locate(target: str, setting: str) -> Any:
    """The object with the dotted name, such as `my_package.nets.MyNet`.

    Args:
        setting: path of the setting that names it, for the message.

    Raises:
        SettingError: there is no such module or name.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise SettingError(f"{setting}={target} must be a dotted name, such as my_package.nets.MyNet")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{setting}={target}: there is no module '{error.name}'; run from its folder with "
            "PYTHONPATH=. before the command, or install it"
        ) from None
    except AttributeError:
        raise SettingError(f"{setting}={target}: module '{module}' has no '{name}'") from None
    if not callable(found):
        raise SettingError(f"{setting}={target} is not a class or function")
    return found
