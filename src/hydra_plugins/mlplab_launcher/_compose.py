"""Composes the configs of a sweep's jobs."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict


class Composer:
    """Composes the configs of a sweep's jobs: once, then value overrides on copies.

    The result is what Hydra's own composition gives, at about a tenth of its cost. An override of a group, of
    hydra's own node, an addition or a deletion composes a new base; jobs that share it share its cost.
    """

    def __init__(self, config: DictConfig, loader: Any) -> None:
        self.config, self.loader = config, loader
        self.parser = OverridesParser.create()
        self.bases: dict[tuple[str, ...], DictConfig] = {}

    def job(self, overrides: list[str], number: int) -> DictConfig:
        """The config of one job, its `hydra` node included."""
        cfg = self._fast(self.parse(overrides))
        if cfg is None:
            cfg = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id = cfg.hydra.job.num = number
        return cfg

    def _fast(self, parsed: list[Override]) -> DictConfig | None:
        values = [o for o in parsed if self.is_value(o)]
        others = [o for o in parsed if not self.is_value(o)]
        if any(o.is_hydra_override() for o in others):
            return None  # may move the sweep itself: rare, and left to Hydra
        address = tuple(str(o.input_line) for o in others)
        if address not in self.bases:
            self.bases[address] = self.loader.load_sweep_config(self.config, list(address))
        cfg = copy.deepcopy(self.bases[address])
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        if values:
            own = self.bases[address].hydra.overrides.task
            before = list(own)[: len(own) - len(address)]
            cfg.hydra.overrides.task = [*before, *(o.input_line for o in parsed)]
            names = cfg.hydra.job.config.override_dirname
            cfg.hydra.job.override_dirname = get_overrides_dirname(
                overrides=parsed, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
            )
            OmegaConf.copy_cache(from_config=self.config, to_config=cfg)
        return cfg

    def parse(self, overrides: list[str]) -> list[Override]:
        """Overrides as Hydra reads them."""
        return list(self.parser.parse_overrides(list(overrides)))

    def is_value(self, o: Override) -> bool:
        """Whether an override sets a value of a setting that exists, rather than choosing a file or adding a key."""
        special = o.is_hydra_override() or o.is_add() or o.is_force_add() or o.is_delete() or o.package is not None
        return not special and not self.loader.repository.group_exists(o.key_or_group)
