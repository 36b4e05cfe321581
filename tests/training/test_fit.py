"""A whole training: reproducible bit for bit, the best epoch kept, and what `trainer` and `accelerator` do to it."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models.own import Recorder
from torch import Tensor, nn
from torch.optim import SGD
from training.loops import Watch, assert_same_course, by_hand, config_of, data_of, trained

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.models.build import build
from mlplab.runs import RunFolder
from mlplab.training import checkpoints
from mlplab.training.fit import fit

EVERY_DRAW = (
    *("accelerator.precision=32", "data.batch_size=16"),
    "regularization=[dropout,batch_norm,input_noise,mixup,label_smoothing,max_norm]",
)


def course(config: Config, watch: Watch | None = None) -> tuple[list[dict[str, float]], list[dict[str, Tensor]]]:
    """The history without the clock, and all weights after each epoch."""
    fitted, watch = trained(config, watch)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in fitted.history], watch.networks


def assert_bitwise(one: tuple[list, list], two: tuple[list, list]) -> None:
    assert one[0] == two[0]
    for a, b in zip(one[1], two[1], strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def draw_elsewhere() -> None:
    torch.rand(7)
    torch.manual_seed(torch.initial_seed() + 1)
    np.random.rand(3)  # noqa: NPY002
    random.random()


@pytest.mark.parametrize(
    "overrides",
    [
        EVERY_DRAW,
        ("accelerator.precision=32", "model=custom", "model.target=models.own.Net"),
        ("accelerator.precision=32", "initialization=orthogonal", "optimizer=muon", "scheduler=one_cycle"),
        ("accelerator.precision=bf16-mixed", "regularization=dropout"),
    ],
    ids=["every draw", "custom net with torch's dropout", "muon", "bf16-mixed"],
)
def test_the_same_config_gives_the_same_bits_whatever_else_draws(overrides: tuple[str, ...]) -> None:
    config = config_of(*overrides)
    torch.manual_seed(1)
    first = course(config)
    draw_elsewhere()
    assert_bitwise(first, course(config))
    assert_bitwise(first, course(config, Watch(between=draw_elsewhere)))
    other = course(config_of(*overrides, "seed=1"))
    assert first[0] != other[0]


def test_a_training_in_between_changes_nothing() -> None:
    config = config_of(*EVERY_DRAW)
    first = course(config)
    course(config_of("optimizer=sgd", "seed=5", "regularization=mixup", "data.batch_size=7"))
    assert_bitwise(first, course(config))


def test_longer_trainings_begin_like_shorter_ones() -> None:
    short, long = course(config_of(*EVERY_DRAW)), course(config_of(*EVERY_DRAW, "trainer.max_epochs=5"))
    assert_bitwise(short, (long[0][:3], long[1][:3]))


def test_the_seed_of_the_training_moves_no_row_to_another_part() -> None:
    one, two = data_of(config_of("seed=1")), data_of(config_of("seed=2"))
    assert one.fingerprint == two.fingerprint
    assert one.fingerprint != data_of(config_of("data.split_seed=1")).fingerprint


# Epochs of very different quality: the best one is neither the first nor the last
WILD = ("optimizer=sgd", "optimizer.lr=2", "trainer.max_epochs=12")


@pytest.mark.parametrize(("monitor", "best"), [("val/loss", min), ("val/accuracy", max)])
def test_the_best_epochs_weights_are_returned_and_in_best_ckpt(monitor: str, best: type, tmp_path: Path) -> None:
    config, watch = config_of(*WILD, f"trainer.monitor={monitor}"), Watch()
    folder = RunFolder(tmp_path)
    fitted = fit(config, data_of(config), "cpu", folder, [watch])
    values = [row[monitor] for row in fitted.history]
    assert fitted.best_epoch == values.index(best(values))
    assert 0 < fitted.best_epoch < 11, "the case is too tame"
    saved = checkpoints.load(folder.best)
    assert (saved["epoch"], saved["value"]) == (fitted.best_epoch, best(values))
    assert checkpoints.config_of(saved, folder.best) == config
    for name, weight in watch.networks[fitted.best_epoch].items():
        assert torch.equal(weight, fitted.network.state_dict()[name])
        assert torch.equal(weight, saved["network"][name])
        assert torch.equal(watch.networks[-1][name], checkpoints.load(folder.last)["network"][name])
    assert not fitted.network.training


def test_without_validation_the_last_epoch_is_the_best() -> None:
    fitted, watch = trained(config_of(*WILD, "data.split=[0.8,0.2]"))
    assert fitted.best_epoch == 11
    assert all(torch.equal(v, watch.networks[-1][k]) for k, v in fitted.network.state_dict().items())
    assert not any(name.startswith("val/") for name in fitted.history[0])


def test_each_rows_validation_loss_is_that_of_the_weights_at_the_end_of_its_epoch() -> None:
    config = config_of("regularization=[dropout,label_smoothing,input_noise]")
    prepared = data_of(config)
    val = prepared.parts["val"]
    network = build(config, prepared.n_features, prepared.n_classes).double().eval()
    fitted, watch = trained(config)
    for row, weights in zip(fitted.history, watch.networks, strict=True):
        network.load_state_dict(weights)
        with torch.no_grad():
            logits = network(val.x)
        assert row["val/loss"] == pytest.approx(F.cross_entropy(logits, val.y).item(), rel=1e-12)
        assert row["val/accuracy"] == pytest.approx((logits.argmax(1) == val.y).double().mean().item())


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_rows() -> None:
    """With the rate at nothing it is the loss of the whole training part, though the last batch is smaller."""
    config = config_of("optimizer=sgd", "optimizer.lr=1e-300", "trainer.max_epochs=1")
    prepared = data_of(config)
    train = prepared.parts["train"]
    fitted, _ = trained(config)
    with torch.no_grad():
        logits = fitted.network(train.x)
    assert fitted.history[0]["train/loss"] == pytest.approx(F.cross_entropy(logits, train.y).item(), rel=1e-12)
    assert fitted.history[0]["train/accuracy"] == pytest.approx((logits.argmax(1) == train.y).double().mean().item())


def test_a_network_learns_iris() -> None:
    fitted, _ = trained(config_of("optimizer.lr=0.01", "trainer.max_epochs=30"))
    assert fitted.history[-1]["val/accuracy"] >= 0.9


def test_logistic_regression_ends_where_scikit_learns_does() -> None:
    """model=linear, loss=bce and l2 is logistic regression: lbfgs finds the one optimum."""
    from sklearn.linear_model import LogisticRegression

    config = config_of(
        *("data=breast_cancer", "data.split=[0.8,0.2]", "data.batch_size=full", "model=linear", "loss=bce"),
        *("optimizer=lbfgs", "regularization=l2", "regularization.l2.strength=0.01", "trainer.max_epochs=20"),
    )
    train = data_of(config).parts["train"]
    fitted, _ = trained(config)
    theirs = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-10, max_iter=1000).fit(train.x, train.y)
    weights = fitted.network.layers[0].weight.detach().numpy()
    assert weights == pytest.approx(theirs.coef_, abs=5e-4)


def test_overfit_learns_its_one_batch_by_heart() -> None:
    fitted, watch = trained(config_of("trainer=overfit", "trainer.max_epochs=200", "optimizer.lr=0.05"))
    assert watch.n_batches == 200
    assert fitted.history[-1]["train/loss"] < 0.01
    assert fitted.history[-1]["train/accuracy"] == 1.0
    assert fitted.rows_seen == 200 * 32


def test_overfit_shows_the_same_rows_every_epoch() -> None:
    Recorder.batches.clear()
    trained(config_of("trainer=overfit", "trainer.max_epochs=4", "model=custom", "model.target=models.own.Recorder"))
    assert len(Recorder.batches) == 4
    assert all(torch.equal(batch, Recorder.batches[0]) for batch in Recorder.batches)


def test_debug_is_two_epochs_of_three_batches_with_everything_on() -> None:
    config = load_config("trainer=debug", "data.batch_size=8", "accelerator=cpu")
    assert (config.logger.name, config.logger.histograms, config.logger.figures) == ("tensorboard", True, True)
    anomaly: list[bool] = []
    fitted, watch = trained(config, Watch(between=lambda: anomaly.append(torch.is_anomaly_enabled())))
    assert watch.n_batches == len(anomaly) == 6
    assert all(anomaly)
    assert not torch.is_anomaly_enabled()
    assert fitted.rows_seen == 2 * 3 * 8


def test_anomalies_are_not_looked_for_by_default() -> None:
    anomaly: list[bool] = []
    trained(config_of(), Watch(between=lambda: anomaly.append(torch.is_anomaly_enabled())))
    assert not any(anomaly)


def test_max_batches_bounds_each_epoch_and_the_schedule() -> None:
    config = config_of("trainer.max_batches=2", "trainer.max_epochs=4", "optimizer=sgd", "scheduler=cosine")
    fitted, watch = trained(config)
    assert watch.n_batches == 8
    assert [row["step"] for row in fitted.history] == [2, 4, 6, 8]
    last = 0.01 * (1 + np.cos(np.pi * 7 / 8)) / 2
    assert fitted.history[-1]["lr"] == pytest.approx(last)


@pytest.mark.slow
def test_a_compiled_network_trains_as_the_plain_one() -> None:
    import shutil

    if not (shutil.which("g++") or shutil.which("c++")):
        pytest.skip("torch.compile needs a C++ compiler")
    config = config_of(
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "trainer.compile=true",
        *("trainer.max_epochs=2", "model.hidden=[4]", "data.batch_size=30"),  # even batches: compiled once
    )
    assert_same_course(config, by_hand(config, lambda n: SGD(n.parameters(), 0.1)), rtol=1e-6)


@pytest.mark.parametrize(
    ("precision", "kept"), [("64", torch.float64), ("32", torch.float32), ("bf16-mixed", torch.float32)]
)
def test_precision_is_the_number_format_of_weights_and_sums(precision: str, kept: torch.dtype) -> None:
    exact = trained(config_of("optimizer=sgd", "optimizer.lr=0.1"))[0]
    fitted = trained(config_of("optimizer=sgd", "optimizer.lr=0.1", f"accelerator.precision={precision}"))[0]
    assert all(p.dtype == kept for p in fitted.network.parameters())
    error = abs(fitted.history[-1]["train/loss"] - exact.history[-1]["train/loss"])
    low, high = {"64": (0, 0), "32": (1e-12, 1e-5), "bf16-mixed": (1e-6, 2e-2)}[precision]
    assert low <= error <= high


def test_deterministic_forbids_operations_that_differ_from_run_to_run() -> None:
    seen: dict[bool, set[bool]] = {True: set(), False: set()}
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for wanted, found in seen.items():
            config = config_of(f"accelerator.deterministic={str(wanted).lower()}", "trainer.max_epochs=1")
            trained(config, Watch(between=lambda found=found: found.add(torch.are_deterministic_algorithms_enabled())))
    finally:
        torch.use_deterministic_algorithms(before)
    assert seen == {True: {True}, False: {False}}


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_metrics_csv_has_a_row_an_epoch_unless_the_logger_is_none(logger: str, tmp_path: Path) -> None:
    config, folder = config_of(f"logger={logger}"), RunFolder(tmp_path)
    fitted = fit(config, data_of(config), "cpu", folder, [])
    assert folder.metrics.exists() == (logger == "csv")
    if logger == "csv":
        rows = list(csv.DictReader(folder.metrics.open()))
        assert [{k: float(v) for k, v in row.items()} for row in rows] == fitted.history


BLOWN_UP = ("optimizer=sgd", "optimizer.lr=1e5", "activation=relu", "loss=cross_entropy", "trainer.max_epochs=30")


def test_a_loss_that_becomes_infinite_ends_the_training_with_its_step_and_the_last_good_weights(tmp_path: Path) -> None:
    config = config_of(*BLOWN_UP, "regularization=l2", "regularization.l2.strength=1")
    folder = RunFolder(tmp_path)
    fitted = fit(config, data_of(config), "cpu", folder, [])
    assert fitted.diverged is not None
    assert "lower optimizer.lr=100000" in fitted.diverged.cause
    epochs = len(fitted.history)
    assert 3 * epochs <= fitted.diverged.step < 3 * (epochs + 1)
    if epochs:
        saved = checkpoints.load(folder.best)["network"]
        assert all(v.isfinite().all() for v in saved.values())


def test_custom_networks_weights_are_their_own_and_leave_torchs_generator_alone() -> None:
    config = config_of("model=custom", "model.target=models.own.Net")
    state = torch.random.get_rng_state()
    one, two = build(config, 4, 3), build(config, 4, 3)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_settings_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(SettingError, match="could not be built as"):
        trained(config_of("model=custom", "model.target=models.own.Net", "+model.kwargs.no_such=1"))
    with pytest.raises(SettingError, match="must build a torch"):
        trained(config_of("model=custom", "model.target=models.own.NoModule"))
    assert isinstance(build(config_of(), 4, 3), nn.Module)
