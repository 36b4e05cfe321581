"""What TensorBoard shows of a run, during and after its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_core

from mlplab.reports.events import EventFile
from mlplab.reports.hparams import Row, final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SNAPSHOTS = 10
"""Histograms and decision boundaries are drawn at about so many epochs of a run, evenly spread."""

LAYOUT = {
    "curves": {
        "loss": ("Multiline", ["train/loss", "val/loss"]),
        "accuracy": ("Multiline", ["train/accuracy", "val/accuracy"]),
    }
}


class Board:
    """Writes one run's TensorBoard events; an observer of its training.

    Args:
        config: the run's settings as plain values.
        row: the settings that its row of the HPARAMS tab shows.
        objectives: what the run is searched or ranked by, such as `val/accuracy`.
        histograms: write weights and gradients, and the norm of each layer's gradient.
        boundary: draws the decision boundary as it stands, for two-feature data, or None.
        example: rows to trace the network's graph with, or None to leave the graph out.
        dead: the share of dead units of each layer of a network, as scalars, or None.
        epochs: epochs that a run that goes on has behind it, with their events in the folder.
        at_once: make the file now and not with the first flush.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        row: Row,
        objectives: Sequence[str],
        max_epochs: int,
        histograms: bool,
        boundary: Any = None,
        example: Any = None,
        dead: Any = None,
        epochs: int | None = None,
        at_once: bool = True,
    ) -> None:
        self.file = EventFile(folder, at_once=at_once)
        self.row, self.objectives = row, objectives
        self.histograms, self.boundary, self.example, self.dead = histograms, boundary, example, dead
        self.every = max(1, round(max_epochs / SNAPSHOTS))
        self.last_step = 0
        if epochs is not None:
            self.last_step = max(epochs - 1, 0)
            self.file.add_restart(epochs)
            return
        self.file.add_text("config", "```json\n" + pydantic_core.to_json(config, indent=2).decode() + "\n```", 0)
        self.file.add_custom_scalars_layout(LAYOUT)

    def on_batch(self, epoch: int, batch: int, n_batches: int) -> None:
        """Scalars are written once an epoch."""

    def on_epoch(self, row: Mapping[str, float], classifier: Any, wall_time: float | None = None) -> None:
        """Write the epoch's scores, and now and then histograms and the decision boundary."""
        epoch = int(row["epoch"])
        scalars = {name: v for name, v in row.items() if name not in ("epoch", "step", "seconds")}
        if self.histograms:
            scalars |= gradient_norms(classifier.network)
            scalars |= self.dead(classifier.network) if self.dead else {}
            if epoch % self.every == 0:
                self._histograms(classifier.network, epoch)
        self.file.add_scalars(scalars, epoch, wall_time)
        if self.boundary is not None and epoch % self.every == 0:
            self.file.add_figure("decision_boundary", self.boundary(classifier.network), epoch)
        self.last_step = epoch

    def _histograms(self, network: Any, epoch: int) -> None:
        for name, parameter in network.named_parameters():
            self.file.add_histogram(f"weights/{name}", parameter.detach(), epoch)
            if parameter.grad is not None:
                self.file.add_histogram(f"gradients/{name}", parameter.grad, epoch)

    def finish(self, metrics: Mapping[str, Mapping[str, float]], figures: Mapping[str, Figure], curves: Any) -> None:
        """Write the finished run's figures, precision-recall curves and its row of the HPARAMS tab.

        Args:
            metrics: part -> name -> value.
            figures: name -> picture.
            curves: (class names, targets (rows,), probabilities (rows, n_classes)) of the test part, or None.
        """
        for name, figure in figures.items():
            self.file.add_figure(name, figure, self.last_step)
        if curves is not None:
            class_names, targets, probs = curves
            for c in range(len(class_names))[:20]:
                self.file.add_pr_curve(f"precision_recall/{class_names[c]}", targets == c, probs[:, c], self.last_step)
        self.file.add_hparams(self.row, final(metrics, self.objectives))

    def position(self, flush: bool = True) -> dict[str, int]:
        """The bytes of the event file so far, by its name, after what is buffered was put on disk."""
        if flush:
            self.file.flush()
        return {self.file.path.name: self.file.end}

    def graph(self, network: Any) -> None:
        """Write the graph of a network on the CPU, if the run wants it; after the training, which it would delay."""
        if self.example is not None:
            self.file.add_graph(network, self.example)

    def close(self) -> None:
        """Put on disk what is buffered; `finish` may still follow."""
        self.file.flush()


def gradient_norms(network: Any) -> dict[str, float]:
    """Norm of the last batch's gradient of each weight matrix, by its parameter's name."""
    return {
        f"gradient_norm/{name}": float(parameter.grad.norm())
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.ndim >= 2
    }
