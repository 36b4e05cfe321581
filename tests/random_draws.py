"""What random settings are drawn from: the options of each group, their settings, and values by chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlplab.compose import CONF
from mlplab.config import Config
from mlplab.config.augmentation import Augmentation
from mlplab.config.training import Regularization

SETS: dict[str, type[BaseModel]] = {"regularization": Regularization, "augmentation": Augmentation}
GROUPS = [name for name in Config.model_fields if (CONF / name).is_dir()]
OPTIONS = {group: sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in GROUPS}


def models(annotation: Any) -> list[type[BaseModel]]:
    """Settings classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in models(part)]


def fields_of(group: str, option: str) -> dict[str, FieldInfo]:
    """Settings of an option: path -> field."""
    if group in SETS:
        if option == "none":
            return {}
        (kind,) = models(SETS[group].model_fields[option].annotation)
        return {f"{group}.{option}.{name}": field for name, field in kind.model_fields.items()}
    kinds = models(Config.model_fields[group].annotation)
    (kind,) = [k for k in kinds if option in get_args(k.model_fields["name"].annotation)]
    return {f"{group}.{name}": field for name, field in kind.model_fields.items() if name != "name"}


Drawn = Callable[[Random], Any]
"""A value of some kind, drawn."""


def one_of(values: Sequence[Any]) -> Drawn:
    return lambda random: random.choice(values)


def whole(low: int, high: int) -> Drawn:
    return lambda random: random.randint(low, high)


def spread(low: float, high: float) -> Drawn:
    """Evenly over the powers of ten."""
    return lambda random: min(high, max(low, math.exp(random.uniform(math.log(low), math.log(high)))))


def some_of(values: Sequence[Any], most: int) -> Drawn:
    return lambda random: random.sample(values, random.randint(0, min(most, len(values))))


YES_OR_NO = one_of([True, False])


def bounds_of(metadata: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in metadata:
        for one in (item, *getattr(item, "metadata", ())):
            found |= {k: v for k in ("gt", "ge", "lt", "le") if (v := getattr(one, k, None)) is not None}
    return found


def text(value: Any) -> str:
    """A value as one types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(text, value)) + "]"
    return repr(value) if isinstance(value, float) else str(value)


OWN = {  # what a custom option needs
    "model": ("model.target=models.own.Net",),
    "activation": ("activation.target=models.own.Swish", "+activation.kwargs.beta=1.5"),
    "optimizer": ("optimizer.target=training.own.SignDescent",),
}
