"""An optimizer of one's own, for `optimizer=custom`."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SignDescent(torch.optim.Optimizer):
    """w - lr * (sign of the gradient) - lr * shrink * w."""

    def __init__(self, params: Iterable[Tensor], lr: float, shrink: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "shrink": shrink})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                w.copy_(w - group["lr"] * (w.grad.sign() + group["shrink"] * w))
        return loss


def no_optimizer(params: Iterable[Tensor], lr: float) -> float:
    return lr
