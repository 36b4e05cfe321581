"""A network trained in a fused group comes to what it comes to alone, whatever the settings and the company."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps.groups import (
    DOUBLE,
    SINGLE,
    assert_fused_equals_alone,
    close,
    composed,
    course,
    fused,
    option,
    prepared_for,
    varied,
)

from mlplab.config import Config
from mlplab.experiment import run
from mlplab.fused.training import Trained
from mlplab.models.layers import ACTIVATIONS
from mlplab.sweeps.run import run_batch

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


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("rates", [(0.01, 0.01), (0.01, 0.003)])
def test_adam_whose_betas_are_shared(optimizer: str, amsgrad: bool, rates: tuple[float, float]) -> None:
    numbers = {"betas": [0.8, 0.99], "weight_decay": 0.02, "amsgrad": amsgrad}
    optimizers = [option("optimizer", optimizer, lr=lr, **numbers) for lr in rates]
    configs = [varied(composed(), seed=i, optimizer=chosen) for i, chosen in enumerate(optimizers)]
    assert_fused_equals_alone(configs)


def test_networks_of_one_seed_share_draws_and_no_others_do() -> None:
    base = composed("regularization=dropout", "model.hidden=[32,32]")
    cells = [(0, 0.2, 0.01), (0, 0.5, 0.01), (0, 0.2, 0.003), (1, 0.2, 0.01), (0, 0.2, 0.03)]
    configs = [
        varied(
            base,
            seed=seed,
            optimizer=option("optimizer", "adam", lr=lr),
            regularization=option("regularization", "dropout", p=p),
        )
        for seed, p, lr in cells
    ]
    assert_fused_equals_alone(configs)


def two(base: Config, **sections: Any) -> list[Config]:
    """Two jobs with different seeds, rates and splits."""
    optimizers = [option("optimizer", "adam", lr=lr) for lr in (0.02, 0.005)]
    first = varied(base, **({"seed": 3, "optimizer": optimizers[0]} | sections))
    return [first, varied(first, seed=4, optimizer=base.optimizer.model_dump() | {"lr": 0.005}, data__split_seed=1)]


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "custom"])
def test_every_activation(name: str) -> None:
    assert_fused_equals_alone(two(composed(), activation=option("activation", name)))


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_an_activation_with_another_number(name: str) -> None:
    number = {"leaky_relu": {"slope": 0.3}, "elu": {"alpha": 0.4}}[name]
    configs = two(composed(), activation=option("activation", name, **number))
    usual = two(composed(), activation=option("activation", name))
    together = assert_fused_equals_alone(configs)
    assert course(together[0].history) != course(fused(usual)[0].history)


INITIALIZATIONS = ("auto", "he", "xavier", "normal", "uniform", "orthogonal", "zeros", "torch")


@pytest.mark.parametrize("name", INITIALIZATIONS)
def test_every_initialization(name: str) -> None:
    assert_fused_equals_alone(two(composed(), initialization=option("initialization", name)))


def test_initializations_may_differ_within_a_group() -> None:
    chosen = [option("initialization", name) for name in INITIALIZATIONS]
    chosen += [option("initialization", "he", distribution="uniform"), option("initialization", "normal", std=0.3)]
    assert_fused_equals_alone([varied(composed(), seed=i, initialization=c) for i, c in enumerate(chosen)])


@pytest.mark.parametrize("name", ["none", "step", "exponential", "cosine", "one_cycle", "plateau"])
def test_every_scheduler_with_warm_up(name: str) -> None:
    configs = two(composed(), scheduler=option("scheduler", name, warmup_epochs=1.5))
    together = assert_fused_equals_alone(configs)
    assert together[0].history[0]["lr"] < 0.02  # still warming up


def test_warm_up_may_differ_within_a_group() -> None:
    lengths = (0.0, 0.5, 4.0)
    configs = [varied(composed(), scheduler=option("scheduler", "cosine", warmup_epochs=n)) for n in lengths]
    assert_fused_equals_alone(configs)


@pytest.mark.parametrize(
    ("name", "number"),
    [("rmsprop", {"centered": True}), ("adam", {"amsgrad": True}), ("adamw", {"amsgrad": True})],
    ids=["centered", "amsgrad", "amsgrad-decoupled"],
)
def test_variants_of_optimizers(name: str, number: Numbers) -> None:
    settings = [option("optimizer", name, **number, lr=lr) for lr in (0.01, 0.003)]
    assert_fused_equals_alone([varied(composed(), seed=i, optimizer=s) for i, s in enumerate(settings)])


def test_rmsprop_with_and_without_momentum_share_a_group() -> None:
    settings = [option("optimizer", "rmsprop", momentum=m) for m in (0.0, 0.9)]
    assert_fused_equals_alone([varied(composed(), optimizer=s) for s in settings])


@pytest.mark.parametrize("weights", ["none", "balanced", [0.5, 2.0, 1.0]], ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "mse", "focal"])
def test_every_loss(name: str, weights: Any) -> None:
    base = composed("data=iris", "data.batch_size=32", "data.stratified=false")
    assert_fused_equals_alone(two(base, loss=option("loss", name, class_weights=weights)))


@pytest.mark.parametrize("weights", ["none", "balanced", [0.5, 2.0]], ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "bce", "mse", "focal"])
def test_every_loss_on_two_classes(name: str, weights: Any) -> None:
    rows = ("data=moons", "data.samples=60", "data.batch_size=16", "data.stratified=false")
    base = composed(*rows, "activation=tanh")  # units that are off for several rows give ties, which rounding breaks
    both = {"regularization": option("regularization", "label_smoothing", epsilon=0.2)}
    assert_fused_equals_alone(two(base, loss=option("loss", name, class_weights=weights), **both))


def test_class_weights_may_differ_within_a_group() -> None:
    weights: list[Any] = ["none", "balanced", [0.5, 2.0, 1.0]]
    base = varied(composed("data=iris"), data__stratified=False)
    assert_fused_equals_alone([varied(base, loss=option("loss", "cross_entropy", class_weights=w)) for w in weights])


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=linear",),
        ("model=linear", "data=moons", "loss=bce"),
        ("model.hidden=6", "model.depth=3"),
        ("model.hidden=[9]",),
        ("model.hidden=[7,5,3,4]", "activation=prelu"),
        ("model.bias=false",),
        ("model=linear", "model.bias=false"),
    ],
    ids=" ".join,
)
def test_every_shape_of_network(overrides: tuple[str, ...]) -> None:
    assert_fused_equals_alone(two(composed(*overrides)))


@pytest.mark.parametrize("size", ["full", 1, 7, 36, 1000])
def test_every_batch_size(size: Any) -> None:
    assert_fused_equals_alone(two(composed("trainer.max_epochs=4"), data__batch_size=size))


EVERYTHING = ("regularization=[dropout,mixup,input_noise,label_smoothing,gradient_clipping,l1,l2,max_norm]",)


@pytest.mark.parametrize(
    "overrides",
    [
        ("regularization=elastic_net",),
        ("regularization=layer_norm", "regularization.layer_norm.eps=0.01"),
        ("regularization=max_norm", "regularization.max_norm.limit=0.5"),
        ("regularization=[dropout,mixup,input_noise]",),
        EVERYTHING,
        (*EVERYTHING, "data.batch_size=full"),
        ("regularization=[batch_norm,dropout,weight_decay]", "activation=prelu"),
        ("data.split=[0.8,0.2]",),
        ("data.split=[0.8,0.2]", "scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=0.1"),
        ("trainer=overfit", "trainer.max_epochs=5"),
        ("trainer.max_batches=2", "regularization=dropout"),
        ("trainer.monitor=val/accuracy", "scheduler=plateau", "scheduler.patience=0"),
        ("trainer.monitor=val/auroc", "regularization=early_stopping", "regularization.early_stopping.patience=1"),
    ],
    ids=" ".join,
)
def test_further_settings(overrides: tuple[str, ...]) -> None:
    assert_fused_equals_alone(two(composed(*overrides)))


@pytest.mark.parametrize("regularization", ["none", "all", "batch_norm"])
@pytest.mark.parametrize("size", [16, "full"])
def test_folds_with_their_own_rows_and_scaling(size: Any, regularization: str) -> None:
    base = composed(*(EVERYTHING if regularization == "all" else (f"regularization={regularization}",)))
    # 7 unstratified folds of 60 rows: 38 or 39 rows to train on, 13 to validate, 8 or 9 to test
    rows = {"folds": 7, "stratified": False, "scaling": "minmax", "batch_size": size}
    configs = [varied(base, data=base.data.model_dump() | rows | {"fold": fold}) for fold in range(7)]
    counts = {tuple(len(p) for p in prepared_for(c).parts.values()) for c in configs}
    assert counts == {(38, 13, 9), (39, 13, 8)}
    if regularization == "batch_norm":  # its statistics are over the batch: equal numbers of rows only
        configs = [c for c in configs if len(prepared_for(c).parts["train"]) == 38]
    assert_fused_equals_alone(configs)


def test_five_folds_with_seeds_and_rates() -> None:
    base = composed("data=wine", "data.batch_size=16", "trainer.max_epochs=3", "data.folds=5", "data.fold=0")
    adam = [option("optimizer", "adam", lr=lr) for lr in (0.01, 0.001)]
    cells = product(range(5), (0, 1), adam)
    assert_fused_equals_alone([varied(base, data__fold=f, seed=s, optimizer=o) for f, s, o in cells])


def test_scalings_and_splits_may_differ_within_a_group() -> None:
    configs = [
        varied(composed(), data__scaling=scaling, data__split_seed=seed)
        for scaling, seed in product(("standard", "minmax", "none"), (0, 5))
    ]
    assert_fused_equals_alone(configs)


def test_batch_sizes_that_are_all_rows_share_a_group_although_the_rows_differ() -> None:
    data = composed().data.model_dump() | {"folds": 7, "stratified": False}
    own = [{"fold": 0, "batch_size": 38}, {"fold": 6, "batch_size": "full"}, {"fold": 5, "batch_size": 50}]
    assert_fused_equals_alone([varied(composed(), data=data | o) for o in own])


ONE_SIDED = ("l1", "l2", "elastic_net", "weight_decay", "label_smoothing", "gradient_clipping", "max_norm")


@pytest.mark.parametrize("name", ONE_SIDED)
def test_a_regularization_of_one_job_leaves_the_other_without(name: str) -> None:
    number = {"gradient_clipping": {"max_norm": 0.2}, "max_norm": {"limit": 0.5}}.get(name, {})
    chosen = option("regularization", name, **number)
    assert_fused_equals_alone([composed(), varied(composed(), regularization=chosen), varied(composed(), seed=1)])


def random_everything(n: int) -> list[Config]:
    """Jobs with draws of every kind, each with its own numbers, rows and scaling."""
    base = composed(
        "regularization=[dropout,mixup,input_noise]", "data.folds=7", "data.fold=0", "data.stratified=false"
    )
    return [
        varied(
            base,
            seed=10 + i,
            data__fold=i,
            optimizer=option("optimizer", "adam", lr=0.003 * (i + 1)),
            regularization={
                **option("regularization", "dropout", p=0.1 + 0.05 * i),
                **option("regularization", "mixup", alpha=0.2 + 0.1 * i),
                **option("regularization", "input_noise", std=0.05 * i),
                **(option("regularization", "l1") if i % 2 else {}),
            },
        )
        for i in range(n)
    ]


def assert_same_course(one: Trained, two: Trained, relative: float = 1e-12) -> None:
    assert len(one.history) == len(two.history)
    for a, b in zip(course(one.history), course(two.history), strict=True):
        assert a.keys() == b.keys()
        assert all(close(a[k], b[k], relative) for k in a)
    assert one.selection.best_epoch == two.selection.best_epoch
    for weights in ("best", "last"):
        ours, theirs = getattr(one, weights), getattr(two, weights)
        assert list(ours) == list(theirs)
        for name in ours:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-11, atol=1e-12)


def test_the_company_does_not_matter() -> None:
    configs = random_everything(7)
    whole = fused(configs)
    backwards = {id(t.job.config): t for t in fused(configs[::-1])}
    for i in (0, 3, 6):
        (single,) = fused([configs[i]])
        _, second = fused([configs[i - 1], configs[i]])
        for other in (single, second, backwards[id(configs[i])]):
            assert_same_course(whole[i], other)


def leaving(config: Config, **early: Any) -> Config:
    """The same with early stopping."""
    present = config.regularization.model_dump(exclude_none=True)
    return varied(config, regularization={**present, **option("regularization", "early_stopping", **early)})


def test_networks_that_stop_early_leave_the_others_as_they_are() -> None:
    configs = random_everything(7)
    stopped = [leaving(c, patience=i, min_delta=10.0) if i in (0, 2, 5) else c for i, c in enumerate(configs)]
    together = assert_fused_equals_alone(stopped)
    assert [len(t.history) for t in together] == [2, 10, 4, 10, 10, 7, 10]
    stay = [1, 3, 4, 6]
    undisturbed = fused([configs[i] for i in stay])
    for i, other in zip(stay, undisturbed, strict=True):
        assert_same_course(together[i], other)


def test_padding_stays_out_when_the_networks_with_most_rows_have_left() -> None:
    data = composed().data.model_dump() | {"folds": 7, "stratified": False}
    most, *others = (varied(composed(), data=data | {"fold": fold}) for fold in (6, 0, 1))
    assert len(prepared_for(most).parts["train"]) > len(prepared_for(others[0]).parts["train"])
    together = assert_fused_equals_alone([leaving(most, patience=0, min_delta=10.0), *others])
    assert len(together[0].history) == 2


@pytest.mark.parametrize("size", [16, "full"])
def test_padding_stays_out_of_parts_of_the_same_length_as_well(size: Any) -> None:
    """As above, from the first epoch on for those that are left: with mixup, whose partners must be real rows."""
    base = composed("regularization=[mixup,dropout]")
    data = base.data.model_dump() | {"folds": 7, "stratified": False, "batch_size": size}
    most, *others = (varied(base, data=data | {"fold": fold}) for fold in (6, 0, 1))
    assert_fused_equals_alone([leaving(most, patience=0, min_delta=10.0), *others])


DIVERGING = ("optimizer=sgd", "activation=identity", "optimizer.lr=0.05")


def test_networks_that_diverge_leave_the_others_as_they_are() -> None:
    base = composed(*DIVERGING)
    sane = [varied(base, seed=i) for i in range(3)]
    wild = [
        varied(base, optimizer=option("optimizer", "sgd", lr=1e6)),
        varied(base, optimizer=option("optimizer", "sgd", lr=60.0), seed=7),
        varied(base, initialization=option("initialization", "normal", std=1e200)),
    ]
    together = assert_fused_equals_alone([sane[0], wild[0], sane[1], wild[1], sane[2], wild[2]])
    assert [t.diverged is not None for t in together] == [False, True] * 3
    assert [len(t.history) for t in together[::2]] == [10, 10, 10]
    assert together[5].history == []  # at the first step already
    assert together[5].diverged is not None
    assert together[5].diverged.step == 0
    for mixed, other in zip(together[::2], fused(sane), strict=True):
        assert_same_course(mixed, other)


def test_a_network_that_diverges_late_keeps_its_best_epoch() -> None:
    base = composed(*DIVERGING, "scheduler=one_cycle")
    wild = varied(base, optimizer=option("optimizer", "sgd", lr=30.0))
    together = assert_fused_equals_alone([wild, base])
    assert together[0].diverged is not None
    assert together[0].history
    assert together[0].scores.keys() == {"train", "val", "test"}


def test_all_networks_may_leave() -> None:
    configs = [leaving(c, patience=p, min_delta=10.0) for c, p in zip(random_everything(3), (0, 1, 1), strict=True)]
    assert [len(t.history) for t in assert_fused_equals_alone(configs)] == [2, 3, 3]


def test_batch_norm_refuses_a_last_batch_of_one_row_in_company_as_alone(tmp_path: Path) -> None:
    config = composed("regularization=batch_norm", "data.batch_size=35")  # 36 rows
    with pytest.raises(ValueError):  # noqa: PT011
        run(config, tmp_path / "alone")
    (outcome,) = run_batch([config], [tmp_path / "fused"])
    assert isinstance(outcome, ValueError)
