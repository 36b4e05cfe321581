"""Augmentation of image batches: on the device, every image by draws of its own, addressed by step and position.

All functions take uint8 images and return uint8 images. Leading dimensions are free: with keys of several networks the
images are `(networks, images, channels, height, width)`, and network m's are treated as they would be alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mlplab import randomness
from mlplab.config.augmentation import Augmentation, Crop, Erase, Flip, Noise, Rotate, Shift
from mlplab.randomness import Key


def addresses(settings: Augmentation, seed: int, step: int) -> dict[str, Key]:
    """Where each chosen augmentation takes its draws from at a step."""
    return {name: randomness.at(randomness.key(seed, "augmentation", name), step) for name in settings.chosen}


def augment(x: Tensor, settings: Augmentation, address: Mapping[str, Key], first_row: int = 0) -> Tensor:
    """The chosen augmentations, one after the other.

    Args:
        x: uint8, shape (..., images, channels, height, width).
        address: a key for each name in `settings.chosen`, from `addresses`.
        first_row: place of the first image in the batch that all processes share.
    """
    for name in settings.chosen:
        x = AUGMENTATIONS[name](x, getattr(settings, name), address[name], first_row)
    return x


def _draws(address: Key, n: int, x: Tensor, first_row: int) -> Tensor:
    """n uniform draws for each image: float64 of shape (n, all images)."""
    images = x.shape[-4]
    of_images = randomness.uniform(address, (first_row + images, n), x.device)[..., first_row:, :]
    return of_images.reshape(-1, n).T


def _whole(u: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Whole numbers from low to high, both included, from uniform draws."""
    return (low + (u * (high - low + 1)).floor()).long()


def flip(x: Tensor, settings: Flip, address: Key, first_row: int = 0) -> Tensor:
    """Mirrored where the image's draw is below p."""
    (u,) = _draws(address, 1, x, first_row)
    mirrored = x.flip(-1 if settings.direction == "horizontal" else -2)
    return torch.where((u < settings.p).view(*x.shape[:-3], 1, 1, 1), mirrored, x)


def shift(x: Tensor, settings: Shift, address: Key, first_row: int = 0) -> Tensor:
    """Moved by whole pixels, uniform from -pixels to pixels in both directions."""
    u, v = _draws(address, 2, x, first_row)
    channels, height, width = x.shape[-3:]
    down, right = _whole(u, -settings.pixels, settings.pixels), _whole(v, -settings.pixels, settings.pixels)
    rows = torch.arange(height, device=x.device) - down[:, None]
    columns = torch.arange(width, device=x.device) - right[:, None]
    seen = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    flat = x.reshape(-1, channels, height * width)
    moved = flat.gather(2, source.flatten(1).unsqueeze(1).expand(flat.shape))
    return (moved * seen.flatten(1).unsqueeze(1)).view(x.shape)


def rotate(x: Tensor, settings: Rotate, address: Key, first_row: int = 0) -> Tensor:
    """Turned by an angle that is uniform from -degrees to degrees."""
    (u,) = _draws(address, 1, x, first_row)
    angle = (2 * u - 1) * math.radians(settings.degrees)
    height, width = x.shape[-2:]
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    # in coordinates from -1 to 1, so a turn of pixels has to know the image's shape
    rows = [[cosine, -sine * (height / width), zero], [sine * (width / height), cosine, zero]]
    return _resampled(x, torch.stack([torch.stack(row, -1) for row in rows], -2))


def crop(x: Tensor, settings: Crop, address: Key, first_row: int = 0) -> Tensor:
    """A window whose sides are uniform from `least` to 1 of the image's, anywhere inside it, at full size."""
    side = settings.least
    u, v, across, down = _draws(address, 4, x, first_row)
    width, height = side + (1 - side) * u, side + (1 - side) * v
    zero = torch.zeros_like(u)
    rows = [[width, zero, (2 * across - 1) * (1 - width)], [zero, height, (2 * down - 1) * (1 - height)]]
    return _resampled(x, torch.stack([torch.stack(row, -1) for row in rows], -2))


def _resampled(x: Tensor, theta: Tensor) -> Tensor:
    """Pixels of x at affinely mapped places, bilinear, black outside; theta is (all images, 2, 3)."""
    flat = x.reshape(-1, *x.shape[-3:]).float()
    grid = F.affine_grid(theta.float(), list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, align_corners=False).round_().to(x.dtype).view(x.shape)


def erase(x: Tensor, settings: Erase, address: Key, first_row: int = 0) -> Tensor:
    """Black in a rectangle of 1 pixel to `largest` of each side, anywhere inside, where the image's draw is below p."""
    chance, u, v, down, across = _draws(address, 5, x, first_row)
    height, width = x.shape[-2:]
    tall = _whole(u, 1, max(1, round(settings.largest * height)))
    wide = _whole(v, 1, max(1, round(settings.largest * width)))
    top, left = _whole(down, 0, height - tall), _whole(across, 0, width - wide)
    i, j = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    inside_rows = (i >= top[:, None]) & (i < (top + tall)[:, None])
    inside_columns = (j >= left[:, None]) & (j < (left + wide)[:, None])
    gone = inside_rows[:, :, None] & inside_columns[:, None, :] & (chance < settings.p)[:, None, None]
    return x * ~gone.view(*x.shape[:-3], 1, height, width)


def noise(x: Tensor, settings: Noise, address: Key, first_row: int = 0) -> Tensor:
    """Normal noise on each pixel, rounded and kept within 0 to 255."""
    images, pixels = x.shape[-4], math.prod(x.shape[-3:])
    normal = randomness.normal(address, (first_row + images, pixels), x.device)[..., first_row:, :].reshape(x.shape)
    return (x + normal * (255 * settings.std)).round_().clamp_(0, 255).to(x.dtype)


AUGMENTATIONS: dict[str, Callable[[Tensor, Any, Key, int], Tensor]] = {
    "flip": flip,
    "rotate": rotate,
    "crop": crop,
    "shift": shift,
    "erase": erase,
    "noise": noise,
}
