"""The layers and losses of a network written out in NumPy: what each computes, and its derivative by the chain rule.

A layer's `forward` keeps what its `backward` needs. `backward` takes delta, the derivative of the loss in the layer's
output, leaves the derivatives in its parameters in `gradients`, and returns the derivative in its input. For a network
that is all of backpropagation (Rumelhart, Hinton and Williams 1986): `backward` of each layer, last one first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z), without overflow for large |z|."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def log_softmax(z: Array) -> Array:
    """z - log sum_c e^z_c of each row, shape (rows, n_classes)."""
    shifted = z - z.max(-1, keepdims=True)  # the largest is 0: no exponential overflows
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


Pair = tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]


def activation(name: str, slope: float = 0.0, alpha: float = 1.0) -> Pair:
    """An activation f(z), and its derivative as a function of z and a = f(z).

    Args:
        slope: of leaky_relu, for z < 0. alpha: of elu.
    """
    table: dict[str, Pair] = {
        "sigmoid": (sigmoid, lambda z, a: a * (1 - a)),
        "tanh": (np.tanh, lambda z, a: 1 - a * a),
        "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0).astype(z.dtype)),
        "leaky_relu": (
            lambda z: np.where(z > 0, z, slope * z),
            lambda z, a: np.where(z > 0, 1, slope).astype(z.dtype),
        ),
        "elu": (
            lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
            lambda z, a: np.where(z > 0, 1, a + alpha).astype(z.dtype),
        ),
    }
    return table[name]


class Layer:
    """One step of the network, there and back."""

    def __init__(self) -> None:
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        """From (rows, n_in) to (rows, n_out)."""
        raise NotImplementedError

    def backward(self, delta: Array) -> Array:
        """From dL/d(output), (rows, n_out), to dL/d(input), (rows, n_in)."""
        raise NotImplementedError


class Dense(Layer):
    """z = x W' + b.

    dL/dW = delta' x, dL/db = the sum of delta over the rows, dL/dx = delta W.

    Args:
        weight: W, shape (n_out, n_in). bias: b, shape (n_out,), or None.
    """

    def __init__(self, weight: Array, bias: Array | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Array) -> Array:
        self.x = x
        z = x @ self.weight.T
        return z if self.bias is None else z + self.bias

    def backward(self, delta: Array) -> Array:
        self.gradients = [delta.T @ self.x] + ([] if self.bias is None else [delta.sum(0)])
        return delta @ self.weight


class Elementwise(Layer):
    """a = f(z); dL/dz = dL/da f'(z)."""

    def __init__(self, function: Pair) -> None:
        super().__init__()
        self.f, self.derivative = function

    def forward(self, x: Array) -> Array:
        self.z, self.a = x, self.f(x)
        return self.a

    def backward(self, delta: Array) -> Array:
        return delta * self.derivative(self.z, self.a)


class Mask(Layer):
    """Dropout: a times a mask of 0 and 1 / (1 - p), there and back."""

    def __init__(self, mask: Array) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Array) -> Array:
        return x * self.mask

    def backward(self, delta: Array) -> Array:
        return delta * self.mask


class Normalize(Layer):
    """y = gain (x - mean) / sqrt(variance + eps) + shift, with mean and variance along an axis.

    axis 0 is batch normalization (Ioffe and Szegedy 2015), axis 1 layer normalization (Ba et al. 2016). With n the
    normalized values and g = delta gain: dL/dx = (g - mean(g) - n mean(g n)) / sqrt(variance + eps).

    Args:
        moments: mean and variance to use as constants (batch normalization outside training); None computes them.
    """

    def __init__(
        self, gain: Array, shift: Array, eps: float, axis: int, moments: tuple[Array, Array] | None = None
    ) -> None:
        super().__init__()
        self.gain, self.shift, self.eps, self.axis, self.fixed = gain, shift, eps, axis, moments

    def forward(self, x: Array) -> Array:
        self.moments = self.fixed or (x.mean(self.axis, keepdims=True), x.var(self.axis, keepdims=True))
        self.spread = np.sqrt(self.moments[1] + self.eps)
        self.n = (x - self.moments[0]) / self.spread
        return self.gain * self.n + self.shift

    def backward(self, delta: Array) -> Array:
        self.gradients = [(delta * self.n).sum(0), delta.sum(0)]
        g = delta * self.gain
        if self.fixed is None:
            g = g - g.mean(self.axis, keepdims=True) - self.n * (g * self.n).mean(self.axis, keepdims=True)
        return g / self.spread


def row_losses(name: str, logits: Array, targets: Array, gamma: float = 0.0) -> Array:
    """Loss of each row, shape (rows,); the formulas of mlplab.training.losses.row_losses, in NumPy.

    Args:
        name: cross_entropy, bce (log-loss), mse or focal.
        logits: z, shape (rows, n_outputs). targets: probabilities t, shape (rows, n_classes).
        gamma: of focal.
    """
    if logits.shape[-1] == 1:
        z, t = logits[:, 0], targets[:, 1]
        if name == "mse":
            return (sigmoid(z) - t) ** 2
        return np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))  # -t log p - (1 - t) log(1 - p)
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    if name == "mse":
        return ((p - targets) ** 2).mean(-1)
    return -(targets * (1 - p) ** gamma * log_p).sum(-1) if name == "focal" else -(targets * log_p).sum(-1)


def output_delta(name: str, logits: Array, targets: Array, gamma: float = 0.0) -> Array:
    """Derivative of each row's loss in its logits, shape (rows, n_outputs): where backpropagation starts.

    One sigmoid output p: dp/dz = p (1 - p). Softmax: dp_i/dz_j = p_i ([i = j] - p_j), so that dL/dz = p (g - sum p g)
    with g = dL/dp.

    log-loss: dL/dp = (p - t) / (p (1 - p)), and times the sigmoid's derivative p (1 - p) that is p - t. One of the
    source articles takes dL/dp itself for the derivative in z: it omits the sigmoid's derivative, which makes the
    steps of unsure rows four times too long and those of surely wrong rows unbounded. Categorical cross-entropy
    comes to p - t in the same way, mean squared error keeps its factor: 2 (p - t) p (1 - p) for one output.
    """
    if logits.shape[-1] == 1:
        p, t = sigmoid(logits), targets[:, 1:]
        return 2 * (p - t) * p * (1 - p) if name == "mse" else p - t
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    if name == "mse":
        g = 2 * (p - targets) / p.shape[-1]
    elif name == "focal":  # g p, not g: p may be 0
        q = 1 - p
        slope = gamma * np.where(q > 0, q, 1) ** (gamma - 1) * (q > 0) if gamma else np.zeros_like(q)
        gp = -targets * (q**gamma - slope * p * log_p)
        return gp - p * gp.sum(-1, keepdims=True)
    else:
        return p * targets.sum(-1, keepdims=True) - targets
    return p * (g - (p * g).sum(-1, keepdims=True))
