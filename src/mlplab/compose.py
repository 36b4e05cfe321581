"""From conf/*.yaml and overrides to a checked Config: the one place of the library that knows Hydra."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlplab.config.base import SettingError

CONF = Path(__file__).resolve().parents[2] / "conf"
OWN = ("hydra", "compare")
"""Folders of conf/ that are no groups of a run: Hydra's, and compare's, whose `ensemble` is a number."""


def load_config(*overrides: str, name: str = "train") -> Any:
    """Compose conf/ with overrides written as on the command line, for notebooks and tests.

    Example: `load_config("optimizer=sgd", "model.hidden=8")`.

    Returns:
        A checked, frozen Config.

    Raises:
        SettingError: a setting is misspelt, out of bounds or contradicts another.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from hydra.version import VersionBase
    from omegaconf.errors import OmegaConfBaseException

    version = VersionBase.instance().getbase()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return to_config(compose(name, list(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise SettingError(explain_hydra(error)) from None
    finally:
        VersionBase.instance().version_base = version  # for other programs of Hydra in this process


def to_config(values: Any) -> Any:
    """A checked Config from a composed DictConfig (its `hydra` node, if there, is left out).

    Raises:
        SettingError: see `mlplab.config.parse`.
    """
    from mlplab.config import parse

    return parse(_plain(values))


def to_tool(values: Any, tool: Any) -> tuple[Any, Any]:
    """A script's own settings, of the class `tool`, and the Config of the run that they are about.

    Raises:
        SettingError: see `mlplab.config.parse`.
    """
    from mlplab.config import parse
    from mlplab.config.tools import split_off

    own, rest = split_off(_plain(values), tool)
    return own, parse(rest)


def to_own(values: Any, tool: Any) -> Any:
    """The settings, of the class `tool`, of a script that has no others.

    Raises:
        SettingError: a setting is not allowed, or has no value yet.
    """
    from mlplab.config.tools import check

    return check(_plain(values), tool)


def _plain(values: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

    plain = OmegaConf.masked_copy(values, [key for key in values if key != "hydra"])
    try:
        container = OmegaConf.to_container(plain, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        path = error.full_key or str(error)
        raise SettingError(f"{path} has no value yet; give one, as in {path}=...") from None
    except OmegaConfBaseException as error:
        raise SettingError(_first_line(error)) from None
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _first_line(error: BaseException) -> str:
    from mlplab.config.messages import shortened

    told = shortened(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
    where = getattr(error, "full_key", None)
    return f"{where}: {told}" if where and where not in told else told


def _groups() -> list[str]:
    return sorted(p.name for p in CONF.iterdir() if p.is_dir() and p.name not in OWN)


def explain_hydra(error: BaseException, own: Iterable[str] = ()) -> str:
    """One short message for what Hydra or OmegaConf refused, with the nearest name."""
    from hydra.errors import OverrideParseException

    from mlplab.config import Config
    from mlplab.config.messages import nearest, settings, shortened, unknown

    text = str(error)
    if match := re.search(r"Could not (?:find|load) '([^']+)'", text):
        group, _, option = match[1].lstrip("/").partition("/")
        if group not in _groups():
            if listed := re.search(r"Available options in '([^']+)':\n((?:\t.*\n?)+)", text):  # Hydra's own groups
                given, names = match[1].removeprefix(f"{listed[1]}/"), listed[2].split()
                return f"{listed[1]}={given} is not an option; {', '.join(names)} are.{nearest(given, names)}"
            return f"there is no file {match[1]}.yaml in conf/; choose an option by its name, as in data=iris"
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        given = f"{group}={option}" if group else option
        return f"{given} is not an option; {', '.join(options)} are.{nearest(option, options)}"
    if match := re.search(r"In '[^']+': Could not find '([^']+)'", text):
        return _first_line(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        path = match[1].split("@")[0]
        groups = _groups()
        if "No match in the defaults list" in text and path in settings(Config):
            return f"{path} is already chosen or is not a group; groups are {', '.join(groups)}."
        if "." not in path:
            hint = nearest(path, [*own, *groups]) or nearest(path, settings(Config))
            leaf = [p for p in settings(Config) if p.rsplit(".", 1)[-1] == path]
            return f"there is no setting or group '{path}'.{hint or (f' Did you mean {leaf[0]!r}?' if leaf else '')}"
        return unknown(path, Config, _chosen(text))
    if isinstance(error, OverrideParseException):
        # the parser's own message, without the grammar's address behind it
        why = text.removeprefix(f"Error parsing override '{error.override}'").strip().splitlines()
        told = re.sub(r" expecting \{.*", "", why[0]) if why else "write it as key=value"
        if told.startswith("LexerNoViableAlt"):
            told = "write it as key=value, and put quotes around a value with other characters than letters and digits"
        return f"cannot read the setting '{shortened(error.override or '')}': {shortened(told)}"
    if match := re.match(r"Ambiguous value for argument '(.*)'", text):
        return f"{shortened(match[1])} gives several values, which is a sweep: add -m (or quotes, if it is one text)"
    return _first_line(error)


def _chosen(text: str) -> str | None:
    """OmegaConf's message shows the node that lacks the key; its name tells the chosen option."""
    match = re.search(r"'name': '([^']+)'", text)
    return match[1] if match else None
