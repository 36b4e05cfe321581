"""From raw columns to what a network is given, fitted on the training part only and kept in the checkpoint.

All of it is buffers of numbers: a checkpoint stays plain, and an exported network takes raw columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

Scaling = Literal["standard", "minmax", "robust", "quantile", "none"]
LARGEST = 1e30
"""Scaled values are kept within this, which float32 holds: a row to predict may be far beyond all training rows."""
KNOTS = 1024
"""Quantiles that scaling=quantile keeps of a column, at most."""


class Scaler(nn.Module):
    """(x - center) / 2 / scale (halves do not overflow), column by column, in float64; constant columns become 0."""

    center: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.full((n_features,), 0.5, dtype=torch.float64))

    @classmethod
    def fit(cls, x: np.ndarray, kind: Scaling) -> Scaler:
        """Fit on training rows.

        Args:
            x: features, shape (rows, n_features).
            kind: `standard` gives mean 0 and (population) standard deviation 1, `minmax` gives 0 to 1, `robust`
                median 0 and interquartile range 1 (the whole range where the quartiles are equal).
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
            elif kind == "robust":
                low, center, high = np.quantile(scaled, (0.25, 0.5, 0.75), axis=0)
                scale = np.where(high > low, high - low, scaled.max(0) - scaled.min(0))
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


class Robust(Scaler):
    """Robust scaling, outliers drawn in smoothly: z / sqrt(1 + (z / 3)^2), within -3 and 3 (RealMLP, 2024)."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, n_features) in and out."""
        z = super().forward(x)
        return z / (1 + (z / 3).square()).sqrt()


class Quantile(nn.Module):
    """Ranks among the training rows as a standard normal's quantiles, linear in between, flat beyond the ends.

    A value that occurs many times gets the quantile of the middle of its ranks.

    Args:
        n_knots: values kept of each column; where a column has fewer different ones the rest are infinite.
    """

    knots: Tensor
    scores: Tensor

    def __init__(self, n_features: int, n_knots: int) -> None:
        super().__init__()
        self.register_buffer("knots", torch.zeros(n_features, n_knots, dtype=torch.float64))
        self.register_buffer("scores", torch.zeros(n_features, n_knots, dtype=torch.float64))

    @classmethod
    def fit(cls, x: np.ndarray) -> Quantile:
        """Fit on training rows, shape (rows, n_features)."""
        rows, n_features = x.shape
        n = min(KNOTS, rows)
        made = cls(n_features, n)
        ranks = np.linspace(0, rows - 1, n)
        for column in range(n_features):
            ordered = np.sort(x[:, column])
            knots = np.unique(np.interp(ranks, np.arange(rows), ordered))
            below, upto = np.searchsorted(ordered, knots, "left"), np.searchsorted(ordered, knots, "right")
            scores = torch.special.ndtri(torch.from_numpy((below + upto) / 2 / rows)).numpy()
            pad = n - len(knots)
            made.knots[column] = torch.from_numpy(np.pad(knots, (0, pad), constant_values=np.inf))
            made.scores[column] = torch.from_numpy(np.pad(scores, (0, pad), mode="edge"))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, n_features) in and out."""
        x, n = x.double(), self.knots.shape[1]
        knots, scores = self.knots.T, self.scores.T
        low = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
        step = 1 << max((n - 1).bit_length() - 1, 0)
        while step:  # a binary search of plain steps: searchsorted has no form in ONNX
            there = (low + step).clamp(max=n - 1)
            low = torch.where(x >= knots.gather(0, there), there, low)
            step //= 2
        high = (low + 1).clamp(max=n - 1)
        left, right = knots.gather(0, low), knots.gather(0, high)
        between = right.isfinite() & (right > left)
        share = ((x - left) / torch.where(between, right - left, 1.0)).clamp(0, 1)
        below, above = scores.gather(0, low), scores.gather(0, high)
        return torch.where(between, below + share * (above - below), below)


def fit_scaling(x: np.ndarray, kind: Scaling) -> Scaler | Quantile:
    """The module of a scaling, fitted on training rows without gaps, shape (rows, n_features)."""
    if kind == "quantile":
        return Quantile.fit(x)
    return (Robust if kind == "robust" else Scaler).fit(x, kind)


class Features(nn.Module):
    """From raw columns to features: gaps filled with the median, scaled; where there were gaps; categories.

    Takes (rows, n_numbers + categories), NaN where a number is missing and codes behind (see `Schema`); gives
    (rows, n_features): the scaled numbers, a 1 for each missing number of a column that had gaps in the training rows,
    and of each category either one column of 0 and 1 for every code but 0 (unknown is all zeros), or the code itself,
    for a network that begins with an embedding.

    Args:
        n_numbers: columns that are numbers.
        gaps: which of them get a column that says where they were missing.
        sizes: number of codes of each category, unknown included.
        onehot: whether categories become columns of 0 and 1.
        scaler: for the numbers, without gaps.
    """

    median: Tensor
    gaps: Tensor
    of_column: Tensor
    of_code: Tensor

    def __init__(
        self, n_numbers: int, gaps: Sequence[int], sizes: Sequence[int], onehot: bool, scaler: Scaler | Quantile
    ) -> None:
        super().__init__()
        self.n_numbers, self.sizes, self.onehot, self.scaler = n_numbers, list(sizes), onehot, scaler
        self.register_buffer("median", torch.zeros(n_numbers, dtype=torch.float64))
        self.register_buffer("gaps", torch.tensor(list(gaps), dtype=torch.int64))
        pairs = [(column, code) for column, size in enumerate(sizes) for code in range(1, size)] if onehot else []
        columns, codes = zip(*pairs, strict=True) if pairs else ((), ())
        self.register_buffer("of_column", torch.tensor(columns, dtype=torch.int64) + n_numbers)
        self.register_buffer("of_code", torch.tensor(codes, dtype=torch.float64))

    @classmethod
    def fit(
        cls,
        raw: np.ndarray,
        n_numbers: int,
        sizes: Sequence[int],
        onehot: bool,
        scaling: Scaling,
        whole: Features | None = None,
    ) -> Features:
        """Fit on training rows, shape (rows, n_numbers + categories).

        Args:
            whole: fitted on rows of which these are some: gives the columns that say where there are gaps, so that
                parts of the rows have the same columns, and the median of a column that is all NaN here. Without it
                no column of numbers may be all NaN.
        """
        x = raw[:, :n_numbers]
        missing = np.isnan(x)
        gaps = np.flatnonzero(missing.any(0)) if whole is None else whole.gaps.numpy()
        none = missing.all(0)
        median = np.zeros(n_numbers) if whole is None else whole.median.numpy().copy()
        median[~none] = [np.median(v[~gone]) for v, gone in zip(x.T[~none], missing.T[~none], strict=True)]
        if len(gaps):
            x = np.where(missing, median, x)
        made = cls(n_numbers, gaps.tolist(), sizes, onehot, fit_scaling(x, scaling))
        made.median.copy_(torch.from_numpy(median))
        return made

    @classmethod
    def of_state(
        cls, state: dict[str, Tensor], n_numbers: int, sizes: Sequence[int], onehot: bool, scaling: Scaling
    ) -> Features:
        """As it was when its `state_dict` was taken, as in a checkpoint."""
        scaler: Scaler | Quantile
        if scaling == "quantile":
            scaler = Quantile(*state["scaler.knots"].shape)
        else:
            scaler = (Robust if scaling == "robust" else Scaler)(n_numbers)
        made = cls(n_numbers, state["gaps"].tolist(), sizes, onehot, scaler)
        made.load_state_dict(state)
        return made

    @property
    def n_features(self) -> int:
        """Columns that it gives."""
        return self.n_numbers + len(self.gaps) + (len(self.of_code) if self.onehot else len(self.sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, n_numbers + categories) to (rows, n_features), float64."""
        x = x.double()
        numbers = x[:, : self.n_numbers]
        missing = numbers.isnan()
        scaled = self.scaler(torch.where(missing, self.median, numbers))
        parts = [scaled.clamp(-LARGEST, LARGEST)]
        if len(self.gaps):
            parts.append(missing[:, self.gaps].double())
        if self.onehot and len(self.of_code):
            parts.append((x[:, self.of_column] == self.of_code).double())
        elif self.sizes and not self.onehot:
            parts.append(x[:, self.n_numbers :])
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class SideBySide(nn.Module):
    """The features of several preprocessings of the same raw columns, one beside the other.

    Args:
        dtype: number format of what it gives.
    """

    def __init__(self, parts: Sequence[Features], dtype: torch.dtype) -> None:
        super().__init__()
        self.parts, self.dtype = nn.ModuleList(parts), dtype

    def forward(self, x: Tensor) -> Tensor:
        """Shape (rows, raw columns) to (rows, all features)."""
        return torch.cat([part(x).to(self.dtype) for part in self.parts], 1)
