"""Every setting of a run: its name, type, bounds and one sentence. Imports neither torch nor lightning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, create_model, model_validator

from mlplab.config import objectives
from mlplab.config.augmentation import Augmentation
from mlplab.config.base import SettingError, Settings
from mlplab.config.consistency import CHECKS, check_loss
from mlplab.config.data import Data
from mlplab.config.embedding import Embedding
from mlplab.config.ensemble import Calibration, Ensemble
from mlplab.config.fusable import alone_because
from mlplab.config.images import ImageSettings
from mlplab.config.messages import explain
from mlplab.config.network import Activation, Initialization, Model
from mlplab.config.optimization import Optimizer, Scheduler
from mlplab.config.portfolio import (
    LEAST_ROWS,
    OF_CATEGORIES,
    PER_SETTING,
    NoPortfolio,
    Portfolio,
    TablePortfolio,
    merged,
)
from mlplab.config.tables import TableFile
from mlplab.config.targets import refused
from mlplab.config.training import Accelerator, Logger, Loss, Regularization, Trainer

__all__ = ["Config", "SettingError", "check_loss", "parse", "setting"]


class Config(Settings):
    """All settings of one run, checked one by one and against each other."""

    name: str
    """First folder under outputs/: the experiment's name, or the data's."""
    seed: NonNegativeInt
    """Seed of the initial weights, the order of the rows and every random draw of the training."""
    objective: str | Annotated[list[str], Field(min_length=1)]
    """What a sweep or search looks at, one or several: part/metric (never of the test part), parameters or seconds."""
    on_error: Literal["continue", "stop", "retry"]
    """What a sweep does when a job fails: go on with the others, start no more, or try it once again."""
    allow_targets: list[str]
    """Packages, besides your own code, whose functions `target` may name; a saved run's own list does not count."""
    data: Data
    embedding: Embedding
    model: Model
    activation: Activation
    initialization: Initialization
    optimizer: Optimizer
    scheduler: Scheduler
    regularization: Regularization
    augmentation: Augmentation
    loss: Loss
    ensemble: Ensemble
    calibration: Calibration
    portfolio: Portfolio
    accelerator: Accelerator
    logger: Logger
    trainer: Trainer

    @property
    def objectives(self) -> list[str]:
        """What a search looks at, one or several."""
        return objectives.listed(self.objective)

    @property
    def several(self) -> bool:
        """Whether several networks answer together, whose insides are not shown one by one."""
        return self.ensemble.networks > 1 or self.portfolio.name != "none"

    def pooled(self) -> Config:
        """For a portfolio, without a validation part: every row that is no test row trains, fold by fold."""
        if self.portfolio.name == "none" or self.data.split is None:
            return self
        train_share, val_share, test_share = self.data.fractions
        split = [train_share + val_share, test_share]
        return self.model_copy(update={"data": self.data.model_copy(update={"split": split})})

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        objectives.check(self.objectives)
        for check in CHECKS:
            check(self)
        self._check_portfolio()
        for why in refused(self, self.allow_targets):
            raise ValueError(why)
        return self

    def _check_portfolio(self) -> None:
        if isinstance(self.portfolio, NoPortfolio):
            return
        stopping = self.regularization.early_stopping
        for wrong, instead in (
            (isinstance(self.data, ImageSettings) and f"data={self.data.name}", "a table, or ensemble.size=8"),
            (self.ensemble.size > 1 and f"ensemble.size={self.ensemble.size}", "portfolio.folds for more networks"),
            (stopping and "regularization=early_stopping", "portfolio.steps for shorter trainings"),
            (alone_because(self.model_copy(update=ALONE)) or "", "portfolio=none"),
        ):
            if wrong:
                raise ValueError(f"portfolio={self.portfolio.name} does not go with {wrong}; use {instead}")
        for name, own in self.portfolio.settings.items():
            told = f"portfolio.settings.{name}"
            if surplus := [key for key in own.get("data", {}) if key not in PER_SETTING]:
                raise ValueError(
                    f"{told}.data.{surplus[0]} is the whole run's; a setting may have {', '.join(PER_SETTING)}"
                )
            try:
                reason = alone_because(setting(self, name))
            except SettingError as error:
                of_a_setting = re.match(r"[\w.]+=", str(error))  # the message begins with its path
                raise ValueError(f"{told}{'.' if of_a_setting else ': '}{error}") from None
            if reason:
                raise ValueError(f"{told} cannot train with the others: {reason}")


ALONE = {"portfolio": NoPortfolio(name="none"), "calibration": Calibration(name="none")}


def setting(config: Config, name: str) -> Config:
    """One setting of a run's portfolio, as a run of its own.

    Raises:
        SettingError: it is not allowed.
    """
    assert isinstance(config.portfolio, TablePortfolio)
    base = config.model_copy(update=ALONE).model_dump()
    own = {key: value for key, value in config.portfolio.settings[name].items() if key != LEAST_ROWS}
    if isinstance(of_data := own.get("data"), Mapping):  # data without categories have no word for how they are encoded
        more = {key: value for key, value in of_data.items() if key in OF_CATEGORIES and key not in base["data"]}
        fields = {key: (TableFile.model_fields[key].annotation, TableFile.model_fields[key]) for key in more}
        alone: Any = create_model("OfCategories", __base__=Settings, **fields)  # type: ignore[call-overload]
        try:
            alone.model_validate(more)
        except ValidationError as error:
            raise SettingError(f"data.{explain(error, alone)}") from None
        own["data"] = {key: value for key, value in of_data.items() if key not in more}
    return parse(merged(base, own))


def parse(values: Mapping[str, Any]) -> Config:
    """A checked Config from plain values.

    Raises:
        SettingError: in one short message, with the setting's path, what was given and what is allowed.
    """
    try:
        return Config.model_validate(dict(values))
    except ValidationError as error:
        raise SettingError(explain(error, Config)) from None
