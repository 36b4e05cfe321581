"""Data ready to train on: split, scaled, as tensors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mlplab.config.base import SettingError
from mlplab.config.data import DataSettings
from mlplab.data.preprocess import Scaler
from mlplab.data.splits import split
from mlplab.data.tables import Table, read


@dataclass(frozen=True)
class Part:
    """One part of the data: train, val or test."""

    x: Tensor
    """What the network is given, shape (rows, n_features)."""
    y: Tensor
    """Class of each row, int64 of shape (rows,)."""
    rows: np.ndarray
    """Number of each row in the data set as it was read."""

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Part:
        """The same part on a device."""
        return Part(self.x.to(device), self.y.to(device), self.rows)

    def inputs(self, x: Tensor) -> Tensor:
        """What the network is given of some rows of x."""
        return x


@dataclass(frozen=True)
class Prepared:
    """A data set split and scaled, with what a checkpoint must keep of it."""

    parts: dict[str, Part]
    preprocess: nn.Module
    """From raw features to what the network is given."""
    feature_names: list[str]
    class_names: list[str]
    fingerprint: str
    """Hash of the raw values, the classes and the split: two runs with the same one saw the same data."""
    raw: np.ndarray
    """Features as they were read, shape (rows, n_features)."""

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def describe(self) -> dict[str, object]:
        """What result.json says of the data."""
        return {
            "rows": {name: len(part) for name, part in self.parts.items()},
            "features": self.n_features,
            "classes": self.class_names,
            "fingerprint": self.fingerprint,
        }


def prepare(settings: DataSettings, dtype: torch.dtype = torch.float32) -> Prepared:
    """Read, split and scale the data set that the settings name.

    Raises:
        SettingError: the data cannot be read or split as the settings ask.
    """
    table = read(settings)
    if table.parts and settings.folds is not None:
        raise SettingError(
            f"these data bring their own split, so data.folds={settings.folds} cannot be; "
            "use data.folds=null data.fold=null"
        )
    rows = table.parts or split(table.y, table.class_names, settings)
    preprocess = Scaler.fit(table.x[rows["train"]], settings.scaling)
    parts = {}
    for name, which in rows.items():
        x = preprocess(torch.from_numpy(table.x[which])).to(dtype).contiguous()
        parts[name] = Part(x, torch.from_numpy(table.y[which]), which)
    return Prepared(parts, preprocess, table.feature_names, table.class_names, _fingerprint(table, rows), table.x)


def _fingerprint(table: Table, rows: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in (table.x, table.y, *rows.values()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
