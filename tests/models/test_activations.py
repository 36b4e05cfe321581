"""Each activation equals torch's function, its parameter acts, and what learns learns."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training.loops import config_of, trained

from mlplab.compose import CONF
from mlplab.config import SettingError
from mlplab.models.build import build
from mlplab.models.layers import activation

GRID = torch.linspace(-6, 6, 241, dtype=torch.float64)
CASES: dict[str, tuple[tuple[str, ...], Callable[[Tensor], Tensor]]] = {
    "relu": ((), F.relu),
    "leaky_relu": (("activation.slope=0.3",), lambda x: F.leaky_relu(x, 0.3)),
    "elu": (("activation.alpha=1.7",), lambda x: F.elu(x, 1.7)),
    "gelu": ((), F.gelu),
    "silu": ((), F.silu),
    "mish": ((), F.mish),
    "selu": ((), F.selu),
    "softplus": ((), F.softplus),
    "prelu": ((), lambda x: F.prelu(x, torch.tensor([0.25]).double())),
    "sigmoid": ((), torch.sigmoid),
    "tanh": ((), torch.tanh),
    "identity": ((), lambda x: x),
    "custom": (("activation.target=models.own.Swish", "+activation.kwargs.beta=2.0"), lambda x: x * (2 * x).sigmoid()),
}


def test_every_activation_of_conf_has_its_case() -> None:
    assert set(CASES) == {path.stem for path in (CONF / "activation").iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_values_are_torchs_on_a_grid(name: str) -> None:
    overrides, function = CASES[name]
    config = config_of(f"activation={name}", *overrides)
    torch.testing.assert_close(activation(config.activation).double()(GRID), function(GRID), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", CASES)
def test_each_hidden_layer_has_it_and_the_output_has_not(name: str) -> None:
    overrides, function = CASES[name]
    network = build(config_of(f"activation={name}", *overrides), 4, 3).double()
    x = GRID[:40].view(10, 4)
    first, second, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    expected = last(function(second(function(first(x)))))
    torch.testing.assert_close(network(x), expected)


def test_prelu_learns_a_slope_in_each_layer() -> None:
    fitted, _ = trained(config_of("activation=prelu", "optimizer.lr=0.05"))
    slopes = [m.weight.item() for m in fitted.network.modules() if isinstance(m, nn.PReLU)]
    assert len(slopes) == 2
    assert 0.25 not in slopes
    assert slopes[0] != slopes[1]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("models.own.NoSuch", "activation.target=models.own.NoSuch: module 'models.own' has no 'NoSuch'"),
        ("no_such.Swish", "activation.target=no_such.Swish: there is no module 'no_such'"),
        ("Swish", "activation.target=Swish must be a dotted name"),
    ],
)
def test_a_target_that_is_not_there_is_refused(target: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        build(config_of("activation=custom", f"activation.target={target}"), 4, 3)
