"""Each schedule gives torch's rates at every step, with and without warm-up, and a training follows them."""

from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)
from training.loops import assert_same_course, by_hand, config_of, trained

from mlplab.compose import CONF
from mlplab.training import schedulers

LR, PER_EPOCH, EPOCHS = 0.1, 3, 6  # iris in batches of 32 is 3 steps an epoch
BASE = ("optimizer=sgd", f"optimizer.lr={LR}", f"trainer.max_epochs={EPOCHS}")

# scheduler -> overrides, torch's own over so many steps, and whether torch's moves after each step or each epoch
CASES: dict[str, tuple[tuple[str, ...], Callable[[SGD, int], LRScheduler], bool]] = {
    "none": ((), lambda o, n: StepLR(o, 1, 1.0), True),
    "step": (("scheduler.every=2", "scheduler.gamma=0.3"), lambda o, n: StepLR(o, 2, 0.3), False),
    "exponential": (("scheduler.gamma=0.7",), lambda o, n: ExponentialLR(o, 0.7), False),
    "cosine": (("scheduler.min_factor=0.2",), lambda o, n: CosineAnnealingLR(o, n, eta_min=0.2 * LR), True),
    "one_cycle": (
        ("scheduler.rise=0.4", "scheduler.start_divisor=10", "scheduler.end_divisor=50"),
        lambda o, n: OneCycleLR(o, LR, n, pct_start=0.4, div_factor=10, final_div_factor=50, cycle_momentum=False),
        True,
    ),
}


def torch_rates(name: str, warmup: int = 0, epochs: int = EPOCHS) -> list[float]:
    """Rate of each step: a linear growth over `warmup` steps, then torch's scheduler over the rest."""
    total = epochs * PER_EPOCH - warmup
    optimizer = SGD([torch.zeros(1, requires_grad=True)], LR)
    _, make, each_step = CASES[name]
    scheduler = make(optimizer, total)
    rates = [LR * (i + 1) / (warmup + 1) for i in range(warmup)]
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < total and (each_step or (step + 1) % PER_EPOCH == 0):
            scheduler.step()
    return rates


def test_every_scheduler_of_conf_has_its_case() -> None:
    assert {*CASES, "plateau"} == {path.stem for path in (CONF / "scheduler").iterdir()}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("warmup_epochs", "steps"), [(0, 0), (1, 3), (1.5, 4)])  # 4.5 steps round to the even 4
def test_a_training_follows_torchs_rates_step_for_step(name: str, warmup_epochs: float, steps: int) -> None:
    config = config_of(*BASE, f"scheduler={name}", *CASES[name][0], f"scheduler.warmup_epochs={warmup_epochs}")
    rates = torch_rates(name, steps)
    ours = [schedulers.factor(config.scheduler, i, PER_EPOCH, len(rates)) * LR for i in range(len(rates))]
    assert ours == pytest.approx(rates, rel=1e-12)
    assert_same_course(config, by_hand(config, lambda n: SGD(n.parameters(), LR), rates=rates))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("epochs", [1, 2, 50])
def test_defaults_of_conf_equal_torch_whatever_the_length(name: str, epochs: int) -> None:
    settings = config_of(f"scheduler={name}").scheduler
    make = {
        "none": lambda o, n: StepLR(o, 1, 1.0),
        "step": lambda o, n: StepLR(o, 10, 0.5),
        "exponential": lambda o, n: ExponentialLR(o, 0.95),
        "cosine": lambda o, n: CosineAnnealingLR(o, n),
        "one_cycle": lambda o, n: OneCycleLR(o, LR, n, cycle_momentum=False),
    }[name]
    optimizer = SGD([torch.zeros(1, requires_grad=True)], LR)
    scheduler, total = make(optimizer, epochs * PER_EPOCH), epochs * PER_EPOCH
    for step in range(total):
        ours = LR * schedulers.factor(settings, step, PER_EPOCH, total)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        if step + 1 < total and (CASES[name][2] or (step + 1) % PER_EPOCH == 0):
            scheduler.step()


def test_every_parameter_group_follows_the_schedule() -> None:
    """Muon's own rate and that of its AdamW are multiplied by the same factor."""
    config = config_of("optimizer=muon", "scheduler=exponential", "scheduler.gamma=0.5", "trainer.max_epochs=4")
    fitted, _ = trained(config)
    assert [row["lr"] for row in fitted.history] == pytest.approx([0.02, 0.01, 0.005, 0.0025])
    config_slow = config_of("optimizer=muon", "optimizer.adamw_lr=1e-30", "trainer.max_epochs=2")
    biases = [{k: v for k, v in n.items() if k.endswith("bias")} for n in trained(config_slow)[1].networks]
    assert all(torch.allclose(v, torch.zeros_like(v), atol=1e-20) for epoch in biases for v in epoch.values())


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
def test_plateau_cuts_when_torchs_reduce_on_plateau_does(monitor: str) -> None:
    mode = "min" if monitor == "val/loss" else "max"
    config = config_of(
        *("optimizer=sgd", "optimizer.lr=0.5", "trainer.max_epochs=25", f"trainer.monitor={monitor}"),
        *("scheduler=plateau", "scheduler.factor=0.3", "scheduler.patience=1", "scheduler.threshold=0.05"),
        "scheduler.min_factor=0.1",
    )
    fitted, _ = trained(config)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], 0.5)
    theirs = ReduceLROnPlateau(optimizer, mode, 0.3, patience=1, threshold=0.05, min_lr=0.1 * 0.5)
    for row in fitted.history:
        assert row["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        theirs.step(row[monitor])
    rates = {row["lr"] for row in fitted.history}
    assert len(rates) == 3, "the case shows no cuts"
    assert min(rates) == pytest.approx(0.05), "the case does not reach the least rate"


def test_plateau_without_validation_never_cuts_while_training_improves() -> None:
    config = config_of(
        *("optimizer=sgd", "optimizer.lr=0.02", "trainer.max_epochs=8", "data.split=[0.8,0.2]"),
        *("scheduler=plateau", "scheduler.patience=3", "scheduler.threshold=0.0", "trainer.monitor=val/accuracy"),
    )
    history = trained(config)[0].history
    losses, accuracies = ([row[f"train/{name}"] for row in history] for name in ("loss", "accuracy"))
    assert losses == sorted(losses, reverse=True), "the case does not improve"
    assert all(max(accuracies[i + 1 : i + 4]) > accuracies[i] for i in range(5)), "the case does not improve"
    assert {row["lr"] for row in history} == {0.02}


def test_warm_up_goes_in_front_of_plateau() -> None:
    config = config_of(
        *("optimizer=sgd", "optimizer.lr=0.1", "trainer.max_epochs=4", "scheduler=plateau"),
        "scheduler.warmup_epochs=2",
    )
    rates = [row["lr"] for row in trained(config)[0].history]
    assert rates == pytest.approx([0.1 * 3 / 7, 0.1 * 6 / 7, 0.1, 0.1])
