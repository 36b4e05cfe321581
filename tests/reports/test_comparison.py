"""Which settings vary, who is best, and what is a tie: by the formulas, from result.json files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from mlplab.reports import comparison_page as page
from mlplab.reports.comparison import SMALLER_IS_BETTER, Cell, compare, paired_p, varied_settings
from mlplab.reports.comparison_figures import all_figures, effects, top_two
from mlplab.reports.found import ComparisonError, Run, find
from mlplab.training.metrics import METRICS


def result(folder: Path, score: float, status: str = "completed", **settings: Any) -> Path:
    """A run folder as a run leaves it, cut down to what a comparison reads."""
    folder.mkdir(parents=True)
    optimizer = {"name": "adam", "lr": settings.pop("lr", 0.01), "betas": [0.9, 0.999]}
    if settings.pop("optimizer", "adam") == "sgd":
        optimizer = {"name": "sgd", "lr": optimizer["lr"]}
    data = {"name": "iris", "split_seed": 0} | settings.pop("data", {})
    chosen = {"name": "iris", "seed": 0, "objective": "val/accuracy", "data": data, "optimizer": optimizer} | settings
    values = {
        "status": status,
        "metrics": {"val": {"accuracy": score, "loss": 1 - score}, "test": {"accuracy": score - 0.1}},
        "seconds": {"total": 2.0},
        "n_parameters": 67,
        "settings": chosen,
    }
    if status != "completed":
        values |= {"metrics": {}, "failure": {"message": "ValueError: no"}}
    (folder / "result.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """2 optimizers x 2 rates x 5 seeds; adam at 0.01 is best, adam at 0.1 indistinguishable from it."""
    draw = np.random.default_rng(0)
    mean = {("adam", 0.01): 0.9, ("adam", 0.1): 0.895, ("sgd", 0.01): 0.6, ("sgd", 0.1): 0.7}
    for i, ((optimizer, lr), centre) in enumerate(mean.items()):
        for seed in range(5):
            score = centre + 0.01 * draw.standard_normal()
            result(tmp_path / "sweep" / str(5 * i + seed), score, optimizer=optimizer, lr=lr, seed=seed)
    return tmp_path / "sweep"


def test_what_was_varied_is_found_and_what_follows_from_it_is_not(sweep: Path) -> None:
    runs, _ = find([sweep])
    assert set(varied_settings(runs)) == {"optimizer", "optimizer.lr"}
    one_rate = [run for run in runs if run.settings["optimizer.lr"] == 0.01]
    assert varied_settings(one_rate) == ["optimizer"]  # sgd has no betas, but nobody varied them


def test_a_rate_that_changes_with_the_optimizer_alone_is_no_setting_of_its_own(tmp_path: Path) -> None:
    for i, (optimizer, lr) in enumerate([("adam", 0.001), ("sgd", 0.1)] * 2):
        result(tmp_path / str(i), 0.5, optimizer=optimizer, lr=lr, seed=i // 2)
    assert varied_settings(find([tmp_path])[0]) == ["optimizer"]


def test_cells_are_ranked_by_validation_and_repeats_are_grouped(sweep: Path) -> None:
    found = compare(*find([sweep]))
    assert found.metric == "val/accuracy"
    assert [len(cell.runs) for cell in found.cells] == [5, 5, 5, 5]
    means = [cell.mean for cell in found.cells]
    assert means == sorted(means, reverse=True)
    best = found.cells[0]
    assert best.choice["optimizer"] == "adam"
    scores = np.array(best.scores)
    assert math.isclose(best.sd, scores.std(ddof=1))
    low, high = t.interval(0.95, 4, scores.mean(), scores.std(ddof=1) / math.sqrt(5))
    assert math.isclose(best.half_interval, (high - low) / 2)
    assert math.isclose(best.mean_of("test/accuracy"), best.mean - 0.1)


def test_a_loss_is_ranked_the_other_way_round(sweep: Path) -> None:
    found = compare(*find([sweep]), "val/loss")
    means = [cell.mean for cell in found.cells]
    assert means == sorted(means)
    assert found.cells[0].choice == compare(*find([sweep])).cells[0].choice


def test_directions_are_those_of_the_metrics() -> None:
    assert {name for name, direction in METRICS.items() if direction == "min"} | {"loss"} == set(SMALLER_IS_BETTER)


def test_ties_are_scipys_paired_test_corrected_by_holm(sweep: Path) -> None:
    found = compare(*find([sweep]))
    best, rest = found.cells[0], found.cells[1:]
    raw = [float(ttest_rel(_by_seed(best), _by_seed(cell)).pvalue) for cell in rest]
    order = np.argsort(raw)
    holm = np.maximum.accumulate([min(1.0, raw[k] * (3 - i)) for i, k in enumerate(order)])
    for place, k in enumerate(order):
        assert math.isclose(rest[k].p, holm[place], rel_tol=1e-9)
        assert rest[k].tied == (holm[place] > 0.05)
    assert [cell.tied for cell in rest] == [True, False, False]
    assert best.p is None


def _by_seed(cell: Cell) -> list[float]:
    return [score for _, score in sorted(zip([run.settings["seed"] for run in cell.runs], cell.scores, strict=True))]


def _cell(scores: list[float], **settings: Any) -> Cell:
    runs = [Run(Path(str(i)), {}, {"data.fold": i, "data.folds": 5, **settings}) for i in range(len(scores))]
    return Cell({}, runs, scores)


def test_folds_widen_the_variance_as_nadeau_and_bengio_do() -> None:
    one, other = [0.9, 0.92, 0.88, 0.91, 0.93], [0.87, 0.9, 0.88, 0.86, 0.9]
    difference = np.array(one) - np.array(other)
    statistic = difference.mean() / math.sqrt((1 / 5 + 1 / 4) * difference.var(ddof=1))
    assert math.isclose(paired_p(_cell(one), _cell(other)), 2 * t.sf(statistic, 4), rel_tol=1e-9)


def test_nothing_is_said_of_chance_without_two_shared_repeats(tmp_path: Path) -> None:
    result(tmp_path / "0", 0.9, lr=0.1, seed=0)
    result(tmp_path / "1", 0.8, lr=0.2, seed=1)
    found = compare(*find([tmp_path]))
    assert [cell.p for cell in found.cells] == [None, None]
    assert "nothing can be said of chance" in page.verdict(found)


def test_equal_scores_are_a_tie_and_a_constant_lead_is_none() -> None:
    assert paired_p(_cell([0.5, 0.6]), _cell([0.5, 0.6])) == 1.0
    assert paired_p(_cell([0.75, 0.5]), _cell([0.5, 0.25])) == 0.0


def test_runs_that_came_to_nothing_are_named_with_their_reason(sweep: Path) -> None:
    result(sweep / "20", 0.0, status="failed", lr=0.5)
    result(sweep / "21", 0.0, status="diverged", lr=9.0)
    (sweep / "22" / ".hydra").mkdir(parents=True)
    (sweep / "23").mkdir()
    (sweep / "23" / "result.json").write_text('{"status": "comp')
    found = compare(*find([sweep]))
    assert [m.status for m in found.missing] == ["failed", "diverged", "missing", "damaged"]
    assert found.missing[0].reason == "ValueError: no"
    assert found.n_runs == 20
    assert "1 failed, 1 diverged, 1 missing, 1 damaged" in page.verdict(found)
    assert "killed, or still running" in page.markdown(found, [])


@pytest.mark.parametrize(
    ("metric", "message"),
    [("test/accuracy", "would choose by the test part"), ("val/auroc", "they have val/accuracy, val/loss")],
)
def test_a_metric_that_cannot_rank_is_refused(sweep: Path, metric: str, message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        compare(*find([sweep]), metric)


def test_places_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match="holds no runs"):
        find([tmp_path])
    with pytest.raises(ComparisonError, match="does not exist"):
        find([tmp_path / "nowhere"])
    result(tmp_path / "0", 0.0, status="failed")
    with pytest.raises(ComparisonError, match="no run came to a score"):
        compare(*find([tmp_path]))


def test_the_effect_of_a_setting_is_its_share_of_the_variance(sweep: Path) -> None:
    found = compare(*find([sweep]))
    shares = effects(found)
    assert next(iter(shares)) == "optimizer"
    means = {tuple(cell.choice[n] for n in found.varied): cell.mean for cell in found.cells}
    centre = np.mean(list(means.values()))
    place = found.varied.index("optimizer")
    of = [np.mean([m for key, m in means.items() if key[place] == name]) for name in ("adam", "sgd")]
    assert math.isclose(shares["optimizer"], np.var(of) / np.var(list(means.values())), rel_tol=1e-9), centre
    assert set(top_two(found)) == {"optimizer", "optimizer.lr"}
    assert {"main_effects", "parallel_coordinates", "interaction"} <= set(all_figures(found))


def test_what_is_written_holds_every_cell_and_needs_no_network(sweep: Path, tmp_path: Path) -> None:
    found = compare(*find([sweep]))
    page.write(found, tmp_path / "out")
    lines = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[0].split(",")[:3] == ["rank", *found.varied]
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<tr>") == 1 + 4 + 1 + 20
    assert "data:image/png;base64," in text
    assert "http" not in text.replace("http-equiv", "")
    for name in ("main_effects", "interaction"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_person_named_cannot_become_markup(tmp_path: Path) -> None:
    result(tmp_path / "a", 0.5, activation={"name": "<script>alert(1)</script>"})
    result(tmp_path / "b", 0.6, activation={"name": "a|b"})
    found = compare(*find([tmp_path]))
    assert "<script>alert" not in page.page(found, {})
    assert "a\\|b" in page.markdown(found, [])
