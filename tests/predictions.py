"""What predict writes of a run, and what evaluate has of the same rows."""

from pathlib import Path
from typing import Any

import torch

from mlplab.config.tools import Predict
from mlplab.evaluate import load
from mlplab.predict import predict
from mlplab.reports.tables import read_csv
from mlplab.training.evaluation import score

FAST = ("accelerator=cpu", "logger=none", "trainer.max_epochs=3")


def told(run: Path, given: Path, output: Path, **settings: Any) -> list[dict[str, str]]:
    values = {"allow_targets": [], "keep": "auto", "overwrite": False, "on_bad_file": "error", **settings}
    predict(Predict(run=str(run), input=str(given), output=str(output), **values))
    return read_csv(output)


def probs(rows: list[dict[str, str]]) -> torch.Tensor:
    names = [name for name in rows[0] if name.startswith("p(")]
    return torch.tensor([[float(row[name]) for name in names] for row in rows], dtype=torch.float64).float()


def kept_by_evaluate(folder: Path) -> torch.Tensor:
    """Probabilities of every row of the training file, part by part as evaluate takes them."""
    loaded = load(folder)
    n = sum(len(part) for part in loaded.prepared.parts.values())
    kept = torch.empty(n, loaded.prepared.n_classes)
    for part in loaded.prepared.parts.values():
        scores = score(loaded.network, part, loaded.config, loaded.prepared.n_classes, None)
        kept[torch.from_numpy(part.rows)] = scores.probs.float()
    return kept
