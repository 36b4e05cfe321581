"""Many runs set side by side, from their result.json alone: what was varied, what it did, what is a tie.

Imports neither torch nor a table library, so that a thousand runs take as long as parsing a thousand JSON files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from mlplab.config.objectives import SMALLER_IS_BETTER, named
from mlplab.reports.found import REPEATS, ComparisonError, Missing, Run
from mlplab.reports.student import critical, two_sided

LEVEL = 0.05
"""Differences whose Holm-corrected p-value is above are ties."""


@dataclass
class Cell:
    """All runs of the same settings but for seed, fold and split.

    Attributes:
        choice: varied setting -> value.
        p: probability of a difference this large from the best cell by chance (Holm-corrected); None if untested.
    """

    choice: dict[str, Any]
    runs: list[Run]
    scores: list[float]
    p: float | None = None
    tied: bool = False

    @property
    def mean(self) -> float:
        """Mean score."""
        return fmean(self.scores)

    @property
    def sd(self) -> float:
        """Standard deviation of the scores; NaN for one run."""
        return stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def half_interval(self) -> float:
        """Half of the 95 % interval of the mean by Student's t; NaN for one run."""
        n = len(self.scores)
        if n < 2:
            return math.nan
        return critical(n - 1) * self.sd / math.sqrt(n)

    def mean_of(self, metric: str) -> float:
        """Mean of another metric; NaN where no run has it."""
        found = [v for run in self.runs if not math.isnan(v := run.score(metric))]
        return fmean(found) if found else math.nan

    def sd_of(self, metric: str) -> float:
        """Standard deviation of another metric."""
        found = [v for run in self.runs if not math.isnan(v := run.score(metric))]
        return stdev(found) if len(found) > 1 else math.nan

    @property
    def seconds(self) -> float:
        """Mean seconds of a run."""
        return fmean(float((run.values.get("seconds") or {}).get("total", math.nan)) for run in self.runs)

    @property
    def n_parameters(self) -> int:
        """Parameters of the network."""
        return int(self.runs[0].values.get("n_parameters", 0))

    @property
    def name(self) -> str:
        """Its settings in one line."""
        return " ".join(f"{name}={shown(value)}" for name, value in self.choice.items()) or "the only settings"


@dataclass
class Comparison:
    """Cells from the best to the worst, and the runs that came to nothing."""

    metric: str
    varied: list[str]
    cells: list[Cell]
    missing: list[Missing] = field(default_factory=list)
    pruned: list[Missing] = field(default_factory=list)
    """Runs that a search has stopped early: neither ranked nor lost."""

    @property
    def smaller_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric.partition("/")[2] in SMALLER_IS_BETTER

    @property
    def test_metric(self) -> str:
        """The same metric of the test part: shown, never ranked by."""
        return f"test/{self.metric.partition('/')[2]}"

    @property
    def n_runs(self) -> int:
        """Runs that have a score."""
        return sum(len(cell.runs) for cell in self.cells)


def varied_settings(runs: Sequence[Run]) -> list[str]:
    """Settings that differ between runs; those that only follow from another option of their group are left out.

    With optimizer=adam,sgd the betas differ too (sgd has none), but nobody varied them.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    differing = [n for n in names if n not in REPEATS and len({run.settings.get(n) for run in runs}) > 1]
    kept = []
    for name in differing:
        group = name.rpartition(".")[0]
        if name in ("name", "objective"):
            continue
        if group in differing:
            of_option: dict[Any, set[Any]] = {}
            for run in runs:
                of_option.setdefault(run.settings.get(group), set()).add(run.settings.get(name))
            if all(len(values) == 1 for values in of_option.values()):
                continue
        kept.append(name)
    return kept


def compare(runs: Sequence[Run], missing: Sequence[Missing], metric: str | None = None) -> Comparison:
    """Group the runs by settings and rank the groups by their mean.

    Args:
        metric: such as `val/accuracy`; None takes the runs' own `objective`.

    Raises:
        ComparisonError: no run is left, or none has this metric, or it is one of the test part.
    """
    if not runs:
        reasons = "; ".join(f"{m.folder.name}: {m.status}, {m.reason}" for m in missing[:5])
        raise ComparisonError(f"no run came to a score ({reasons})")
    metric = metric or _metric_of(runs[0])
    if metric.startswith("test/"):
        raise ComparisonError(f"metric={metric} would choose by the test part; rank by val/{metric[5:]}")
    scored = [run for run in runs if not math.isnan(run.score(metric))]
    if not scored:
        has = sorted({f"{part}/{name}" for run in runs for part, of in run.values["metrics"].items() for name in of})
        hint = "" if any(h.startswith("val/") for h in has) else " (train with a validation part: data.split or folds)"
        allowed = ", ".join(h for h in has if not h.startswith("test/"))
        raise ComparisonError(f"no run has the metric {metric}; they have {allowed}{hint}")
    varied = varied_settings(runs)
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in scored:
        groups.setdefault(tuple(run.settings.get(name) for name in varied), []).append(run)
    cells = [
        Cell(dict(zip(varied, key, strict=True)), members, [run.score(metric) for run in members])
        for key, members in groups.items()
    ]
    lost = [Missing(run.folder, "no score", f"it has no {metric}") for run in runs if math.isnan(run.score(metric))]
    pruned, others = ([run for run in missing if (run.status == "pruned") == which] for which in (True, False))
    made = Comparison(metric, varied, cells, [*others, *lost], pruned)
    made.cells.sort(key=lambda cell: cell.mean, reverse=not made.smaller_is_better)
    _tell_ties(made.cells)
    return made


def _metric_of(run: Run) -> str:
    """The first metric that a run names as its objective."""
    given = run.settings.get("objective", "val/accuracy")
    names = [named(str(name)) for name in (given if isinstance(given, tuple) else [given])]
    return next((name for name in names if "/" in name), "val/accuracy")


def _tell_ties(cells: list[Cell]) -> None:
    """Paired t-tests against the best over the repeats that both have, corrected by Holm (1979).

    Where the repeats are folds of one data set, their training parts overlap and the variance is widened as Nadeau
    and Bengio (2003) propose.
    """
    best = cells[0]
    tested = [(cell, p) for cell in cells[1:] if (p := paired_p(best, cell)) is not None]
    tested.sort(key=lambda pair: pair[1])
    running = 0.0
    for i, (cell, p) in enumerate(tested):
        running = max(running, min(1.0, p * (len(tested) - i)))
        cell.p, cell.tied = running, running > LEVEL


def paired_p(one: Cell, other: Cell) -> float | None:
    """Two-sided p-value of the paired t-test over shared repeats; None with fewer than two of them."""
    of_one = {run.repeat: score for run, score in zip(one.runs, one.scores, strict=True)}
    differences = [
        of_one[run.repeat] - score for run, score in zip(other.runs, other.scores, strict=True) if run.repeat in of_one
    ]
    n = len(differences)
    if n < 2:
        return None
    mean, spread = fmean(differences), stdev(differences)
    if spread < 1e-12:
        return 1.0 if abs(mean) < 1e-12 else 0.0
    folds = one.runs[0].settings.get("data.folds")
    several = len({run.settings.get("data.fold") for run in one.runs}) > 1
    overlap = 1 / (folds - 1) if folds and several else 0.0
    return two_sided(mean / (spread * math.sqrt(1 / n + overlap)), n - 1)


def shown(value: Any) -> str:
    """A setting's value as a person would type it."""
    if isinstance(value, tuple):
        return f"[{','.join(map(shown, value))}]"
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
