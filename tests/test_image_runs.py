"""Whole runs on images: the record, its pictures, evaluation from the folder, number formats, places of the data."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlplab.compose import load_config
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate, load
from mlplab.experiment import run
from mlplab.training import devices
from mlplab.training.checkpoints import load as load_checkpoint
from mlplab.training.fit import fit

REAL = Path(os.environ.get("MLPLAB_DATA", "absent")) / "FashionMNIST" / "raw"
needs_fashion = pytest.mark.skipif(not REAL.is_dir(), reason="MLPLAB_DATA holds no FashionMNIST")
SMALL = ("data=digits_images", "accelerator=cpu", "trainer.max_epochs=3")


def test_a_run_on_images_leaves_its_record_and_pictures_and_scores_again_the_same(tmp_path: Path) -> None:
    config = load_config(*SMALL, "augmentation=[shift,noise]")
    result = run(config, tmp_path / "run")
    assert result.status == "completed"
    assert result.values["data"]["features"] == 64
    assert evaluate(tmp_path / "run").metrics == result.metrics

    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0}).Reload()
    pictures = {"images/samples", "images/augmentation", "images/first_layer", "misclassified"}
    assert pictures <= set(events.Tags()["images"])
    assert len(events.Images("images/first_layer")) == 4  # each epoch's and the best

    checkpoint = load_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    prepared = prepare(config.data)
    for name, value in prepared.preprocess.state_dict().items():
        assert torch.equal(checkpoint["preprocess"][name], value)
    train = prepared.parts["train"].x.double()
    assert abs(float(checkpoint["preprocess"]["center"]) - float(train.mean())) < 1e-3
    assert abs(float(checkpoint["preprocess"]["scale"]) - float(train.std(correction=0))) < 1e-3

    lines = (tmp_path / "run/misclassified.csv").read_text().splitlines()
    test, rows = prepared.parts["test"], [int(line.split(",")[0]) for line in lines[1:]]
    assert set(rows) <= set(test.rows.tolist())
    assert len(rows) == round((1 - result.metrics["test"]["accuracy"]) * len(test))
    network = load(tmp_path / "run").network
    with torch.no_grad():
        predicted = network(test.inputs(test.x)).argmax(1)
    assert sorted(rows) == sorted(test.rows[(predicted != test.y).numpy()].tolist())


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    run(load_config(*SMALL, "logger.images=false", "logger.figures=false"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert events.Tags()["images"] == []


@pytest.mark.slow
def test_batches_from_workers_train_the_same_network() -> None:
    weights = []
    for resident in ("auto", "true", "false"):
        config = load_config(*SMALL, f"data.device_resident={resident}", "logger=none")
        fitted = fit(config, prepare(config.data), "cpu", None, [])
        assert fitted.network is not None
        weights.append(torch.cat([p.detach().flatten() for p in fitted.network.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("resident", ["true", "false"])
def test_on_a_gpu_both_places_of_the_data_train(resident: str, tmp_path: Path) -> None:
    config = load_config("data=digits_images", "accelerator=gpu", f"data.device_resident={resident}")
    result = run(config, tmp_path / "run")
    assert result.metrics["test"]["accuracy"] > 0.9


@pytest.mark.slow
def test_workers_serve_only_what_the_device_does_not_hold() -> None:
    of = {r: load_config("data=digits_images", f"data.device_resident={r}").data for r in ("auto", "true", "false")}
    part = prepare(of["auto"]).parts["train"]
    assert [devices.workers(of[r], part, "cpu") for r in of] == [None, None, 2]
    table = load_config("data=wine").data
    assert devices.workers(table, prepare(table).parts["train"], "cpu") is None


def test_auto_precision_follows_the_sizes(monkeypatch) -> None:
    prepared = prepare(load_config("data=digits_images").data)

    def chosen(*overrides: str, device: str = "cpu") -> object:
        config = load_config("data=digits_images", "accelerator=cpu", *overrides)
        return devices.with_precision(config, device, prepared).accelerator.precision

    wide = "model.hidden=[512,512]"  # 115 million operations a step of 64 rows
    monkeypatch.setattr(devices, "cpu_multiplies_bf16", lambda: True)
    assert chosen(wide) == "bf16-mixed"
    assert chosen(wide, "accelerator.precision=32") == 32
    assert chosen(wide, device="cuda") == 32
    assert chosen(wide, "optimizer=lbfgs", "data.batch_size=full") == 32
    assert chosen("model.hidden=256") == 32
    assert chosen("model.hidden=256", "data.batch_size=full") == "bf16-mixed"
    assert chosen("model.hidden=64", "data.batch_size=1000000") == 32  # a batch has no more rows than the data
    monkeypatch.setattr(devices, "cpu_multiplies_bf16", lambda: False)
    assert chosen(wide) == 32


def test_bf16_trains_as_well_as_float32_and_the_result_says_so(tmp_path: Path) -> None:
    scores = {}
    for precision in ("32", "bf16-mixed"):
        config = load_config(*SMALL, f"accelerator.precision={precision}", "trainer.max_epochs=15", "logger=csv")
        result = run(config, tmp_path / precision)
        assert str(result.values["precision"]) == precision
        scores[precision] = result.metrics["test"]["accuracy"]
        assert evaluate(tmp_path / precision).metrics == result.metrics
    assert min(scores.values()) > 0.93
    assert abs(scores["32"] - scores["bf16-mixed"]) < 0.02


@needs_fashion
def test_real_fashion_mnist_learns_within_an_epoch(tmp_path: Path) -> None:
    config = load_config(
        "data=fashion_mnist", f"data.root={REAL.parents[1]}", "trainer.max_epochs=1", "trainer.max_batches=150",
        "data.batch_size=128", "model.hidden=64", "logger=csv", "accelerator=cpu",
    )  # fmt: skip
    result = run(config, tmp_path / "run")
    assert result.metrics["test"]["accuracy"] > 0.75
    assert np.sum(result.values["test_confusion_matrix"]) == 10000
