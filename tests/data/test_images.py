"""Image data sets: torchvision's files become uint8 parts, the official test part stays, statistics are training's."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.batches import Batches, Streamed
from mlplab.data.pixels import Pixels, histogram
from mlplab.data.prepared import Prepared, prepare

REAL = Path(os.environ.get("MLPLAB_DATA", "absent")) / "FashionMNIST" / "raw"
needs_fashion = pytest.mark.skipif(not REAL.is_dir(), reason="MLPLAB_DATA holds no FashionMNIST")


def prepared(*overrides: str) -> Prepared:
    return prepare(load_config(*overrides).data)


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of Yann LeCun's MNIST files: two zeros, type (8: uint8), dimensions, sizes as big-endian, bytes."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def make_idx(folder: Path, prefix: str, test: str, n_classes: int, first_class: int = 0, n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n + 50, 28, 28))
    labels = first_class + np.arange(n + 50) % n_classes
    for name, rows in (("train", slice(0, n)), (test, slice(n, None))):
        write_idx(folder / f"{prefix}{name}-images-idx3-ubyte", images[rows])
        write_idx(folder / f"{prefix}{name}-labels-idx1-ubyte", labels[rows])
    return images


@pytest.mark.parametrize(
    ("name", "place"), [("mnist", "MNIST"), ("kmnist", "KMNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_and_its_kin_are_read_as_they_are(name: str, place: str, tmp_path: Path) -> None:
    images = make_idx(tmp_path / place / "raw", "", "t10k", 10)
    data = prepared(f"data={name}", f"data.root={tmp_path}", "data.validation=40")
    assert {k: len(p) for k, p in data.parts.items()} == {"train": 160, "val": 40, "test": 50}
    for part in data.parts.values():
        assert part.x.dtype == torch.uint8
        assert np.array_equal(part.x[:, 0].numpy(), images[part.rows])
        assert part.y.tolist() == (part.rows % 10).tolist()
    assert data.parts["test"].rows.tolist() == list(range(200, 250))
    assert (data.n_features, data.n_classes, len(data.class_names)) == (784, 10, 10)


@pytest.mark.parametrize(("subset", "n_classes", "first"), [("balanced", 47, 0), ("letters", 26, 1), ("digits", 10, 0)])
def test_emnist_stands_upright_and_counts_from_zero(subset: str, n_classes: int, first: int, tmp_path: Path) -> None:
    images = make_idx(tmp_path / "EMNIST" / "raw", f"emnist-{subset}-", "test", n_classes, first)
    overrides = ["data=emnist", f"data.subset={subset}", f"data.root={tmp_path}", "data.validation=60"]
    data = prepared(*overrides)
    test = data.parts["test"]
    assert np.array_equal(test.x[:, 0].numpy(), images[test.rows].transpose(0, 2, 1))
    assert test.y.tolist() == (test.rows % n_classes).tolist()
    assert len(data.class_names) == n_classes
    assert "N/A" not in data.class_names


@pytest.mark.parametrize(("name", "n_classes", "key"), [("cifar10", 10, "labels"), ("cifar100", 100, "fine_labels")])
def test_cifar_keeps_its_colours_apart(name: str, n_classes: int, key: str, tmp_path: Path, monkeypatch) -> None:
    from torchvision import datasets

    kind = getattr(datasets, name.upper())
    # small files of the same make: torchvision's checksums are of the large ones
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": None})
    folder, rng = tmp_path / kind.base_folder, np.random.default_rng(0)
    folder.mkdir()
    pixels = {}
    for file, _ in kind.train_list + kind.test_list:
        pixels[file] = rng.integers(0, 256, (n_classes, 3 * 32 * 32), dtype=np.uint8)
        (folder / file).write_bytes(pickle.dumps({"data": pixels[file], key: list(range(n_classes))}))
    names = [f"thing {i}" for i in range(n_classes)]
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: names}))
    data = prepared(f"data={name}", f"data.root={tmp_path}", "data.validation=0")
    test = data.parts["test"]
    assert data.class_names == names
    assert test.x.shape == (n_classes, 3, 32, 32)
    assert np.array_equal(test.x.flatten(1).numpy(), pixels[kind.test_list[0][0]])
    assert data.n_features == 3072
    assert data.feature_names[1024] == "green 0,0"


def test_absent_files_are_named_with_the_folder_and_what_to_put_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLPLAB_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(SettingError) as refused:
        prepared("data=fashion_mnist", f"data.root={tmp_path}", "data.download=false")
    message = str(refused.value)
    for part in (f"{tmp_path}/FashionMNIST/raw", f"{tmp_path}/elsewhere/FashionMNIST/raw", "MLPLAB_DATA"):
        assert part in message
    for part in ("train-images-idx3-ubyte", "data.root=<folder>", "data.download=true"):
        assert part in message


@pytest.mark.slow
def test_without_a_network_the_script_says_so_and_leaves_with_2(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    nowhere = "http://127.0.0.1:9"  # the port of `discard`: refused at once
    environment = os.environ | {"https_proxy": nowhere, "http_proxy": nowhere, "no_proxy": "", "PYTHONPATH": "src"}
    environment |= {"MLPLAB_DATA": str(tmp_path)}
    command = [sys.executable, str(root / "src/train.py"), "data=mnist", f"hydra.run.dir={tmp_path}/run"]
    ended = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "download failed" in ended.stderr
    assert f"{tmp_path}/MNIST/raw" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_finds_its_data_again_where_the_environment_points(tmp_path: Path, monkeypatch) -> None:
    make_idx(tmp_path / "MNIST" / "raw", "", "t10k", 10)
    monkeypatch.setenv("MLPLAB_DATA", str(tmp_path))
    moved = prepared("data=mnist", "data.root=where_it_was_trained", "data.validation=40", "data.download=false")
    assert moved.fingerprint == prepared("data=mnist", "data.validation=40").fingerprint


def test_validation_comes_out_of_the_training_part(tmp_path: Path) -> None:
    make_idx(tmp_path / "MNIST" / "raw", "", "t10k", 10)
    base = ("data=mnist", f"data.root={tmp_path}")
    last = prepared(*base, "data.validation=30", "data.validation_rows=last")
    assert last.parts["val"].rows.tolist() == list(range(170, 200))
    assert last.parts["train"].rows.tolist() == list(range(170))
    drawn = prepared(*base, "data.validation=40")
    assert np.bincount(drawn.parts["val"].y).tolist() == [4] * 10  # stratified
    counts = np.bincount(prepared(*base, "data.validation=37").parts["val"].y)
    assert counts.sum() == 37
    assert set(counts.tolist()) == {3, 4}
    plain = prepared(*base, "data.validation=40", "data.stratified=false").parts["val"]
    assert len(plain) == 40
    assert np.bincount(plain.y).tolist() != [4] * 10
    other = prepared(*base, "data.validation=40", "data.split_seed=1")
    assert other.parts["val"].rows.tolist() != drawn.parts["val"].rows.tolist()
    assert other.parts["test"].rows.tolist() == drawn.parts["test"].rows.tolist()
    everything = np.sort(np.concatenate([drawn.parts["train"].rows, drawn.parts["val"].rows]))
    assert everything.tolist() == list(range(200))
    assert len(prepared(*base, "data.validation=0").parts["val"]) == 0
    with pytest.raises(SettingError, match=r"data.validation=200 leaves nothing of the 200"):
        prepared(*base, "data.validation=200")


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["data=fashion_mnist", "data.split=[0.8,0.2]"], "test part of its own; data.validation="),
        (["data=fashion_mnist", "data.folds=5", "data.fold=0"], "test part of its own"),
        (["data=fashion_mnist", "data.validation_rows=first"], "'random' or 'last'"),
        (["data=emnist", "data.subset=byclass"], "'balanced', 'letters' or 'digits'"),
        (["data=fashion_mnist", "loss=bce"], "loss=bce is for two classes, but data=fashion_mnist has 10"),
        (["data=digits_images", "data.device_resident=maybe"], "data.device_resident"),
        (["data=wine", "data.split=null"], "give fractions"),
        (["data=image_folder"], "data.root has no value yet"),
    ],
)
def test_mistakes_are_refused_before_anything_is_read(overrides: list[str], part: str) -> None:
    with pytest.raises(SettingError) as refused:
        load_config(*overrides)
    assert part in str(refused.value)


@pytest.mark.parametrize("kind", ["standard", "minmax", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_scale_each_channel_by_its_training_statistics(kind: str, channels: int) -> None:
    rng = np.random.default_rng(0)
    low, high = [5, 0, 100][:channels], [200, 256, 101][:channels]
    x = torch.from_numpy(np.stack([rng.integers(*b, (300, 6, 7)) for b in zip(low, high, strict=True)], 1)).byte()
    pixels = Pixels.fit(x, kind, torch.float64)
    out = pixels(x)
    numbers = x.double()
    if kind == "none":
        assert torch.equal(out, numbers / 255)
        return
    for c in range(channels):
        values, scaled = numbers[:, c], out[:, c]
        if values.min() == values.max():
            assert (scaled == 0).all()
        elif kind == "standard":
            torch.testing.assert_close(scaled, (values - values.mean()) / values.std(correction=0))
        else:
            torch.testing.assert_close(scaled, (values - values.min()) / (values.max() - values.min()))
    assert x.dtype == torch.uint8


def test_histogram_counts_every_value() -> None:
    x = torch.arange(256, dtype=torch.uint8).repeat(20).view(-1, 1, 4)
    assert histogram(x).tolist() == [20] * 256


def test_statistics_are_the_training_parts_alone() -> None:
    data = prepared("data=digits_images")
    train = data.parts["train"]
    values = train.inputs(train.x)
    assert values.dtype == torch.float32
    assert abs(float(values.mean())) < 1e-5
    assert abs(float(values.std(correction=0)) - 1) < 1e-5
    assert abs(float(data.parts["test"].inputs(data.parts["test"].x).mean())) > 1e-5
    assert set(data.preprocess.state_dict()) == {"center", "scale"}


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_the_resident_ones(workers: int) -> None:
    train = prepared("data=digits_images").parts["train"]
    epoch = [0]
    resident = Batches(train, 100, seed=3, epoch=lambda: epoch[0])
    streamed = Streamed(resident, workers, pin=False)
    assert len(streamed) == len(resident) == 11
    for epoch[0] in (0, 1):
        for a, b in zip(resident, streamed, strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.y, b.y)
            assert (a.first_row, a.share) == (b.first_row, b.share)


@needs_fashion
def test_real_fashion_mnist() -> None:
    data = prepared("data=fashion_mnist", f"data.root={REAL.parents[1]}", "data.validation_rows=last")
    assert {k: len(p) for k, p in data.parts.items()} == {"train": 50000, "val": 10000, "test": 10000}
    assert data.class_names[:2] == ["T-shirt/top", "Trouser"]
    assert data.parts["test"].y[:5].tolist() == [9, 2, 1, 1, 6]
    assert data.parts["val"].rows.tolist() == list(range(50000, 60000))
    # mean and deviation of all 60 000, as published with the data: 0.2860 and 0.3530 of white
    everything = prepared("data=fashion_mnist", f"data.root={REAL.parents[1]}", "data.validation=0")
    assert abs(float(everything.preprocess.center) / 255 - 0.2860) < 1e-4
    assert abs(float(everything.preprocess.scale) / 255 - 0.3530) < 1e-4
    train = everything.parts["train"]
    assert train.x.untyped_storage().nbytes() == 70000 * 784  # one copy in memory, which the parts share
    assert train.x.untyped_storage().data_ptr() == everything.parts["test"].x.untyped_storage().data_ptr()
