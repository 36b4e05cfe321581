"""The lean Adam is torch's, bit for bit."""

import copy

import pytest
import torch
from torch import nn

from mlplab.training.adam import LeanAdam, LeanAdamW

KINDS = {"adam": (LeanAdam, torch.optim.Adam), "adamw": (LeanAdamW, torch.optim.AdamW)}
SETTINGS = {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}


def trained(optimizer: torch.optim.Optimizer, network: nn.Module, steps: range, resume: bool = False) -> nn.Module:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 5, generator=generator)
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        optimizer.step()
    return network


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_it_is_torchs_to_the_bit_and_so_is_its_state(kind: str, amsgrad: bool) -> None:
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))
    networks = [copy.deepcopy(network), copy.deepcopy(network)]
    optimizers = [
        of(n.parameters(), 0.01, **SETTINGS, amsgrad=amsgrad, fused=True)
        for of, n in zip(KINDS[kind], networks, strict=True)
    ]
    for optimizer, one in zip(optimizers, networks, strict=True):
        trained(optimizer, one, range(6))
    saved = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
    for a, b in zip(*(state["state"].values() for state in saved), strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    for optimizer, state, one in zip(optimizers, saved, networks, strict=True):
        optimizer.load_state_dict(state)  # as a resumed training does
        trained(optimizer, one, range(6, 12))
    for a, b in zip(*(n.parameters() for n in networks), strict=True):
        assert torch.equal(a, b)


def test_a_parameter_without_gradient_and_a_closure_go_torchs_way() -> None:
    network = nn.Linear(3, 2)
    like = copy.deepcopy(network)
    lean, plain = LeanAdam(network.parameters(), 0.1, fused=True), torch.optim.Adam(like.parameters(), 0.1, fused=True)
    for optimizer, one in ((lean, network), (plain, like)):
        for step in range(4):
            optimizer.zero_grad()

            def loss(one: nn.Linear = one, step: int = step) -> torch.Tensor:
                value = one.weight.square().sum() if step == 2 else one(torch.ones(3)).square().sum()
                value.backward()
                return value

            if step == 3:
                assert optimizer.step(loss) > 0
            else:
                loss()
                optimizer.step()
    assert torch.equal(network.weight, like.weight)
    assert torch.equal(network.bias, like.bias)
