"""Data ready to train on: split, as tensors; tables scaled already, images as uint8 with what scales a batch."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlplab.config.base import SettingError
from mlplab.config.data import DataSettings
from mlplab.config.images import ImageSettings
from mlplab.config.tables import TableFile
from mlplab.data import images, memory
from mlplab.data.pixels import Pixels
from mlplab.data.preprocess import Features
from mlplab.data.schema import Schema
from mlplab.data.splits import official_split, split
from mlplab.data.tables import read
from mlplab.data.understood import feature_names, understood

ROWS_AT_ONCE = 1 << 16
"""Rows that are preprocessed at a time, in float64."""


@dataclass(frozen=True)
class Part:
    """One part of the data: train, val or test."""

    x: Tensor
    """Tables: what the network is given, shape (rows, n_features). Images: uint8 (rows, channels, height, width)."""
    y: Tensor
    """Class of each row, int64 of shape (rows,)."""
    rows: np.ndarray
    """Number of each row in the data set as it was read."""
    preprocess: nn.Module | None = None
    """From a batch of x, on its device, to what the network is given; None where x is that already."""

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device: torch.device) -> Part:
        """The same part on a device."""
        preprocess = None if self.preprocess is None else copy.deepcopy(self.preprocess).to(device)
        return Part(self.x.to(device), self.y.to(device), self.rows, preprocess)

    def inputs(self, x: Tensor) -> Tensor:
        """What the network is given of some rows of x."""
        return x if self.preprocess is None else self.preprocess(x)


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
    raw: np.ndarray | None
    """Raw columns as numbers, shape (rows, raw columns); None for images, whose parts hold them as they were."""
    schema: Schema | None = None
    """The raw columns: their names, kinds and vocabularies; None for images."""
    categories: list[int] | None = None
    """Number of codes of each category, where x ends with codes for a network that begins with an embedding."""
    understood: dict[str, Any] | None = None
    """What data.json says of a table file."""

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def n_inputs(self) -> int:
        """How many numbers the network is given of a row: its features, an image's pixels, a blend's raw columns."""
        return self.parts["train"].x[:1].flatten(1).shape[1]

    @property
    def n_numbers(self) -> int:
        """How many of the features, the first ones, are scaled numbers."""
        return 0 if self.schema is None else self.schema.n_numbers

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
    if isinstance(settings, ImageSettings):
        return _images(settings, dtype)
    if isinstance(settings, TableFile):
        return _file(settings, dtype)
    table = read(settings)
    if table.parts and settings.folds is not None:
        raise SettingError(
            f"these data bring their own split, so data.folds={settings.folds} cannot be; "
            "use data.folds=null data.fold=null"
        )
    rows = table.parts or split(table.y, table.class_names, settings)
    schema = Schema.of_numbers(table.feature_names)
    features = Features.fit(table.x[rows["train"]], schema.n_numbers, [], True, settings.scaling)
    fingerprint = _fingerprint(table.x, table.y, *rows.values())
    parts = _parts(table.x, table.y, rows, features, dtype)
    return Prepared(parts, features, table.feature_names, table.class_names, fingerprint, table.x, schema)


def _file(settings: TableFile, dtype: torch.dtype) -> Prepared:
    from mlplab.data import table_file  # its reader library is imported by those who have a file

    table = table_file.read(settings)
    if table.n_test is None:
        rows = split(table.y, table.class_names, settings)
    else:
        rows = official_split(table.y, table.n_test, settings)
    schema, raw = table.fit(rows["train"])
    onehot = settings.encode == "onehot"
    features = Features.fit(raw[rows["train"]], schema.n_numbers, schema.sizes, onehot, settings.scaling)
    names = feature_names(schema, features)
    memory.check(
        len(raw) * len(names) * dtype.itemsize,
        f"{settings.path}: {len(raw)} rows of {len(names)} features",
        "use data.encode=embedding, or data.drop for the columns of many categories",
    )
    parts = _parts(raw, table.y, rows, features, dtype)
    digest = _fingerprint(json.dumps(schema.plain()), raw, table.y, *rows.values())
    told = understood(table, schema, raw, rows, len(names))
    codes = None if onehot else schema.sizes
    return Prepared(parts, features, names, table.class_names, digest, raw, schema, codes, told)


def _parts(
    raw: np.ndarray, y: np.ndarray, rows: dict[str, np.ndarray], features: Features, dtype: torch.dtype
) -> dict[str, Part]:
    parts = {}
    for name, which in rows.items():
        chunks = [which[i : i + ROWS_AT_ONCE] for i in range(0, len(which), ROWS_AT_ONCE)] or [which]
        x = [features(torch.from_numpy(raw[chunk])).to(dtype) for chunk in chunks]
        parts[name] = Part(torch.cat(x).contiguous(), torch.from_numpy(y[which]), which)
    return parts


def refitted(
    prepared: Prepared, settings: DataSettings, rows: dict[str, np.ndarray], dtype: torch.dtype = torch.float32
) -> Prepared:
    """A table's data with other parts, such as a fold's, and preprocessing fitted on their training rows alone.

    The columns and their vocabularies stay those of `prepared`, so that networks of all folds have the same inputs.

    Args:
        prepared: what `prepare` gave, of a table.
        settings: its scaling and encoding are taken.
        rows: row numbers of `train`, `val` and `test`.
    """
    schema, raw, whole = prepared.schema, prepared.raw, prepared.preprocess
    assert schema is not None
    assert raw is not None
    assert isinstance(whole, Features)
    y = _all_classes(prepared)
    onehot = getattr(settings, "encode", "onehot") == "onehot"
    features = Features.fit(raw[rows["train"]], schema.n_numbers, schema.sizes, onehot, settings.scaling, whole)
    codes = None if onehot else schema.sizes
    names = feature_names(schema, features)
    parts = _parts(raw, y, rows, features, dtype)
    return replace(prepared, parts=parts, preprocess=features, feature_names=names, categories=codes)


def seen_through(prepared: Prepared, preprocess: nn.Module) -> Prepared:
    """A table's data with raw columns as x, which another preprocessing makes features of a few thousand at a time."""
    assert prepared.raw is not None
    raw = torch.from_numpy(prepared.raw)
    parts = {name: Part(raw[part.rows], part.y, part.rows, preprocess) for name, part in prepared.parts.items()}
    return replace(prepared, parts=parts, preprocess=preprocess, categories=None)


def _all_classes(prepared: Prepared) -> np.ndarray:
    """Class of each row of the data set as it was read; -1 for rows of no part."""
    assert prepared.raw is not None
    y = np.full(len(prepared.raw), -1, np.int64)
    for part in prepared.parts.values():
        y[part.rows] = part.y.numpy()
    return y


def _images(settings: ImageSettings, dtype: torch.dtype) -> Prepared:
    name: str = settings.name  # type: ignore[attr-defined]
    read = images.READERS[name](settings)
    if read.n_test is None:
        rows = split(read.y, read.class_names, settings)
    else:
        rows = official_split(read.y, read.n_test, settings)
    digest = _fingerprint(read.digest or read.x.numpy(), read.y, *rows.values())
    picked = _picked(read.x, rows)
    pixels = Pixels.fit(picked["train"], settings.scaling, dtype)
    y = torch.from_numpy(read.y)
    parts = {name: Part(picked[name], y[which], which, pixels) for name, which in rows.items()}
    return Prepared(parts, pixels, images.pixel_names(read.x.shape[1:]), read.class_names, digest, None)


def _picked(x: Tensor, rows: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """The images of each part: views where all parts are stretches of x, else copies, so that x itself can go."""
    if all((np.diff(which) == 1).all() for which in rows.values()):
        return {name: x[which[0] : which[-1] + 1] if len(which) else x[:0] for name, which in rows.items()}
    return {name: x.index_select(0, torch.from_numpy(which)) for name, which in rows.items()}


def _fingerprint(values: np.ndarray | str, *others: np.ndarray) -> str:
    digest = hashlib.sha256()
    digest.update(values.encode() if isinstance(values, str) else np.ascontiguousarray(values).data)
    for array in others:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
