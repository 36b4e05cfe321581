"""A network trained in a fused group comes to what it comes to alone, whatever the settings."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from sweeps.groups import Numbers, assert_fused_equals_alone, composed, course, fused, option, prepared_for, varied

from mlplab.config import Config
from mlplab.models.layers import ACTIVATIONS


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


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("rates", [(0.01, 0.01), (0.01, 0.003)])
def test_adam_whose_betas_are_shared(optimizer: str, amsgrad: bool, rates: tuple[float, float]) -> None:
    numbers = {"betas": [0.8, 0.99], "weight_decay": 0.02, "amsgrad": amsgrad}
    optimizers = [option("optimizer", optimizer, lr=lr, **numbers) for lr in rates]
    configs = [varied(composed(), seed=i, optimizer=chosen) for i, chosen in enumerate(optimizers)]
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
