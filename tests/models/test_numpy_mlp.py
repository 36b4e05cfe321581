"""The network written out in NumPy equals torch's, and both equal finite differences."""

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.config.network import WRITTEN_OUT
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.models.build import build
from mlplab.models.numpy_layers import output_delta, row_losses, sigmoid
from mlplab.models.numpy_mlp import NumpyMLP
from mlplab.runs import RunFolder
from mlplab.training import checkpoints, losses
from mlplab.training.fit import fit

PLAIN = ("accelerator=cpu", "accelerator.precision=64", "logger=none", "initialization=torch")
TASKS = [("cross_entropy", 3), ("mse", 3), ("focal", 3), ("bce", 2), ("mse", 2), ("focal", 2), ("cross_entropy", 2)]


@cache
def config_of(*overrides: str) -> Config:
    return load_config("data=iris", "model.hidden=[4,3]", *PLAIN, *overrides)


def network_of(config: Config, n_outputs: int) -> torch.nn.Module:
    return build(config, 4, n_outputs).double()


def objective(network: torch.nn.Module, config: Config, n_classes: int) -> torch.Tensor:
    """Mean loss of 7 rows, from torch's losses or NumPy's."""
    rows = torch.Generator().manual_seed(3)
    x = torch.randn(7, 4, dtype=torch.float64, generator=rows)
    targets = F.one_hot(torch.arange(7) % n_classes, n_classes).double() * 0.9 + 0.1 / n_classes
    of_rows = getattr(network, "row_losses", losses.row_losses)
    return of_rows(config.loss, network(x), targets).mean()


@pytest.mark.parametrize(("loss", "n_classes"), TASKS)
@pytest.mark.parametrize("activation", WRITTEN_OUT)
def test_loss_and_gradients_are_those_of_torch_and_of_finite_differences(
    activation: str, loss: str, n_classes: int
) -> None:
    of_loss = config_of("data=breast_cancer", f"loss={loss}").loss
    config = config_of(f"activation={activation}").model_copy(update={"loss": of_loss})
    n_outputs = losses.n_outputs(loss, n_classes)
    ours = network_of(config.model_copy(update={"model": config_of("model=numpy_mlp").model}), n_outputs)
    theirs = network_of(config, n_outputs)
    assert isinstance(ours, NumpyMLP)
    found, expected = (objective(network, config, n_classes) for network in (ours, theirs))
    found.backward()
    expected.backward()
    assert abs(found.item() - expected.item()) < 1e-10
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        assert (p.grad - q.grad).abs().max() < 1e-10, name
        numeric = torch.empty_like(p)
        with torch.no_grad():
            for place in itertools.product(*map(range, p.shape)):
                kept, values = p[place].item(), []
                for step in (1e-5, -1e-5):
                    p[place] = kept + step
                    values.append(objective(ours, config, n_classes).item())
                p[place] = kept
                numeric[place] = (values[0] - values[1]) / 2e-5
        assert (p.grad - numeric).abs().max() < 1e-6, name


def test_backward_is_numpy_and_nothing_of_torch() -> None:
    network = network_of(config_of("model=numpy_mlp"), 3)
    node = network(torch.randn(5, 4, dtype=torch.float64)).grad_fn
    assert node is not None
    assert type(node).__name__ == "_NetworkBackward"
    below = {type(n).__name__ for n, _ in node.next_functions if n is not None}
    assert below == {"AccumulateGrad"}


def test_log_loss_needs_the_derivative_of_the_sigmoid() -> None:
    """p - t, not the article's (p - t) / (p (1 - p))."""
    z, t = np.array([[2.0], [-3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    p = sigmoid(z)
    numeric = (row_losses("bce", z + 1e-6, t) - row_losses("bce", z - 1e-6, t)) / 2e-6
    np.testing.assert_allclose(output_delta("bce", z, t)[:, 0], numeric, atol=1e-9)
    wrong = ((p - t[:, 1:]) / (p * (1 - p)))[:, 0]
    assert (np.abs(wrong - numeric) > 5).all()


def test_losses_of_extreme_logits_are_finite() -> None:
    z, t = np.array([[900.0, -900.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])
    for name in ("cross_entropy", "mse", "focal"):
        assert np.isfinite(row_losses(name, z, t, 2.0)).all()
        assert np.isfinite(output_delta(name, z, t, 2.0)).all()
        assert np.isfinite(output_delta(name, z, t, 0.5)).all()
    one = np.array([[900.0]])
    assert row_losses("bce", one, np.array([[1.0, 0.0]])) == pytest.approx(900)
    assert sigmoid(np.array(-900.0)) == 0


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer=adamw", "regularization=[dropout,layer_norm,weight_decay]"),
        ("optimizer=momentum", "regularization=[batch_norm,max_norm,l1]"),
        ("optimizer=lbfgs", "data.batch_size=full", "trainer.max_epochs=1"),  # its line search magnifies rounding
        ("loss=focal", "regularization=[label_smoothing,mixup,input_noise,gradient_clipping]"),
        ("model.bias=false", "optimizer=sgd", "loss.class_weights=balanced"),
    ],
    ids=" ".join,
)
def test_trains_as_the_torch_network_with_every_optimizer_and_regularizer(overrides: tuple[str, ...]) -> None:
    weights = []
    for model in ("numpy_mlp", "mlp"):
        config = config_of(f"model={model}", "activation=elu", "trainer.max_epochs=3", *overrides)
        fitted = fit(config, prepare(config.data, torch.float64), "cpu", None, [])
        weights.append({**fitted.network.state_dict(), "loss": torch.tensor(fitted.history[-1]["val/loss"])})
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-8, atol=1e-10, msg=name)


def test_a_whole_run_leaves_the_record_of_any_other(tmp_path: Path) -> None:
    """Graph, histograms, figures and checkpoint included; and torch's MLP takes over the checkpoint."""
    config = load_config("model=numpy_mlp", "data=iris", "trainer.max_epochs=3", "accelerator=cpu")
    result = run(config, tmp_path)
    assert result.status == "completed"
    assert list(tmp_path.glob("events.out.*"))
    assert evaluate(tmp_path).metrics["test"] == pytest.approx(result.metrics["test"])
    saved = checkpoints.load(RunFolder(tmp_path).best)
    torchs = build(config_of("model.hidden=[32,32]", "accelerator.precision=32"), 4, 3).eval()
    torchs.load_state_dict(saved["network"])
    test = prepare(config.data).parts["test"]
    accuracy = (torchs(test.x).argmax(1) == test.y).double().mean()
    assert float(accuracy) == result.metrics["test"]["accuracy"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["activation=gelu"], "activation=gelu is not written out in model=numpy_mlp; sigmoid, tanh, relu"),
        (["accelerator.precision=bf16-mixed"], "accelerator.precision=32 or 64"),
        (["trainer.compile=true"], "model=numpy_mlp is NumPy"),
    ],
)
def test_refuses_what_is_not_written_out(overrides: list[str], said: str) -> None:
    with pytest.raises(SettingError, match=said) as caught:
        load_config("model=numpy_mlp", *overrides)
    assert len(str(caught.value).splitlines()) == 1
