"""The baselines see the rows of the run, and are scored by its metrics."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scripts.command import refusal, script
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from mlplab.baselines import METHODS, check_file, of_run, score_methods, write
from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.prepared import prepare
from mlplab.experiment import run
from mlplab.runs import read_result
from mlplab.training.metrics import METRICS

FAST = ("accelerator=cpu", "logger=none", "trainer.max_epochs=3")


def test_every_method_beats_guessing_on_iris_by_the_same_metrics() -> None:
    prepared = prepare(load_config("data=iris").data)
    scored = list(score_methods(prepared, list(METHODS), seed=0, svm_rows=1000))
    assert [s.method for s in scored] == list(METHODS)
    for s in scored:
        assert s.metrics.keys() == {"train", "val", "test"}
        assert s.metrics["test"].keys() == METRICS.keys()
        assert s.metrics["test"]["accuracy"] > 0.85, s.method


def test_logistic_regression_is_scikit_learns_on_the_same_rows() -> None:
    prepared = prepare(load_config("data=breast_cancer", "data.split_seed=3").data)
    (ours,) = score_methods(prepared, ["logistic_regression"], seed=0, svm_rows=1)
    train, test = (prepared.parts[name] for name in ("train", "test"))
    x = prepared.raw[train.rows]
    center, scale = x.mean(0), x.std(0)
    model = LogisticRegression(max_iter=5000).fit((x - center) / scale, train.y)
    probs = model.predict_proba((prepared.raw[test.rows] - center) / scale)
    assert ours.metrics["test"]["accuracy"] == np.mean(probs.argmax(1) == test.y.numpy())
    assert ours.metrics["test"]["log_loss"] == pytest.approx(log_loss(test.y, probs), rel=1e-3)


def test_a_method_that_cannot_be_used_is_left_out_with_the_reason() -> None:
    prepared = prepare(load_config("data=xor").data)
    svm, knn = score_methods(prepared, ["svm", "knn"], seed=0, svm_rows=3)
    assert svm.metrics == {}
    assert svm.note == "left out: 4 training rows are more than svm_rows=3"
    assert knn.metrics == {}
    assert "n_neighbors" in knn.note


def test_a_run_stands_beside_them_with_its_own_rows(tmp_path: Path) -> None:
    result = run(load_config("data=iris", "data.split_seed=5", "seed=7", *FAST), tmp_path)
    first, prepared, seed = of_run(tmp_path, None)
    assert first.metrics.keys() == result.metrics.keys()
    for part, values in result.metrics.items():
        assert first.metrics[part] == pytest.approx(values)
    assert seed == 7
    assert prepared.fingerprint == result.values["data"]["fingerprint"]
    with pytest.raises(SettingError, match="was trained on other rows"):
        of_run(tmp_path, prepare(load_config("data=iris").data))
    of_run(tmp_path, prepare(load_config("data=iris", "data.split_seed=5").data))
    with pytest.raises(SettingError, match=r"must end in \.json or \.csv"):
        check_file(Path("table.txt"))


def test_the_script_prints_them_beside_a_run_and_writes_both_files(tmp_path: Path) -> None:
    run(load_config("data=iris", *FAST), tmp_path / "run")
    quick = "methods=[logistic_regression,knn]"
    done = script("baselines", "run=run", quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if "0." in line][:3] == [
        "iris", "logistic_regression", "knn"
    ]  # fmt: skip
    written = json.loads((tmp_path / "run" / "baselines.json").read_text())
    network = read_result(tmp_path / "run")
    assert written["methods"][0]["metrics"]["test"]["accuracy"] == network.metrics["test"]["accuracy"]
    assert written["fingerprint"] == network.values["data"]["fingerprint"]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_the_table_can_be_written_as_csv(tmp_path: Path) -> None:
    prepared = prepare(load_config("data=iris").data)
    scored = list(score_methods(prepared, ["logistic_regression", "svm"], seed=0, svm_rows=1))
    write(tmp_path / "table.csv", scored, prepared.fingerprint)
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = [(r["method"], r["part"]) for r in rows]
    assert places == [*(("logistic_regression", part) for part in ("train", "val", "test")), ("svm", "")]
    assert float(rows[2]["accuracy"]) == scored[0].metrics["test"]["accuracy"]
    assert "left out" in rows[3]["note"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("methods=[svmm]", "it must be 'logistic_regression', 'knn'"),
        ("run=nowhere", "nowhere/checkpoints/best.ckpt does not exist"),
        ("data=irris", "Did you mean 'iris'?"),
    ],
)
def test_the_script_refuses_in_one_message(override: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(script("baselines", override, cwd=tmp_path))
