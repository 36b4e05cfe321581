"""Rows of TensorBoard's HPARAMS tab: of a run alone, of a sweep, of a sweep that was widened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reports.event_files import hparams_table
from scripts.command import script

from mlplab.compose import load_config
from mlplab.reports.hparams import final, key_of, row, row_of


def settings(*overrides: str) -> dict[str, object]:
    return load_config(*overrides).model_dump(exclude_none=True)


def test_a_row_has_the_values_of_settings_and_the_options_of_groups() -> None:
    values = settings("optimizer=sgd", "model.hidden=[16,8]", "regularization=[l2,dropout]")
    keys = ("optimizer", "optimizer.lr", "model.hidden", "regularization", "data", "seed", "optimizer.betas")
    assert row(values, keys) == {
        "optimizer": "sgd",
        "optimizer.lr": 0.01,
        "model.hidden": "[16,8]",
        "regularization": "[l2,dropout]",
        "data": "wine",
        "seed": 0,
    }
    assert row(settings(), ["regularization", "experiment"], ["+experiment=xor"]) == {
        "regularization": "none",
        "experiment": "xor",
    }
    assert [key_of(text) for text in ("a.b=1", "+a=2", "~a", "a@b=c")] == ["a.b", "a", "a", "a"]


def test_a_run_alone_shows_a_short_list_and_what_it_was_given(tmp_path: Path) -> None:
    short = {"data": "wine", "model.hidden": 32, "optimizer": "adam", "optimizer.lr": 0.001, "seed": 0}
    shown = row_of(tmp_path, settings())
    assert shown == short | {"model.hidden": shown["model.hidden"]}
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- seed=3\n- data.scaling=minmax\n")
    assert row_of(tmp_path, settings("seed=3", "data.scaling=minmax")) == shown | {"seed": 3, "data.scaling": "minmax"}


def test_the_scores_are_the_loss_and_what_is_searched_for() -> None:
    scores = {part: {"loss": 1.0, "accuracy": 2.0, "f1": 3.0} for part in ("train", "val", "test")}
    assert final(scores, ["val/accuracy"]) == {
        "best/train_accuracy": 2, "best/val_accuracy": 2, "best/val_loss": 1, "best/test_accuracy": 2,
        "best/test_loss": 1,
    }  # fmt: skip
    assert set(final(scores, ["val/loss"])) == set(final(scores, ["val/accuracy"]))
    assert final(scores, ["val/f1"])["best/val_f1"] == 3
    assert set(final({"test": scores["test"]}, ["val/loss"])) == {"best/test_accuracy", "best/test_loss"}


@pytest.mark.slow
def test_a_sweep_shows_what_it_varies_and_a_wider_one_more_in_all_rows(tmp_path: Path) -> None:
    fixed = ("-m", "data=iris", "trainer.max_epochs=2", "hydra.sweep.dir=s")
    run = script("train", *fixed, "optimizer.lr=0.01,0.03", "seed=1,2", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    table = hparams_table(tmp_path / "s")
    grid = [(lr, seed) for lr in (0.01, 0.03) for seed in (1, 2)]
    assert {name: params for name, (params, _) in table.items()} == {
        str(i): {"optimizer.lr": lr, "seed": seed} for i, (lr, seed) in enumerate(grid)
    }
    before = (tmp_path / "s" / "0" / "result.json").stat().st_mtime_ns
    wider = script("train", *fixed, "optimizer.lr=0.01", "seed=1", "optimizer=adam,sgd", cwd=tmp_path)
    assert wider.returncode == 0, wider.stderr
    assert (tmp_path / "s" / "0" / "result.json").stat().st_mtime_ns == before
    table = hparams_table(tmp_path / "s")
    assert {name: params for name, (params, _) in table.items()} == {
        **{str(i): {"optimizer.lr": lr, "seed": seed, "optimizer": "adam"} for i, (lr, seed) in enumerate(grid)},
        "4": {"optimizer.lr": 0.01, "seed": 1, "optimizer": "sgd"},
    }
    for name, (_, metrics) in table.items():
        values = json.loads((tmp_path / "s" / name / "result.json").read_text())
        for part in ("val", "test"):
            assert metrics[f"best/{part}_accuracy"] == pytest.approx(values["metrics"][part]["accuracy"])
