"""Successive halving: its rule, what it leaves of a batch, and what a search saves by it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts.command import refusal, script
from sweeps.groups import CPU, composed, one_group, varied

from mlplab.evaluate import evaluate
from mlplab.fused.halving import Halving
from mlplab.fused.training import FusedTraining


@dataclass
class Network:
    history: list[dict[str, float]]
    rungs: dict[int, float] = field(default_factory=dict)
    pruned: bool = False


def networks(*scores: float) -> list[Network]:
    return [Network([{"val/accuracy": score}]) for score in scores]


def test_rungs_lie_a_factor_apart_and_before_the_end() -> None:
    assert Halving("val/accuracy", False).rungs(27) == [4, 8, 16]
    assert Halving("val/accuracy", False, factor=3, min_epochs=1).rungs(27) == [1, 3, 9]
    assert Halving("val/accuracy", False, min_epochs=9).rungs(9) == []
    assert Halving("val/accuracy", False).rungs(1) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(2, 5), st.booleans())
def test_the_best_of_a_rung_stay(scores: list[float], factor: int, smaller_is_better: bool) -> None:
    found = networks(*scores)
    left = set(Halving("val/accuracy", smaller_is_better, factor).stop(3, found))
    stayed = [score for i, score in enumerate(scores) if i not in left]
    gone = [score for i, score in enumerate(scores) if i in left]
    least = max(1, len(scores) // factor)
    assert len(stayed) >= least
    assert len(set(stayed)) <= least, "more than that only where scores are equal"
    if gone:
        assert max(stayed) < min(gone) if smaller_is_better else min(stayed) > max(gone)
    assert [network.pruned for network in found] == [i in left for i in range(len(scores))]
    assert [network.rungs for network in found] == [{3: score} for score in scores]


def test_a_rung_remembers_earlier_batches_and_scores_are_the_best_so_far() -> None:
    halving = Halving("val/accuracy", False, factor=2)
    assert halving.stop(3, networks(0.9, 0.8)) == [1]
    assert halving.stop(3, networks(0.7, 0.85)) == [0], "0.9 and 0.85 are the best half of four"
    assert halving.stop(9, networks(0.1)) == [], "another rung"
    fell = Network([{"val/accuracy": 0.95}, {"val/accuracy": 0.1}, {"val/accuracy": float("nan")}])
    assert halving.stop(3, [fell]) == []
    assert fell.rungs == {3: 0.95}


def test_who_stays_trains_on_as_if_alone_and_who_leaves_stands_as_it_stood() -> None:
    base = composed("trainer.max_epochs=9", "regularization=dropout")
    jobs = one_group([varied(base, optimizer__lr=lr) for lr in (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)])
    whole = FusedTraining(jobs, CPU).run()
    halved = FusedTraining(jobs, CPU, halving=Halving("val/loss", True, factor=2, min_epochs=2)).run()
    epochs = [len(trained.history) for trained in halved]
    assert sorted(epochs) == [2, 2, 2, 4, 4, 9], "6 networks, 3 after 2 epochs, 1 after 4"
    assert [trained.pruned for trained in halved] == [n < 9 for n in epochs]
    for one, other in zip(halved, whole, strict=True):
        for row, twin in zip(one.history, other.history, strict=False):
            assert {k: v for k, v in row.items() if k != "seconds"} == pytest.approx(
                {k: v for k, v in twin.items() if k != "seconds"}, rel=1e-9
            )
        assert one.scores.keys() == {"train", "val", "test"}
    kept = {i for i, trained in enumerate(halved) if 2 in trained.rungs and len(trained.history) > 2}
    order = sorted(range(6), key=lambda i: min(row["val/loss"] for row in whole[i].history[:2]))
    assert kept == set(order[:3])


SEARCH = (
    *("-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=random", "data=digits", "trainer.max_epochs=27"),
    *("hydra.sweeper.batch_size=10", "logger=none", "optimizer.lr=tag(log,interval(0.0001,0.1))"),
    *("regularization=[l2,dropout]", "regularization.dropout.p=interval(0,0.6)"),
    *("regularization.l2.strength=tag(log,interval(0.00001,0.1))", "hydra.sweep.dir=s"),
)
"""Networks of one structure, so that they are one batch."""


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}


def test_a_search_stops_the_worst_tells_it_as_pruned_and_fills_the_room(tmp_path: Path) -> None:
    arguments = (*SEARCH, "hydra.sweeper.seed=0", "hydra.sweeper.pruner=halving", "trainer.max_epochs=9")
    run = script("train", *arguments, "hydra.sweeper.n_trials=24", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    found = results(tmp_path / "s")
    assert len(found) == 24
    first = [found[str(i)]["status"] for i in range(10)].count("pruned")
    assert 5 <= first < 10
    assert f"{first} pruned" in next(line for line in run.stdout.splitlines() if line.startswith("10 jobs: "))
    assert f"{min(14, 10 + first)} jobs fused in 1 group" in run.stdout, "the next batch has those and ten"
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "s" / "study.journal"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    for trial in study.trials:
        values = found[str(trial.number)]
        assert trial.state.name == {"pruned": "PRUNED", "completed": "COMPLETE"}[values["status"]]
        assert trial.intermediate_values == {int(k): v for k, v in values["rungs"].items()}
        assert values["epochs"] == (9 if values["status"] == "completed" else max(trial.intermediate_values))
        assert values["objective"] == values["metrics"]["val"]["accuracy"]
    pruned = next(name for name, values in found.items() if values["status"] == "pruned")
    told = evaluate(tmp_path / "s" / pruned).metrics
    assert told["test"]["accuracy"] == pytest.approx(found[pruned]["metrics"]["test"]["accuracy"])
    shutil.copytree(tmp_path / "s" / pruned, tmp_path / "longer")
    longer = script("train", "resume=longer", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    whole = json.loads((tmp_path / "longer" / "result.json").read_text())
    assert (whole["status"], whole["epochs"]) == ("completed", 9)
    compared = script("compare", "runs=s", "out=out", cwd=tmp_path)
    n = sum(values["status"] == "pruned" for values in found.values())
    assert f"Stopped early by the search: {n}." in compared.stdout
    assert f"{24 - n} runs by val/accuracy" in compared.stdout
    assert f"s/{pruned} | pruned | stopped by its search after" in (tmp_path / "out" / "comparison.md").read_text()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/result.json")}
    again = script("train", *arguments, "hydra.sweeper.n_trials=30", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(results(tmp_path / "s")) == 30
    assert all(path.stat().st_mtime_ns == when for path, when in files.items()), "no job is trained again"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["fused", "joblib"])
def test_each_task_of_an_engine_stops_its_own_networks(launcher: str, tmp_path: Path) -> None:
    of = (f"hydra/launcher={launcher}", "hydra.launcher.workers=2", "hydra.sweeper.n_trials=12")
    arguments = (*SEARCH, *of, "hydra.sweeper.seed=0", "hydra.sweeper.pruner=halving", "trainer.max_epochs=9")
    run = script("train", *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "10 jobs in 2 tasks, 2 at once" in run.stdout
    found = results(tmp_path / "s")
    assert len(found) == 12
    assert 4 <= [found[str(i)]["status"] for i in range(10)].count("pruned") < 10, "of five networks two stay, then one"
    assert {values["status"] for values in found.values()} == {"pruned", "completed"}
    when = {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/result.json")}
    again = script("train", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("s/*/result.json")} == when


@pytest.mark.slow
def test_on_digits_it_finds_the_same_with_half_of_the_steps(tmp_path: Path) -> None:
    """The random sampler draws the same 30 trials with and without the pruner."""
    for seed in range(3):
        best, epochs = {}, {}
        for pruner in ("null", "halving"):
            run = script(
                "train", *SEARCH, "hydra.sweeper.n_trials=30", f"seed={seed}", f"hydra.sweeper.seed={seed}",
                f"hydra.sweeper.pruner={pruner}", f"hydra.sweep.dir={pruner}{seed}", cwd=tmp_path,
            )  # fmt: skip
            assert run.returncode == 0, run.stderr
            found = results(tmp_path / f"{pruner}{seed}").values()
            best[pruner] = max(values["objective"] for values in found if values["status"] == "completed")
            epochs[pruner] = sum(values["epochs"] for values in found)  # of as many steps each
        assert best["halving"] >= best["null"], seed
        assert epochs["halving"] <= epochs["null"] / 2, seed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hydra.sweeper.pruner=halfing"], "Did you mean 'halving'?"),
        (["hydra.sweeper.pruner=halving", "hydra/launcher=basic"], "use hydra/launcher=fused"),
        (["hydra.sweeper.pruner=halving", "objective=[val/accuracy,parameters]"], "by one metric"),
        (["hydra.sweeper.pruner=halving", "hydra.sweeper.reduction_factor=1"], "must be at least 2"),
    ],
)
def test_halving_that_cannot_be_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal(script("train", *SEARCH, *arguments, cwd=tmp_path))
