"""Optimizer updates of many networks at once: torch's formulas, elementwise on one flat buffer.

A hyperparameter is a float where all networks share it, otherwise a flat tensor with its value at each element.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlplab.fused.stack import Stack

Value = float | Tensor


class Update:
    """The update of one kind of optimizer.

    Args:
        settings: of each network's optimizer, all of one kind.
    """

    def __init__(self, stack: Stack, settings: list[Any]) -> None:
        self.stack, self.settings = stack, settings
        self.kind: str = settings[0].name
        self.steps = 0
        self.state: dict[str, Tensor] = {name: torch.zeros_like(stack.values) for name in self._names()}
        self.scratch = torch.empty_like(stack.values)
        self._spread()

    def _names(self) -> tuple[str, ...]:
        first = self.settings[0]
        match self.kind:
            case "momentum" | "nesterov":
                return ("momentum",)
            case "rmsprop":
                momentum = ("momentum",) if any(s.momentum for s in self.settings) else ()
                return ("square", *momentum, *(("mean",) if first.centered else ()))
            case "adagrad":
                return ("sum",)
            case "adam" | "adamw":
                return ("mean", "square", *(("largest",) if first.amsgrad else ()))
        return ()

    def _spread(self) -> None:
        """Lay each network's hyperparameters out over the flat buffer."""
        first = self.settings[0]
        self.hyper: dict[str, Value] = {}
        for name in ("lr", "weight_decay", "momentum", "alpha", "eps", "lr_decay"):
            if hasattr(first, name):
                self.hyper[name] = self.value([getattr(s, name) for s in self.settings])
        if hasattr(first, "betas"):
            self.hyper["beta1"] = self.value([s.betas[0] for s in self.settings])
            self.hyper["beta2"] = self.value([s.betas[1] for s in self.settings])

    def value(self, of_network: list[float]) -> Value:
        """One float where all are alike, otherwise each network's number at all its elements."""
        if all(v == of_network[0] for v in of_network):
            return float(of_network[0])
        return spread(self.stack, of_network)

    def step(self, rate: Value) -> None:
        """One step with the gradients in `stack.grads` (overwritten).

        Args:
            rate: the learning rate now, schedule included.
        """
        self.steps += 1
        values, grads, h = self.stack.values, self.stack.grads, self.hyper
        decay = h["weight_decay"]
        if self.kind == "adamw":
            if _used(decay):
                values.mul_(1 - rate * decay)
        elif _used(decay):
            _add_product(grads, values, decay)
        match self.kind:
            case "sgd":
                _add_product(values, grads, _negative(rate))
            case "momentum" | "nesterov":
                buffer = self.state["momentum"]
                buffer.mul_(h["momentum"]).add_(grads)
                if self.kind == "nesterov":
                    grads = _add_product(grads, buffer, h["momentum"])
                    _add_product(values, grads, _negative(rate))
                else:
                    _add_product(values, buffer, _negative(rate))
            case "rmsprop":
                self._rmsprop(grads, rate)
            case "adagrad":
                self.state["sum"].addcmul_(grads, grads)
                rate = rate / (1 + (self.steps - 1) * h["lr_decay"])
                _add_ratio(values, grads, self.state["sum"].sqrt().add_(h["eps"]), _negative(rate))
            case "adam" | "adamw":
                self._adam(grads, rate)

    def _rmsprop(self, grads: Tensor, rate: Value) -> None:
        h, square = self.hyper, self.state["square"]
        _decay_to(square, h["alpha"], grads, grads)
        spread_out = square
        if "mean" in self.state:
            mean = self.state["mean"]
            _lerp(mean, grads, 1 - h["alpha"])
            spread_out = torch.addcmul(square, mean, mean, value=-1)
        root = spread_out.sqrt().add_(h["eps"])
        if "momentum" in self.state:
            buffer = self.state["momentum"]
            buffer.mul_(h["momentum"]).addcdiv_(grads, root)
            _add_product(self.stack.values, buffer, _negative(rate))
        else:
            _add_ratio(self.stack.values, grads, root, _negative(rate))

    def _adam(self, grads: Tensor, rate: Value) -> None:
        """torch's own one-pass kernel where the networks share betas and eps, else the formula step by step.

        A rate for each network is beyond the kernel, so it is given the rate 1 and a zero for the weights: what it
        leaves there is the update of rate 1.
        """
        h, mean, square = self.hyper, self.state["mean"], self.state["square"]
        beta1, beta2, eps = h["beta1"], h["beta2"], h["eps"]
        if isinstance(beta1, Tensor) or isinstance(beta2, Tensor) or isinstance(eps, Tensor):
            self._adam_of_each(grads, rate)
            return
        values, lr = (self.scratch.zero_(), 1.0) if isinstance(rate, Tensor) else (self.stack.values, float(rate))
        largest = [self.state["largest"]] if "largest" in self.state else []
        steps = [torch.tensor(float(self.steps), device=values.device)]
        torch._fused_adam_(
            [values], [grads], [mean], [square], largest, steps,
            lr=lr, beta1=beta1, beta2=beta2, weight_decay=0.0, eps=eps, amsgrad=bool(largest), maximize=False,
        )  # fmt: skip
        if isinstance(rate, Tensor):
            self.stack.values.addcmul_(values, rate)

    def _adam_of_each(self, grads: Tensor, rate: Value) -> None:
        h, mean, square = self.hyper, self.state["mean"], self.state["square"]
        beta1, beta2 = h["beta1"], h["beta2"]
        _lerp(mean, grads, 1 - beta1)
        _decay_to(square, beta2, grads, grads)
        if "largest" in self.state:
            square = torch.maximum(self.state["largest"], square, out=self.state["largest"])
        root_correction = (1 - beta2**self.steps) ** 0.5
        size = _negative(rate) / (1 - beta1**self.steps)
        root = torch.sqrt(square, out=self.scratch).div_(root_correction).add_(h["eps"])
        _add_ratio(self.stack.values, mean, root, size)

    def compact(self, keep: list[int], state: list[Tensor]) -> None:
        """Leave only some networks; `state` is what Stack.compact made of the state's buffers."""
        self.settings = [self.settings[m] for m in keep]
        self.state = dict(zip(self.state, state, strict=True))
        self.scratch = torch.empty_like(self.stack.values)
        self._spread()


def column(stack: Stack, of_network: list[float]) -> Tensor:
    """Each network's number, (networks,)."""
    return torch.tensor(of_network, dtype=torch.float64).to(stack.device, stack.dtype)


def spread(stack: Stack, of_network: list[float]) -> Tensor:
    """A flat tensor with each network's number at all its elements."""
    numbers = column(stack, of_network)
    parts = [numbers.view(-1, *[1] * len(p.shape)).expand(stack.n, *p.shape).reshape(-1) for p in stack.parameters]
    return torch.cat(parts)


def _used(value: Value) -> bool:
    return isinstance(value, Tensor) or value != 0


def _negative(value: Value) -> Value:
    return -value


def _add_product(to: Tensor, a: Tensor, factor: Value) -> Tensor:
    return to.addcmul_(a, factor) if isinstance(factor, Tensor) else to.add_(a, alpha=factor)


def _add_ratio(to: Tensor, a: Tensor, b: Tensor, factor: Value) -> Tensor:
    return to.addcdiv_(a * factor, b) if isinstance(factor, Tensor) else to.addcdiv_(a, b, value=factor)


def _lerp(to: Tensor, end: Tensor, share: Value) -> Tensor:
    return to.lerp_(end, share)


def _decay_to(to: Tensor, kept: Value, a: Tensor, b: Tensor) -> Tensor:
    """kept * to + (1 - kept) a b."""
    if isinstance(kept, Tensor):
        return to.mul_(kept).addcmul_(a * (1 - kept), b)
    return to.mul_(kept).addcmul_(a, b, value=1 - kept)
