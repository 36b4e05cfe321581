"""gradcheck.py, and the step by hand that train.py prints."""

from pathlib import Path

import pytest
from scripts.command import refusal, script

from mlplab.reports.tables import read_csv


@pytest.mark.slow
def test_gradcheck_names_the_worst_parameter_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = script("gradcheck", "model=numpy_mlp", "activation=elu", "model.hidden=[5,4]", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if line.strip()]
    errors = [float(words[-2]) for words in lines if words[0].startswith("layers.")]
    assert len(errors) == 6
    assert errors == sorted(errors, reverse=True)
    assert lines[-1] == ["right", "to", "1e-06"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_gradcheck_fails_where_a_gradient_is_wrong(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    wrong = ("activation=custom", "activation.target=models.wrong.WrongTanh", "model.hidden=4")
    run = script("gradcheck", *wrong, cwd=tmp_path, PYTHONPATH=tests)
    assert run.returncode == 1
    assert "wrong: layers.0." in run.stdout


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rows=0", "rows=0 is not allowed: it must be greater than 0"),
        ("model.hiden=3", "Did you mean 'model.hidden'?"),
    ],
)
def test_gradcheck_refuses_in_one_message(override: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(script("gradcheck", override, cwd=tmp_path))


def test_backprop_by_hand_prints_every_number_and_the_verdict(tmp_path: Path) -> None:
    run = script("train", "experiment=backprop_by_hand", "hydra.run.dir=run", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    numbers = read_csv(tmp_path / "run" / "first_step.csv")
    assert len(numbers) == 12 + 6 + 1 + 3 + 9 + 9
    shown = [line.split() for line in run.stdout.splitlines()]
    for number in numbers:
        words = [number["stage"], *number["name"].split()]
        (line,) = (line for line in shown if line[: len(words)] == words)
        assert float(line[-1]) == pytest.approx(float(number["value"]), abs=5e-5)
    assert "underfitting: training log loss" in run.stdout
