"""Hydra's own grid sweeper without its own trial composition, for launchers that check every job before any runs.

Like every plugin module it is executed at each start of any Hydra program: no heavy import, no future annotations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn


@dataclass
class GridSweeperConf(BasicSweeperConf):
    """Settings of hydra/sweeper=grid: those of basic."""

    _target_: str = "hydra_plugins.mlplab_launcher.sweeper.GridSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridSweeperConf, provider="mlplab")


class _Patient:
    """A launcher whose jobs' failures wait until every batch of the sweep has had its turn."""

    def __init__(self, launcher: Any) -> None:
        self.launcher = launcher
        self.batches: list[Sequence[JobReturn]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.batches.append(self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx))
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.launcher, name)


class GridSweeper(BasicSweeper):
    """All combinations of the given values, as hydra/sweeper=basic.

    With max_batch_size, a job that fails does not keep the later batches from starting, unless on_error=stop.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Run all batches; then raise what a job failed with, so that the process ends with a status that says so."""
        if self.config is None or self.config.get("on_error") == "stop":
            return super().sweep(arguments)
        patient = _Patient(self.launcher)
        self.launcher = patient  # type: ignore[assignment]
        super().sweep(arguments)
        for job in (job for batch in patient.batches for job in batch):
            _ = job.return_value
        return patient.batches

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose each job to see that it can be, unless the launcher does so itself."""
        if not getattr(self.launcher, "checks_jobs", False):
            super().validate_batch_is_legal(batch)
