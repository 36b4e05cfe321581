"""The layers of each model: their sizes, their order, and dropout as an addressed mask."""

from itertools import pairwise

import pytest
import torch
from models.own import Net
from torch import Tensor, nn
from training.loops import config_of

from mlplab import randomness
from mlplab.compose import CONF
from mlplab.models.build import build
from mlplab.models.layers import Clock, Dropout

CUSTOM = ("model=custom", "model.target=models.own.Net")


def sizes(network: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def test_every_model_of_conf_is_tested_here() -> None:
    assert {path.stem for path in (CONF / "model").iterdir()} == {"mlp", "numpy_mlp", "linear", "custom"}


@pytest.mark.parametrize(
    ("overrides", "widths"),
    [
        (["model.hidden=8"], [8]),
        (["model.hidden=8", "model.depth=3"], [8, 8, 8]),
        (["model.hidden=[8]"], [8]),
        (["model.hidden=[8,5,2]"], [8, 5, 2]),
        (["model.hidden=[8,5]", "model.depth=2"], [8, 5]),
        (["model.hidden=1"], [1]),
        (["model=linear"], []),
    ],
)
@pytest.mark.parametrize(("n_features", "n_outputs"), [(4, 3), (13, 1)])
def test_widths_come_from_the_settings_and_ends_from_the_data(
    overrides: list[str], widths: list[int], n_features: int, n_outputs: int
) -> None:
    network = build(config_of(*overrides), n_features, n_outputs).double()
    ends = [n_features, *widths, n_outputs]
    assert sizes(network) == list(pairwise(ends))
    assert network(torch.zeros(7, n_features).double()).shape == (7, n_outputs)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_bias_says_whether_layers_have_one(model: str, bias: bool) -> None:
    network = build(config_of(f"model={model}", f"model.bias={str(bias).lower()}"), 4, 3)
    assert all((m.bias is not None) == bias for m in network.modules() if isinstance(m, nn.Linear))


def test_linear_is_one_affine_map() -> None:
    network = build(config_of("model=linear", "initialization=torch"), 4, 3).double()
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    (layer,) = (m for m in network.modules() if isinstance(m, nn.Linear))
    torch.testing.assert_close(network(x), x @ layer.weight.T + layer.bias)


def test_images_are_flattened() -> None:
    network = build(config_of(), 12, 3).double()
    x = torch.arange(24.0).double().view(2, 3, 2, 2)
    assert torch.equal(network(x), network(x.view(2, 12)))


def test_a_custom_model_is_built_with_the_datas_sizes_and_ones_own_arguments() -> None:
    network = build(config_of(*CUSTOM, "+model.kwargs.width=6"), 13, 2)
    assert isinstance(network, Net)
    assert sizes(network) == [(13, 6), (6, 2)]


def test_a_custom_models_weights_follow_the_seed_and_another_initialization_if_asked() -> None:
    one, same, other = (build(config_of(*CUSTOM, f"seed={seed}"), 4, 3).out.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (build(config_of(*CUSTOM, "initialization=zeros"), 4, 3).out.weight == 0).all()


@pytest.mark.parametrize(("norm", "kind"), [("batch_norm", nn.BatchNorm1d), ("layer_norm", nn.LayerNorm)])
def test_norm_stands_before_the_activation_and_dropout_after(norm: str, kind: type[nn.Module]) -> None:
    network = build(config_of(f"regularization=[dropout,{norm}]"), 4, 3)
    order = [*[nn.Linear, kind, nn.Tanh, Dropout] * 2, nn.Linear]
    assert all(isinstance(layer, expected) for layer, expected in zip(network.layers, order, strict=True))


def hidden(network: nn.Module, kind: type[nn.Module], x: Tensor) -> list[Tensor]:
    """Outputs of all layers of a kind."""
    found: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, out: found.append(out.detach()))
        for m in network.modules()
        if isinstance(m, kind)
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    return found


ROWS = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 1


def test_batch_norm_gives_each_unit_mean_0_and_variance_1_over_the_batch() -> None:
    config = config_of("regularization=batch_norm", "regularization.batch_norm.eps=1e-12")
    network = build(config, 4, 3).double()
    for out in hidden(network, nn.BatchNorm1d, ROWS):
        assert out.mean(0).abs().max() < 1e-9
        assert (out.var(0, unbiased=False) - 1).abs().max() < 1e-9


@pytest.mark.parametrize("momentum", [0.3, 1.0])
def test_batch_norm_momentum_is_the_share_of_the_newest_batch(momentum: float) -> None:
    network = build(config_of("regularization=batch_norm", f"regularization.batch_norm.momentum={momentum}"), 4, 3)
    network.double()(ROWS)
    first, norm = network.layers[0], network.layers[1]
    torch.testing.assert_close(norm.running_mean, momentum * first(ROWS).mean(0))


def test_layer_norm_gives_each_row_mean_0_and_variance_1_over_its_units() -> None:
    config = config_of("regularization=layer_norm", "regularization.layer_norm.eps=1e-12")
    for out in hidden(build(config, 4, 3).double(), nn.LayerNorm, ROWS):
        assert out.mean(1).abs().max() < 1e-9
        assert (out.var(1, unbiased=False) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(("norm", "kind"), [("batch_norm", nn.BatchNorm1d), ("layer_norm", nn.LayerNorm)])
def test_eps_is_added_to_the_variance(norm: str, kind: type[nn.Module]) -> None:
    big = build(config_of(f"regularization={norm}", f"regularization.{norm}.eps=1e6"), 4, 3).double()
    assert all(out.abs().max() < 0.1 for out in hidden(big, kind, ROWS))


def dropout(p: float, address: int = 7) -> tuple[Dropout, Clock]:
    clock = Clock()
    return Dropout(p, address, clock), clock


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
def test_dropout_gives_0_or_x_over_1_minus_p(p: float) -> None:
    layer, _ = dropout(p)
    x = torch.linspace(1, 2, 300 * 40, dtype=torch.float64).view(300, 40)
    out = layer(x)
    dropped = out == 0
    torch.testing.assert_close(out, torch.where(dropped, 0, x / (1 - p)))
    sigma = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(dropped.double().mean() - p) <= 4 * sigma


def test_dropout_drops_gradients_alike() -> None:
    layer, _ = dropout(0.4)
    x = torch.ones(5, 6, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_dropout_is_off_in_evaluation() -> None:
    layer, _ = dropout(0.5)
    x = torch.randn(5, 6)
    assert layer.eval()(x) is x


def test_a_mask_is_a_function_of_seed_layer_and_step_alone() -> None:
    def mask(seed: int = 0, step: int = 0, first_row: int = 0) -> list[Tensor]:
        network = build(
            config_of(
                "regularization=dropout",
                "regularization.dropout.p=0.5",
                f"seed={seed}",
                "model.hidden=[5,5]",
                "initialization=zeros",
                "accelerator.precision=32",
                "activation=sigmoid",
            ),
            4,
            3,
        )  # zero weights: every unit is 1/2 before dropout
        network.clock.step, network.clock.first_row = step, first_row
        torch.rand(step + 3)
        return [out != 0 for out in hidden(network, Dropout, torch.zeros(20, 4))]

    first, second = mask()
    assert not torch.equal(first, second)
    for same, drawn in zip((first, second), mask(), strict=True):
        assert torch.equal(same, drawn)
    assert not torch.equal(first, mask(seed=1)[0])
    assert not torch.equal(first, mask(step=1)[0])
    assert torch.equal(first[8:], mask(first_row=8)[0][:12])


def test_a_networks_masks_are_the_documented_address() -> None:
    """Another implementation (a fused sweep) must reach the same masks from the same address."""
    config = config_of("regularization=dropout", "regularization.dropout.p=0.3", "seed=4")
    network = build(config, 4, 3)
    network.clock.step = 11
    layers = [m for m in network.modules() if isinstance(m, Dropout)]
    for i, layer in enumerate(layers):
        kept = randomness.keep(randomness.at(randomness.key(4, "dropout", i), 11), 9, 5, 0.3)
        assert torch.equal(layer(torch.ones(9, 5)) != 0, kept)
