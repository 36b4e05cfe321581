"""Whole runs as a person starts them: what is on the screen, on disk and in TensorBoard."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from scripts.command import ROOT, script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from mlplab.training import checkpoints
from mlplab.training.metrics import METRICS


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def wine(work: Path) -> Path:
    """The folder of the plainest run: `python src/train.py` with three named words."""
    run = script("train", "optimizer=adam", "model.hidden=64", "optimizer.lr=0.01", cwd=work)
    assert run.returncode == 0, run.stderr
    assert "accuracy" in run.stdout
    assert "test" in run.stdout
    (folder,) = (work / "outputs" / "wine").iterdir()
    assert str(folder.name) in run.stdout
    return folder


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    return found


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def weights(folder: Path, name: str = "best") -> dict[str, torch.Tensor]:
    return checkpoints.load(folder / "checkpoints" / f"{name}.ckpt")["network"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_the_record(wine: Path) -> None:
    files = {str(p.relative_to(wine)) for p in wine.rglob("*") if p.is_file()}
    expected = {".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "result.json", "metrics.csv"}
    expected |= {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "misclassified.csv"}
    pictures = ("confusion_matrix", "roc", "precision_recall", "learning_curves")
    expected |= {f"figures/{name}.png" for name in pictures}
    assert expected <= files
    assert len([f for f in files if f.startswith("events.out.tfevents")]) == 1
    for name in expected:
        assert (wine / name).stat().st_size > 0


def test_result_json_says_what_happened(wine: Path) -> None:
    values = result(wine)
    assert values["status"] == "completed"
    assert values["n_parameters"] == 13 * 64 + 64 + 64 * 3 + 3
    assert values["data"]["rows"] == {"train": 106, "val": 36, "test": 36}
    assert values["data"]["features"] == 13
    assert values["versions"]["torch"] == torch.__version__.split("+")[0]
    assert values["seed"] == 0
    assert values["device"] in ("cpu", "cuda", "mps")
    assert "optimizer=adam" in values["command"]
    assert values["git_commit"] is None or len(values["git_commit"].removesuffix("-dirty")) == 40
    assert set(values["seconds"]) == {"total", "fit", "test"}
    assert values["seconds"]["total"] > values["seconds"]["fit"] > 0
    for part in ("train", "val", "test"):
        assert set(values["metrics"][part]) == {"loss", *METRICS}
    matrix = torch.tensor(values["test_confusion_matrix"])
    assert int(matrix.sum()) == 36
    assert float(matrix.trace()) / 36 == values["metrics"]["test"]["accuracy"]
    assert {row["support"] for row in values["test_per_class"].values()} == set(matrix.sum(1).tolist())


def test_metrics_csv_has_a_row_an_epoch_and_names_the_best(wine: Path) -> None:
    values, table = result(wine), rows(wine)
    assert [int(row["epoch"]) for row in table] == list(range(30))
    losses = [float(row["val/loss"]) for row in table]
    assert losses.index(min(losses)) == values["best_epoch"]
    assert math.isclose(min(losses), values["metrics"]["val"]["loss"], rel_tol=1e-6)


def test_misclassified_csv_lists_exactly_the_wrong_test_rows(wine: Path) -> None:
    with (wine / "misclassified.csv").open() as file:
        wrong = list(csv.DictReader(file))
    assert len(wrong) == round(36 * (1 - result(wine)["metrics"]["test"]["accuracy"]))
    for row in wrong:
        shares = {name[2:-1]: float(p) for name, p in row.items() if name.startswith("p(")}
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-5)
        assert max(shares, key=lambda c: shares[c]) == row["predicted"] != row["true"]


def test_tensorboard_shows_curves_pictures_graph_settings_and_real_hparams(wine: Path) -> None:
    found, values = events(wine), result(wine)
    scalars = set(found.Tags()["scalars"])
    for part in ("train", "val"):
        assert {f"{part}/{name}" for name in ("loss", *METRICS)} <= scalars
    assert "lr" in scalars
    assert [e.step for e in found.Scalars("val/loss")] == list(range(30))
    assert [e.value for e in found.Scalars("val/loss")] == pytest.approx([float(r["val/loss"]) for r in rows(wine)])
    assert {"confusion_matrix", "roc", "precision_recall"} <= set(found.Tags()["images"])
    assert found.Tags()["graph"]
    histograms = set(found.Tags()["histograms"])
    assert {"weights/layers.0.weight", "gradients/layers.0.weight"} <= histograms
    assert "config/text_summary" in found.Tags()["tensors"]
    for part in ("val", "test"):
        (final,) = found.Scalars(f"best/{part}_accuracy")
        assert final.value == pytest.approx(values["metrics"][part]["accuracy"])
    start = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert hparams["optimizer.lr"].number_value == 0.01
    assert hparams["model.hidden"].number_value == 64


def test_evaluate_gives_the_same_numbers_from_the_folder_alone(wine: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    wine.rename(moved)
    try:
        run = script("evaluate", f"run={moved}", cwd=tmp_path)
        assert run.returncode == 0, run.stderr
        for part in ("train", "val", "test"):
            for name in ("loss", "accuracy", "ece"):
                assert f"{result(moved)['metrics'][part][name]:.4f}" in run.stdout
        assert sorted(p.name for p in tmp_path.iterdir()) == ["moved"], "scoring leaves nothing behind"
    finally:
        moved.rename(wine)


def test_the_same_command_gives_the_same_bits(work: Path, wine: Path) -> None:
    again = script("train", "model.hidden=64", "optimizer.lr=0.01", "hydra.run.dir=again", cwd=work)
    assert again.returncode == 0, again.stderr
    for name in ("best", "last"):
        one, two = weights(wine, name), weights(work / "again", name)
        assert all(torch.equal(one[k], two[k]) for k in one)
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(wine)]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in rows(work / "again")]
    assert result(wine)["metrics"] == result(work / "again")["metrics"]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    common = ["regularization=[dropout,l2]", "trainer.max_epochs=4", "data.batch_size=17", "logger=csv"]
    one = script("train", *common, "accelerator=cpu", "hydra.run.dir=one", cwd=tmp_path)
    two = script("train", *common, "accelerator=ddp_cpu", "hydra.run.dir=two", cwd=tmp_path)
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]
    single, double = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(single) == len(double) == 4
    for a, b in zip(single, double, strict=True):
        assert float(b["train/loss"]) == pytest.approx(float(a["train/loss"]), rel=1e-5)
        assert float(b["val/loss"]) == pytest.approx(float(a["val/loss"]), rel=1e-5)
        assert b["train/accuracy"] == a["train/accuracy"]


@pytest.mark.slow
def test_a_plain_sweep_runs_every_job(tmp_path: Path) -> None:
    swept = ["optimizer=adam,sgd", "optimizer.lr=0.1,0.01", "trainer.max_epochs=3", "hydra/launcher=basic"]
    run = script("train", "-m", *swept, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    (sweep,) = (tmp_path / "outputs" / "wine").iterdir()
    jobs = sorted(p for p in sweep.iterdir() if p.is_dir())
    assert [p.name for p in jobs] == ["0", "1", "2", "3"]
    settings = set()
    for job in jobs:
        assert result(job)["status"] == "completed"
        config = checkpoints.load(job / "checkpoints" / "best.ckpt")["config"]
        settings.add((config["optimizer"]["name"], config["optimizer"]["lr"]))
        assert not (job / "figures").exists(), "a sweep's jobs draw no pictures unless asked"
    assert settings == {(o, lr) for o in ("adam", "sgd") for lr in (0.1, 0.01)}


def test_a_diverged_run_says_when_and_why_and_keeps_the_last_good_weights(tmp_path: Path) -> None:
    explosive = ["optimizer=sgd", "optimizer.lr=1e3", "activation=identity", "regularization=l2"]
    explosive += ["regularization.l2.strength=1.0", "trainer.max_epochs=60", "data.batch_size=full"]
    run = script("train", *explosive, "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 1, (run.stdout, run.stderr)
    assert "Traceback" not in run.stderr
    values = result(tmp_path / "run")
    assert values["status"] == "diverged"
    assert values["failure"]["step"] >= 1
    assert "optimizer.lr=1000" in values["failure"]["cause"]
    kept = weights(tmp_path / "run")
    assert all(bool(w.isfinite().all()) for w in kept.values())
    assert values["metrics"]["test"]["accuracy"] is not None


def test_a_model_that_raises_leaves_the_traceback_in_the_record(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        raise RuntimeError('my own mistake')\n"
    )
    given = ["model=custom", "model.target=broken.Net", "hydra.run.dir=run"]
    run = script("train", *given, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert run.returncode == 1
    assert "my own mistake" in run.stderr
    assert "Traceback" not in run.stderr
    values = result(tmp_path / "run")
    assert values["status"] == "failed"
    assert "broken.py" in values["failure"]["traceback"]


@pytest.mark.slow
def test_the_decision_boundary_of_two_feature_data_is_drawn_as_it_changes(tmp_path: Path) -> None:
    run = script("train", "data=moons", "data.samples=100", "loss=bce", "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    drawn = events(tmp_path / "run").Images("decision_boundary")
    assert len(drawn) >= 5
    assert len({image.encoded_image_string for image in drawn}) == len(drawn), "it changes over training"


def test_runs_started_in_the_same_second_never_share_a_folder(tmp_path: Path) -> None:
    from mlplab.cli import claim

    folders = {claim(tmp_path / "2026-01-01_00-00-00", exact=False) for _ in range(20)}
    assert len(folders) == 20


def test_help_lists_every_group_and_option() -> None:
    import subprocess
    import sys

    run = subprocess.run(
        [sys.executable, str(ROOT / "src" / "train.py"), "--help"], capture_output=True, text=True, check=True
    )
    for group in ("data", "model", "activation", "optimizer", "scheduler", "regularization", "loss", "logger"):
        for option in (ROOT / "conf" / group).glob("*.yaml"):
            assert option.stem in run.stdout
