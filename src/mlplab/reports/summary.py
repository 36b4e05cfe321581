"""The short table that ends a run on the screen."""

from __future__ import annotations

from mlplab.runs import Result

COLUMNS = ("loss", "accuracy", "balanced_accuracy", "f1", "auroc", "log_loss", "ece")


def show(result: Result) -> None:
    """Print what a run came to: a row for each part, then where the record is."""
    from rich.console import Console
    from rich.table import Table

    values = result.values
    console = Console()
    if result.status != "completed":
        console.print(f"[bold red]{result.status}[/]: {values['failure']['message']}", highlight=False)
    metrics = result.metrics
    if metrics:
        table = Table(title=_title(result), title_justify="left", title_style="bold", header_style="bold")
        table.add_column("")
        for name in COLUMNS:
            table.add_column(name.replace("_", " "), justify="right")
        table.add_column("rows", justify="right")
        for part, of_part in metrics.items():
            shown = (of_part.get(name) for name in COLUMNS)
            rows = values["data"]["rows"].get(part, "")
            table.add_row(part, *("-" if v is None else f"{v:.4f}" for v in shown), str(rows))
        console.print(table)
    console.print(f"{_speed(result)}{result.folder}", highlight=False, soft_wrap=True)


def _title(result: Result) -> str:
    values = result.values
    best = f", best epoch {values['best_epoch'] + 1} of {values['epochs']}" if values.get("epochs") else ""
    return f"{values['name']}: {values['n_parameters']:,} parameters on {values['device']}{best}"


def _speed(result: Result) -> str:
    seconds = result.values.get("seconds", {})
    if "fit" not in seconds:
        return ""
    return f"trained in {seconds['fit']:.2f} s, {result.values['samples_per_second']:,.0f} rows/s -> "
