"""Every optimizer with every regularization and a schedule: two networks in a fused group as each alone."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from sweeps.groups import DOUBLE, SINGLE, Numbers, assert_fused_equals_alone, composed, course, fused, option, varied

from mlplab.config import Config

# name -> its numbers in the first and in the second job
OPTIMIZERS: dict[str, tuple[Numbers, Numbers]] = {
    "sgd": ({"lr": 0.1}, {"lr": 0.05, "weight_decay": 0.01}),
    "momentum": ({"lr": 0.05, "momentum": 0.9}, {"lr": 0.02, "momentum": 0.5}),
    "nesterov": ({"lr": 0.05, "momentum": 0.5}, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}),
    "rmsprop": ({"lr": 0.005}, {"lr": 0.002, "alpha": 0.9, "momentum": 0.5, "eps": 1e-6}),
    "adagrad": ({"lr": 0.05}, {"lr": 0.02, "lr_decay": 0.01, "weight_decay": 0.01}),
    "adam": ({"lr": 0.01}, {"lr": 0.003, "betas": [0.8, 0.99], "weight_decay": 0.01}),
    "adamw": ({"lr": 0.01}, {"lr": 0.003, "betas": [0.8, 0.99], "weight_decay": 0.1, "eps": 1e-6}),
}
REGULARIZATIONS: dict[str, tuple[Numbers, Numbers]] = {
    "none": ({}, {}),
    "l1": ({"strength": 0.001}, {"strength": 0.01}),
    "l2": ({"strength": 0.001}, {"strength": 0.01}),
    "weight_decay": ({"strength": 0.05}, {"strength": 0.5}),
    "label_smoothing": ({"epsilon": 0.1}, {"epsilon": 0.3}),
    "gradient_clipping": ({"max_norm": 0.2}, {"max_norm": 0.7}),
    "batch_norm": ({"momentum": 0.1}, {"momentum": 0.3, "eps": 1e-3}),
    "dropout": ({"p": 0.2}, {"p": 0.5}),
    "input_noise": ({"std": 0.1}, {"std": 0.5}),
    "mixup": ({"alpha": 0.2}, {"alpha": 1.0}),
    "early_stopping": ({"patience": 0, "min_delta": 0.05}, {"patience": 1, "min_delta": 0.1}),
}
SCHEDULERS: dict[str, tuple[Numbers, Numbers]] = {
    "cosine": ({"min_factor": 0.0}, {"min_factor": 0.1}),
    "plateau": (
        {"patience": 0, "threshold": 0.1, "factor": 0.5},
        {"patience": 1, "threshold": 0.5, "factor": 0.3},
    ),
}


def pair(optimizer: str, regularization: str, scheduler: str, precision: int) -> list[Config]:
    """Two jobs with different seeds and different numbers everywhere."""
    base = composed(f"accelerator.precision={precision}")
    return [
        varied(
            base,
            seed=which,
            optimizer=option("optimizer", optimizer, **OPTIMIZERS[optimizer][which]),
            regularization=option("regularization", regularization, **REGULARIZATIONS[regularization][which]),
            scheduler=option("scheduler", scheduler, **SCHEDULERS[scheduler][which]),
        )
        for which in (0, 1)
    ]


MATRIX = list(product(OPTIMIZERS, REGULARIZATIONS, SCHEDULERS))


@pytest.mark.parametrize(("optimizer", "regularization", "scheduler"), MATRIX, ids=["-".join(m) for m in MATRIX])
def test_fused_equals_alone_in_float64(optimizer: str, regularization: str, scheduler: str) -> None:
    together = assert_fused_equals_alone(pair(optimizer, regularization, scheduler, 64), DOUBLE)
    if regularization == "early_stopping":
        assert min(len(t.history) for t in together) < 10
    else:
        assert [len(t.history) for t in together] == [10, 10]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "regularization", "scheduler"), MATRIX, ids=["-".join(m) for m in MATRIX])
def test_fused_equals_alone_in_float32(optimizer: str, regularization: str, scheduler: str) -> None:
    assert_fused_equals_alone(pair(optimizer, regularization, scheduler, 32), SINGLE)


@pytest.mark.parametrize("regularization", [name for name in REGULARIZATIONS if name != "none"])
def test_each_regularization_of_the_matrix_does_something(regularization: str) -> None:
    plain = fused(pair("adam", "none", "cosine", 64))
    for with_it, without in zip(fused(pair("adam", regularization, "cosine", 64)), plain, strict=True):
        assert course(with_it.history) != course(without.history)


def test_plateau_cuts_each_network_by_its_own_rule() -> None:
    rates = [[row["lr"] for row in t.history] for t in fused(pair("adam", "none", "plateau", 64))]
    assert rates[0][0] > rates[0][-1]
    assert rates[1][0] > rates[1][-1]
    cuts = [{round(b / a, 6) for a, b in pairwise(of_one)} for of_one in rates]
    assert cuts == [{0.5, 1.0}, {0.3, 1.0}]
