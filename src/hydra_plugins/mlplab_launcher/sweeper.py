"""Hydra's own grid sweeper without its own trial composition, for launchers that check every job before any runs.

Like every plugin module it is executed at each start of any Hydra program: no heavy import, no future annotations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore


@dataclass
class GridSweeperConf(BasicSweeperConf):
    """Settings of hydra/sweeper=grid: those of basic."""

    _target_: str = "hydra_plugins.mlplab_launcher.sweeper.GridSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="mlplab")


class GridSweeper(BasicSweeper):
    """All combinations of the given values, as hydra/sweeper=basic."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each job to see that it can be, unless the launcher does so itself."""
        if not getattr(self.launcher, "checks_jobs", False):
            super().validate_batch_is_legal(batch)
