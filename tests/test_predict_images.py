"""Predictions of a folder of images are evaluate's probabilities, file for file; what is no image is named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from predictions import FAST, kept_by_evaluate, probs, told
from scripts.command import refusal, script

from mlplab.compose import load_config
from mlplab.evaluate import load
from mlplab.experiment import run
from mlplab.reports.tables import read_csv
from mlplab.training.evaluation import score


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of pictures, and the run `run` that was trained on it."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(60):
        image = rng.integers(0, 120, (9, 12, 3), dtype=np.uint8)
        image[:, :6, 0] += 100 * (i % 2)
        place = folder / "images" / "train" / ("left" if i % 2 else "none") / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    settings = ("data=image_folder", f"data.root={folder}/images", "data.size=[6,8]", "data.color=rgb")
    run(load_config(*settings, "accelerator=cpu", "logger=none", "trainer.max_epochs=5"), folder / "run")
    return folder


def test_a_folder_of_images_gets_evaluates_probabilities(pictures: Path, tmp_path: Path) -> None:
    rows = told(pictures / "run", pictures / "images" / "train", tmp_path / "told.csv")
    assert list(rows[0]) == ["file", "predicted", "p(left)", "p(none)"]
    assert [row["file"] for row in rows] == [
        f"{c}/{i:02d}.png" for c, s in (("left", 1), ("none", 0)) for i in range(s, 60, 2)
    ]
    assert torch.equal(probs(rows), kept_by_evaluate(pictures / "run"))


def test_images_take_the_runs_size_and_colour(tmp_path: Path) -> None:
    run(load_config("data=digits_images", *FAST), tmp_path / "run")
    loaded = load(tmp_path / "run")
    images = loaded.raw("test").numpy()
    (tmp_path / "new").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0]).convert("RGB").save(tmp_path / "new" / f"{i:03d}.png")
    part = loaded.prepared.parts["test"]
    kept = score(loaded.network, part, loaded.config, 10, None).probs
    assert torch.equal(probs(told(tmp_path / "run", tmp_path / "new", tmp_path / "told.csv")), kept)


def test_images_that_cannot_be_read_are_listed_and_refused_or_left_out(pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "new"
    source.mkdir()
    for name in ("a.png", "c.png"):
        (source / name).write_bytes((pictures / "images/train/left/01.png").read_bytes())
    (source / "b.png").write_text("no picture")
    refused = script("predict", f"run={pictures}/run", "input=new", "output=told.csv", cwd=tmp_path)
    assert "1 files cannot be read as images" in refusal(refused)
    assert "b.png: UnidentifiedImageError" in refused.stderr
    assert not (tmp_path / "told.csv").exists()
    done = script("predict", f"run={pictures}/run", "input=new", "output=told.csv", "on_bad_file=skip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out b.png: UnidentifiedImageError" in done.stdout
    assert [row["file"] for row in read_csv(tmp_path / "told.csv")] == ["a.png", "c.png"]
