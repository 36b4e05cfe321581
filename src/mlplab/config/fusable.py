"""Which runs can train with others as one batched program."""

from __future__ import annotations

from typing import Any

FUSED = ("sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw")
"""Optimizers with a stacked form; the others need a state or a search that is one network's own."""


def alone_because(config: Any) -> str | None:
    """Why a run cannot be one of many networks in a batched program, or None where it can.

    Args:
        config: a `mlplab.config.Config`.
    """
    if config.model.name not in ("mlp", "linear"):
        return f"model={config.model.name} is not mlplab's own network"
    if config.activation.name == "custom":
        return "activation=custom has no stacked form"
    if config.optimizer.name not in FUSED:
        return f"optimizer={config.optimizer.name} has no stacked form; {', '.join(FUSED)} have"
    if config.accelerator.name in ("ddp", "ddp_cpu", "mps"):
        return f"accelerator={config.accelerator.name} spreads or places one network"
    if config.accelerator.precision in ("bf16-mixed", "16-mixed"):
        return f"accelerator.precision={config.accelerator.precision} is mixed"
    if config.accelerator.deterministic:
        return "accelerator.deterministic is a wish for one network's own kernels"
    if config.trainer.compile or config.trainer.detect_anomaly or config.trainer.show_first_step:
        return "trainer.compile, trainer.detect_anomaly and trainer.show_first_step look at one network"
    if getattr(config.logger, "in_sweeps", False):
        return "logger.in_sweeps=true draws one network while it trains"
    if config.ensemble.networks > 1:
        return "ensemble.size trains a batch of its own"
    if config.portfolio.name != "none":
        return f"portfolio={config.portfolio.name} trains a batch of its own"
    return None
