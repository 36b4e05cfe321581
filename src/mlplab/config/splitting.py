"""Settings that every data set has: how its rows are split, scaled and batched."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from mlplab.config.base import Settings

Fraction = Annotated[float, Field(ge=0, lt=1)]
Unit = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Settings):
    """Shared by every data set."""

    known_classes: ClassVar[int | None] = None
    """Number of classes where it is known before anything is read; lets a loss be checked without torch."""

    brings_test: ClassVar[bool] = False
    """Whether the test part is given, so that there is nothing to split off."""

    split: Annotated[list[Fraction], Field(min_length=2, max_length=3)] | None
    """Fractions [train, validation, test], or [train, test] to go without validation; they sum to 1. null where the
    data has a test part of its own."""
    split_seed: NonNegativeInt
    """Seed of the split alone: changing `seed` never moves a row from one part to another."""
    stratified: bool
    """Keep each class's share the same in every part."""
    folds: Annotated[int, Field(ge=2)] | None
    """Number of cross-validation folds; the test part is then fold `fold`."""
    fold: NonNegativeInt | None
    """Which fold is the test part, counted from 0."""
    batch_size: PositiveInt | Literal["full"]
    """Rows in a step; `full` is batch gradient descent, 1 is stochastic gradient descent."""
    scaling: Literal["standard", "minmax", "robust", "quantile", "none"]
    """Scaling of the features, fitted on the training part only: by mean and standard deviation, to 0 to 1, by median
    and quartiles with outliers drawn in, or by ranks to a normal distribution."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSettings:
        if self.split is None:
            if not self.brings_test:
                raise ValueError("data.split=null is for data with a test part of its own; give fractions")
            return self
        if not math.isclose(sum(self.split), 1.0, abs_tol=1e-6):
            raise ValueError(f"data.split={self.split} sums to {sum(self.split):g}; the fractions must sum to 1")
        if self.split[0] == 0 or self.split[-1] == 0:
            raise ValueError(f"data.split={self.split} leaves no rows to train on or to test on; both need a share")
        if (self.folds is None) != (self.fold is None):
            raise ValueError(
                f"data.folds={self.folds} and data.fold={self.fold} belong together: "
                "set both, as in data.folds=5 data.fold=0, or neither"
            )
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(
                f"data.fold={self.fold} does not exist with data.folds={self.folds}; "
                f"folds are counted from 0, so 0 to {self.folds - 1} are allowed"
            )
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """(train, validation, test), validation 0 where the split has two numbers."""
        assert self.split is not None, "the data has a test part of its own"
        first, *middle, last = self.split
        return first, middle[0] if middle else 0.0, last
