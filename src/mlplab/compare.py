"""From many runs to an answer: rank them, train the winner again, average the best."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mlplab.config.base import SettingError
from mlplab.config.tools import Compare
from mlplab.reports import comparison_page as page
from mlplab.reports.comparison import Cell, Comparison, compare, shown
from mlplab.reports.found import REPEATS, ComparisonError, Run, find
from mlplab.reports.tables import show_table

TRAIN = Path(__file__).resolve().parents[1] / "train.py"


def answer(chosen: Compare) -> None:
    """Print the ranked table, write the files, and do what else was asked for.

    Raises:
        SettingError: there are no runs, or not with this metric.
    """
    places = [Path(place) for place in ([chosen.runs] if isinstance(chosen.runs, str) else chosen.runs)]
    try:
        found = compare(*find(places), chosen.metric)
    except ComparisonError as error:
        raise SettingError(str(error)) from None
    show(found)
    for path in page.write(found, Path(chosen.out) if chosen.out else places[0] / "comparison"):
        print(f"-> {path}")
    if chosen.best or chosen.retrain:
        print(f"the winner again: {shlex.join(['python', 'src/train.py', *winner(found.cells[0])])}")
    if chosen.ensemble:
        show_ensemble(found, chosen.ensemble, chosen.allow_targets)
    if chosen.retrain:
        retrain(found, chosen.retrain, places[0] / "retrained")


def show(comparison: Comparison) -> None:
    """Print the ranked table, what it says, and what was left out."""
    leaves = [name.rpartition(".")[2] for name in comparison.varied]
    names = [leaf if leaves.count(leaf) == 1 else name for leaf, name in zip(leaves, comparison.varied, strict=True)]
    head = ["#", *names, comparison.metric, "± 95%", "n", "p", comparison.test_metric.replace("/", " "), "s", "params"]
    rows = [_line(comparison, i + 1, cell) for i, cell in enumerate(comparison.cells[: page.SHOWN_ROWS])]
    show_table(f"{comparison.n_runs} runs by {comparison.metric}", head, rows, words=0)
    if len(comparison.cells) > page.SHOWN_ROWS:
        print(f"... and {len(comparison.cells) - page.SHOWN_ROWS} more in comparison.csv")
    print(page.verdict(comparison), flush=True)  # the pictures take longer than the table
    for lost in comparison.missing[: page.SHOWN_ROWS]:
        print(f"left out: {lost.folder}: {lost.status}: {lost.reason}")


def _line(comparison: Comparison, rank: int, cell: Cell) -> list[object]:
    half, test, seconds = cell.half_interval, cell.mean_of(comparison.test_metric), cell.seconds
    told = "best" if rank == 1 else "-" if cell.p is None else f"{cell.p:.2g}{' tie' if cell.tied else ''}"
    return [
        rank,
        *(shown(value) for value in cell.choice.values()),
        f"{cell.mean:.4f}",
        "-" if math.isnan(half) else f"{half:.4f}",
        len(cell.scores),
        told,
        "-" if math.isnan(test) else f"{test:.4f}",
        f"{seconds:.2g}",
        cell.n_parameters,
    ]


def winner(cell: Cell) -> list[str]:
    """The overrides that its runs were started with, without those that tell repeats apart.

    Raises:
        SettingError: the run's .hydra/overrides.yaml is lost or damaged.
    """
    import yaml

    path = cell.runs[0].folder / ".hydra" / "overrides.yaml"
    try:
        overrides = yaml.safe_load(path.read_text()) or []
        if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
            raise ValueError("it is no list of settings")
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else str(error).splitlines()[0]
        raise SettingError(
            f"{path} tells how the winner was trained and is damaged ({why}); its settings are in result.json too"
        ) from None
    return [text for text in overrides if text.partition("=")[0].lstrip("+") not in (*REPEATS, "data.folds")]


def retrain(comparison: Comparison, n_seeds: int, folder: Path) -> None:
    """Train the winner with several seeds as one sweep, and show what it comes to.

    Raises:
        SettingError: the folder is in use, or the training failed.
    """
    if folder.exists():
        raise SettingError(f"{folder} exists already: an earlier retrain=...; move it away or compare runs={folder}")
    line = [sys.executable, str(TRAIN), "-m", *winner(comparison.cells[0]), f"seed=range({n_seeds})"]
    done = subprocess.run([*line, f'hydra.sweep.dir="{folder}"'], check=False)
    if done.returncode:
        raise SettingError(f"training the winner again ended with status {done.returncode}; see above")
    again = compare(*find([folder]), comparison.metric if _has(folder, comparison.metric) else None)
    cell = again.cells[0]
    test = cell.mean_of(again.test_metric), cell.sd_of(again.test_metric)
    print(
        f"{n_seeds} seeds: {again.metric} {cell.mean:.4f} ± {cell.sd:.4f} (sd), "
        f"{again.test_metric} {test[0]:.4f} ± {test[1]:.4f} (sd) -> {folder}"
    )


def _has(folder: Path, metric: str) -> bool:
    return any(run.score(metric) == run.score(metric) for run in find([folder])[0])


def best_runs(comparison: Comparison, n: int) -> list[Run]:
    """The n best single runs.

    Raises:
        SettingError: there are fewer.
    """
    scored = [pair for cell in comparison.cells for pair in zip(cell.scores, cell.runs, strict=True)]
    if n > len(scored):
        raise SettingError(f"ensemble={n} is more than the {len(scored)} runs that have {comparison.metric}")
    scored.sort(key=lambda pair: pair[0], reverse=not comparison.smaller_is_better)
    return [run for _, run in scored[:n]]


def show_ensemble(comparison: Comparison, n: int, allow_targets: Sequence[str]) -> None:
    """Print the scores of the average of the n best runs' probabilities, beside those of the best one."""
    chosen = best_runs(comparison, n)
    scores = ensemble([run.folder for run in chosen], allow_targets)
    name = comparison.metric.partition("/")[2]
    rows = [
        (part, of_part.get(name), chosen[0].score(f"{part}/{name}"), of_part["accuracy"], of_part["log_loss"])
        for part, of_part in scores.items()
    ]
    head = ["part", f"{name} of {n}", f"{name} of the best", "accuracy", "log_loss"]
    show_table(f"average of the {n} best runs' probabilities", head, rows)


def ensemble(folders: list[Path], allow_targets: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Scores of the mean of several runs' probabilities, on the parts whose rows are the same in all of them.

    Raises:
        SettingError: no part is the same: they were trained on different data or folds.
    """
    import torch

    from mlplab.evaluate import load
    from mlplab.training.evaluation import score
    from mlplab.training.metrics import compute

    loaded = [load(folder, allow_targets) for folder in folders]
    first = loaded[0].prepared
    found = {}
    for name, part in first.parts.items():
        same = all(
            len(other.prepared.parts[name]) == len(part)
            and (other.prepared.parts[name].rows == part.rows).all()
            and torch.equal(other.prepared.parts[name].y, part.y)
            for other in loaded
        )
        if not same or not len(part):
            continue
        scores = [score(one.network, one.prepared.parts[name], one.config, first.n_classes, None) for one in loaded]
        mean = torch.stack([one.probs.double() for one in scores]).mean(0)
        found[name] = {metric: float(value) for metric, value in compute(mean, part.y).items()}
    if not found:
        raise SettingError("the best runs share no rows to be scored on: they are of different data, folds or splits")
    return found
