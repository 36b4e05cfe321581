"""From the settings of an optimizer to a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mlplab.config.base import SettingError
from mlplab.dotted import locate
from mlplab.training.adam import LeanAdam, LeanAdamW

Parameters = list[nn.Parameter]


def _muon(settings: Any, parameters: Parameters, fused: bool) -> Optimizer:
    matrices = [p for p in parameters if p.ndim == 2]
    others = [p for p in parameters if p.ndim != 2]
    muon = torch.optim.Muon(
        matrices,
        settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        ns_steps=settings.ns_steps,
    )
    if not others:
        return muon
    return Together(muon, torch.optim.AdamW(others, settings.adamw_lr, weight_decay=settings.weight_decay))


def _custom(settings: Any, parameters: Parameters, fused: bool) -> Optimizer:
    made = locate(settings.target, "optimizer.target")(parameters, lr=settings.lr, **settings.kwargs)
    if not isinstance(made, Optimizer):
        kind = type(made).__name__
        raise SettingError(f"optimizer.target={settings.target} must build a torch optimizer, not {kind}")
    return made


# fused: one kernel updates all parameters, the fastest on CPU and GPU alike
OPTIMIZERS: dict[str, Callable[[Any, Parameters, bool], Optimizer]] = {
    "sgd": lambda s, p, fused: torch.optim.SGD(p, s.lr, weight_decay=s.weight_decay, fused=fused),
    "momentum": lambda s, p, fused: torch.optim.SGD(p, s.lr, s.momentum, weight_decay=s.weight_decay, fused=fused),
    "nesterov": lambda s, p, fused: torch.optim.SGD(
        p, s.lr, s.momentum, weight_decay=s.weight_decay, nesterov=True, fused=fused
    ),
    "rmsprop": lambda s, p, fused: torch.optim.RMSprop(p, s.lr, s.alpha, s.eps, s.weight_decay, s.momentum, s.centered),
    "adagrad": lambda s, p, fused: torch.optim.Adagrad(p, s.lr, s.lr_decay, s.weight_decay, eps=s.eps),
    "adam": lambda s, p, fused: LeanAdam(p, s.lr, tuple(s.betas), s.eps, s.weight_decay, s.amsgrad, fused=fused),
    "adamw": lambda s, p, fused: LeanAdamW(p, s.lr, tuple(s.betas), s.eps, s.weight_decay, s.amsgrad, fused=fused),
    "nadam": lambda s, p, fused: torch.optim.NAdam(p, s.lr, tuple(s.betas), s.eps, s.weight_decay, s.momentum_decay),
    "radam": lambda s, p, fused: torch.optim.RAdam(p, s.lr, tuple(s.betas), s.eps, s.weight_decay),
    "lbfgs": lambda s, p, fused: torch.optim.LBFGS(
        p,
        s.lr,
        s.max_iter,
        history_size=s.history_size,
        line_search_fn=None if s.line_search == "none" else s.line_search,
    ),
    "muon": _muon,
    "custom": _custom,
}


def build(settings: Any, parameters: Iterable[nn.Parameter], fused: bool = True) -> Optimizer:
    """The optimizer that the settings of the group `optimizer` name, over the parameters that train."""
    chosen = [p for p in parameters if p.requires_grad]
    if settings.name == "muon" and not hasattr(torch.optim, "Muon"):
        raise SettingError(f"optimizer=muon needs a torch that has it; {torch.__version__} does not")
    return OPTIMIZERS[settings.name](settings, chosen, fused)


def restore(
    optimizer: Optimizer,
    parameters: Iterable[nn.Parameter],
    states: list[dict[str, Any]],
    groups: list[dict[str, Any]] | None,
) -> None:
    """Give an optimizer the state that a checkpoint kept.

    Args:
        states: of each parameter that trains, in the network's order, under torch's names.
        groups: settings of the parameter groups, where the optimizer changes them itself.
    """
    of_parameter = dict(zip((p for p in parameters if p.requires_grad), states, strict=True))
    ordered = [p for group in optimizer.param_groups for p in group["params"]]
    content = optimizer.state_dict()
    content["state"] = {i: of_parameter[p] for i, p in enumerate(ordered) if of_parameter[p]}
    for group, kept in zip(content["param_groups"], groups or (), strict=groups is not None):
        group.update(kept)
    optimizer.load_state_dict(content)
    for p in ordered:  # torch has given all but `step` the parameter's number format; NAdam's mu_product has its own
        for name, kept in of_parameter[p].items():
            held = optimizer.state[p].get(name)
            if isinstance(kept, Tensor) and isinstance(held, Tensor) and held.dtype != kept.dtype:
                optimizer.state[p][name] = kept.to(held.device, copy=True)


class Together(Optimizer):
    """Several optimizers, each with its own parameters, behaving as one."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            for parameter in (p for group in part.param_groups for p in group["params"]):
                if parameter in self.state:
                    part.state[parameter] = self.state[parameter]

    def step(self, closure: Any = None) -> Any:
        """One step of each; the loss is computed once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
            self.state.update(part.state)
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self._share()
