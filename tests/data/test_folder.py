"""A folder of one's own images: decoded once, noticed when changed, and honest about files that are no images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data import folder as folders
from mlplab.data.prepared import prepare


def paint(path: Path, color: int | tuple[int, int, int], size: tuple[int, int] = (10, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(10):
        paint(tmp_path / "images/train/cat" / f"{i}.png", (200, i, 0))
        paint(tmp_path / "images/train/dog" / f"{i}.jpg", (0, 10 * i, 250))
    return tmp_path / "images"


def settings(root: Path, *overrides: str):
    return load_config("data=image_folder", f"data.root={root}", "data.size=[4,5]", *overrides).data


def read(root: Path, *overrides: str):
    return folders.read_folder(settings(root, *overrides))


def decoded_files(root: Path, monkeypatch, *overrides: str) -> list[str]:
    seen = []
    real = folders.decode
    monkeypatch.setattr(folders, "decode", lambda path, *how: seen.append(path.name) or real(path, *how))
    read(root, *overrides)
    monkeypatch.setattr(folders, "decode", real)
    return sorted(seen)


@pytest.mark.parametrize(("color", "channels"), [("grey", 1), ("rgb", 3)])
def test_images_are_resized_and_converted(root: Path, color: str, channels: int) -> None:
    x, y, classes, n_test, _ = read(root, f"data.color={color}")
    assert x.shape == (20, channels, 4, 5)
    assert x.dtype == torch.uint8
    assert classes == ["cat", "dog"]
    assert y.tolist() == [0] * 10 + [1] * 10
    assert n_test is None
    if color == "rgb":
        assert x[3, :, 0, 0].tolist() == [200, 3, 0]
    else:
        assert x[3].unique().tolist() == [round(0.299 * 200 + 0.587 * 3)]


def test_the_cache_is_memory_mapped_and_read_instead_of_the_files(root: Path, monkeypatch) -> None:
    first = read(root)
    assert decoded_files(root, monkeypatch) == []
    again = read(root)
    assert torch.equal(first[0], again[0])
    assert first[4] == again[4]
    _, pixels = folders._open(root / ".mlplab" / "4x5_grey")
    assert isinstance(pixels, np.memmap)
    assert len(decoded_files(root, monkeypatch, "data.color=rgb")) == 20  # another form is another cache


def test_the_cache_notices_changed_new_and_removed_files(root: Path, monkeypatch) -> None:
    before = read(root)
    paint(root / "train/cat/0.png", (0, 255, 0))
    paint(root / "train/cat/new.png", (9, 9, 9))
    (root / "train/dog/5.jpg").unlink()
    assert decoded_files(root, monkeypatch) == ["0.png", "new.png"]  # the others are taken over
    x, y, _, _, digest = read(root)
    assert y.tolist() == [0] * 11 + [1] * 9
    assert x[0].unique().tolist() == [150]
    assert torch.equal(x[1:10], before[0][1:10])
    assert torch.equal(x[11:16], before[0][10:15])
    assert digest != before[4]
    assert len(list((root / ".mlplab/4x5_grey").glob("*.npy"))) == 1


def test_a_damaged_cache_is_made_anew(root: Path, monkeypatch) -> None:
    before = read(root)[0].clone()  # the cache below it is about to be overwritten
    index = root / ".mlplab/4x5_grey/index.json"
    (index.parent / json.loads(index.read_text())["pixels"]).write_bytes(b"half")
    assert len(decoded_files(root, monkeypatch)) == 20
    assert torch.equal(read(root)[0], before)
    index.write_text("{")
    assert torch.equal(read(root)[0], before)


def test_unreadable_files_are_listed_and_refused_or_skipped(root: Path, caplog) -> None:
    (root / "train/cat/broken.png").write_bytes(b"no image")
    whole = (root / "train/dog/1.jpg").read_bytes()
    (root / "train/dog/half.jpg").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):  # the second time from the cache
        with pytest.raises(SettingError) as refused:
            read(root)
        for part in ("2 of 22 files", "train/cat/broken.png", "train/dog/half.jpg", "data.on_bad_file=skip"):
            assert part in str(refused.value)
    x, y, *_ = read(root, "data.on_bad_file=skip")
    assert x.shape[0] == len(y) == 20
    assert "train/cat/broken.png" in caplog.text
    (root / "train/cat/broken.png").unlink()
    (root / "train/dog/half.jpg").unlink()
    assert read(root)[0].shape[0] == 20


def test_a_test_folder_is_the_official_test_part(root: Path) -> None:
    for i in range(4):
        paint(root / f"test/dog/t{i}.png", (1, 2, 3))
        paint(root / f"test/cat/t{i}.png", (1, 2, 3))
    data = prepare(settings(root))
    assert {k: len(p) for k, p in data.parts.items()} == {"train": 15, "val": 5, "test": 8}
    assert data.parts["test"].rows.tolist() == list(range(20, 28))
    assert data.parts["test"].y.tolist() == [0] * 4 + [1] * 4
    without = prepare(settings(root, "data.split=[0.8,0.2]"))
    assert {k: len(p) for k, p in without.parts.items()} == {"train": 20, "val": 0, "test": 8}


def test_without_a_test_folder_the_split_makes_the_parts(root: Path) -> None:
    data = prepare(settings(root))
    assert {k: len(p) for k, p in data.parts.items()} == {"train": 12, "val": 4, "test": 4}


def test_sixteen_bit_images_keep_their_shades(root: Path) -> None:
    Image.fromarray(np.full((8, 10), 0x8000, np.uint16)).save(root / "train/cat/0.png")
    assert read(root)[0][0].unique().tolist() == [128]


def test_photographs_stand_as_their_camera_was_held(root: Path) -> None:
    image = Image.fromarray(np.repeat([[0], [255]], 10, axis=1).repeat(5, axis=0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(root / "train/cat/0.png", exif=exif)
    assert read(root)[0][0, 0, 0, 0] == 255


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda r: (r / "train").rename(r / "training"), "has no folder 'train'"),
        (lambda r: (r / "train/cat").rename(r / "cat"), "1 class folders"),
        (lambda r: (r / "train/fox").mkdir(), "class 'fox' has no readable image"),
        (lambda r: paint(r / "test/fox/1.png", (0, 0, 0)), "is a class that train/ lacks"),
    ],
)
def test_wrong_folders_are_refused_in_one_message(root: Path, make, part: str) -> None:
    make(root)
    with pytest.raises(SettingError) as refused:
        read(root)
    assert part in str(refused.value)
