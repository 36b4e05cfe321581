"""Settings of the group `portfolio`: several settings that are tried in cross-validation within one run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from mlplab.config.base import Settings

OF_CATEGORIES = ("encode", "embedding_width")
PER_SETTING = ("scaling", *OF_CATEGORIES)
"""What a setting of a portfolio may change of `data`: how columns become features, never which rows there are."""

LEAST_ROWS = "least_rows"


class NoPortfolio(Settings):
    """One network, or one ensemble, with the settings as they are."""

    name: Literal["none"]


class TablePortfolio(Settings):
    """Each setting is trained on every fold of the rows that are not test rows; a blend of the best ones answers."""

    name: Literal["table"]
    folds: Annotated[int, Field(ge=2, le=20)]
    """Parts that the rows are cut into; each is predicted by networks that have not seen it."""
    steps: PositiveInt
    """Optimizer steps of each network, about: `trainer.max_epochs` and `min_epochs` bound the epochs they come to."""
    min_epochs: PositiveInt
    """Epochs at least, on large tables."""
    full_lr_rows: PositiveInt
    """Training rows above which `optimizer.lr` falls with the square root of their number."""
    choose: Literal["blend", "best"]
    """`blend`: the folds' networks of the best settings, weighted by greedy selection (Caruana et al. 2004). `best`:
    the first in rank alone, trained again."""
    rounds: PositiveInt
    """Picks of the greedy selection; a setting may be picked again."""
    samples: PositiveInt
    """Bootstrap samples of the rows on each of which the selection is made; their weights are averaged."""
    refits: PositiveInt
    """With `choose=best`: networks of that setting that are trained on all rows, and answer."""
    settings: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=100)]
    """Name -> the settings in which it differs from the run's own, and `least_rows`, the training rows it is for."""

    @field_validator("settings")
    @classmethod
    def _rows(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, own in settings.items():
            least = own.get(LEAST_ROWS, 1)
            if not isinstance(least, int) or isinstance(least, bool) or least < 1:
                raise ValueError(f"portfolio.settings.{name}.{LEAST_ROWS}={least} is not a whole number of at least 1")
        return settings

    def for_rows(self, n_rows: int) -> list[str]:
        """Names of the settings for tables of so many training rows."""
        return [name for name, own in self.settings.items() if n_rows >= own.get(LEAST_ROWS, 1)]


Portfolio = Annotated[NoPortfolio | TablePortfolio, Field(discriminator="name")]


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A run's settings with those of one of its portfolio; an option with a `name` takes the place of a whole group."""
    values = dict(base)
    for key, value in own.items():
        old = values.get(key)
        values[key] = (
            merged(old, value) if isinstance(old, dict) and isinstance(value, dict) and "name" not in value else value
        )
    return values
