"""Settings of the `data` options that are images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from mlplab.config.splitting import DataSettings

EMNIST_CLASSES = {"balanced": 47, "letters": 26, "digits": 10}


class ImageSettings(DataSettings):
    """Shared by all images: uint8 in memory, scaled batch by batch on the device.

    `scaling` works on whole channels: `standard` by their mean and standard deviation over the training part, `minmax`
    by their least and largest value, `none` divides by 255.
    """

    scaling: Literal["standard", "minmax", "none"]
    """Scaling of the pixels, fitted on the training part only."""
    device_resident: Literal["auto"] | bool
    """Keep the training part in the memory of the device that trains, or let `workers` hand over pinned batches; auto:
    keep it on a GPU whose free memory is twice its size, and always on a CPU."""
    workers: NonNegativeInt
    """Processes that fetch batches where the data is not device-resident."""


class OfficialImages(ImageSettings):
    """Images with a test part of their own, which stays as it is: validation comes out of the training part."""

    brings_test: ClassVar[bool] = True

    root: str
    """Folder of the data sets, in torchvision's layout."""
    download: bool
    """Fetch the files if they are not there."""
    validation: NonNegativeInt
    """Images of the training part that validate instead of training."""
    validation_rows: Literal["random", "last"]
    """Which: drawn by `split_seed` (with `stratified` alike from each class), or the last ones of the file."""

    @model_validator(mode="after")
    def _official(self) -> OfficialImages:
        name: str = self.name  # type: ignore[attr-defined]
        for setting in ("split", "folds"):
            if getattr(self, setting) is not None:
                raise ValueError(
                    f"data.{setting}={getattr(self, setting)} does not fit data={name}, which has a test part of its "
                    "own; data.validation=<number of training images> says what validates"
                )
        return self


class Mnist(OfficialImages):
    """28x28 grey images of 10 classes: clothes (Xiao 2017), digits (LeCun 1998), Japanese letters (Clanuwat 2018)."""

    known_classes: ClassVar[int | None] = 10
    name: Literal["fashion_mnist", "mnist", "kmnist"]


class Emnist(OfficialImages):
    """28x28 grey handwritten letters and digits (Cohen et al. 2017)."""

    name: Literal["emnist"]
    subset: Literal["balanced", "letters", "digits"]
    """47 classes of letters and digits, the 26 letters, or the 10 digits."""


class Cifar(OfficialImages):
    """32x32 colour photographs of 10 or 100 classes (Krizhevsky 2009)."""

    name: Literal["cifar10", "cifar100"]


class DigitsImages(ImageSettings):
    """1797 handwritten digits as 8x8 images, 10 classes (scikit-learn)."""

    known_classes: ClassVar[int | None] = 10
    name: Literal["digits_images"]


class ImageFolder(ImageSettings):
    """Your own images, as `train/<class>/*.png|jpg` and, if you have one, `test/<class>/*`.

    With a test folder the test part is that; `split`'s first two shares then divide the training folder.
    """

    name: Literal["image_folder"]
    root: str
    """Folder that holds `train` and perhaps `test`."""
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    """Height and width that every image is resized to."""
    color: Literal["grey", "rgb"]
    """Channels that every image is converted to."""
    on_bad_file: Literal["error", "skip"]
    """What to do with files that cannot be read: list and refuse them, or list and leave them out."""
    cache: str | None
    """Folder of the decoded images; null is `.mlplab` inside the root."""
