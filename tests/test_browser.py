"""TensorBoard and compare's page in a real browser.

Debian: apt-get install chromium. MLPLAB_SCREENSHOTS=docs saves the pictures that the README shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.command import script

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
PATIENCE = 90_000
"""Milliseconds that a page may take on a busy machine."""
GRID = ("optimizer=adam,sgd", "optimizer.lr=0.01,0.003", "model.hidden=16,64")
HEAD = ["model.hidden", "optimizer", "optimizer.lr"]
SCORES = ["test_accuracy", "test_loss", "train_accuracy", "val_accuracy", "val_loss"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep on the digits, its comparison, and a run alone with its pictures."""
    folder = tmp_path_factory.mktemp("shown")
    for name, *arguments in (
        ("train", "-m", "data=digits", "trainer.max_epochs=15", *GRID, "hydra.sweep.dir=sweep"),
        ("compare", "runs=sweep", "out=out"),
        ("train", "data=digits", "trainer.max_epochs=30", "regularization=dropout", "hydra.run.dir=alone/digits"),
    ):
        run = script(name, *arguments, cwd=folder)
        assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = os.environ.get("MLPLAB_SCREENSHOTS")
    return Path(wanted) if wanted else tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1500, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def served(work: Path) -> Iterator[dict[str, str]]:
    """Address of a TensorBoard on the sweep and of one on the run alone, started as `make dashboard` starts it."""
    program = str(Path(sys.executable).with_name("tensorboard"))
    processes, addresses = [], {}
    for name in ("sweep", "alone"):
        line = [program, "--logdir", name, "--host", "localhost", "--port", "0"]
        process = subprocess.Popen(line, cwd=work, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stderr is not None
        addresses[name] = next(m[0] for told in process.stderr if (m := re.search(r"http://localhost:\d+", told)))
    yield addresses
    for process in processes:
        process.terminate()
        process.communicate()


def test_the_hparams_tab_shows_a_row_a_job_with_what_was_swept_and_its_scores(
    page: Any, served: dict[str, str], work: Path, pictures: Path
) -> None:
    page.set_viewport_size({"width": 1980, "height": 560})
    page.goto(f"{served['sweep']}/#hparams")
    cells = page.locator("vaadin-grid-cell-content")
    playwright.expect(cells.get_by_text("7", exact=True)).to_be_visible()
    texts = [text.strip() for text in cells.all_inner_texts()]
    texts = [text for text in texts if text]
    head = ["Trial ID", "Show Metrics", *HEAD, *(f"best/{name}" for name in SCORES)]
    assert texts[: len(head)] == head, "the swept settings and real scores, and nothing else"
    width = len(head) - 1  # `Show Metrics` is a box without a text
    table = [texts[i : i + width] for i in range(len(head), len(texts), width)]
    assert sorted(row[0] for row in table) == [str(i) for i in range(8)]
    for job, hidden, optimizer, lr, *scores in table:
        values = json.loads((work / "sweep" / job / "result.json").read_text())
        assert (float(hidden), optimizer) == (
            values["settings"]["model"]["hidden"],
            values["settings"]["optimizer"]["name"],
        )
        assert float(lr) == values["settings"]["optimizer"]["lr"]
        expected = [values["metrics"][part][name] for part, name in (score.split("_") for score in SCORES)]
        assert [float(score) for score in scores] == pytest.approx(expected, rel=1e-4)
    page.screenshot(path=pictures / "sweep.png")


def test_curves_of_all_jobs_overlay_in_charts_of_one_name(page: Any, served: dict[str, str]) -> None:
    wanted = ["train/accuracy", "train/loss", "val/accuracy", "val/loss"]
    page.goto(f"{served['sweep']}/?tagFilter=^(train|val)/(loss|accuracy)#timeseries")
    cards = page.locator("scalar-card")
    playwright.expect(cards).to_have_count(4)
    for card, name in zip(cards.all(), wanted, strict=True):
        playwright.expect(card.locator("tb-truncated-path").first).to_have_text(name)
    for card in cards.all():
        card.scroll_into_view_if_needed()
        playwright.expect(card.get_by_text("7", exact=True).first).to_be_visible()


def test_training_and_validation_share_a_chart(page: Any, served: dict[str, str]) -> None:
    page.goto(f"{served['sweep']}/#custom_scalars")
    charts = page.locator("tf-custom-scalar-multi-line-chart-card")
    playwright.expect(charts).to_have_count(2)
    for chart, name in zip(charts.all(), ("loss", "accuracy"), strict=True):
        playwright.expect(chart).to_contain_text("Matches (16)")  # of 8 jobs, train and val
        playwright.expect(chart).to_contain_text(name)


def test_a_run_alone_shows_curves_and_pictures(page: Any, served: dict[str, str], pictures: Path) -> None:
    page.set_viewport_size({"width": 1360, "height": 900})
    page.goto(f"{served['alone']}/?tagFilter=^(train|val)/(loss|accuracy)|^confusion|^roc|^learning#timeseries")
    playwright.expect(page.locator("image-card")).to_have_count(3)
    playwright.expect(page.locator("scalar-card").first).to_contain_text("train/accuracy")
    page.get_by_role("button", name="Settings").last.click()  # closes what is open at first
    playwright.expect(page.locator("scalar-card").nth(2).get_by_text("digits", exact=True).first).to_be_visible()
    page.wait_for_timeout(1500)  # the cards slide into the room, for the picture
    page.screenshot(path=pictures / "tensorboard.png")


def test_the_report_needs_no_network_and_its_tables_sort(page: Any, work: Path) -> None:
    asked: list[str] = []
    page.context.set_offline(True)
    page.on("request", lambda request: asked.append(request.url))
    report = work / "out" / "report.html"
    page.goto(report.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    sizes = page.eval_on_selector_all("img", "all => all.map(i => [i.src.slice(0, 10), i.naturalWidth])")
    assert len(sizes) >= 4
    assert all(source == "data:image" and width > 100 for source, width in sizes)
    table = page.locator("table").first
    names = [name.strip() for name in table.locator("th").all_inner_texts()]
    column = names.index("seconds")

    def shown() -> list[float]:
        return [float(row.locator("td").nth(column).inner_text()) for row in table.locator("tbody tr").all()]

    assert len(shown()) == 8
    button = table.locator("th button").nth(column)
    button.click()
    assert shown() == sorted(shown())
    assert table.locator("th").nth(column).get_attribute("aria-sort") == "ascending"
    button.click()
    assert shown() == sorted(shown(), reverse=True)
