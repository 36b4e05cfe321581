"""The planned jobs of a sweep: each one's settings, folder and .hydra files, at a small part of composition's cost.

Hydra composes the first job of each kind. The others of its kind differ from it in plain values only, so their
settings are copies with those values put in, and their files are its files with those values written in. Wherever
that could differ from what Hydra gives (a value that an interpolation refers to, a dictionary, a folder named by
settings), the job is composed by Hydra.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper

from hydra_plugins.mlplab_launcher._compose import Composer


@dataclass
class Planned:
    """One job of a sweep, ready to start.

    Attributes:
        values: its settings, resolved, without the `hydra` node.
        files: name of each file under .hydra -> text.
    """

    overrides: list[str]
    number: int
    folder: Path
    values: dict[str, Any]
    files: dict[str, str]


class Planner:
    """Plans the jobs of one launch."""

    def __init__(self, composer: Composer) -> None:
        self.composer = composer
        self.templates: dict[tuple[str, ...], Template | None] = {}

    def plan(self, overrides: list[str], number: int) -> Planned:
        """One job."""
        parsed = self.composer.parse(overrides)
        scalars = {str(o.key_or_group): o.value() for o in parsed if self.composer.is_value(o) and _is_plain(o.value())}
        kind = tuple(k if (k := str(o.key_or_group)) in scalars else str(o.input_line) for o in parsed)
        template = self.templates.get(kind)
        if template is not None:
            return template.fill(parsed, scalars, number)
        config = self.composer.job(overrides, number)
        if kind not in self.templates:
            self.templates[kind] = Template.of(config, list(scalars), len(parsed))
        return plainly(config, overrides, number)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and "${" not in value)


def plainly(config: DictConfig, overrides: list[str], number: int) -> Planned:
    """A job from the config that Hydra composed for it."""
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    folder = (Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)).absolute()
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder)
    task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    files = {
        "config.yaml": OmegaConf.to_yaml(task),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(config, "hydra")),
        "overrides.yaml": OmegaConf.to_yaml(config.hydra.overrides.task),
    }
    values = OmegaConf.to_container(task, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict)
    return Planned(list(overrides), number, folder, {str(k): v for k, v in values.items()}, files)


@cache
def _scalar(value: bool | int | float | str | None, kind: str) -> str:
    """A scalar as OmegaConf writes it in YAML; `kind`, its type's name, tells 1 from True and 1.0 in the cache."""
    return _dump({"k": value}).removeprefix("k:").strip("\n").removeprefix(" ")


def _dump(value: Any) -> str:
    dumper = get_omega_conf_dumper()
    return str(yaml.dump(value, default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=dumper))


def _mark(i: int | str) -> str:
    return f"@@{i}@@"


class Template:
    """A composed job with places for the values that vary."""

    def __init__(
        self, config: DictConfig, keys: list[str], before: list[str], folder: Path, subdir: Callable[[int], str]
    ) -> None:
        self.keys, self.before, self.folder, self.subdir = keys, before, folder, subdir
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        values = OmegaConf.to_container(task, resolve=True, throw_on_missing=False)
        assert isinstance(values, dict)
        self.values = {str(k): v for k, v in values.items()}
        raw = OmegaConf.to_container(task, resolve=False, enum_to_str=True)
        for i, key in enumerate(keys):
            _put(raw, key, _mark(i))
        self.config_yaml = _dump(raw)
        hydra: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, "hydra"), resolve=False, enum_to_str=True)
        node = hydra["hydra"]
        node["overrides"]["task"] = [_mark("task")]
        node["job"].update(override_dirname=_mark("dirname"), id=_mark("id"), num=_mark("number"))
        node["runtime"]["output_dir"] = _mark("folder")
        self.hydra_yaml = _dump(hydra)
        self.dirname = config.hydra.job.config.override_dirname

    @classmethod
    def of(cls, config: DictConfig, keys: list[str], n_overrides: int) -> Template | None:
        """The template of a composed job, or None where a value that varies shows elsewhere too."""
        raw: Any = OmegaConf.to_container(config.hydra.sweep, resolve=False)
        if raw["subdir"] != "${hydra.job.num}" or "${" in raw["dir"] or n_overrides == 0:
            return None
        task = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        text = OmegaConf.to_yaml(task)
        for reference in re.findall(r"\$\{([^}]*)\}", text):
            if ":" in reference or any(k.startswith(reference) or reference.startswith(k) for k in keys):
                return None
        given = list(config.hydra.overrides.task)
        before = given[: len(given) - n_overrides]
        return cls(config, keys, before, Path(str(config.hydra.sweep.dir)).absolute(), str)

    def fill(self, parsed: list[Override], scalars: dict[str, Any], number: int) -> Planned:
        """A job of this kind with its own values."""
        values: dict[str, Any] = copy.deepcopy(self.values)
        config_yaml, hydra_yaml = self.config_yaml, self.hydra_yaml
        for i, key in enumerate(self.keys):
            _put(values, key, scalars[key])
            config_yaml = config_yaml.replace(f"'{_mark(i)}'", _scalar(scalars[key], type(scalars[key]).__name__))
        overrides = [str(o.input_line) for o in parsed]
        names = self.dirname
        dirname = get_overrides_dirname(
            overrides=parsed, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
        )
        folder = self.folder / self.subdir(number)
        task = [*self.before, *overrides]
        indent = re.search(rf"^( *)- '{_mark('task')}'\n", hydra_yaml, re.M)
        assert indent is not None
        lines = "".join(f"{indent[1]}{line}\n" for line in _dump(task).splitlines())
        hydra_yaml = hydra_yaml.replace(indent[0], lines)
        for name, value in {"dirname": dirname, "id": str(number), "number": number, "folder": str(folder)}.items():
            hydra_yaml = hydra_yaml.replace(f"'{_mark(name)}'", _scalar(value, type(value).__name__))
        files = {"config.yaml": config_yaml, "hydra.yaml": hydra_yaml, "overrides.yaml": _dump(task)}
        return Planned(overrides, number, folder, values, files)


def _put(values: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        values = values[name]
    values[last] = value
