"""An ensemble is one run: one folder, one checkpoint, one answer, which is the mean of its networks' probabilities."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from scripts.command import refusal, script
from scripts.killed import assert_same_training, kill_during
from sweeps.groups import composed

from mlplab.compose import load_config
from mlplab.config.tools import Export
from mlplab.evaluate import evaluate, load
from mlplab.experiment import run
from mlplab.export import export
from mlplab.models.build import members
from mlplab.models.ensemble import Calibrated, Ensemble
from mlplab.restore import restore
from mlplab.runs import Result
from mlplab.sweeps.run import run_batch
from mlplab.training import checkpoints
from mlplab.training.metrics import probabilities


def folders(path: Path) -> set[str]:
    return {p.name for p in (path / "checkpoints").iterdir()}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("ensemble") / "three"
    return run(composed("ensemble.size=3", "regularization=dropout", "logger=csv"), folder)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_answer_is_the_weighted_mean_of_the_members_probabilities(n_outputs: int) -> None:
    networks = [torch.nn.Linear(4, n_outputs).double() for _ in range(3)]
    x, weights = torch.randn(50, 4).double() * 3, torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    for given, w in ((None, torch.full((3,), 1 / 3, dtype=torch.float64)), (weights * 7, weights)):
        found = probabilities(Ensemble(networks, given)(x))
        wanted = sum(weight * probabilities(network(x)) for weight, network in zip(w, networks, strict=True))
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_the_first_member_is_the_network_of_a_run_alone_and_the_others_have_seeds_of_their_own(
    three: Result, tmp_path: Path
) -> None:
    config = composed("ensemble.size=3", "regularization=dropout")
    seeds = [member.seed for member in members(config)]
    assert seeds[0] == config.seed
    assert len(set(seeds)) == 3
    run(composed("regularization=dropout"), tmp_path / "alone")
    alone, whole = restore(tmp_path / "alone").network, restore(three.folder).network
    assert isinstance(whole, Ensemble)
    first, second = whole.members[0].state_dict(), whole.members[1].state_dict()
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(first[name], value, rtol=1e-9, atol=1e-9)
        assert not torch.equal(second[name], value)


def test_an_ensemble_leaves_the_folder_of_one_run(three: Result) -> None:
    assert folders(three.folder) == {"best.ckpt", "last.ckpt"}
    assert three.status == "completed"
    assert len((three.folder / "metrics.csv").read_text().splitlines()) == 11
    assert three.values["n_parameters"] == 3 * sum(
        p.numel() for p in restore(three.folder).network.members[0].parameters()
    )
    told = three.values["ensemble"]
    assert (told["size"], told["trained"]) == (3, 3)
    loaded = load(three.folder)
    part, scores = loaded.prepared.parts["test"], []
    for member in loaded.network.members:
        scores.append(float((member(part.x).argmax(1) == part.y).double().mean()))
    assert told["members"]["test"]["accuracy"] == pytest.approx(sum(scores) / 3)
    assert evaluate(three.folder).metrics == three.metrics


@pytest.mark.parametrize("embedding", ["periodic", "piecewise_linear"])
def test_members_embed_numbers(embedding: str, tmp_path: Path) -> None:
    words = ("ensemble.size=2", f"embedding={embedding}", "calibration=temperature", "trainer.max_epochs=4")
    result = run(composed(*words), tmp_path / "two")
    assert evaluate(result.folder).metrics == result.metrics
    assert "members.1.layers.0.bias" in checkpoints.load(result.folder / "checkpoints/best.ckpt")["network"]


def test_an_ensemble_is_one_onnx_file(three: Result, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    chosen = Export(
        run=str(three.folder),
        allow_targets=[],
        format="onnx",
        output=str(file),
        overwrite=False,
        check_rows=50,
        tolerance=1e-5,
    )
    assert export(chosen).difference < 1e-6
    loaded = load(three.folder)
    raw = loaded.prepared.raw[:7]
    answer = onnxruntime.InferenceSession(file).run(None, {"features": raw})[0]
    kept = loaded.restored.probabilities(torch.from_numpy(raw))
    torch.testing.assert_close(torch.from_numpy(answer).double(), kept.double(), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_fused_trains_in_turn_to_the_same_kind_of_folder(tmp_path: Path) -> None:
    result = run(composed("ensemble.size=2", "optimizer=nadam", "logger=csv"), tmp_path / "turns")
    assert folders(result.folder) == {"best.ckpt", "last.ckpt"}
    assert evaluate(result.folder).metrics == result.metrics
    solo = run(composed("optimizer=nadam"), tmp_path / "solo")
    first = restore(result.folder).network.members[0].state_dict()
    assert all(torch.equal(first[name], v) for name, v in restore(solo.folder).network.state_dict().items())


@pytest.mark.slow
def test_an_ensemble_killed_and_resumed_is_bitwise_the_one_that_was_not(tmp_path: Path) -> None:
    settings = ("ensemble.size=4", "optimizer=nadam", "data=digits", "trainer.max_epochs=12")
    whole = script("train", *settings, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    second = "killed/checkpoints/member_1/checkpoints/last.ckpt"
    kill_during(
        *settings, "trainer.checkpoint_seconds=0.05", "hydra.run.dir=killed", cwd=tmp_path, file=second, after=0
    )
    first = tmp_path / "killed" / "checkpoints" / "member_0" / "checkpoints" / "best.ckpt"
    before = first.read_bytes()
    assert before
    again = script("train", "resume=killed", "trainer.checkpoint_seconds=5", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert folders(tmp_path / "killed") == {"best.ckpt", "last.ckpt"}
    assert_same_training(tmp_path / "killed", tmp_path / "whole")


def test_ensembles_run_in_sweeps_and_are_resumed_by_name(tmp_path: Path) -> None:
    said = script(
        "train", "-m", "ensemble.size=2", "seed=0,1", "trainer.max_epochs=2", "hydra.sweep.dir=sweep", cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr
    assert "2 alone because ensemble.size trains a batch of its own" in said.stdout
    again = script("train", "resume=sweep/0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    longer = script("train", "resume=sweep/1", "trainer.max_epochs=3", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    straight = run(load_config("ensemble.size=2", "seed=1", "trainer.max_epochs=3"), tmp_path / "straight")
    assert checkpoints.load(tmp_path / "sweep/1/checkpoints/best.ckpt")["epoch"] == straight.values["best_epoch"]
    assert evaluate(tmp_path / "sweep" / "1").metrics == straight.metrics


def test_a_fused_sweep_calibrates_each_job_as_alone(tmp_path: Path) -> None:
    configs = [composed("calibration=temperature", f"seed={seed}", "trainer.max_epochs=30") for seed in range(3)]
    fused = run_batch(configs, [tmp_path / f"fused{i}" for i in range(3)])
    temperatures = []
    for i, config in enumerate(configs):
        alone = run(config, tmp_path / f"alone{i}")
        one, other = restore(alone.folder).network, restore(tmp_path / f"fused{i}").network
        assert isinstance(one, Calibrated)
        assert isinstance(other, Calibrated)
        assert float(one.temperature) == pytest.approx(float(other.temperature), rel=1e-6)
        assert fused[i].metrics["val"]["loss"] == pytest.approx(alone.metrics["val"]["loss"], rel=1e-9)  # type: ignore[union-attr]
        assert evaluate(alone.folder).metrics == alone.metrics
        temperatures.append(float(one.temperature))
    assert len(set(temperatures)) == 3


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("ensemble.size=0",), "must be at least 1"),
        (("ensemble.size=2", "accelerator=ddp_cpu", "accelerator.devices=2"), "use one device"),
        (("calibration=temperature", "data.split=[0.8,0.2]"), "fitted on validation rows"),
        (("calibration=temprature",), "Did you mean 'temperature'?"),
    ],
)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], told: str, tmp_path: Path) -> None:
    assert told in refusal(script("train", *overrides, cwd=tmp_path))
    assert not list(tmp_path.rglob("*"))
