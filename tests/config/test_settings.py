"""Every option of conf/ is a setting and the other way round; mistakes get one short message."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from mlplab.compose import CONF, load_config
from mlplab.config import Config, SettingError, parse
from mlplab.config.augmentation import Augmentation
from mlplab.config.base import Settings
from mlplab.config.training import Regularization

GROUPS = [name for name in Config.model_fields if (CONF / name).is_dir()]
OPTIONS = [path for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
# what an option asks of the other groups
NEEDS = {
    "optimizer/lbfgs": ["data.batch_size=full"],
    "loss/bce": ["data=moons"],
    "model/custom": ["model.target=models.own.Net"],
    "activation/custom": ["activation.target=models.own.Swish", "+activation.kwargs.beta=1.5"],
    "optimizer/custom": ["optimizer.target=training.own.SignDescent"],
    "data/custom": ["data.target=data.own.animals"],
    "data/table": ["data.path=my.csv"],
    "data/image_folder": ["data.root=images"],
    **{f"augmentation/{name}": ["data=digits_images"] for name in Augmentation.model_fields},
}
# groups of which several options can be on at once: each option is a field
SETS: dict[str, type[BaseModel]] = {"regularization": Regularization, "augmentation": Augmentation}
# settings that are any text
TEXTS = ("data.root", "data.cache", "data.path", "data.test_path")


def option_id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@cache
def composed(path: Path) -> Config:
    return load_config(f"{path.parent.name}={path.stem}", *NEEDS.get(option_id(path), []))


def settings_classes(kind: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from settings_classes(sub)


def members(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in get_args(annotation) for m in members(part)]


def test_every_group_of_settings_is_a_folder_of_conf_and_the_other_way_round() -> None:
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra", "experiment", "compare"}
    assert folders == set(GROUPS)
    assert set(Config.model_fields) - folders == {"name", "seed", "objective", "on_error", "allow_targets"}


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in SETS])
def test_every_name_in_the_code_has_its_file(group: str) -> None:
    literals = [m.model_fields["name"].annotation for m in members(Config.model_fields[group].annotation)]
    names = [name for literal in literals for name in get_args(literal)]
    assert sorted(names) == sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("group", SETS)
def test_every_field_of_a_set_has_its_file(group: str) -> None:
    files = {path.stem for path in (CONF / group).glob("*.yaml")}
    assert files == {"none", *SETS[group].model_fields}


@pytest.mark.parametrize("path", OPTIONS, ids=option_id)
def test_every_option_composes_and_says_its_name(path: Path) -> None:
    chosen = getattr(composed(path), path.parent.name)
    if group := SETS.get(path.parent.name):
        on = {name for name in group.model_fields if getattr(chosen, name) is not None}
        assert on == {path.stem} - {"none"}
    else:
        assert chosen.name == path.stem


@pytest.mark.parametrize("path", OPTIONS, ids=option_id)
def test_an_option_file_holds_exactly_its_settings_and_repeats_no_shared_default(path: Path) -> None:
    own = yaml.safe_load(path.read_text()) or {}
    shared = yaml.safe_load((CONF / "train.yaml").read_text()).get(path.parent.name, {})
    repeated = [name for name in own.keys() & shared.keys() if own[name] == shared[name]]
    assert not repeated, "a default stands once; an option file may only give another"
    if group := SETS.get(path.parent.name):
        assert own.keys() == {path.stem} - {"none"}
        for name, values in own.items():
            (kind,) = members(group.model_fields[name].annotation)
            assert values.keys() == kind.model_fields.keys()
        return
    inherited: dict[str, Any] = {}
    for parent in own.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            inherited |= yaml.safe_load(path.with_name(f"{parent}.yaml").read_text())
    kinds = members(Config.model_fields[path.parent.name].annotation)
    (kind,) = [k for k in kinds if path.stem in get_args(k.model_fields["name"].annotation)]
    assert own.keys() | shared.keys() | inherited.keys() == kind.model_fields.keys()
    assert own["name"] == path.stem


def test_no_setting_has_a_default_in_the_code_but_absent_regularizations() -> None:
    classes = list(settings_classes())
    assert len(classes) > 40
    for kind in classes:
        for name, field in kind.model_fields.items():
            is_set = kind in SETS.values()
            assert field.is_required() != is_set, f"{kind.__name__}.{name}"
            assert not is_set or field.default is None


def test_every_setting_has_a_sentence() -> None:
    for kind in settings_classes():
        for name, field in kind.model_fields.items():
            own = members(field.annotation)
            told = field.description or (own and all(m.__doc__ for m in own)) or name == "name"
            assert told, f"{kind.__name__}.{name}"


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        elif name not in ("name", "target") and (value is not None or prefix[:-1].rpartition(".")[2] not in SETS):
            yield prefix + name


def replaced(values: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    return {**values, first: replaced(values[first], rest, value) if rest else value}


@pytest.mark.parametrize("path", OPTIONS, ids=option_id)
def test_every_setting_refuses_what_is_not_its_type_by_its_path(path: Path) -> None:
    values = composed(path).model_dump()
    group = path.parent.name
    for leaf in leaves({group: values[group]}):
        if ".kwargs" in leaf:
            continue
        for wrong in ({"a": 1}, *(() if leaf in TEXTS else ("nonsense",))):
            with pytest.raises(SettingError) as refused:
                parse(replaced(values, leaf, wrong))
            lines = str(refused.value).splitlines()
            assert len(lines) == 1
            assert lines[0].startswith(f"{leaf}="), lines[0]


@pytest.mark.parametrize("path", OPTIONS, ids=option_id)
def test_every_number_refuses_nan_and_infinity(path: Path) -> None:
    values = composed(path).model_dump()
    group = path.parent.name
    for leaf in leaves({group: values[group]}):
        if ".kwargs" in leaf:
            continue
        for wrong in (float("nan"), float("inf"), float("-inf")):
            with pytest.raises(SettingError, match=leaf.replace(".", r"\.")):
                parse(replaced(values, leaf, wrong))


@pytest.mark.parametrize("path", OPTIONS, ids=option_id)
def test_a_config_survives_being_saved(path: Path) -> None:
    config = composed(path)
    assert parse(yaml.safe_load(yaml.safe_dump(config.model_dump()))) == config


def test_a_config_is_frozen() -> None:
    config = load_config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.optimizer.lr = 1


def test_several_regularizations_at_once() -> None:
    chosen = load_config("regularization=[l2,dropout]", "regularization.dropout.p=0.4").regularization
    assert (chosen.l2.strength, chosen.dropout.p) == (0.0001, 0.4)


# (overrides, what the message must say); from issue 2's tried cases on
REFUSED = [
    # a misspelt group, option or key, with the nearest name
    (["optimiser=adam"], ["optimiser", "Did you mean 'optimizer'?"]),
    (["optimizer=adm"], ["optimizer=adm", "adamw", "Did you mean 'adam'?"]),
    (["data=whine"], ["data=whine", "Did you mean 'wine'?"]),
    (["regularization=[l2,dropuot]"], ["regularization=dropuot", "Did you mean 'dropout'?"]),
    (["model.hiden=64"], ["model.hiden", "Did you mean 'model.hidden'?"]),
    (["optimizer.lrr=0.1"], ["optimizer.lrr", "Did you mean 'optimizer.lr'?"]),
    (["+model.hiden=64"], ["model.hiden", "Did you mean 'model.hidden'?"]),
    (["sed=1"], ["sed", "Did you mean 'seed'?"]),
    (["lr=0.1"], ["lr", "Did you mean 'optimizer.lr'?"]),
    # a setting of another option
    (["optimizer=sgd", "optimizer.betas=[0.9,0.99]"], ["optimizer.betas", "adam"]),
    (["regularization.dropout.p=0.5"], ["regularization.dropout", "add it to regularization=[...]"]),
    # a wrong type
    (["optimizer.lr=fast"], ["optimizer.lr='fast'", "number"]),
    (["model.bias=3"], ["model.bias=3", "true or false"]),
    (["trainer.max_epochs=2.5"], ["trainer.max_epochs=2.5", "whole number"]),
    (["trainer.max_epochs=true"], ["trainer.max_epochs=True", "whole number"]),
    (["seed=one"], ["seed='one'", "whole number"]),
    (["model.hidden=[8,a]"], ["model.hidden", "whole number"]),
    (["data.batch_size=all"], ["data.batch_size='all'", "whole number", "'full'"]),
    # out of bounds
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "greater than 0"]),
    (["optimizer.lr=0"], ["optimizer.lr=0", "greater than 0"]),
    (["optimizer.lr=inf"], ["optimizer.lr=inf", "number"]),
    (["optimizer.betas=[0.9,1.0]"], ["optimizer.betas", "less than 1"]),
    (["optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "at least 2 items"]),
    (["regularization=dropout", "regularization.dropout.p=1.5"], ["regularization.dropout.p=1.5", "less than 1"]),
    (["model.hidden=[]"], ["model.hidden=[]", "at least 1 item"]),
    (["model.hidden=[8,0]"], ["model.hidden", "greater than 0"]),
    (["model.hidden=0"], ["model.hidden=0", "greater than 0"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0", "greater than 0"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["data.batch_size=0"], ["data.batch_size=0", "greater than 0"]),
    (["data.folds=1", "data.fold=0"], ["data.folds=1", "at least 2"]),
    (["data=synthetic", "data.label_noise=1.5"], ["data.label_noise=1.5", "at most 1"]),
    (["data.scaling=big"], ["data.scaling='big'", "'standard'", "'minmax'", "'none'"]),
    (["trainer.monitor=test/accuracy"], ["trainer.monitor='test/accuracy'", "'val/accuracy'"]),
    # contradictions, saying which to change
    (["data.folds=5", "data.fold=7"], ["data.fold=7", "data.folds=5", "4"]),
    (["data.fold=1"], ["data.fold=1", "data.folds"]),
    (["data.split=[0.6,0.2,0.3]"], ["data.split=[0.6, 0.2, 0.3]", "1.1"]),
    (["data.split=[0.5]"], ["data.split=[0.5]", "at least 2 items"]),
    (["optimizer=lbfgs"], ["optimizer=lbfgs", "data.batch_size=16", "data.batch_size=full"]),
    (["optimizer=lbfgs", "data.batch_size=full", "regularization=dropout"], ["lbfgs", "regularization=dropout"]),
    (["loss=bce"], ["loss=bce", "data=wine has 3", "loss=cross_entropy"]),
    (["loss=bce", "data=spirals"], ["loss=bce", "data=spirals has 3"]),
    (["loss.class_weights=[1,2]"], ["loss.class_weights has 2", "3 classes"]),
    (["loss.class_weights=[1,2,-1]"], ["loss.class_weights", "greater than 0"]),
    (["model.hidden=[8,8]", "model.depth=3"], ["model.hidden=[8, 8]", "model.depth=3"]),
    (["regularization=[batch_norm,layer_norm]"], ["batch_norm", "layer_norm", "choose one"]),
    (["regularization=[elastic_net,l2]"], ["elastic_net", "l2"]),
    (["regularization=batch_norm", "data.batch_size=1"], ["batch_norm", "data.batch_size=1", "layer_norm"]),
    (["model=linear", "regularization=dropout"], ["regularization=dropout", "model=linear", "model=mlp"]),
    (["model=linear", "regularization=max_norm"], ["regularization=max_norm", "model=linear"]),
    (["accelerator=cpu", "accelerator.precision=16-mixed"], ["16-mixed", "accelerator=cpu", "bf16-mixed"]),
    (["accelerator=cpu", "accelerator.devices=2"], ["accelerator=cpu", "accelerator.devices=2", "ddp_cpu"]),
    (["objective=test/accuracy"], ["objective=test/accuracy", "the test part never chooses"]),
    (["data=synthetic", "data.features=3"], ["data.informative=2", "data.redundant=2", "data.features=3"]),
    (["data=synthetic", "data.classes=5"], ["data.classes=5", "data.informative"]),
    (["data=xor", "data.samples=3"], ["data.samples=3", "four corners"]),
    (["data=digits_images", "embedding=periodic"], ["embedding=periodic", "data=digits_images", "embedding=none"]),
    (["model=numpy_mlp", "embedding=piecewise_linear"], ["embedding=piecewise_linear", "model=numpy_mlp", "model=mlp"]),
    (["model=custom", "model.target=models.own.Net", "embedding=periodic"], ["embedding=periodic", "model=custom"]),
    (["embedding=periodic", "embedding.bins=3"], ["embedding.bins", "piecewise_linear"]),
    (["embedding=periodic", "embedding.scale=0"], ["embedding.scale=0", "greater than 0"]),
    (["embedding=periodic", "embedding.frequencies=4096"], ["embedding.frequencies=4096", "1024"]),
    (["ensemble=packed", "model=linear"], ["ensemble=packed", "model=linear", "model=mlp"]),
    (["ensemble=packed", "model=numpy_mlp"], ["ensemble=packed", "model=numpy_mlp", "model=mlp"]),
    (["ensemble=packed", "regularization=batch_norm"], ["ensemble=packed", "batch_norm", "layer_norm"]),
    (["ensemble=packed", "ensemble.size=0"], ["ensemble.size=0", "at least 1"]),
    (["ensemble=pack"], ["ensemble=pack", "Did you mean 'packed'?"]),
    (["embedding=period"], ["embedding=period", "Did you mean 'periodic'?"]),
    # values that are not there yet, overrides that cannot be read
    (["model=custom"], ["model.target", "no value yet"]),
    (["data=custom"], ["data.target", "no value yet"]),
    (["model.hidden=[8"], ["model.hidden=[8"]),
]


@pytest.mark.parametrize(("overrides", "said"), REFUSED, ids=lambda value: " ".join(value))
def test_a_mistake_gets_one_short_message_that_says_what_to_change(overrides: list[str], said: list[str]) -> None:
    with pytest.raises(SettingError) as refused:
        load_config(*overrides)
    message = str(refused.value)
    assert all(text in message for text in said), message
    assert "\n" not in message
    assert len(message) < 300


def test_two_mistakes_get_two_lines() -> None:
    with pytest.raises(SettingError) as refused:
        load_config("optimizer.lr=-1", "model.hidden=0")
    assert [line.split("=")[0] for line in str(refused.value).splitlines()] == ["model.hidden", "optimizer.lr"]


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        (["data.batch_size=full"], "full"),
        (["data.batch_size=1"], 1),
        (["data.batch_size=32", "data.folds=5", "data.fold=4"], 32),
    ],
)
def test_what_lies_just_inside_the_bounds_is_taken(overrides: list[str], value: object) -> None:
    assert load_config(*overrides).data.batch_size == value


@pytest.mark.parametrize(
    ("overrides", "widths"),
    [
        (["model.hidden=64"], [64]),
        (["model.hidden=[256,128,100]"], [256, 128, 100]),
        (["model.hidden=8", "model.depth=3"], [8, 8, 8]),
    ],
)
def test_hidden_is_an_int_or_a_list(overrides: list[str], widths: list[int]) -> None:
    assert load_config(*overrides).model.widths == widths
