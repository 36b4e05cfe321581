"""The multilayer perceptron, and the linear classifier as one without hidden layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mlplab import randomness
from mlplab.config.training import Regularization
from mlplab.models.layers import Clock, Dropout, activation


class Linear(nn.Linear):
    """nn.Linear without weights of its own drawing: mlplab.models.initialization draws them."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class MLP(nn.Module):
    """Fully connected layers, each but the last followed by normalization, activation and dropout as asked.

    Args:
        n_features: columns of the input.
        widths: units of each hidden layer; an empty list gives a linear model.
        n_outputs: logits of the output.
        act: settings of the activation.
        regularization: its dropout, batch_norm and layer_norm shape the network.
        seed: addresses the dropout masks.
        embeddings: the first layers, of numbers and of categories; each knows its `n_out`.
        hidden, output: build a layer's weights, from (n_in, n_out, bias).
    """

    def __init__(
        self,
        n_features: int,
        widths: list[int],
        n_outputs: int,
        bias: bool,
        act: object,
        regularization: Regularization,
        seed: int,
        embeddings: Sequence[Any] = (),
        hidden: Callable[[int, int, bool], nn.Module] = Linear,
        output: Callable[[int, int, bool], nn.Module] = Linear,
    ) -> None:
        super().__init__()
        self.clock = Clock()
        layers: list[nn.Module] = [*embeddings]
        n_in = embeddings[-1].n_out if embeddings else n_features
        for i, width in enumerate(widths):
            # batch normalization takes any bias away again: its gradient would be nothing but rounding
            layers.append(hidden(n_in, width, bias and not regularization.batch_norm))
            if norm := regularization.batch_norm:
                layers.append(nn.BatchNorm1d(width, norm.eps, norm.momentum))
            if layer_norm := regularization.layer_norm:
                layers.append(nn.LayerNorm(width, layer_norm.eps))
            layers.append(activation(act))
            if dropout := regularization.dropout:
                layers.append(Dropout(dropout.p, randomness.key(seed, "dropout", i), self.clock))
            n_in = width
        layers.append(output(n_in, n_outputs, bias))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, n_features), or images of as many pixels, to logits (batch, n_outputs)."""
        return self.layers(x.flatten(1))
