"""Settings of the group `embedding`: what each numeric column becomes before the network's first layer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from mlplab.config.base import Settings

Size = Annotated[int, Field(gt=0, le=1024)]


class NoEmbedding(Settings):
    """Numbers as they are scaled."""

    name: Literal["none"]

    @property
    def width(self) -> int:
        """Units that a column becomes, beside its value."""
        return 0

    @property
    def encoded(self) -> int:
        """Features that a column's own layer is given."""
        return 0


class Periodic(Settings):
    """Sines and cosines at learned frequencies, then a linear layer and ReLU for each column ("PLR")."""

    name: Literal["periodic"]
    frequencies: Size
    """Frequencies of each column."""
    scale: PositiveFloat
    """Standard deviation of the initial frequencies, in cycles a unit of the scaled column."""
    width: Size
    """Units that a column becomes, beside its value."""

    @property
    def encoded(self) -> int:
        """Features that a column's own layer is given."""
        return 2 * self.frequencies


class PiecewiseLinear(Settings):
    """Place among the quantile bins of the training rows, then a linear layer and ReLU for each column."""

    name: Literal["piecewise_linear"]
    bins: Size
    """Bins of each column; a column of few different values has fewer."""
    width: Size
    """Units that a column becomes, beside its value."""

    @property
    def encoded(self) -> int:
        """Features that a column's own layer is given."""
        return self.bins


Embedding = Annotated[NoEmbedding | Periodic | PiecewiseLinear, Field(discriminator="name")]
