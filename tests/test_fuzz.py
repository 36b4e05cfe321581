"""Random settings: right ones train, go on, are scored again and exported; wrong ones get a sentence and status 2.

`MLPLAB_FUZZ=5000 pytest tests/test_fuzz.py -m slow` takes 5000 examples of each kind, other ones each time.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from right_settings import right_words
from scripts.command import script
from scripts.forks import Forks
from scripts.killed import assert_same_training
from wrong_settings import CONTRADICTIONS, GARBLED, wrong_values, wrong_words

from mlplab.compose import load_config
from mlplab.config import Config, SettingError
from mlplab.config.tools import Export
from mlplab.evaluate import evaluate
from mlplab.experiment import run
from mlplab.export import export
from mlplab.resume import resume
from mlplab.runs import read_result
from mlplab.sweeps.run import run_batch

LONGER = os.environ.get("MLPLAB_FUZZ")
NUMBERS = st.integers(0, 1 << 62)
"""Each is one command line: see right_settings.py and wrong_settings.py."""


def examples(n: int) -> Any:
    """So many examples, the same ones each time; with MLPLAB_FUZZ that many, other ones each time."""
    return settings(
        max_examples=int(LONGER or n),
        derandomize=LONGER is None,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of numbers, categories and gaps, and a folder of images."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    lines = ["height,width,colour,label"]
    for i in range(90):
        width = "" if i % 11 == 0 else f"{rng.normal():.3f}"
        lines.append(f"{rng.normal(i % 3):.3f},{width},{rng.choice(['red', 'green', 'NA'])},{'abc'[i % 3]}")
    (home / "rows.csv").write_text("\n".join(lines) + "\n")
    for name in ("cat", "dog"):
        (home / "images" / "train" / name).mkdir(parents=True)
        for i in range(25):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "images" / "train" / name / f"{i}.png")
    return home


class Trained:
    """Trains what is drawn, and counts what became of it."""

    def __init__(self, home: Path, work: Path) -> None:
        self.home, self.work = home, work
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []

    def __call__(self, words: list[str], how: int) -> None:
        """Train two epochs, one of them resumed, score again, and sometimes export."""
        self.counts["drawn"] += 1
        try:
            config = load_config(*words, "trainer.max_epochs=2")
            self._train(words, config, how)
        except SettingError as error:  # of the data: too few rows of a class, say
            self.refused.append(str(error))
            self.counts["refused"] += 1
            assert not list(self.work.glob("*")), "a refused run leaves nothing behind"
        except Exception:
            raise AssertionError(f"{' '.join(words)}\n{traceback.format_exc()}") from None
        finally:
            for path in self.work.glob("*"):
                shutil.rmtree(path)

    def _train(self, words: list[str], config: Config, how: int) -> None:
        folder = self.work / "run"
        # whose past epochs depend on how many there are, or that is one run of several networks
        spread = config.scheduler.name in ("cosine", "one_cycle") or config.ensemble.networks > 1
        if how % 4 == 0:
            second = load_config(*words, "trainer.max_epochs=2", "seed=7")
            outcomes = run_batch([config, second], [folder, self.work / "second"])
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
            self.counts["in sweeps"] += 1
            first = outcomes[0]
        else:
            first = run(config if spread else load_config(*words, "trainer.max_epochs=1"), folder)
        if first.status == "diverged":  # perhaps before there was anything to go on from
            self.counts["diverged"] += 1
            return
        if config.ensemble.networks > 1:
            result = read_result(folder)
            self.counts["ensembles"] += 1
        else:
            result = resume([f"resume={folder}", "trainer.max_epochs=2"])
        if how % 4 == 1 and not spread and config.logger.name != "none":
            run(config, self.work / "whole")
            if result.status == "completed":
                assert_same_training(folder, self.work / "whole")
                self.counts["held against a whole run"] += 1
        self.counts[result.status] += 1
        if result.status != "completed":
            return
        assert result.values["epochs"] == 2 or config.regularization.early_stopping
        again = evaluate(folder).metrics
        for part, metrics in result.metrics.items():
            for name, value in metrics.items():
                found = again[part][name]
                close = value is None or found == pytest.approx(value, rel=1e-4, abs=1e-5)
                assert close or how % 4 == 0, (part, name, value, found)
        if how % 10 == 3:
            kind = "onnx" if how % 50 == 3 else "pt2"
            shared = {"overwrite": True, "check_rows": 20, "tolerance": 1e-3, "allow_targets": []}
            export(Export(run=str(folder), format=kind, output=str(self.work / "run" / f"model.{kind}"), **shared))
            self.counts[kind] += 1


def train_many(n: int, home: Path, work: Path) -> Counter[str]:
    """Draw, train, resume, score and export so many settings."""
    trained = Trained(home, work)

    @examples(n)
    @given(NUMBERS)
    def each(number: int) -> None:
        trained(right_words(number, home), trained.counts["drawn"])

    each()
    print(dict(trained.counts))
    assert all(0 < len(message) < 1500 for message in trained.refused)
    return trained.counts


def test_a_few_random_settings_train_go_on_and_are_scored_again(home: Path, tmp_path: Path) -> None:
    counts = train_many(15, home, tmp_path)
    assert counts["completed"] + counts["diverged"] >= 12


@pytest.mark.slow
def test_random_settings_train_go_on_are_scored_again_and_exported(home: Path, tmp_path: Path) -> None:
    counts = train_many(330, home, tmp_path)
    assert counts["completed"] >= 300
    assert counts["refused"] < 0.1 * counts["drawn"]
    for kind in ("held against a whole run", "in sweeps", "pt2", "onnx"):
        assert counts[kind], kind


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    made = Forks(tmp_path_factory.mktemp("forks"))
    yield made
    made.close()


def assert_refused(done: Any, words: list[str], cwd: Path) -> None:
    shown = f"{[word[:120] for word in words]}: status {done.returncode}\n{done.stdout[-500:]}\n{done.stderr[:1000]}"
    assert done.returncode == 2, shown
    message = done.stderr.strip()
    assert message, shown
    assert "Traceback" not in done.stderr, shown
    assert "\n\n" not in message, f"more than a paragraph: {shown}"
    assert len(message) < 1500, f"too long to be read: {shown}"
    assert len(message.splitlines()) <= 6, shown
    left = [path for path in cwd.rglob("*") if path.name != "outputs"]
    assert left == [], f"left behind {left}: {shown}"


def refuse_many(n: int, forks: Forks, cwd: Path) -> int:
    """Refuse so many command lines; how many wrong settings they had."""
    wrong = 0

    @examples(n // 2)
    @given(NUMBERS)
    def garbled(number: int) -> None:
        nonlocal wrong
        words = wrong_words(number)
        assert_refused(forks.run(words), words, cwd)
        wrong += 1

    @examples(n // 2)
    @given(NUMBERS)
    def of_wrong_values(number: int) -> None:
        nonlocal wrong
        words, paths = wrong_values(number)
        done = forks.run(words)
        assert_refused(done, words, cwd)
        assert all(path in done.stderr for path in paths), f"{words}: each is named: {done.stderr}"
        wrong += len(paths)

    garbled()
    of_wrong_values()
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("words", [*CONTRADICTIONS, *([text] for text in GARBLED)], ids=" ".join)
def test_what_is_known_to_be_wrong_is_refused(words: list[str], forks: Forks) -> None:
    assert_refused(forks.run(words), words, forks.cwd)


def test_some_wrong_settings_are_refused_in_a_sentence(forks: Forks) -> None:
    assert refuse_many(40, forks, forks.cwd) >= 40


@pytest.mark.slow
def test_two_thousand_wrong_settings_are_refused_in_a_sentence(forks: Forks) -> None:
    wrong = refuse_many(1100, forks, forks.cwd)
    assert wrong >= 2000 or LONGER


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_process_of_its_own_does_as_the_forks_do(start: int, forks: Forks, tmp_path: Path) -> None:
    wrong = [*CONTRADICTIONS, *([text] for text in GARBLED)]
    for words in wrong[start :: len(wrong) // 5][:5]:
        done = script("train", *words, cwd=tmp_path)
        assert_refused(done, words, tmp_path)
        assert done.stderr == forks.run(words).stderr
