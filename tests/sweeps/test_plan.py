"""Jobs of one structure train together; what has no stacked form trains alone, and the reason is said."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from sweeps.groups import composed, jobs_of, option, varied

from mlplab.config import Config
from mlplab.config.fusable import FUSED, alone_because
from mlplab.fused.plan import plan


def sizes(*configs: Config) -> list[int]:
    """Sizes of the groups that the jobs fall into; none is alone."""
    groups, alone = plan(jobs_of(configs))
    assert not alone, alone[0][1]
    return [len(g.jobs) for g in groups]


def with_regularization(**numbers: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, number in numbers.items():
        chosen |= option("regularization", name, **number)
    return chosen


FREE: dict[str, tuple[dict[str, Any], ...]] = {
    "seed": ({"seed": 1}, {"seed": 2}),
    "initialization": tuple({"initialization": option("initialization", n)} for n in ("he", "normal", "torch")),
    "scheduler": tuple({"scheduler": option("scheduler", n, warmup_epochs=1.0)} for n in ("none", "cosine", "plateau")),
    "scheduler's numbers": tuple({"scheduler": option("scheduler", "step", every=n, gamma=1 / n)} for n in (2, 3)),
    "split seed": tuple({"data__split_seed": n} for n in (0, 1)),
    "scaling": tuple({"data__scaling": n} for n in ("standard", "minmax", "none")),
    "class weights": tuple(
        {"loss": option("loss", "cross_entropy", class_weights=w)} for w in ("none", "balanced", [1.0, 2.0, 3.0])
    ),
    "scale": tuple({"embedding": option("embedding", "periodic", scale=n)} for n in (0.1, 0.3)),
    "objective": tuple({"objective": n} for n in ("val/accuracy", "val/loss")),
    "name": tuple({"name": n} for n in ("a", "b")),
    "logger": tuple({"logger": option("logger", n)} for n in ("none", "csv", "tensorboard")),
    **{
        f"{name}'s {key}": tuple({"optimizer": option("optimizer", name, **{key: n})} for n in numbers)
        for name, key, numbers in (
            ("sgd", "lr", (0.1, 0.2)),
            ("sgd", "weight_decay", (0.0, 0.2)),
            ("momentum", "momentum", (0.5, 0.9)),
            ("nesterov", "momentum", (0.5, 0.9)),
            ("rmsprop", "alpha", (0.5, 0.9)),
            ("rmsprop", "momentum", (0.0, 0.9)),
            ("rmsprop", "eps", (1e-8, 1e-6)),
            ("adagrad", "lr_decay", (0.0, 0.1)),
            ("adam", "betas", ([0.9, 0.999], [0.8, 0.9])),
            ("adamw", "weight_decay", (0.0, 0.2)),
        )
    },
    **{
        f"regularization {name}'s {key}": tuple(
            {"regularization": with_regularization(**{name: {key: n}})} for n in numbers
        )
        for name, key, numbers in (
            ("dropout", "p", (0.0, 0.2, 0.5)),
            ("input_noise", "std", (0.0, 0.1)),
            ("mixup", "alpha", (0.1, 0.2)),
            ("batch_norm", "momentum", (0.1, 0.2)),
            ("batch_norm", "eps", (0.1, 0.2)),
        )
    },
    **{
        f"regularization {name} or none": ({}, {"regularization": with_regularization(**{name: {}})})
        for name in (
            *("l1", "l2", "elastic_net", "weight_decay", "label_smoothing", "early_stopping"),
            *("gradient_clipping", "max_norm"),
        )
    },
}


@pytest.mark.parametrize("variants", FREE.values(), ids=FREE.keys())
def test_what_may_vary_shares_a_group(variants: tuple[dict[str, Any], ...]) -> None:
    configs = [varied(composed(), **v) for v in variants]
    assert len({c.model_dump_json() for c in configs}) == len(configs)
    assert sizes(*configs) == [len(configs)]


def test_folds_of_slightly_different_sizes_share_a_group() -> None:
    data = composed().data.model_dump() | {"folds": 7, "stratified": False}
    assert sizes(*(varied(composed(), data=data | {"fold": k}) for k in range(7))) == [7]


def test_the_product_of_everything_free_is_one_group() -> None:
    cells = product(range(5), (0, 1, 2, 3), (1e-4, 1e-3, 1e-2))
    base = composed("data.folds=5", "data.fold=0")
    adam = {lr: option("optimizer", "adam", lr=lr) for lr in (1e-4, 1e-3, 1e-2)}
    assert sizes(*(varied(base, data__fold=f, seed=s, optimizer=adam[lr]) for f, s, lr in cells)) == [60]


SPLITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "width": ({"model__hidden": [8, 8]}, {"model__hidden": [8, 9]}),
    "depth": ({"model__hidden": [8]}, {"model__hidden": [8, 8]}),
    "bias": ({"model__bias": True}, {"model__bias": False}),
    "activation": tuple({"activation": option("activation", n)} for n in ("relu", "gelu")),  # type: ignore[dict-item]
    "slope": tuple({"activation": option("activation", "leaky_relu", slope=n)} for n in (0.1, 0.2)),  # type: ignore[dict-item]
    "embedding": tuple({"embedding": option("embedding", n)} for n in ("none", "periodic")),  # type: ignore[dict-item]
    "frequencies": tuple({"embedding": option("embedding", "periodic", frequencies=n)} for n in (4, 5)),  # type: ignore[dict-item]
    "embedding width": tuple({"embedding": option("embedding", "periodic", width=n)} for n in (4, 5)),  # type: ignore[dict-item]
    "bins": tuple({"embedding": option("embedding", "piecewise_linear", bins=n)} for n in (4, 5)),  # type: ignore[dict-item]
    "optimizer": tuple({"optimizer": option("optimizer", n)} for n in ("adam", "adamw")),  # type: ignore[dict-item]
    "amsgrad": tuple({"optimizer": option("optimizer", "adam", amsgrad=n)} for n in (True, False)),  # type: ignore[dict-item]
    "loss": tuple({"loss": option("loss", n)} for n in ("cross_entropy", "mse")),  # type: ignore[dict-item]
    "gamma": tuple({"loss": option("loss", "focal", gamma=n)} for n in (1.0, 2.0)),  # type: ignore[dict-item]
    "epochs": ({"trainer__max_epochs": 3}, {"trainer__max_epochs": 4}),
    "monitor": ({"trainer__monitor": "val/loss"}, {"trainer__monitor": "val/accuracy"}),
    "batch size": ({"data__batch_size": 16}, {"data__batch_size": 15}),
    "validation": ({"data__split": [0.6, 0.2, 0.2]}, {"data__split": [0.6, 0.4]}),
    "rows": ({"data__split": [0.6, 0.2, 0.2]}, {"data__split": [0.2, 0.4, 0.4]}),
    "precision": ({"accelerator__precision": 64}, {"accelerator__precision": 32}),
    **{
        name: ({}, {"regularization": with_regularization(**{name: {}})})
        for name in ("dropout", "batch_norm", "layer_norm", "input_noise", "mixup")
    },
}


@pytest.mark.parametrize("variants", SPLITS.values(), ids=SPLITS.keys())
def test_what_shapes_the_program_splits_groups(variants: tuple[dict[str, Any], ...]) -> None:
    one, two = (varied(composed(), **v) for v in variants)
    assert sizes(one, two, varied(one, seed=1), varied(two, seed=1), varied(one, seed=2)) == [3, 2]


def test_batch_statistics_need_the_same_number_of_rows() -> None:
    base = composed("regularization=batch_norm")
    data = base.data.model_dump() | {"folds": 7, "stratified": False}
    assert sorted(sizes(*(varied(base, data=data | {"fold": k}) for k in range(7)))) == [3, 4]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("model=custom", "model.target=torch.nn.Linear"), "model=custom"),
        (("activation=custom", "activation.target=torch.nn.ReLU"), "activation=custom"),
        (("optimizer=custom", "optimizer.target=torch.optim.SGD"), "optimizer=custom"),
        (("optimizer=nadam",), "optimizer=nadam"),
        (("optimizer=radam",), "optimizer=radam"),
        (("optimizer=muon",), "optimizer=muon"),
        (("optimizer=lbfgs", "data.batch_size=full"), "optimizer=lbfgs"),
        (("accelerator=ddp",), "accelerator=ddp"),
        (("accelerator=ddp_cpu",), "accelerator=ddp_cpu"),
        (("accelerator.precision=bf16-mixed",), "accelerator.precision=bf16-mixed"),
        (("accelerator=gpu", "accelerator.precision=16-mixed"), "accelerator.precision=16-mixed"),
        (("accelerator.deterministic=true",), "accelerator.deterministic"),
        (("trainer.compile=true",), "trainer.compile"),
        (("trainer.detect_anomaly=true",), "trainer.detect_anomaly"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_fused_says_why(overrides: tuple[str, ...], reason: str) -> None:
    config = composed(*overrides)
    why = alone_because(config)
    assert why is not None
    assert reason in why
    groups, alone = plan(jobs_of([composed(), config, composed("seed=1")]))
    assert [len(g.jobs) for g in groups] == [2]
    assert [(job.config, said) for job, said in alone] == [(config, why)]


def test_the_reason_of_an_optimizer_names_those_that_can() -> None:
    why = alone_because(composed("optimizer=nadam"))
    assert why is not None
    assert all(name in why for name in FUSED)
    assert all(alone_because(composed(f"optimizer={name}")) is None for name in FUSED)


def test_groups_keep_the_jobs_in_their_order() -> None:
    configs = [varied(composed(), seed=i, model__hidden=[4 + i % 2]) for i in range(6)]
    groups, _ = plan(jobs_of(configs))
    assert [[job.number for job in g.jobs] for g in groups] == [[0, 2, 4], [1, 3, 5]]
