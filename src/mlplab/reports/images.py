"""Pictures of image data: samples, what augmentation does, the worst mistakes, first-layer weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlplab.reports.events import EventFile

Pixels = NDArray[np.uint8]

SHOWN = 64
"""Images of a grid, and units of the first layer, that are shown at most."""
WORST = 25
"""Mistakes that are shown at most."""
LEAST_SIDE = 56
"""Images are magnified by a whole number to about so many pixels."""


def grid(images: Pixels, columns: int = 8, border: int = 1) -> Pixels:
    """Images side by side, magnified, with a grey border.

    Args:
        images: uint8, shape (images, channels, height, width).

    Returns:
        uint8, shape (height, width, channels).
    """
    n, channels, height, width = images.shape
    by = max(1, round(LEAST_SIDE / max(height, width)))
    tiles = images.repeat(by, axis=2).repeat(by, axis=3).transpose(0, 2, 3, 1)
    columns = min(columns, n)
    rows = -(-n // columns)
    tall, wide = height * by + border, width * by + border
    sheet = np.full((rows * tall + border, columns * wide + border, channels), 128, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * tall + border, i % columns * wide + border
        sheet[top : top + height * by, left : left + width * by] = tile
    return sheet


def before_after(before: Pixels, after: Pixels, columns: int = 8) -> Pixels:
    """Rows of images, each with the row of what became of them below it; shapes as in `grid`."""
    columns = min(columns, len(before))
    missing = np.full((-len(before) % columns, *before.shape[1:]), 128, np.uint8)
    whole = [np.concatenate([images, missing]) for images in (before, after)]
    pairs = [images[i : i + columns] for i in range(0, len(whole[0]), columns) for images in whole]
    return grid(np.concatenate(pairs), columns)


def weights_as_images(weights: NDArray[Any], shape: tuple[int, int, int]) -> Pixels:
    """First-layer weights of each unit as an image: grey is 0, white the unit's largest weight, black minus that.

    Args:
        weights: shape (units, channels * height * width).
        shape: (channels, height, width).

    Returns:
        uint8, shape (units, channels, height, width).
    """
    largest = np.abs(weights).max(1, keepdims=True)
    scaled = weights / np.where(largest > 0, largest, 1)
    return (127.5 + 127.5 * scaled).round().astype(np.uint8).reshape(-1, *shape)


def worst_mistakes(targets: NDArray[Any], probs: NDArray[Any], n: int = WORST) -> NDArray[Any]:
    """Row numbers of the wrongly told rows, the surest mistakes first.

    Args:
        targets: shape (rows,). probs: shape (rows, n_classes).
    """
    predicted = probs.argmax(1)
    wrong = np.flatnonzero(predicted != targets)
    return wrong[np.argsort(-probs[wrong, predicted[wrong]], kind="stable")][:n]


def mistakes(images: Pixels, targets: NDArray[Any], probs: NDArray[Any], class_names: list[str]) -> Figure:
    """A figure of images under their true class, the predicted class and its probability.

    Args:
        images: uint8, shape (images, channels, height, width). targets: shape (images,). probs: (images, n_classes).
    """
    from matplotlib.figure import Figure

    columns = 5
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(2 * columns, 2.3 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, image, target, shares in zip(axes, images, targets, probs, strict=False):
        predicted = shares.argmax()
        axis.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(
            f"{class_names[target]}, told as\n{class_names[predicted]} ({shares[predicted]:.2f})", fontsize=8
        )
    return figure


class Gallery:
    """Writes a run's pictures to its TensorBoard events; an observer of its training.

    Args:
        file: the run's event file.
        samples: training images, uint8 of shape (images, channels, height, width).
        augmented: the same images as training saw them in its first step, or None.
        every: epochs between two pictures of the first layer.
        resumed: the run goes on, and its samples have been written.
    """

    def __init__(
        self, file: EventFile, samples: Pixels, augmented: Pixels | None, every: int, resumed: bool = False
    ) -> None:
        self.file, self.every = file, every
        self.shape = samples.shape[1:]
        if resumed:
            return
        file.add_image("images/samples", grid(samples), 0)
        if augmented is not None:
            file.add_image("images/augmentation", before_after(samples, augmented), 0)

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        """Pictures are written at the end of epochs."""

    def on_epoch(self, row: Mapping[str, float], classifier: Any) -> None:
        """Now and then write what the first layer looks for."""
        epoch = int(row["epoch"])
        if epoch % self.every == 0:
            self.first_layer(classifier.network, epoch)

    def first_layer(self, network: Any, epoch: int) -> None:
        """Write the first layer's weights, if it is fully connected to the pixels."""
        weights = next((p for p in network.parameters() if p.ndim >= 2), None)
        if weights is not None and weights.ndim == 2 and weights.shape[1] == int(np.prod(self.shape)):
            values = weights.detach()[:SHOWN].float().cpu().numpy()
            self.file.add_image("images/first_layer", grid(weights_as_images(values, self.shape)), epoch)

    def close(self) -> None:
        """The event file is its owner's."""
