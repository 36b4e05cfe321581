"""Random settings for the fuzz tests: command lines that are wrong somewhere, each a function of one number."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from random_draws import GROUPS, OPTIONS, OWN, Drawn, bounds_of, fields_of, one_of, text, whole

from mlplab.config import Config

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
    bounds = bounds_of(metadata)
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
    needs |= {f"{group}/custom": list(words) for group, words in OWN.items()}
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
