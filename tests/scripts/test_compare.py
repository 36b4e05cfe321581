"""compare.py on a real sweep: table, files, the winner's command, training it again, the average of the best."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from scripts.command import refusal, script

from mlplab.compare import ensemble
from mlplab.config import SettingError
from mlplab.evaluate import load
from mlplab.training.evaluation import score
from mlplab.training.metrics import compute


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    run = script(
        "train", "-m", "data=iris", "optimizer=adam,sgd", "model.hidden=8,16", "seed=0,1,2", "trainer.max_epochs=8",
        "optimizer.lr=0.03", "hydra.sweep.dir=jobs", cwd=folder,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder


def test_a_sweep_becomes_a_ranked_table_files_and_a_command(sweep: Path) -> None:
    run = script("compare", "runs=jobs", "best=true", "out=out", cwd=sweep)
    assert run.returncode == 0, run.stderr
    assert "12 runs by val/accuracy" in run.stdout
    assert "Best by val/accuracy" in run.stdout
    with (sweep / "out" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    means = {}
    for job in (sweep / "jobs").glob("*/result.json"):
        values = json.loads(job.read_text())
        key = values["settings"]["optimizer"]["name"], str(values["settings"]["model"]["hidden"])
        means.setdefault(key, []).append(values["metrics"]["val"]["accuracy"])
    for row in rows:
        scores = means[row["optimizer"], row["model.hidden"]]
        assert float(row["val/accuracy"]) == pytest.approx(sum(scores) / 3)
        assert row["n"] == "3"
    command = next(line for line in run.stdout.splitlines() if line.startswith("the winner again: "))
    line = shlex.split(command.removeprefix("the winner again: "))
    assert line[:2] == ["python", "src/train.py"]
    assert f"optimizer={rows[0]['optimizer']}" in line
    assert f"model.hidden={rows[0]['model.hidden']}" in line
    assert not any(text.startswith("seed") for text in line)
    again = script("train", *line[2:], "seed=0", "hydra.run.dir=again", cwd=sweep)
    assert again.returncode == 0, again.stderr
    alone = json.loads((sweep / "again" / "result.json").read_text())
    twin = [
        json.loads(path.read_text())
        for path in (sweep / "jobs").glob("*/result.json")
        if json.loads(path.read_text())["settings"] == alone["settings"]
    ]
    assert len(twin) == 1
    assert twin[0]["metrics"]["test"]["accuracy"] == pytest.approx(alone["metrics"]["test"]["accuracy"])


@pytest.mark.slow
def test_the_winner_is_trained_again_over_seeds(sweep: Path) -> None:
    run = script("compare", "runs=jobs", "retrain=2", "out=out2", cwd=sweep)
    assert run.returncode == 0, run.stderr
    assert "2 seeds: val/accuracy" in run.stdout
    results = [json.loads(path.read_text()) for path in (sweep / "jobs" / "retrained").glob("*/result.json")]
    assert sorted(values["seed"] for values in results) == [0, 1]
    second = script("compare", "runs=jobs", "retrain=2", "out=out3", cwd=sweep)
    assert "exists already" in refusal(second)
    shutil.rmtree(sweep / "jobs" / "retrained")


def test_the_average_of_the_best_is_scored(sweep: Path) -> None:
    run = script("compare", "runs=jobs", "ensemble=3", "out=out4", cwd=sweep)
    assert run.returncode == 0, run.stderr
    assert "average of the 3 best runs' probabilities" in run.stdout
    folders = [sweep / "jobs" / name for name in ("0", "1", "2")]
    loaded = [load(folder) for folder in folders]
    test = loaded[0].prepared.parts["test"]
    probs = [score(one.network, one.prepared.parts["test"], one.config, 3, None).probs for one in loaded]
    by_hand = compute(torch.stack([p.double() for p in probs]).mean(0), test.y)
    assert ensemble(folders)["test"] == {name: pytest.approx(float(value)) for name, value in by_hand.items()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs has no value yet"),
        (["runs=nowhere"], "nowhere does not exist"),
        (["runs=jobs", "metric=test/accuracy"], "would choose by the test part"),
        (["runs=jobs", "metric=val/acuracy"], "no run has the metric val/acuracy"),
        (["runs=jobs", "ensemble=99"], "more than the 12 runs"),
        (["runs=jobs", "ensmble=3"], "ensemble"),
        (["runs=jobs", "retrain=-1"], "retrain"),
    ],
)
def test_what_cannot_be_compared_is_refused(sweep: Path, arguments: list[str], message: str) -> None:
    assert message in refusal(script("compare", *arguments, cwd=sweep))


def test_torch_is_not_imported_for_a_table(sweep: Path) -> None:
    run = script("compare", "runs=jobs", "out=out5", cwd=sweep, PYTHONPROFILEIMPORTTIME="1")
    assert run.returncode == 0
    assert " torch\n" not in run.stderr
    assert "matplotlib" in run.stderr


def test_runs_of_different_folds_share_no_rows_to_average_on(tmp_path: Path) -> None:
    run = script(
        "train", "-m", "data=iris", "data.folds=3", "data.fold=0,1", "trainer.max_epochs=3", "hydra.sweep.dir=jobs",
        cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    with pytest.raises(SettingError, match="share no rows"):
        ensemble([tmp_path / "jobs" / "0", tmp_path / "jobs" / "1"])
