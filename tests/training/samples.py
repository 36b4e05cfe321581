"""Probabilities and targets to compute metrics of, and the metrics of one network."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from mlplab.training.metrics import compute


def sample(rows: int, n_classes: int, drawn: int, *, seed: int = 0, ties: bool = False) -> tuple[Tensor, Tensor]:
    """Random float64 probabilities, better than chance, and targets among the first ``drawn`` classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, drawn, (rows,), generator=generator)
    logits = torch.randn(rows, n_classes, generator=generator, dtype=torch.float64)
    logits += torch.nn.functional.one_hot(targets, n_classes)
    if ties:  # few distinct rows, and equal classes within some of them
        logits = logits.round()
    return logits.softmax(-1), targets


def single(probs: Tensor, targets: Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in compute(probs, targets).items()}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Probabilities with many ties, zeros and ones; targets in which classes are often absent."""
    n_classes = draw(st.integers(2, 5))
    rows = draw(st.integers(1, 25))
    weights = draw(
        st.lists(st.lists(st.integers(0, 4), min_size=n_classes, max_size=n_classes), min_size=rows, max_size=rows)
    )
    targets = draw(st.lists(st.integers(0, n_classes - 1), min_size=rows, max_size=rows))
    counts = torch.tensor(weights, dtype=torch.float64)
    counts[counts.sum(-1) == 0] = 1
    return counts / counts.sum(-1, keepdim=True), torch.tensor(targets)
