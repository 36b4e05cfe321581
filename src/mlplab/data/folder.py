"""A person's own image files: decoded once into a memory-mapped cache that notices when files change."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlplab.config.base import SettingError
from mlplab.config.images import ImageFolder

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMAT = 1
SHOWN = 10
"""Unreadable files that a message names; the cache's index lists all of them."""


@dataclass(frozen=True)
class File:
    """An image file as the folder shows it."""

    path: str
    """Below the root, such as `train/cat/1.png`."""
    size: int
    changed: int
    """Time of the last change, in nanoseconds."""


def read_folder(settings: ImageFolder) -> tuple[torch.Tensor, np.ndarray, list[str], int | None, str]:
    """(images, classes, class names, number of test images or None, hash of the images).

    Raises:
        SettingError: there is no `train` folder, a class has no images, or files cannot be read.
    """
    root = Path(settings.root).expanduser().absolute()
    files, classes = list_files(root)
    cache = Path(settings.cache).expanduser().absolute() if settings.cache else root / ".mlplab"
    height, width = settings.size
    index, pixels = _cached(root, files, cache / f"{height}x{width}_{settings.color}", settings)
    if bad := index["bad"]:
        shown = "".join(f"\n  {path}: {why}" for path, why in list(bad.items())[:SHOWN])
        more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        if settings.on_bad_file == "error":
            raise SettingError(
                f"data.root={settings.root}: {len(bad)} of {len(files)} files cannot be read as images:{shown}{more}\n"
                "Mend or remove them, or leave them out with data.on_bad_file=skip"
            )
        log.warning("left out %d of %d files that cannot be read as images:%s%s", len(bad), len(files), shown, more)
    kept = [file.path for file in files if file.path not in bad]
    y = np.array([classes.index(path.split("/")[1]) for path in kept], dtype=np.int64)
    n_test = sum(path.startswith("test/") for path in kept)
    for number, name in enumerate(classes):
        if not (y[: len(y) - n_test] == number).any():
            raise SettingError(f"data.root={settings.root}: class '{name}' has no readable image in train/{name}")
    x = torch.from_numpy(pixels)
    return x, y, classes, n_test or None, index["digest"]


def list_files(root: Path) -> tuple[list[File], list[str]]:
    """Image files of train/ and then of test/, each in order of path, and the classes: the folders in train/."""
    if not (root / "train").is_dir():
        raise SettingError(
            f"data.root={root} has no folder 'train'; put images in {root}/train/<class>/*.png or *.jpg, and a test "
            f"part, if you have one, in {root}/test/<class>/"
        )
    classes = sorted(p.name for p in (root / "train").iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise SettingError(f"{root}/train holds {len(classes)} class folders; two are the least to tell apart")
    files = []
    for part in ("train", "test"):
        for folder in sorted((root / part).iterdir()) if (root / part).is_dir() else ():
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            if folder.name not in classes:
                raise SettingError(f"{folder} is a class that train/ lacks; it has {', '.join(classes)}")
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    found = path.stat()
                    files.append(File(path.relative_to(root).as_posix(), found.st_size, found.st_mtime_ns))
    return files, classes


def _cached(root: Path, files: list[File], place: Path, settings: ImageFolder) -> tuple[dict[str, Any], np.ndarray]:
    """The decoded images, from the cache where its files are still the same; new and changed ones are decoded."""
    index, old = _open(place)
    listed = [[f.path, f.size, f.changed] for f in files]
    if index is None or index["files"] != listed:
        index, old = _decode_all(root, files, place, settings, index, old)
    assert old is not None
    return index, old


def _open(place: Path) -> tuple[dict[str, Any] | None, np.ndarray | None]:
    try:
        index = json.loads((place / "index.json").read_text())
        if index["format"] != FORMAT:
            return None, None
        return index, np.load(place / index["pixels"], mmap_mode="c")  # c: torch wants it writable; the file stays
    except (OSError, ValueError, KeyError):
        return None, None  # none yet, or damaged: made anew


def _decode_all(
    root: Path,
    files: list[File],
    place: Path,
    settings: ImageFolder,
    old_index: dict[str, Any] | None,
    old: np.ndarray | None,
) -> tuple[dict[str, Any], np.ndarray]:
    height, width = settings.size
    known: dict[tuple[str, int, int], Any] = {}
    if old_index is not None and old is not None:
        good = [tuple(entry) for entry in old_index["files"] if entry[0] not in old_index["bad"]]
        known = dict(zip(good, old, strict=True))
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place, prefix="pixels_", suffix=".npy")
        os.close(handle)
    except OSError as error:
        raise SettingError(f"cannot write decoded images to {place} ({error}); choose data.cache=<folder>") from None
    channels = 1 if settings.color == "grey" else 3
    bad: dict[str, str] = {}
    digest = hashlib.sha256()
    try:
        with Path(name).open("wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), channels, height, width)}
            start = _write_header(out, header)
            for file, image in _decoded(root, files, known, settings):
                if isinstance(image, str):
                    bad[file.path] = image
                else:
                    out.write(image.tobytes())
                    digest.update(image.tobytes())
            header["shape"] = (len(files) - len(bad), channels, height, width)
            out.seek(0)
            assert _write_header(out, header) == start
        index = {
            "format": FORMAT,
            "pixels": Path(name).name,
            "digest": digest.hexdigest(),
            "bad": bad,
            "files": [[f.path, f.size, f.changed] for f in files],
        }
        temporary = Path(name).with_suffix(".json")
        temporary.write_text(json.dumps(index))
        temporary.replace(place / "index.json")  # last: whoever reads the index finds its pixels
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    for stale in place.glob("pixels_*.npy"):
        if old_index is not None and stale.name == old_index["pixels"]:
            with suppress(OSError):
                stale.unlink()
    return index, np.load(name, mmap_mode="c")


def _write_header(out: Any, header: dict[str, Any]) -> int:
    np.lib.format.write_array_header_1_0(out, header)
    return int(out.tell())


def _decoded(
    root: Path, files: list[File], known: dict[tuple[str, int, int], Any], settings: ImageFolder
) -> Iterator[tuple[File, np.ndarray | str]]:
    """Each file with its pixels, or with the reason why there are none, a few hundred at a time."""
    from rich.console import Console
    from rich.progress import track

    def pixels(file: File) -> np.ndarray | str:
        have = known.get((file.path, file.size, file.changed))
        return decode(root / file.path, settings.size, settings.color) if have is None else np.asarray(have)

    console = Console(file=sys.stderr)
    blocks = [files[i : i + 256] for i in range(0, len(files), 256)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow lets go of the interpreter while it decodes
        for block in track(blocks, "decoding images", console=console, disable=not console.is_terminal):
            yield from zip(block, pool.map(pixels, block), strict=True)


def decode(path: Path, size: Sequence[int], color: str) -> np.ndarray | str:
    """Pixels of one file, uint8 (channels, height, width), turned as its EXIF says; or why it cannot be read."""
    from PIL import Image, ImageOps

    height, width = size
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bits a pixel: convert() would cut them off at 255
                image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
            image = image.convert("L" if color == "grey" else "RGB")
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            array = np.asarray(image)
    except Exception as error:  # whatever Pillow's many decoders raise: the file is no image
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
