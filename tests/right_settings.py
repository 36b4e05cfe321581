"""Random settings for the fuzz tests: command lines that are right.

Each is a function of one number: Hypothesis, drawing setting by setting, would vary a few command lines over and over.
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from random_draws import OPTIONS, OWN, YES_OR_NO, Drawn, bounds_of, fields_of, one_of, some_of, spread, text, whole

from mlplab.config.augmentation import Augmentation
from mlplab.config.network import WRITTEN_OUT
from mlplab.config.training import Regularization


def right(annotation: Any, metadata: Any = ()) -> Drawn | None:
    """Values of a type, moderate ones; None where this does not know the type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return right(inner, [*metadata, *more])
    if origin is Literal:
        return one_of(get_args(annotation))
    if origin in (Union, UnionType):
        parts = [s for part in get_args(annotation) if (s := right(part, metadata)) is not None]
        return (lambda random: random.choice(parts)(random)) if parts else None
    if annotation is type(None):
        return one_of([None])
    if annotation is bool:
        return YES_OR_NO
    bounds = bounds_of(metadata)
    low = bounds.get("gt", bounds.get("ge", -1e3))
    high = bounds.get("lt", bounds.get("le", math.inf))
    if annotation is int:
        least = int(low) + ("gt" in bounds)
        return whole(least, least + 6)
    if annotation is float:
        top = min(high, 3.0) - (0.001 if "lt" in bounds and high <= 3 else 0)
        far = [1e4, 1e-12] if high == math.inf and low <= 0 else []  # now and then, to see it diverge
        edges = [v for v, strict in ((low, "gt" in bounds), (high, "lt" in bounds)) if not strict and abs(v) <= 10]
        inside = spread(max(low, 1e-6), top) if max(low, 1e-6) < top else one_of([top])
        edges += far
        return lambda random: random.choice(edges) if edges and random.random() < 0.2 else inside(random)
    return None


_TINY_DATA = {  # data -> settings that keep it tiny
    "wine": (),
    "iris": (),
    "breast_cancer": (),
    "digits": ("trainer.max_batches=3",),
    "digits_images": ("trainer.max_batches=2",),
    "moons": ("data.samples=60",),
    "circles": ("data.samples=60",),
    "spirals": ("data.samples=90",),
    "xor": ("data.samples=60",),
    "synthetic": ("data.samples=120", "data.features=6"),
    "table": (),
    "image_folder": (),
    "custom": ("data.target=data.own.animals",),
}
_TWO = ("moons", "circles", "xor", "breast_cancer", "synthetic")
_IMAGES = ("digits_images", "image_folder")


_LEFT = {  # settings that are drawn by hand, or that cost too much
    *("optimizer.target", "optimizer.kwargs", "optimizer.max_iter", "optimizer.ns_steps", "model.hidden"),
    *("model.depth", "accelerator.devices", "accelerator.nodes"),
}


def right_words(number: int, home: Path) -> list[str]:
    """A command line that asks for a tiny training of two epochs: every group by chance, some settings too.

    Args:
        home: holds `rows.csv` and `images`.
    """
    words: list[str] = []
    random = Random(number)

    def draw(what: Drawn) -> Any:
        return what(random)

    def choose(group: str, options: list[str] | None = None, chance: float = 0.5) -> str:
        name = str(draw(one_of(options or OPTIONS[group])))
        words.append(f"{group}={name}")
        words.extend(OWN.get(group, ()) if name == "custom" else ())
        some(group, name, chance)
        return name

    def some(group: str, name: str, chance: float = 0.5) -> None:
        for path, field in fields_of(group, name).items():
            strategy = right(field.annotation, field.metadata)
            if strategy is not None and path not in _LEFT and random.random() < chance:
                words.append(f"{path}={text(draw(strategy))}")

    data = draw(one_of(sorted(_TINY_DATA)))
    words += [f"data={data}", *_TINY_DATA[data]]
    words += {"table": [f"data.path={home / 'rows.csv'}"], "image_folder": [f"data.root={home / 'images'}"]}.get(
        data, []
    )
    if data == "image_folder":
        words += ["data.size=[8,8]", f"data.color={draw(one_of(['grey', 'rgb']))}"]
    if data in _IMAGES:
        words += ["data.workers=0", f"data.scaling={draw(one_of(['standard', 'minmax', 'none']))}"]
    else:
        scalings = ["standard", "minmax", "robust", "quantile", "none"]
        words.append(f"data.scaling={draw(one_of(scalings))}")
    encoded = data == "table" and draw(YES_OR_NO)
    if encoded:
        words += ["data.encode=embedding", f"data.embedding_width={draw(whole(1, 4))}"]
    words.append(f"data.split_seed={draw(whole(0, 2**31))}")
    words.append(f"seed={draw(whole(0, 2**31))}")
    how = draw(one_of(["three", "two", "folds"]))
    words += {"three": [], "two": ["data.split=[0.7,0.3]"], "folds": ["data.folds=3", "data.fold=1"]}[how]
    words.append(f"data.stratified={text(draw(YES_OR_NO))}")

    own = ["mlp", "mlp", "mlp", "linear", *([] if encoded else ["numpy_mlp"])]
    own += ["custom"] if data not in _IMAGES and not encoded else []  # Net wants rows
    model = choose("model", own, 0.3)
    if data not in _IMAGES and model in ("mlp", "linear") and draw(YES_OR_NO):
        choose("embedding", None, 0.8)
    if how != "two":
        choose("calibration")
    packed = model == "mlp" and draw(whole(0, 5)) == 0
    if packed or draw(whole(0, 7)) == 0:
        words += [f"ensemble={'packed' if packed else 'independent'}", f"ensemble.size={draw(whole(1, 3))}"]
    if model in ("mlp", "numpy_mlp"):
        hidden = draw(one_of([draw(whole(1, 12)), [draw(whole(1, 9)) for _ in range(draw(whole(1, 3)))]]))
        words.append(f"model.hidden={text(hidden)}")
        if isinstance(hidden, int) and draw(YES_OR_NO):
            words.append(f"model.depth={draw(whole(1, 3))}")
    choose("activation", list(WRITTEN_OUT) if model == "numpy_mlp" else None)
    choose("initialization")
    loss = choose("loss", None if data in _TWO else [o for o in OPTIONS["loss"] if o != "bce"], 0)
    if draw(YES_OR_NO):
        words.append(f"loss.class_weights={draw(one_of(['none', 'balanced']))}")
    del loss
    optimizer = choose("optimizer", None, 0.4)
    lbfgs = optimizer == "lbfgs"
    words.append("data.batch_size=" + text("full" if lbfgs else draw(one_of([2, 7, 16, 1000, "full"]))))
    if lbfgs:
        words.append("optimizer.max_iter=3")
    choose("scheduler", None, 0.5)
    shaping = {"dropout", "batch_norm", "layer_norm", *(["max_norm"] if model == "linear" else [])}
    allowed = set(Regularization.model_fields)
    allowed -= shaping if model in ("linear", "custom") else set()
    allowed -= {"input_noise", "mixup"} if encoded else set()
    allowed -= {"batch_norm"} if packed else set()
    allowed -= {"dropout", "input_noise", "mixup", "weight_decay", "gradient_clipping"} if lbfgs else set()
    chosen = draw(some_of(sorted(allowed), 4))
    if "elastic_net" in chosen:
        chosen = [name for name in chosen if name not in ("l1", "l2")]
    if "batch_norm" in chosen:
        chosen = [name for name in chosen if name != "layer_norm"]
    if how == "two":
        chosen = [name for name in chosen if name != "early_stopping"]
    words.append(f"regularization=[{','.join(chosen or ['none'])}]")
    for name in chosen:
        some("regularization", name)
    if data in _IMAGES and not lbfgs:
        chosen = draw(some_of(list(Augmentation.model_fields), 3))
        words.append(f"augmentation=[{','.join(chosen or ['none'])}]")
        for name in chosen:
            some("augmentation", name)
    choose("accelerator", ["cpu", "auto"], 0)
    formats = ["auto", 32, 64] if model == "numpy_mlp" else ["auto", 32, 64, "bf16-mixed"]
    words.append(f"accelerator.precision={draw(one_of(formats))}")
    words.append(f"accelerator.deterministic={text(draw(YES_OR_NO))}")
    logger = choose("logger", ["csv", "csv", "csv", "none", "tensorboard"], 0)
    if logger == "tensorboard":
        words += [f"logger.{n}={text(draw(YES_OR_NO))}" for n in ("histograms", "graph", "images", "in_sweeps")]
        words.append(f"logger.figures={text(draw(whole(0, 4)) == 0)}")  # the dearest of all
    choose("trainer", None, 0)
    monitors = ["loss", "accuracy", "balanced_accuracy", "f1", "auroc", "log_loss"]
    words.append(f"trainer.monitor=val/{draw(one_of(monitors))}")
    words.append(f"trainer.checkpoint_seconds={draw(one_of([0, 5.0]))}")
    words.append(f"trainer.overfit={text(draw(whole(0, 5)) == 0)}")
    words.append("trainer.detect_anomaly=false")  # it ends a run that diverges with an error, as it is meant to
    words.append(f"objective={draw(one_of(['val', 'train']))}/{draw(one_of(monitors))}")
    return words
