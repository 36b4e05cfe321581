"""Settings of the group `augmentation`: what training does to each image anew at every step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from mlplab.config.base import Settings
from mlplab.config.splitting import Unit


class Flip(Settings):
    """Mirrors some of the images."""

    p: Unit
    """Share of the images that are mirrored."""
    direction: Literal["horizontal", "vertical"]
    """Left and right change places, or top and bottom."""


class Rotate(Settings):
    """Turns each image about its centre, with bilinear interpolation; what comes into view is black."""

    degrees: Annotated[float, Field(ge=0, le=180)]
    """Largest angle, to either side."""


class Crop(Settings):
    """Cuts a window out of each image and stretches it to the full size, with bilinear interpolation."""

    least: Annotated[float, Field(gt=0, le=1)]
    """Least share of the height and of the width that is kept."""


class Shift(Settings):
    """Moves each image by whole pixels; what comes into view is black."""

    pixels: NonNegativeInt
    """Largest distance, up or down and left or right."""


class Erase(Settings):
    """Blackens a rectangle in some of the images (DeVries and Taylor 2017; Zhong et al. 2020)."""

    p: Unit
    """Share of the images that lose a rectangle."""
    largest: Annotated[float, Field(gt=0, le=1)]
    """Largest share of the height and of the width that it covers."""


class Noise(Settings):
    """Adds normal noise to every pixel."""

    std: NonNegativeFloat
    """Standard deviation, where 1 is the step from black to white."""


class Augmentation(Settings):
    """Any of them together, in this order; one that is absent is off."""

    flip: Flip | None = None
    rotate: Rotate | None = None
    crop: Crop | None = None
    shift: Shift | None = None
    erase: Erase | None = None
    noise: Noise | None = None

    @property
    def chosen(self) -> list[str]:
        """Names of those that are on, in the order in which they act."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]
