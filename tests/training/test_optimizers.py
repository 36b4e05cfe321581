"""Each optimizer, trained through mlplab, equals torch's own in a plain loop, step for step."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from training.loops import assert_same_course, by_hand, config_of, data_of, matrices, trained
from training.own import SignDescent

from mlplab.compose import CONF
from mlplab.config import SettingError
from mlplab.models.build import build
from mlplab.training import optimizers

PLAIN = {"foreach": False, "fused": False}  # the loop over parameters that torch documents
ADAM = ("optimizer.lr=0.02", "optimizer.betas=[0.8,0.95]", "optimizer.eps=1e-4", "optimizer.weight_decay=0.03")


def _adam(kind: type[Optimizer], **more: object) -> Optimizer:
    return lambda n: kind(n.parameters(), lr=0.02, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.03, **more)


def _sgd(**more: object) -> Optimizer:
    return lambda n: torch.optim.SGD(n.parameters(), lr=0.05, weight_decay=0.03, **PLAIN, **more)


def _muon(network: nn.Module) -> list[Optimizer]:
    biases = [p for p in network.parameters() if p.ndim == 1]
    return [
        torch.optim.Muon(matrices(network), lr=0.05, momentum=0.9, nesterov=False, ns_steps=3, weight_decay=0.03),
        torch.optim.AdamW(biases, lr=0.004, weight_decay=0.03, **PLAIN),
    ]


# every setting of every optimizer away from its default: one that is not handed on shows
CASES = {
    "sgd": (("optimizer.lr=0.05", "optimizer.weight_decay=0.03"), _sgd()),
    "momentum": (
        ("optimizer.lr=0.05", "optimizer.weight_decay=0.03", "optimizer.momentum=0.7"),
        _sgd(momentum=0.7),
    ),
    "nesterov": (
        ("optimizer.lr=0.05", "optimizer.weight_decay=0.03", "optimizer.momentum=0.7"),
        _sgd(momentum=0.7, nesterov=True),
    ),
    "rmsprop": (
        (
            *("optimizer.lr=0.02", "optimizer.alpha=0.9", "optimizer.eps=1e-4", "optimizer.momentum=0.5"),
            *("optimizer.centered=true", "optimizer.weight_decay=0.03"),
        ),
        lambda n: torch.optim.RMSprop(
            n.parameters(), 0.02, alpha=0.9, eps=1e-4, momentum=0.5, centered=True, weight_decay=0.03, foreach=False
        ),
    ),
    "adagrad": (
        ("optimizer.lr=0.05", "optimizer.lr_decay=0.1", "optimizer.eps=1e-4", "optimizer.weight_decay=0.03"),
        lambda n: torch.optim.Adagrad(n.parameters(), 0.05, lr_decay=0.1, eps=1e-4, weight_decay=0.03, foreach=False),
    ),
    "adam": ((*ADAM, "optimizer.amsgrad=true"), _adam(torch.optim.Adam, amsgrad=True, **PLAIN)),
    "adamw": ((*ADAM, "optimizer.amsgrad=true"), _adam(torch.optim.AdamW, amsgrad=True, **PLAIN)),
    "nadam": (
        (*ADAM, "optimizer.momentum_decay=0.1"),
        _adam(torch.optim.NAdam, momentum_decay=0.1, foreach=False),
    ),
    "radam": (ADAM, _adam(torch.optim.RAdam, foreach=False)),
    "lbfgs": (
        ("data.batch_size=full", "optimizer.lr=0.5", "optimizer.max_iter=4", "optimizer.history_size=3"),
        lambda n: torch.optim.LBFGS(n.parameters(), 0.5, max_iter=4, history_size=3, line_search_fn="strong_wolfe"),
    ),
    "muon": (
        (
            *("optimizer.lr=0.05", "optimizer.momentum=0.9", "optimizer.nesterov=false", "optimizer.ns_steps=3"),
            *("optimizer.adamw_lr=0.004", "optimizer.weight_decay=0.03"),
        ),
        _muon,
    ),
    "custom": (
        ("optimizer.target=training.own.SignDescent", "optimizer.lr=0.02", "+optimizer.kwargs.shrink=0.1"),
        lambda n: SignDescent(n.parameters(), lr=0.02, shrink=0.1),
    ),
}


def test_every_optimizer_of_conf_has_its_case() -> None:
    assert set(CASES) == {path.stem for path in (CONF / "optimizer").iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_training_equals_a_torch_loop_step_for_step(name: str) -> None:
    overrides, optimizer = CASES[name]
    config = config_of(f"optimizer={name}", *overrides)
    assert_same_course(config, by_hand(config, optimizer))


@pytest.mark.parametrize(("line_search", "torchs"), [("none", None), ("strong_wolfe", "strong_wolfe")])
def test_lbfgs_searches_the_line_as_asked(line_search: str, torchs: str | None) -> None:
    config = config_of("optimizer=lbfgs", "data.batch_size=full", f"optimizer.line_search={line_search}")
    expected = by_hand(
        config, lambda n: torch.optim.LBFGS(n.parameters(), 1, 20, history_size=10, line_search_fn=torchs)
    )
    assert_same_course(config, expected)


def test_lbfgs_reports_the_loss_where_its_step_began() -> None:
    """A step looks at many points along its line; the epoch's loss is that of the weights it started from."""
    config = config_of("optimizer=lbfgs", "data.batch_size=full")
    prepared = data_of(config)
    train = prepared.parts["train"]
    network = build(config, prepared.n_features, prepared.n_classes).double()
    fitted, watch = trained(config)
    for row, weights in zip(fitted.history, [network.state_dict(), *watch.networks], strict=False):
        network.load_state_dict(weights)
        loss = nn.functional.cross_entropy(network(train.x), train.y).item()
        assert row["train/loss"] == pytest.approx(loss, rel=1e-9)


def test_muon_without_biases_is_torchs_muon_alone() -> None:
    config = config_of("optimizer=muon", "model.bias=false")
    expected = by_hand(config, lambda n: torch.optim.Muon(n.parameters(), 0.02, 0.0, ns_steps=5))
    assert_same_course(config, expected)


@pytest.mark.parametrize("name", sorted({path.stem for path in (CONF / "optimizer").iterdir()} - {"custom", "lbfgs"}))
def test_defaults_of_conf_are_torchs_defaults_but_for_the_rate(name: str) -> None:
    """A tutorial's numbers carry over."""
    ours = config_of(f"optimizer={name}").optimizer.model_dump()
    theirs = {
        "sgd": torch.optim.SGD,
        "momentum": torch.optim.SGD,
        "nesterov": torch.optim.SGD,
        "rmsprop": torch.optim.RMSprop,
        "adagrad": torch.optim.Adagrad,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
        "muon": torch.optim.Muon,
    }[name]([nn.Parameter(torch.zeros(2, 2))]).defaults
    chosen = {"lr", "weight_decay"} | ({"momentum", "nesterov"} if theirs.get("dampening") is not None else set())
    for setting in ours.keys() & theirs.keys() - chosen:
        value = tuple(ours[setting]) if isinstance(ours[setting], list) else ours[setting]
        assert value == theirs[setting], setting


def test_the_state_of_muon_and_adamw_survives_saving() -> None:
    config = config_of("optimizer=muon").optimizer

    def stepped(parameters: list[nn.Parameter], optimizer: Optimizer, n: int) -> None:
        for i in range(n):
            for p in parameters:
                p.grad = torch.sin(p.detach() + i)
            optimizer.step()

    torch.manual_seed(0)
    first = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(3))]
    optimizer = optimizers.build(config, first)
    stepped(first, optimizer, 2)
    second = [nn.Parameter(p.detach().clone()) for p in first]
    resumed = optimizers.build(config, second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    stepped(first, optimizer, 2)
    stepped(second, resumed, 2)
    for ours, theirs in zip(first, second, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("training.own.no_optimizer", "must build a torch optimizer, not float"),
        ("training.own.Missing", "has no 'Missing'"),
        ("no_such_module.Optimizer", "there is no module 'no_such_module'"),
    ],
)
def test_a_target_that_is_no_optimizer_is_refused(target: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        trained(config_of("optimizer=custom", f"optimizer.target={target}"))
