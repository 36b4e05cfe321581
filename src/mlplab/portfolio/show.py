"""What a portfolio tried, what it chose and why: on the screen and as portfolio.csv."""

from __future__ import annotations

from pathlib import Path

from mlplab.portfolio.fit import Chosen
from mlplab.reports.tables import show_table, write_csv
from mlplab.runs import RunFolder

SHOWN = ("log_loss", "accuracy", "balanced_accuracy", "auroc")


def show_tried(chosen: Chosen) -> None:
    """Print the settings by rank, with their share in the answer."""
    rows = [[t.name, *(t.scores[name] for name in SHOWN), t.weight or None] for t in chosen.tried]
    title = f"settings by log-loss on rows that their networks had not seen ({chosen.folds} folds)"
    show_table(title, ["setting", *(name.replace("_", " ") for name in SHOWN), "weight"], rows)
    picked = [t for t in chosen.tried if t.weight]
    best, blend = chosen.tried[0], chosen.out_of_fold
    if len(picked) > 1:
        why = (
            f"a blend of {len(picked)} settings, {chosen.answering} networks: log-loss {blend['log_loss']:.4f} on rows "
            f"not seen, against {best.scores['log_loss']:.4f} of {best.name} alone"
        )
    else:
        why = f"{picked[0].name}, {chosen.answering} networks"
    cooled = "" if chosen.temperature is None else f"; logits divided by {chosen.temperature:.2f}"
    print(f"chosen: {why}{cooled}. No row was kept from training; the test rows took no part.")


def write_tried(chosen: Chosen, folder: Path) -> None:
    """Write portfolio.csv: a row a setting."""
    names = list(chosen.tried[0].scores)
    rows = [
        [t.name, t.weight, t.n_parameters, t.temperature, *(t.scores[name] for name in names)] for t in chosen.tried
    ]
    write_csv(RunFolder(folder).portfolio, ["setting", "weight", "n_parameters", "temperature", *names], rows)
