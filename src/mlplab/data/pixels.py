"""From uint8 images to what a network is given, batch by batch, with statistics of the training part."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """(x - center) / scale, channel by channel: the images' Scaler, for uint8 batches on any device.

    Args:
        n_channels: 1 or 3.
        dtype: number format of the output.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, n_channels: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_channels, 1, 1, dtype=dtype))
        self.register_buffer("scale", torch.full((n_channels, 1, 1), 255.0, dtype=dtype))

    @classmethod
    def fit(cls, x: Tensor, kind: Literal["standard", "minmax", "none"], dtype: torch.dtype = torch.float32) -> Pixels:
        """Fit on training images.

        Args:
            x: uint8, shape (images, channels, height, width).
            kind: `standard` gives each channel mean 0 and standard deviation 1, `minmax` 0 to 1 by the least and
                largest value in the training part, `none` divides by 255.
        """
        pixels = cls(x.shape[1], dtype)
        if kind == "none":
            return pixels
        values = torch.arange(256, dtype=torch.float64)
        for channel in range(x.shape[1]):
            counts = histogram(x[:, channel]).double()
            share = counts / counts.sum()
            present = values[counts > 0]
            if kind == "standard":
                center = (share * values).sum()
                scale = (share * (values - center).square()).sum().sqrt()
            else:
                center, scale = present[0], present[-1] - present[0]
            pixels.center[channel] = center
            pixels.scale[channel] = scale if len(present) > 1 else 1.0  # a channel of one value becomes 0
        return pixels

    def forward(self, x: Tensor) -> Tensor:
        """Shape (..., channels, height, width) in and out."""
        return x.to(self.center.dtype).sub_(self.center).div_(self.scale)


def histogram(x: Tensor) -> Tensor:
    """How often each of the 256 values occurs in a uint8 tensor: exact, and without a copy of it as numbers."""
    total = torch.zeros(256, dtype=torch.int64)
    for chunk in x.split(4096):
        total += torch.bincount(chunk.reshape(-1), minlength=256)
    return total
