"""Random settings for the fuzz tests: command lines that are right, and command lines that are wrong somewhere.

Each is a function of one number: Hypothesis, drawing setting by setting, would vary a few command lines over and over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mlplab.compose import CONF
from mlplab.config import Config
from mlplab.config.augmentation import Augmentation
from mlplab.config.network import WRITTEN_OUT
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

# ---- what is right


def _bounds(metadata: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in metadata:
        for one in (item, *getattr(item, "metadata", ())):
            found |= {k: v for k in ("gt", "ge", "lt", "le") if (v := getattr(one, k, None)) is not None}
    return found


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
    bounds = _bounds(metadata)
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


def text(value: Any) -> str:
    """A value as one types it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(text, value)) + "]"
    return repr(value) if isinstance(value, float) else str(value)


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
_OWN = {  # what a custom option needs
    "model": ("model.target=models.own.Net",),
    "activation": ("activation.target=models.own.Swish", "+activation.kwargs.beta=1.5"),
    "optimizer": ("optimizer.target=training.own.SignDescent",),
}
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
        words.extend(_OWN.get(group, ()) if name == "custom" else ())
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


# ---- what is wrong

_ODD = "aZ09_-+*/\\|<>()[]{}$#@!?.,:;~^&%='\"\u00e4\u00df\u0416\u4e2d\u05d0\u202e\U0001f600 "
_NOT_A_NUMBER = ["fast", "nan", "inf", "-inf", "[]", "[1]", "{}", "{a:1}", "''", "'1'", "true", "null", "1e999", "0x10"]
_NOT_AN_INT = [*_NOT_A_NUMBER, "1.5", "1e-3", "-1.0"]
_NOT_A_BOOL = ["nan", "2", "0.5", "'true'", "[]", "[true]", "{a:1}", "maybe", "null"]
_NOT_A_LIST = ["{}", "{a:1}", "1.5", "true", "[[1]]", "[{}]", "[null]"]


def wrong(annotation: Any, metadata: Any = ()) -> list[str]:
    """Texts that are no values of a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return wrong(inner, [*metadata, *more])
    bounds = _bounds(metadata)
    if origin is Literal:
        numbers = [v for v in get_args(annotation) if isinstance(v, int)]
        return [v for v in ("nonsense", "7", "-1", "[]", "{}", "nan", "true", "null") if v not in map(str, numbers)]
    if origin in (Union, UnionType):
        parts = [set(wrong(part, metadata)) for part in get_args(annotation)]
        return sorted(set.intersection(*parts)) if parts else []
    if annotation is type(None):
        return [v for v in (*_NOT_AN_INT, *_NOT_A_BOOL, "nonsense", "7", "-1") if v != "null"]
    if annotation is bool:
        return _NOT_A_BOOL
    if annotation in (int, float):
        beyond = []
        if "gt" in bounds or "ge" in bounds:
            beyond += ["-1", "-1000000", "-1e300" if annotation is float else "-7"]
        beyond += ["0"] if "gt" in bounds else []
        if "lt" in bounds or "le" in bounds:
            beyond += [text(annotation(bounds.get("lt", bounds.get("le", 0)) + 1)), "1000000"]
        if bounds.get("lt") == 1:
            beyond.append("1")
        return [*(_NOT_AN_INT if annotation is int else _NOT_A_NUMBER), *beyond]
    if annotation is str:
        return ["[]", "{a:1}", "[a]"]
    if origin is list:
        return _NOT_A_LIST
    return []


def _settings() -> Iterator[tuple[list[str], str, FieldInfo]]:
    """Every setting of every option: (words that choose the option, path, field)."""
    needs = {"optimizer/lbfgs": ["data.batch_size=full"], "loss/bce": ["data=moons"], "data/table": ["data.path=x"]}
    needs |= {f"{group}/custom": list(words) for group, words in _OWN.items()}
    needs |= {"data/custom": ["data.target=data.own.animals"], "data/image_folder": ["data.root=x"]}
    for group, options in OPTIONS.items():
        for option in options:
            words = [f"{group}={option}", *needs.get(f"{group}/{option}", [])]
            if group == "augmentation" and option != "none":
                words.append("data=digits_images")
            for path, field in fields_of(group, option).items():
                yield [word for word in words if not word.startswith(f"{path}=")], path, field


_ALL = [(words, path, bad) for words, path, field in _settings() if (bad := wrong(field.annotation, field.metadata))]
_PATHS = sorted({path for _, path, _ in _ALL})
_NAMES = {*GROUPS, *Config.model_fields, *_PATHS}

CONTRADICTIONS = [
    ["model.hidden=[]"],
    ["model.hidden=[8,0]"],
    ["model.hidden=[8,8]", "model.depth=3"],
    ["data.split=[0.5]"],
    ["data.split=[0.5,0.6]"],
    ["data.split=[0.2,0.2,0.2,0.4]"],
    ["data.split=[1.0,0.0]"],
    ["data.split=null"],
    ["data.folds=5"],
    ["data.fold=2"],
    ["data.folds=3", "data.fold=3"],
    ["data.folds=1", "data.fold=0"],
    ["optimizer=lbfgs"],
    ["optimizer=lbfgs", "data.batch_size=full", "regularization=dropout"],
    ["loss=bce"],
    ["loss.class_weights=[1,2]"],
    ["loss.class_weights=[1,2,-3]"],
    ["regularization=[batch_norm,layer_norm]"],
    ["regularization=[l1,elastic_net]"],
    ["regularization=batch_norm", "data.batch_size=1"],
    ["model=linear", "regularization=dropout"],
    ["augmentation=flip"],
    ["model=numpy_mlp", "activation=gelu"],
    ["model=numpy_mlp", "trainer.compile=true"],
    ["accelerator=cpu", "accelerator.precision=16-mixed"],
    ["accelerator.devices=2"],
    ["trainer.show_first_step=true"],
    ["objective=test/accuracy"],
    ["objective=val/beauty"],
    ["data=synthetic", "data.informative=30"],
    ["data=synthetic", "data.classes=99"],
    ["data=xor", "data.samples=3"],
    ["data=custom"],
    ["data=table"],
    ["model=custom", "model.target=os.system"],
    ["experiment=nothing"],
    ["optimizer.betas=[0.9]"],
    ["optimizer.betas=[0.9,1.0]"],
    ["optimizer=sgd", "optimizer.momentum=0.9"],
    ["seed=1,2"],
    ["-m", "seed=range(3,1)"],
    ["-m", "model.hidden=8,-8"],
    ["-m", "optimizer=adam,adm"],
    ["-m", "optimizer.lr=0.1,fast"],
    ["-m", "model.hiden=1,2"],
    ["-m", "regularization=none,[dropout"],
    ["-m", "data.folds=3", "data.fold=0,1,2,3"],
]
GARBLED = [
    "=",
    "==",
    "a",
    "=1",
    "model",
    "model=",
    "model==mlp",
    "model=[mlp",
    "model=mlp]",
    "model={",
    "model.=3",
    ".model=3",
    "model..hidden=3",
    "optimizer.lr=1 2 3 =",
    "optimizer.lr='",
    'optimizer.lr="',
    "optimizer.lr=[1",
    "optimizer.lr=)",
    "optimizer.lr=${",
    "optimizer.lr=${nothing}",
    "optimizer.lr=${oc.env:NO_SUCH_VARIABLE}",
    "optimizer.lr=???",
    "optimizer.lr=${seed}x",
    "model.hidden=${model.hidden}",
    "+x=1",
    "++x=1",
    "+model.x=1",
    "++optimizer.lrr=1",
    "~model",
    "~nothing",
    "~model.hidden",
    "~optimizer",
    "~seed",
    "optimizer=",
    "optimizer=null",
    "optimizer=[adam,sgd]",
    "optimizer=3",
    "optimizer@x=adam",
    "data=..",
    "data=../nothing",
    "data=/etc/passwd",
    "seed=",
    "seed=null",
    "seed={}",
    "name=null",
    "on_error=never",
    "allow_targets=os",
    "hydra=1",
    "regularization=[dropout,nothing]",
    "regularization=dropout,l2",
    "model.hidden=1_0x",
    "model.hidden=0",
    "model.hidden=٣٤",
    "model.hidden=８x",
    "optimizer=ädam",
    "модель=mlp",
    "seed=\u202e1",
    "trainer.max_epochs=1e3",
    "trainer.max_epochs=99999999999999999999999999.5",
    "optimizer.lr=1e-999",
]


_BY_GROUP: dict[str, list[tuple[list[str], str, list[str]]]] = {}
for _words, _path, _bad in _ALL:
    if "data" not in {word.split("=")[0] for word in _words if not _path.startswith("data.")}:
        _BY_GROUP.setdefault(_path.split(".")[0], []).append((_words, _path, _bad))


def wrong_values(number: int) -> tuple[list[str], list[str]]:
    """A command line with wrong values in several groups: (words, the settings that are wrong)."""
    random = Random(number)
    groups = random.sample(sorted(_BY_GROUP), random.randint(1, 5))
    words, paths = [], []
    for group in groups:
        chosen, path, bad = random.choice(_BY_GROUP[group])
        # a dictionary is not merged into a value, and Hydra says so before anything else is looked at
        value = random.choice([text for text in bad if len(groups) == 1 or not text.startswith("{")])
        own = [*chosen, f"{path}={value}"]
        if {word.split("=")[0] for word in own} & {word.split("=")[0] for word in words}:
            continue  # what one group needs would hide what is wrong in another
        words += own
        paths.append(path)
    return words, paths


def wrong_words(number: int) -> list[str]:
    """A command line that is wrong in one place at least."""
    random = Random(number)

    def draw(what: Drawn) -> Any:
        return what(random)

    match draw(whole(5, 9)):
        case 5:
            path = draw(one_of(_PATHS))
            at = draw(whole(0, len(path)))
            name = path[:at] + draw(one_of("abcxyz_ß")) + path[at + draw(whole(0, 1)) :]
            plus = draw(one_of(["", "", "+", "++"]))
            return [f"{plus}{'x' if name in _NAMES else ''}{name}={draw(whole(0, 9))}"]
        case 6:
            group = draw(one_of(GROUPS))
            option = "".join(random.choices("abcdefg_", k=random.choice([1, 3, 7, 12, 5000])))
            return [f"{group}={'x' if option in OPTIONS[group] else ''}{option}"]
        case 7:
            return list(draw(one_of(CONTRADICTIONS)))
        case 8:
            return [draw(one_of(GARBLED))]
    path = draw(one_of([p for p in _PATHS if ".kwargs" not in p and "target" not in p]))
    words = next(words for words, of, _ in _ALL if of == path)
    odd = "".join(random.choices(_ODD, k=random.randint(1, 30)))
    value = random.choice([odd, odd, odd, "9" * 5000 + "x", "[" * 300, "{a:" * 60])
    return [*words, random.choice([f"{path}={{no: '{value}'}}", f"{path}=<{value}"])]
