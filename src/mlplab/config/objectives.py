"""What a search looks at: a metric of a part of the data, or what the network costs."""

from __future__ import annotations

METRICS = ("loss", "accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc", "log_loss", "ece")
COSTS = ("parameters", "seconds")
SMALLER_IS_BETTER = ("loss", "log_loss", "ece")


def listed(objective: str | list[str]) -> list[str]:
    """One or several objectives as a list."""
    return [objective] if isinstance(objective, str) else list(objective)


def named(objective: str) -> str:
    """`val/accuracy` of `-val/accuracy`."""
    return objective.removeprefix("-")


def minimised(objective: str) -> bool:
    """Whether small values are good: those of losses and costs, and what has a minus in front."""
    return objective.startswith("-") or objective.rpartition("/")[2] in (*SMALLER_IS_BETTER, *COSTS)


def check(objectives: list[str]) -> None:
    """Raise ValueError if one of them is no objective, or one is named twice."""
    for objective in objectives:
        part, _, metric = named(objective).partition("/")
        if named(objective) not in COSTS and (part not in ("train", "val") or metric not in METRICS):
            raise ValueError(
                f"objective={objective} is not allowed: it must be val/ or train/ and one of {', '.join(METRICS)}, or "
                f"{' or '.join(COSTS)}, with a minus in front if less is better; the test part never chooses"
            )
    names = [named(objective) for objective in objectives]
    if len(set(names)) < len(names):
        raise ValueError(f"objective=[{','.join(objectives)}] names something twice; name each once")
