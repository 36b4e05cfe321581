"""A network trained in a fused group comes to what it comes to alone, whatever the others do: stop, diverge, differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sweeps.groups import assert_fused_equals_alone, close, composed, course, fused, option, prepared_for, varied

from mlplab.config import Config
from mlplab.experiment import run
from mlplab.fused.training import Trained
from mlplab.sweeps.run import run_batch


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
