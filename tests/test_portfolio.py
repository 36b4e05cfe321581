"""A portfolio is judged on rows that its networks have not seen, answers as one run, and keeps no row from training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts.command import refusal, script
from scripts.killed import assert_same_training, kill_during

from mlplab import randomness
from mlplab.compose import load_config
from mlplab.config import SettingError, setting
from mlplab.data.prepared import prepare
from mlplab.evaluate import evaluate, load
from mlplab.experiment import run
from mlplab.models.ensemble import Blend, Calibrated
from mlplab.portfolio.blend import bagged_weights, folds_of, greedy_weights, log_loss
from mlplab.portfolio.fit import own_temperature
from mlplab.portfolio.networks import Data, jobs_of, sized
from mlplab.runs import Result, RunFolder
from mlplab.training import checkpoints
from mlplab.training.calibration import fit_temperature

QUICK = ("experiment=table_best", "model.hidden=8", "trainer.max_epochs=3", "portfolio.refits=1", "accelerator=cpu")


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(load_config(*QUICK), tmp_path_factory.mktemp("portfolio") / "wine")


def test_a_blend_is_never_worse_than_its_best_setting_where_it_was_chosen() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    probs = [rng.dirichlet((1, 1, 1), 200) + 0.6 * np.eye(3)[y] * rng.random((200, 1)) for _ in range(6)]
    probs = [p / p.sum(1, keepdims=True) for p in probs]
    of_true = np.stack([p[np.arange(200), y] for p in probs])
    weights = greedy_weights(of_true, rounds=50)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    blended = log_loss(sum(w * p for w, p in zip(weights, probs, strict=True)), y)
    assert blended < min(log_loss(p, y) for p in probs)
    # near the best of all weights, which are convex to find
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    true = torch.tensor(of_true)
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = -(logits.softmax(0) @ true).log().mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert blended == pytest.approx(float(loss().detach()), abs=2e-3)


def test_a_settings_own_temperature_is_drawn_towards_one_where_rows_are_few() -> None:
    rng = np.random.default_rng(0)
    for n in (60, 30_000):
        true = rng.dirichlet((0.3, 0.3, 0.3), n)
        y = torch.from_numpy(np.array([rng.choice(3, p=p / p.sum()) for p in true]))
        modest = true**0.5 / (true**0.5).sum(1, keepdims=True)
        found, fitted = own_temperature(modest, y), fit_temperature(torch.from_numpy(np.log(modest)), y)
        assert found == pytest.approx(fitted ** (n / (n + 300)))
        assert abs(fitted - 0.5) < (0.3 if n == 60 else 0.02)
        assert found > (0.8 if n == 60 else 0.48)


def test_the_networks_that_answer_are_those_that_were_scored(wine: Result) -> None:
    """Each fold's networks give the out-of-fold scores again, their setting's temperature in their weights."""
    config = load_config(*QUICK).pooled()
    prepared, loaded = prepare(config.data), load(wine.folder)
    blend, pool = loaded.network.network, prepared.parts["train"]
    order = randomness.permutation(randomness.key(config.data.split_seed, "portfolio"), len(pool)).numpy()
    folds = folds_of(pool.y.numpy(), 5, order)
    told = wine.values["portfolio"]["tried"]
    settings = [of["setting"] for of in checkpoints.load(RunFolder(wine.folder).best)["blend"]["members"]]
    x = loaded.prepared.preprocess(torch.from_numpy(prepared.raw[pool.rows]))
    for name in dict.fromkeys(settings):
        assert told[name]["temperature"] != 1
        of_folds = [i for i, setting in enumerate(settings) if setting == name][-5:]
        probs = np.zeros((len(pool), 3))
        for fold, i in enumerate(of_folds):
            first, last = blend.stretches[i]
            logits = blend.members[i](x[torch.from_numpy(folds == fold)][:, first:last])
            probs[folds == fold] = logits.softmax(1).detach().numpy()
        assert log_loss(probs, pool.y.numpy()) == pytest.approx(told[name]["log_loss"], rel=1e-4)


def test_one_setting_that_is_right_takes_all() -> None:
    right, wrong = np.full(4, 0.99), np.full(4, 0.5)
    of_true = np.stack([wrong, right, wrong])
    assert greedy_weights(of_true, 20).tolist() == [0, 1, 0]
    assert bagged_weights(of_true, 20, 5, seed=1).tolist() == [0, 1, 0]


def test_samples_of_the_rows_share_the_weight_of_settings_that_are_alike() -> None:
    rng = np.random.default_rng(3)
    common = rng.random(60)
    of_true = np.clip(common + 0.05 * rng.standard_normal((8, 60)), 0.01, 0.99)
    alone, shared = greedy_weights(of_true, 25), bagged_weights(of_true, 25, 40, seed=0)
    assert shared.sum() == pytest.approx(1)
    assert (shared > 0.02).sum() > (alone > 0.02).sum()
    assert np.array_equal(shared, bagged_weights(of_true, 25, 40, seed=0))


def test_folds_deal_each_class_out_evenly() -> None:
    y = np.random.default_rng(1).choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    order = np.random.default_rng(2).permutation(203)
    fold = folds_of(y, 5, order)
    for label in range(4):
        counts = np.bincount(fold[y == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 1


def test_a_folds_networks_and_scaling_see_none_of_its_rows() -> None:
    config = load_config(*QUICK).pooled()
    prepared = prepare(config.data)
    assert len(prepared.parts["val"]) == 0
    pool = prepared.parts["train"].rows
    folds = np.arange(len(pool)) % 5
    own = setting(config, "standard")
    jobs = jobs_of(own, config.portfolio, Data(prepared), folds, range(5))
    tested = [job.prepared.parts["test"].rows for job in jobs]
    assert sorted(np.concatenate(tested)) == sorted(pool)
    for job, held in zip(jobs, tested, strict=True):
        train = job.prepared.parts["train"].rows
        assert not set(train) & set(held)
        assert not set(held) & set(prepared.parts["test"].rows)
        assert prepared.raw is not None
        torch.testing.assert_close(job.prepared.preprocess.scaler.center.numpy(), prepared.raw[train].mean(0))
    on_all = jobs_of(own, config.portfolio, Data(prepared), folds, [None, None])
    assert [sorted(job.prepared.parts["train"].rows) for job in on_all] == [sorted(pool)] * 2
    assert len({job.config.seed for job in (*jobs, *on_all)}) == 7


def test_sizes_suit_the_rows() -> None:
    config = load_config("experiment=table_best")
    for rows, batch in ((60, 32), (800, 100), (30_000, 256)):
        own = sized(setting(config, "standard"), config.portfolio, rows)
        assert own.data.batch_size == batch
        per_epoch = -(-rows // batch)
        wanted = max(config.portfolio.min_epochs, -(-config.portfolio.steps // per_epoch))
        assert own.trainer.max_epochs == min(config.trainer.max_epochs, wanted)
        assert own.optimizer.lr == pytest.approx(config.optimizer.lr * min(1, (1500 / rows) ** 0.5))


def test_the_run_is_one_run_and_evaluates_to_its_result(wine: Result) -> None:
    assert {p.name for p in (wine.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    loaded = load(wine.folder)
    assert isinstance(loaded.network, Calibrated)
    blend = loaded.network.network
    assert isinstance(blend, Blend)
    assert float(blend.log_weights.exp().sum()) == pytest.approx(1)
    told = wine.values["portfolio"]
    assert told["networks"]["answering"] == len(blend.members)
    assert sum(t["weight"] for t in told["tried"].values()) == pytest.approx(1)
    again = evaluate(wine.folder).metrics
    assert {part: again[part] for part in ("train", "test")} == {p: wine.metrics[p] for p in ("train", "test")}
    assert wine.objective == wine.metrics["val"]["accuracy"]
    portfolio = load_config("experiment=table_best").portfolio
    assert set(told["tried"]) == {name for name, own in portfolio.settings.items() if "least_rows" not in own}
    with (wine.folder / "portfolio.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["setting"] for row in rows] == list(told["tried"])
    losses = [float(row["log_loss"]) for row in rows]
    assert losses == sorted(losses)


def test_the_same_seed_gives_the_same_answer(wine: Result, tmp_path: Path) -> None:
    assert run(load_config(*QUICK), tmp_path / "again").metrics == wine.metrics


def test_the_best_setting_alone_is_trained_again_on_all_rows(tmp_path: Path) -> None:
    settings = ("portfolio.choose=best", "portfolio.refits=3", "calibration=none")
    result = run(load_config(*QUICK, *settings), tmp_path / "best")
    told = result.values["portfolio"]
    best = min(told["tried"], key=lambda name: told["tried"][name]["log_loss"])
    assert {name: t["weight"] for name, t in told["tried"].items() if t["weight"]} == {best: 1.0}
    blend = load(result.folder).network
    assert isinstance(blend, Blend)
    assert len(blend.members) == 3


@pytest.mark.slow
def test_a_portfolio_killed_and_resumed_is_the_one_that_was_not(wine: Result, tmp_path: Path) -> None:
    settings = (*QUICK, "trainer.max_epochs=60")
    whole = script("train", *settings, "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "chosen: " in whole.stdout
    assert "out of fold" in whole.stdout
    kill_during(*settings, "hydra.run.dir=killed", cwd=tmp_path, file="killed/.hydra/config.yaml", after=4)
    again = script("train", "resume=killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert_same_training(tmp_path / "killed", tmp_path / "whole")


REFUSED = [
    (("data=digits_images",), "data=digits_images; use a table"),
    (("ensemble.size=3",), "portfolio.folds"),
    (("optimizer=nadam",), "no stacked form"),
    (("+portfolio.settings.mine={optimizer: {lrr: 0.1}}",), "optimizer.lr"),
    (("+portfolio.settings.mine={data: {path: x.csv}}",), "is the whole run's"),
    (("+portfolio.settings.mine={embedding: {name: periodic}}",), "embedding.frequencies"),
    (("+portfolio.settings.mine={least_rows: 0}",), "mine.least_rows=0 is not a whole number of at least 1"),
    (("portfolio.folds=1",), "must be at least 2"),
    (("portfolio.chose=best",), "Did you mean 'portfolio.choose'?"),
]


@pytest.mark.parametrize(("overrides", "told"), REFUSED, ids=str)
def test_what_cannot_be_is_refused(overrides: tuple[str, ...], told: str) -> None:
    with pytest.raises(SettingError) as error:
        load_config("experiment=table_best", *overrides)
    assert told in str(error.value)


def test_a_mistake_in_a_setting_is_one_message(tmp_path: Path) -> None:
    words = ("experiment=table_best", "+portfolio.settings.mine={model: {hiden: 3}}")
    message = refusal(script("train", *words, cwd=tmp_path))
    assert "portfolio.settings.mine" in message
    assert "model.hidden" in message


def test_as_many_threads_as_there_are_change_no_bit(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            run(load_config(*QUICK), tmp_path / str(threads))
    finally:
        torch.set_num_threads(before)
    assert_same_training(tmp_path / "1", tmp_path / "3")
