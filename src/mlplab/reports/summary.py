"""The short table that ends a run on the screen."""

from __future__ import annotations

from collections.abc import Mapping

from mlplab.reports.tables import read_csv, read_numbers, show_table
from mlplab.reports.verdict import judge
from mlplab.runs import Result, RunFolder

COLUMNS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "f1": "f1",
    "auroc": "auroc",
    "ece": "ece",
}
"""Metrics shown on the screen -> heading; result.json has all of them."""


def show(result: Result) -> None:
    """Print what a run came to: a row for each part, then where the record is."""
    from rich.console import Console

    values = result.values
    console = Console()
    if result.status != "completed":
        console.print(f"[bold red]{result.status}[/]: {values['failure']['message']}", highlight=False)
    paths = RunFolder(result.folder)
    if paths.first_step.is_file():
        try:
            numbers = read_csv(paths.first_step)
            rows = [(n["stage"], n["name"], n["formula"].removeprefix("'"), float(n["value"])) for n in numbers]
            show_table("The first step, by hand", ("stage", "name", "formula", "value"), rows, words=3)
        except (ValueError, KeyError, TypeError):
            print(f"{paths.first_step} is damaged and not shown")
    if result.metrics:
        metrics, counts = result.metrics, values["data"]["rows"]
        portfolio = "portfolio" in values
        if portfolio and "val" in metrics:  # every training row validated, by networks that had not seen it
            metrics = {"train": metrics["train"], "out of fold": metrics["val"], "test": metrics["test"]}
            counts = {**counts, "out of fold": counts["train"]}
        show_scores(_title(result), metrics, counts)
        losses = read_numbers(paths.metrics, "train/loss") if paths.metrics.is_file() else []
        if losses is None:
            print(f"{paths.metrics} is damaged: what it says of the course of the loss is left out")
        verdict = judge(result.metrics, values["data"]["rows"], len(values["data"]["classes"]), losses or [])
        if verdict and result.status == "completed" and not portfolio:
            console.print(str(verdict), highlight=False, markup=False)
    console.print(f"{_speed(result)}{result.folder}", highlight=False, soft_wrap=True)


def show_scores(title: str, metrics: Mapping[str, Mapping[str, float]], rows: Mapping[str, int]) -> None:
    """Print a table of scores: a row for each part."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    table.add_column("")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("rows", justify="right")
    for part, of_part in metrics.items():
        shown = (of_part.get(name) for name in COLUMNS)
        table.add_row(part, *("-" if v is None else f"{v:.4f}" for v in shown), str(rows.get(part, "")))
    Console().print(table)


def _title(result: Result) -> str:
    values = result.values
    best = f", best epoch {values['best_epoch'] + 1} of {values['epochs']}" if values.get("epochs") else ""
    return f"{values['name']}: {values['n_parameters']:,} parameters on {values['device']}{best}"


def _speed(result: Result) -> str:
    seconds = result.values.get("seconds", {})
    if "fit" not in seconds:
        return ""
    return f"trained in {seconds['fit']:.2f} s, {result.values['samples_per_second']:,.0f} rows/s -> "
