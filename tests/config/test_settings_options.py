"""Every option of conf/ is a setting and the other way round; each setting refuses what is not its type."""

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
