"""A network trained in a fused group comes to what it comes to alone, whatever the settings and the company."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from sweeps.groups import DOUBLE, SINGLE, assert_fused_equals_alone, composed, option, varied

from mlplab.config import Config

Numbers = dict[str, Any]

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
        {"patience": 1, "threshold": 0.05, "factor": 0.3},
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
