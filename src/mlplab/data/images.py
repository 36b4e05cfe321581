"""The images that `data=<name>` can name: each is one function from its settings to Images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlplab.config.base import SettingError
from mlplab.config.images import DigitsImages, Emnist, OfficialImages
from mlplab.data.bundled import bundled
from mlplab.data.folder import read_folder


@dataclass(frozen=True)
class Images:
    """Images as they were read, before any split."""

    x: Tensor
    """uint8 of shape (images, channels, height, width); the official test images, if any, come last."""
    y: np.ndarray
    """Class of each image, int64 of shape (images,), from 0 to n_classes - 1."""
    class_names: list[str]
    n_test: int | None
    """Number of official test images; None where there is no official test part."""
    digest: str | None = None
    """Hash of the pixels where it is already known."""


def official(settings: OfficialImages) -> Images:
    """A data set by torchvision's own class, training and test part one after the other."""
    from torchvision import datasets  # over a second to import

    kind = getattr(datasets, _CLASSES[settings.name])  # type: ignore[attr-defined]
    options: dict[str, str] = {"split": settings.subset} if isinstance(settings, Emnist) else {}
    parts = _read(kind, options, settings)
    x = torch.cat([_as_images(part.data) for part in parts])
    y = np.concatenate([np.asarray(part.targets, dtype=np.int64) for part in parts])
    names = [str(name).split(" - ")[0] for name in parts[0].classes]
    if isinstance(settings, Emnist):
        x = x.transpose(2, 3).contiguous()  # the files hold each image mirrored at its diagonal
        if settings.subset == "letters":  # counted from 1; class 0 is a place holder
            y, names = y - 1, names[1:]
    return Images(x, y, names, len(parts[1]))


_CLASSES = {
    "fashion_mnist": "FashionMNIST",
    "mnist": "MNIST",
    "kmnist": "KMNIST",
    "emnist": "EMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}


def _as_images(data: Any) -> Tensor:
    x = torch.as_tensor(data)
    return x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()


def _read(kind: Any, options: dict[str, str], settings: OfficialImages) -> list[Any]:
    """Training and test part from data.root, or from MLPLAB_DATA for a run that was trained elsewhere."""
    looked_in: list[Path] = []
    causes = set()
    for given in dict.fromkeys([settings.root, os.environ.get("MLPLAB_DATA", settings.root)]):
        root = Path(given).expanduser().absolute()
        try:
            return [kind(root, train=train, **options) for train in (True, False)]
        except (RuntimeError, OSError, ValueError, EOFError) as error:
            looked_in.append(root)
            causes.add(str(error).strip().splitlines()[0][:150])
    if settings.download:
        try:
            return [kind(looked_in[0], train=train, download=True, **options) for train in (True, False)]
        except Exception as error:  # no network, no right to write, a mirror that is down: all end alike
            causes.add(f"download failed: {str(error).strip().splitlines()[0][:150]}")
    name: str = settings.name  # type: ignore[attr-defined]
    raise SettingError(
        f"data={name}: its files are not in {' or '.join(str(_place_of(kind, r)) for r in looked_in)} "
        f"({'; '.join(sorted(causes))}). Put {_FILES[name]} there, choose another folder with data.root=<folder> or "
        f"the environment variable MLPLAB_DATA{'' if settings.download else ', or set data.download=true'}."
    )


def _place_of(kind: Any, root: Path) -> Path:
    return root if kind.__name__.startswith("CIFAR") else root / kind.__name__ / "raw"


_IDX = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (unpacked)"
_FILES = {
    "fashion_mnist": _IDX,
    "mnist": _IDX,
    "kmnist": _IDX,
    "emnist": "the files emnist-<subset>-{train,test}-{images-idx3,labels-idx1}-ubyte (unpacked)",
    "cifar10": "the folder cifar-10-batches-py",
    "cifar100": "the folder cifar-100-python",
}


def digits(settings: DigitsImages) -> Images:
    """scikit-learn's digits; their 17 grey levels are spread over 0 to 255."""
    x, y, _, classes = bundled("digits")
    images = np.round(x * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return Images(torch.from_numpy(images), y, classes, None)


def folder(settings: Any) -> Images:
    """A person's own images."""
    return Images(*read_folder(settings))


READERS: dict[str, Callable[[Any], Images]] = {
    **dict.fromkeys(_CLASSES, official),
    "digits_images": digits,
    "image_folder": folder,
}


def channel_names(n: int) -> list[str]:
    """Names of the channels, as prefixes of pixel names."""
    return [""] if n == 1 else ["red ", "green ", "blue "]


def pixel_names(shape: torch.Size) -> list[str]:
    """`row,column` of each pixel, with its channel in front where there are three.

    Args:
        shape: (channels, height, width).
    """
    channels, height, width = shape
    return [f"{c}{i},{j}" for c in channel_names(channels) for i in range(height) for j in range(width)]


def shape_of(names: list[str]) -> tuple[int, int, int]:
    """(channels, height, width) of images with these pixel names."""
    row, column = names[-1].split()[-1].split(",")
    height, width = int(row) + 1, int(column) + 1
    return len(names) // (height * width), height, width
