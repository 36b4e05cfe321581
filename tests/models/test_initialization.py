"""The law of each initialization, and that initial weights are addressed."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from training.loops import config_of

from mlplab import randomness
from mlplab.compose import CONF
from mlplab.config import Config
from mlplab.models.build import build
from mlplab.models.initialization import RELU_FAMILY, draw

N_IN, N_OUT = 80, 50  # a layer of 4000 weights
ADDRESS = randomness.key(0, "weight", 0), randomness.key(0, "bias", 0)
PLAIN = ["auto", "he", "xavier", "normal", "uniform", "orthogonal", "zeros", "torch"]
SPREAD_OUT = math.sqrt(2 / (N_IN + N_OUT))


def weights(*overrides: str, is_output: bool = False, n_out: int = N_OUT, n_in: int = N_IN) -> tuple[Tensor, Tensor]:
    config = config_of(*overrides)
    return draw(config.initialization, config.activation, ADDRESS, n_out, n_in, is_output)


def assert_normal(w: Tensor, std: float) -> None:
    assert stats.kstest((w / std).flatten().numpy(), "norm").pvalue > 0.01


def assert_uniform(w: Tensor, bound: float) -> None:
    assert w.abs().max() <= bound
    assert stats.kstest((w / bound).flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_every_initialization_of_conf_is_tested_here() -> None:
    assert set(PLAIN) == {path.stem for path in (CONF / "initialization").iterdir()}


@pytest.mark.parametrize(("activation", "gain"), [("relu", math.sqrt(2)), ("leaky_relu", math.sqrt(2 / (1 + 0.3**2)))])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_he_keeps_the_variance_through_the_activation(activation: str, gain: float, distribution: str) -> None:
    slope = ("activation.slope=0.3",) if activation == "leaky_relu" else ()
    w, _ = weights(
        "initialization=he", f"initialization.distribution={distribution}", f"activation={activation}", *slope
    )
    std = gain / math.sqrt(N_IN)
    if distribution == "normal":
        assert_normal(w, std)
    else:
        assert_uniform(w, std * math.sqrt(3))


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_xavier_spreads_by_both_fans(distribution: str) -> None:
    w, _ = weights("initialization=xavier", f"initialization.distribution={distribution}")
    if distribution == "normal":
        assert_normal(w, SPREAD_OUT)
    else:
        assert_uniform(w, math.sqrt(6 / (N_IN + N_OUT)))


def test_normal_and_uniform_have_the_size_that_is_asked() -> None:
    assert_normal(weights("initialization=normal", "initialization.std=0.3")[0], 0.3)
    assert_uniform(weights("initialization=uniform", "initialization.bound=0.7")[0], 0.7)


@pytest.mark.parametrize(("n_out", "n_in"), [(50, 80), (80, 50), (30, 30), (1, 5), (5, 1)])
def test_orthogonal_rows_or_columns_are_orthonormal_times_gain(n_out: int, n_in: int) -> None:
    w, _ = weights("initialization=orthogonal", "initialization.gain=1.5", n_out=n_out, n_in=n_in)
    assert w.shape == (n_out, n_in)
    gram = w @ w.T if n_out <= n_in else w.T @ w
    torch.testing.assert_close(gram, 1.5**2 * torch.eye(len(gram), dtype=torch.float64))


def test_orthogonal_is_uniform_over_rotations() -> None:
    """Mean 0: without the sign correction the first entry would always have one sign (Mezzadri 2007)."""
    config = config_of("initialization=orthogonal")
    keys = torch.tensor([randomness.key(seed, "weight", 0) for seed in range(400)])
    w, _ = draw(config.initialization, config.activation, (keys, keys), 3, 3, False)
    assert w.mean(0).abs().max() < 4 / math.sqrt(3 * 400)
    assert (torch.linalg.det(w) > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)


def test_zeros_are_zeros_and_leave_hidden_units_alike() -> None:
    w, b = weights("initialization=zeros")
    assert not w.any()
    assert not b.any()


def test_torch_is_nn_linears_own_law() -> None:
    w, b = weights("initialization=torch", n_out=2000, n_in=9)
    assert_uniform(w, 1 / 3)
    assert_uniform(b, 1 / 3)
    linear = nn.Linear(9, 2000)
    assert linear.weight.abs().max().item() == pytest.approx(1 / 3, rel=1e-2)
    assert linear.bias.abs().max().item() == pytest.approx(1 / 3, rel=1e-2)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - {"torch"}))
def test_biases_start_at_0(name: str) -> None:
    assert not weights(f"initialization={name}")[1].any()


@pytest.mark.parametrize("path", sorted((CONF / "activation").iterdir()), ids=lambda path: path.stem)
def test_auto_is_he_for_the_relu_family_lecun_for_selu_and_xavier_otherwise(path: object) -> None:
    name = path.stem
    overrides = ["initialization=auto", f"activation={name}"]
    if name == "custom":
        overrides.append("activation.target=torch.nn.Tanhshrink")
    w, _ = weights(*overrides)
    slope = {"leaky_relu": 0.01, "prelu": 0.25}.get(name, 0.0)
    if name in ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus", "prelu"):
        assert name in RELU_FAMILY
        assert_normal(w, math.sqrt(2 / (1 + slope**2) / N_IN))
    elif name == "selu":
        assert_normal(w, math.sqrt(1 / N_IN))
    else:
        assert_uniform(w, math.sqrt(6 / (N_IN + N_OUT)))
    assert_uniform(weights(*overrides, is_output=True)[0], math.sqrt(6 / (N_IN + N_OUT)))


def test_only_the_last_layer_counts_as_output() -> None:
    network = build(config_of("activation=relu", "model.hidden=[200,200]"), 100, 100)
    first, second, last = (m.weight for m in network.modules() if isinstance(m, nn.Linear))
    assert_normal(first.detach().double(), math.sqrt(2 / 100))
    assert_normal(second.detach().double(), math.sqrt(2 / 200))
    assert_uniform(last.detach().double(), math.sqrt(6 / 300) * (1 + 1e-6))


@pytest.mark.parametrize("name", PLAIN)
def test_initial_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    def built(config: Config) -> Tensor:
        return nn.utils.parameters_to_vector(build(config, 9, 3).parameters()).detach()

    config = config_of(f"initialization={name}")
    torch.manual_seed(0)
    one = built(config)
    torch.manual_seed(1)
    torch.rand(5)
    state = torch.random.get_rng_state()
    assert torch.equal(one, built(config))
    assert torch.equal(state, torch.random.get_rng_state())
    same = torch.equal(one, built(config_of(f"initialization={name}", "seed=1")))
    assert same == (name == "zeros")


def test_layers_are_drawn_apart() -> None:
    network = build(config_of("model.hidden=8", "model.depth=3", "initialization=normal"), 8, 8)
    layers = [m.weight for m in network.modules() if isinstance(m, nn.Linear)]
    assert all(not torch.equal(a, b) for i, a in enumerate(layers) for b in layers[:i])


@pytest.mark.parametrize("name", PLAIN)
def test_many_networks_drawn_at_once_are_each_as_alone(name: str) -> None:
    config = config_of(f"initialization={name}")
    keys = [(randomness.key(seed, "weight", 1), randomness.key(seed, "bias", 1)) for seed in range(4)]
    w, b = (torch.tensor(column) for column in zip(*keys, strict=True))
    together = draw(config.initialization, config.activation, (w, b), 7, 5, False)
    for m, address in enumerate(keys):
        alone = draw(config.initialization, config.activation, address, 7, 5, False)
        assert torch.equal(together[0][m], alone[0])
        assert torch.equal(together[1][m], alone[1])
