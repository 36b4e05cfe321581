"""Scaling of the features, fitted on the training part only and kept in the checkpoint."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """(x - center) / 2 / scale (halves do not overflow), column by column, in float64; constant columns become 0."""

    center: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.full((n_features,), 0.5, dtype=torch.float64))

    @classmethod
    def fit(cls, x: np.ndarray, kind: Literal["standard", "minmax", "none"]) -> Scaler:
        """Fit on training rows.

        Args:
            x: features, shape (rows, n_features).
            kind: `standard` gives mean 0 and (population) standard deviation 1, `minmax` gives 0 to 1.
        """
        scaler = cls(x.shape[1])
        if kind != "none":
            # halved before subtracting: the spread of columns near the largest float64 would overflow
            low, high = x.min(0), x.max(0)
            largest = np.maximum(np.abs(low), np.abs(high))
            unit = np.where(largest > 0, largest, 1.0)
            scaled = x / unit
            if kind == "standard":
                center, scale = scaled.mean(0), scaled.std(0)
            else:
                center, scale = scaled.min(0), scaled.max(0) - scaled.min(0)
            constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(center)
            scaler.center.copy_(torch.from_numpy(center * unit))
            scaler.scale.copy_(torch.from_numpy(np.where(constant, 1.0, scale) * (unit / 2)))
            if constant.any():  # exactly 0, not a rounding error over 1
                scaler.scale[torch.from_numpy(constant)] = float("inf")
        return scaler

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, n_features) in and out."""
        return (x.double() / 2 - self.center / 2) / self.scale
