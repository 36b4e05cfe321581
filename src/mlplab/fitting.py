"""Which way a run trains: one network, several that answer together, or a portfolio; and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlplab.config import Config
from mlplab.config.fusable import alone_because
from mlplab.data.prepared import Prepared
from mlplab.models.build import members
from mlplab.record import objective_of
from mlplab.reports.progress import ProgressBar
from mlplab.runs import RunFolder
from mlplab.training.calibration import calibrated
from mlplab.training.history import Fitted

if TYPE_CHECKING:
    from mlplab.portfolio.fit import Chosen
    from mlplab.training.epochs import Observer


@dataclass(frozen=True)
class Answer:
    """A trained run."""

    prepared: Prepared
    """The data as the network takes it."""
    fitted: Fitted
    chosen: Chosen | None = None
    """How a portfolio chose."""

    def tell(self, values: dict[str, Any], config: Config, folder: Path, progress: bool) -> None:
        """Add to what result.json says how a portfolio chose; write and show it."""
        if self.chosen is None:
            return
        from mlplab.portfolio.show import show_tried, write_tried

        values["portfolio"] = self.chosen.record()
        if self.chosen.tried:
            values["metrics"]["val"] = {"loss": self.chosen.out_of_fold["log_loss"], **self.chosen.out_of_fold}
            values["objective"] = objective_of(config, values["metrics"], self.fitted)
            write_tried(self.chosen, folder)
            if progress:
                show_tried(self.chosen)


def epochs_shown(config: Config) -> int:
    """Epochs that a progress bar counts."""
    in_turn = config.ensemble.networks > 1 and alone_because(members(config)[0])
    return config.trainer.max_epochs * (config.ensemble.networks if in_turn else 1)


def fit_as_asked(
    config: Config,
    prepared: Prepared,
    device: str,
    folder: RunFolder,
    observers: list[Observer],
    start: dict[str, Any] | None,
) -> Answer:
    """Train what the settings ask for; see `training.fit.fit`, `ensemble.fit_ensemble`, `portfolio.fit`."""
    if config.portfolio.name != "none":
        from mlplab.portfolio.fit import fit_portfolio  # a run of one network need not wait for it

        bars = [observer for observer in observers if isinstance(observer, ProgressBar)]

        def report(done: int, total: int) -> None:
            for bar in bars:
                bar.at(done, total)

        answer = Answer(*fit_portfolio(config, prepared, device, folder, report))
        _tell_late([observer for observer in observers if observer not in bars], answer.fitted)
    elif config.ensemble.networks > 1:
        from mlplab.ensemble import fit_ensemble

        answer = Answer(prepared, fit_ensemble(config, prepared, device, folder, observers))
    else:
        from mlplab.training.fit import fit  # Lightning takes two seconds: what the data refuse is told before

        answer = Answer(prepared, fit(config, prepared, device, folder, observers, start))
    if config.several:
        for observer in observers:
            observer.close()
    fitted = answer.fitted
    trained = bool(fitted.history) and fitted.network is not None  # or it diverged in its first epoch
    if config.calibration.name == "temperature" and answer.chosen is None and trained and fitted.main:
        assert fitted.network is not None
        fitted.network = calibrated(fitted.network, config, prepared, folder)
    return answer


def _tell_late(observers: Sequence[Any], fitted: Fitted) -> None:
    for observer in observers:
        for row in fitted.history:
            observer.on_epoch(row, None)
