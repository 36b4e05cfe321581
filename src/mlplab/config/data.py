"""Settings of the `data` group: which rows. How they are split and batched is in `mlplab.config.splitting`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from mlplab.config.base import Target
from mlplab.config.images import EMNIST_CLASSES, Cifar, DigitsImages, Emnist, ImageFolder, Mnist, OfficialImages
from mlplab.config.splitting import DataSettings, Unit
from mlplab.config.tables import TableFile

__all__ = ["CustomData", "Data", "DataSettings", "Spirals", "Synthetic", "TableFile", "Xor", "n_classes_before_reading"]


class Wine(DataSettings):
    """178 wines, 13 measurements, 3 growers (scikit-learn)."""

    known_classes = 3
    name: Literal["wine"]


class Iris(DataSettings):
    """150 flowers, 4 lengths, 3 species (scikit-learn)."""

    known_classes = 3
    name: Literal["iris"]


class BreastCancer(DataSettings):
    """569 tumours, 30 measurements, malignant or benign (scikit-learn)."""

    known_classes = 2
    name: Literal["breast_cancer"]


class Digits(DataSettings):
    """1797 handwritten digits of 8x8 pixels as 64 columns, 10 classes (scikit-learn)."""

    known_classes = 10
    name: Literal["digits"]


class Generated(DataSettings):
    """Shared by the data sets made on the spot."""

    samples: PositiveInt
    """Rows to make."""
    seed: NonNegativeInt
    """Seed of the making, apart from the run's seed and the split's."""


class Synthetic(Generated):
    """scikit-learn's make_classification: Gaussian clusters on the corners of a hypercube."""

    name: Literal["synthetic"]
    features: PositiveInt
    """Columns in all."""
    informative: PositiveInt
    """Columns that carry the class."""
    redundant: NonNegativeInt
    """Columns that are linear mixtures of the informative ones."""
    classes: Annotated[int, Field(ge=2)]
    """Number of classes."""
    clusters_per_class: PositiveInt
    """Gaussian clusters of each class."""
    class_separation: NonNegativeFloat
    """Length of the hypercube's half side: larger is easier."""
    label_noise: Unit
    """Share of rows whose class is drawn at random."""

    @model_validator(mode="after")
    def _columns(self) -> Synthetic:
        if self.informative + self.redundant > self.features:
            raise ValueError(
                f"data.informative={self.informative} and data.redundant={self.redundant} need more columns than "
                f"data.features={self.features}; raise data.features or lower the others"
            )
        if 2**self.informative < self.classes * self.clusters_per_class:
            raise ValueError(
                f"data.classes={self.classes} with data.clusters_per_class={self.clusters_per_class} need "
                f"{self.classes * self.clusters_per_class} corners, but data.informative={self.informative} columns "
                f"have only {2**self.informative}; raise data.informative"
            )
        return self


class Xor(Generated):
    """Exclusive or: `samples=4 noise=0` is the four points, all of them in every part; more make a cloud."""

    known_classes = 2
    name: Literal["xor"]
    noise: NonNegativeFloat
    """Standard deviation of each point around its corner."""

    @model_validator(mode="after")
    def _corners(self) -> Xor:
        if self.samples < 4:
            raise ValueError(f"data.samples={self.samples}: xor has four corners; 4 is the least")
        return self


class Moons(Generated):
    """Two interleaving half circles (scikit-learn)."""

    known_classes = 2
    name: Literal["moons"]
    noise: NonNegativeFloat
    """Standard deviation of the noise on each coordinate."""


class Circles(Generated):
    """A circle inside a circle (scikit-learn)."""

    known_classes = 2
    name: Literal["circles"]
    noise: NonNegativeFloat
    """Standard deviation of the noise on each coordinate."""
    factor: Annotated[float, Field(gt=0, lt=1)]
    """Radius of the inner circle; the outer one's is 1."""


class Spirals(Generated):
    """Arms of a spiral, one class each: a small net's hard test."""

    name: Literal["spirals"]
    noise: NonNegativeFloat
    """Standard deviation of the noise on each coordinate."""
    arms: Annotated[int, Field(ge=2)]
    """Number of arms, which is the number of classes."""
    turns: Annotated[float, Field(gt=0)]
    """Turns of each arm around the centre."""


class CustomData(DataSettings, Target):
    """A function of your own that returns (x, y): arrays of shape (rows, features) and (rows,)."""

    name: Literal["custom"]


Data = Annotated[
    Wine
    | Iris
    | BreastCancer
    | Digits
    | Synthetic
    | Xor
    | Moons
    | Circles
    | Spirals
    | CustomData
    | TableFile
    | Mnist
    | Emnist
    | Cifar
    | DigitsImages
    | ImageFolder,
    Field(discriminator="name"),
]


def n_classes_before_reading(data: DataSettings) -> int | None:
    """Number of classes where the settings alone tell it, otherwise None."""
    if isinstance(data, Synthetic):
        return data.classes
    if isinstance(data, Spirals):
        return data.arms
    if isinstance(data, Emnist):
        return EMNIST_CLASSES[data.subset]
    if isinstance(data, Cifar):
        return 100 if data.name == "cifar100" else 10
    return data.known_classes


def validates(data: DataSettings) -> bool:
    """Whether the settings leave rows to validate on."""
    if isinstance(data, OfficialImages):
        return data.validation > 0
    return data.split is None or data.fractions[1] > 0
