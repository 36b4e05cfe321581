"""Settings of the groups `ensemble` and `calibration`: what stands around the network to make its answer better."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlplab.config.base import Settings


class Independent(Settings):
    """Several networks whose probabilities are averaged (Lakshminarayanan et al. 2017); 1 is one plain network."""

    name: Literal["independent"]
    size: Annotated[int, Field(ge=1, le=1000)]
    """Networks; each has its own initial weights, order of rows and draws, the first those of a run alone."""

    @property
    def networks(self) -> int:
        """Networks that are trained, each by itself."""
        return self.size

    @property
    def packed(self) -> int:
        """Members inside of a network."""
        return 1


class Packed(Settings):
    """Members inside of one network that share its hidden weights (Gorishniy, Kotelnikov and Babenko 2025)."""

    name: Literal["packed"]
    size: Annotated[int, Field(ge=1, le=1000)]
    """Members; each has scales in front of and behind every hidden layer's weights, biases and an output layer."""

    @property
    def networks(self) -> int:
        """Networks that are trained, each by itself."""
        return 1

    @property
    def packed(self) -> int:
        """Members inside of a network."""
        return self.size


Ensemble = Annotated[Independent | Packed, Field(discriminator="name")]


class Calibration(Settings):
    """`temperature` divides the logits by one number, fitted on the validation part (Guo et al. 2017)."""

    name: Literal["none", "temperature"]
