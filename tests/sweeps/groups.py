"""Small trainings, each once alone and once in a fused group, to be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlplab.compose import load_config
from mlplab.config import Config, parse
from mlplab.data.prepared import Prepared, prepare
from mlplab.experiment import score_all
from mlplab.fused.plan import Job, plan
from mlplab.fused.trained import Trained
from mlplab.fused.training import FusedTraining
from mlplab.models.build import dtype_of
from mlplab.training.fit import fit
from mlplab.training.history import Fitted

Numbers = dict[str, Any]

CPU = torch.device("cpu")

# 36 training rows in 3 batches, the last one of 4 rows; 3 classes
SMALL = (
    *("data=synthetic", "data.samples=60", "data.features=5", "data.informative=4", "data.redundant=0"),
    *("data.classes=3", "data.clusters_per_class=1", "data.class_separation=0.7", "data.batch_size=16"),
    *("model.hidden=[8,8]", "accelerator=cpu", "accelerator.precision=64", "logger=none", "trainer.max_epochs=10"),
)


@cache
def composed(*overrides: str) -> Config:
    """The small training with settings of its own."""
    given = {text.split("=")[0] for text in overrides}
    kept = [o for o in SMALL if o.split("=")[0] not in given]
    if given & {"data", "model"}:
        fits = ("data.batch_size",)
        kept = [o for o in kept if not ("data" in given and o.startswith("data.") and not o.startswith(fits))]
        kept = [o for o in kept if not ("model" in given and o.startswith("model."))]
    return load_config(*kept, *overrides)


def option(group: str, name: str, **values: Any) -> dict[str, Any]:
    """A group's option as conf/ has it, with other values."""
    if name == "none" and group == "regularization":
        return {}
    fits = ("data=moons",) if name == "bce" else ()
    chosen = getattr(composed(f"{group}={name}", *fits), group)
    if group == "regularization":
        return {name: getattr(chosen, name).model_dump() | values}
    return chosen.model_dump() | values


def varied(base: Config, **sections: Any) -> Config:
    """A Config with whole groups or plain settings replaced; `data__fold=1` replaces one setting of a group."""
    values = base.model_dump()
    for name, value in sections.items():
        group, _, key = name.partition("__")
        if key:
            values[group] = {**values[group], key: value}
        else:
            values[group] = value
    return parse(values)


@cache
def _prepared(text: str, dtype: torch.dtype) -> Prepared:
    return prepare(_SETTINGS[text], dtype)


_SETTINGS: dict[str, Any] = {}


def prepared_for(config: Config) -> Prepared:
    """The config's data; equal settings share it, as in a sweep."""
    text = config.data.model_dump_json(exclude={"batch_size"})
    _SETTINGS[text] = config.data
    return _prepared(text, dtype_of(config))


def jobs_of(configs: Iterable[Config]) -> list[Job]:
    return [Job(config, Path(f"never-written/{i}"), prepared_for(config), i) for i, config in enumerate(configs)]


def one_group(configs: Iterable[Config]) -> list[Job]:
    """Jobs that must all train together."""
    jobs = jobs_of(configs)
    groups, alone = plan(jobs)
    assert not alone, alone[0][1]
    assert len(groups) == 1, [len(g.jobs) for g in groups]
    return groups[0].jobs


def fused(configs: Sequence[Config]) -> list[Trained]:
    """All in one group."""
    return FusedTraining(one_group(configs), CPU).run()


@dataclass
class Alone:
    """One config's training by itself."""

    fitted: Fitted
    probs: dict[str, Tensor]
    metrics: dict[str, dict[str, float]]


def alone(config: Config) -> Alone:
    prepared = prepared_for(config)
    fitted = fit(config, prepared, "cpu", None, [])
    scores = score_all(config, prepared, fitted)
    return Alone(fitted, {k: s.probs for k, s in scores.items()}, {k: s.metrics for k, s in scores.items()})


def course(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """A history without the clock."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@dataclass(frozen=True)
class Tolerance:
    """How far two trainings may lie apart."""

    loss: float
    """Relative, of each loss and metric."""
    probs: float
    """Absolute, of each probability."""
    weights: float | None
    """Absolute or relative, of each weight; None: weights without influence on any prediction may be anything."""


DOUBLE = Tolerance(1e-9, 1e-9, 1e-8)
SINGLE = Tolerance(1e-4, 1e-3, None)


def close(a: float, b: float, relative: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=relative, abs_tol=1e-13)


def assert_same(trained: Trained, one: Alone, within: Tolerance = DOUBLE) -> None:
    """A job of a group came to what it came to alone."""
    fitted = one.fitted
    assert len(trained.history) == len(fitted.history)
    for ours, theirs in zip(course(trained.history), course(fitted.history), strict=True):
        assert list(ours) == list(theirs)
        for name in ours:
            # in float32 a row on the border may fall to either side, and move a count
            if within is DOUBLE or name.endswith(("loss", "epoch", "step", "lr")):
                assert close(ours[name], theirs[name], within.loss), (ours["epoch"], name, ours[name], theirs[name])
    assert trained.selection.best_epoch == fitted.best_epoch
    assert (trained.diverged and trained.diverged.args) == (fitted.diverged and fitted.diverged.args)
    assert trained.scores.keys() == one.probs.keys()
    for part, scores in trained.scores.items():
        assert scores.probs.shape == one.probs[part].shape
        torch.testing.assert_close(scores.probs, one.probs[part], rtol=0, atol=within.probs)
        assert close(scores.metrics["loss"], one.metrics[part]["loss"], within.loss)
        assert scores.metrics.keys() == one.metrics[part].keys()
        if within is DOUBLE:
            assert torch.equal(scores.probs.argmax(1), one.probs[part].argmax(1))
            assert all(close(scores.metrics[k], v, within.loss) for k, v in one.metrics[part].items())
    assert fitted.network is not None
    expected = fitted.network.state_dict()
    if trained.history:
        assert list(trained.best) == list(expected)
        for name, value in trained.best.items():
            assert (value.dtype, value.shape) == (expected[name].dtype, expected[name].shape)
            if within.weights is not None:
                torch.testing.assert_close(value, expected[name], rtol=within.weights, atol=within.weights)


def assert_fused_equals_alone(configs: Sequence[Config], within: Tolerance = DOUBLE) -> list[Trained]:
    """All of them train in one group, each as alone."""
    together = fused(configs)
    for config, trained in zip(configs, together, strict=True):
        assert trained.job.config is config
        assert_same(trained, alone(config), within)
    return together
