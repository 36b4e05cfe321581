"""A comparison in words: on the screen, as CSV, as Markdown, and as one HTML page that needs no network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlplab.reports.comparison import LEVEL, Cell, Comparison, shown
from mlplab.reports.found import Missing

SHOWN_ROWS = 20
"""Cells shown on the screen; the files have all."""


def header(comparison: Comparison) -> list[str]:
    """Columns of the ranked table."""
    metric, test = comparison.metric, comparison.test_metric
    return ["rank", *comparison.varied, metric, "sd", "n", "95% ±", "tie", test, "seconds", "parameters"]


def row(comparison: Comparison, rank: int, cell: Cell) -> list[object]:
    """One cell of the ranked table; floats in full, None where there is nothing to say."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    tie = "best" if rank == 1 else "?" if cell.p is None else f"tie, p={cell.p:.2g}" if cell.tied else f"p={cell.p:.2g}"
    return [
        rank,
        *(shown(value) for value in cell.choice.values()),
        cell.mean,
        known(cell.sd),
        len(cell.scores),
        known(cell.half_interval),
        tie,
        known(cell.mean_of(comparison.test_metric)),
        known(cell.seconds),
        cell.n_parameters,
    ]


def verdict(comparison: Comparison) -> str:
    """What can be said, in a few sentences."""
    best, rest = comparison.cells[0], comparison.cells[1:]
    said = [f"Best by {comparison.metric}: {best.name} ({best.mean:.4f}, n={len(best.scores)})."]
    ties = [cell for cell in rest if cell.tied]
    untested = [cell for cell in rest if cell.p is None]
    if ties:
        named = "; ".join(cell.name for cell in ties[:3])
        more = f" and {len(ties) - 3} more" if len(ties) > 3 else ""
        said.append(f"Not told apart from it: {named}{more} (paired t-test, Holm, p > {LEVEL}).")
    elif rest and not untested:
        said.append(f"All others are worse (paired t-test, Holm, p <= {LEVEL}).")
    if untested:
        said.append(
            f"{len(untested)} of {len(rest)} others share fewer than two seeds or folds with it, so nothing can be "
            "said of chance: repeat with seed=0,1,2,3,4."
        )
    if comparison.missing:
        kinds = [m.status for m in comparison.missing]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        said.append(f"Left out: {counts}.")
    if comparison.pruned:
        said.append(f"Stopped early by the search: {len(comparison.pruned)}.")
    return " ".join(said)


def markdown(comparison: Comparison, figures: Sequence[str]) -> str:
    """The whole comparison as Markdown, with the figures by their file names."""
    lines = [f"# {comparison.n_runs} runs by {comparison.metric}", "", verdict(comparison), ""]
    lines += _markdown_table(header(comparison), [row(comparison, i + 1, c) for i, c in enumerate(comparison.cells)])
    for title, runs in _apart(comparison):
        rows: list[list[object]] = [[str(m.folder), m.status, m.reason] for m in runs]
        lines += ["", f"## {title}", "", *_markdown_table(["run", "status", "reason"], rows)]
    lines += [line for name in figures for line in ("", f"![{name.replace('_', ' ')}](figures/{name}.png)")]
    return "\n".join(lines) + "\n"


def _apart(comparison: Comparison) -> list[tuple[str, list[Missing]]]:
    both = [("Left out", comparison.missing), ("Stopped early", comparison.pruned)]
    return [(title, runs) for title, runs in both if runs]


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return [line(head), line(["---"] * len(head)), *(line([_text(v) for v in r]) for r in rows)]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"
    return "" if value is None else str(value)


def page(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The whole comparison as one HTML page: tables that sort by a click, pictures inside.

    Args:
        pictures: name -> PNG.
    """
    rows = [row(comparison, i + 1, cell) for i, cell in enumerate(comparison.cells)]
    parts = [
        f"<h1>{comparison.n_runs} runs by {html.escape(comparison.metric)}</h1>",
        f"<p>{html.escape(verdict(comparison))}</p>",
        _html_table(header(comparison), rows),
    ]
    for name, data in pictures.items():
        source = base64.b64encode(data).decode()
        title = html.escape(name.replace("_", " "))
        parts.append(f'<figure><img alt="{title}" src="data:image/png;base64,{source}"><figcaption>{title}</figure>')
    for heading, apart in _apart(comparison):
        lost: list[list[object]] = [[str(m.folder), m.status, m.reason] for m in apart]
        parts += [f"<h2>{heading}</h2>", _html_table(["run", "status", "reason"], lost)]
    runs: list[list[object]] = [
        [str(run.folder), *(shown(v) for v in cell.choice.values()), *(shown(r) for r in run.repeat), score]
        for cell in comparison.cells
        for run, score in zip(cell.runs, cell.scores, strict=True)
    ]
    heads = ["run", *comparison.varied, "seed", "fold", "split seed", comparison.metric]
    parts += ["<h2>Every run</h2>", _html_table(heads, runs)]
    return _PAGE.format(title=html.escape(f"{comparison.n_runs} runs"), body="\n".join(parts))


def _html_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    titles = "".join(f'<th><button type="button">{html.escape(name)}</button></th>' for name in head)
    lines = []
    for values in rows:
        cells = "".join(
            f'<td{" class=n" if isinstance(v, int | float) else ""} data-v="{html.escape(str(v), quote=True)}">'
            f"{html.escape(_text(v))}</td>"
            for v in values
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<div class=wide><table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-size: 13px }}
td, th {{ padding: .25rem .6rem; border-bottom: 1px solid #e4e4e4; text-align: left; white-space: nowrap }}
.n {{ text-align: right; font-variant-numeric: tabular-nums }} tbody tr:hover {{ background: #f4f8fb }}
th button {{ all: unset; cursor: pointer; font-weight: 600 }} th button:focus-visible {{ outline: 2px solid #0072b2 }}
th[aria-sort=ascending] button::after {{ content: " \\2191" }}
th[aria-sort=descending] button::after {{ content: " \\2193" }}
figure {{ margin: 1.5rem 0 }} img {{ max-width: 100% }} figcaption {{ color: #777; font-size: 13px }}
</style></head><body>
{body}
<script>
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {{
  const th = button.parentElement, table = th.closest("table"), column = th.cellIndex;
  const up = th.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => row.cells[column].dataset.v, body = table.tBodies[0];
  const order = (a, b) => {{
    const x = value(a), y = value(b), both = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
    return (both ? x - y : x.localeCompare(y)) * (up ? 1 : -1);
  }};
  body.append(...[...body.rows].sort(order));
}});
</script></body></html>
"""


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write comparison.csv, comparison.md, figures/ and report.html; returns what was written."""
    from mlplab.reports.comparison_figures import all_figures
    from mlplab.reports.figures import png
    from mlplab.reports.tables import write_csv
    from mlplab.runs import write_atomic

    pictures = {name: png(figure) for name, figure in all_figures(comparison).items()}
    table = [row(comparison, i + 1, cell) for i, cell in enumerate(comparison.cells)]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "comparison.csv", header(comparison), table)
    write_atomic(folder / "comparison.md", markdown(comparison, list(pictures)).encode())
    for name, data in pictures.items():
        write_atomic(folder / "figures" / f"{name}.png", data)
    write_atomic(folder / "report.html", page(comparison, pictures).encode())
    return [folder / "comparison.csv", folder / "comparison.md", folder / "figures", folder / "report.html"]
