"""Turns what pydantic or Hydra say of a mistake into one short message with the nearest name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

MIXED = ("regularization.", "augmentation.")
"""Prefixes of the groups that take several options at once."""


LONGEST = 300
"""Characters of a given value, or of another's message, that a message repeats."""


def shortened(text: str) -> str:
    """A text as a message shows it: the middle of a very long one is left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


def nearest(word: str, names: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the name closest to `word`, or nothing."""
    hits = difflib.get_close_matches(word, list(names), 1, 0.6)
    return f" Did you mean '{hits[0]}'?" if hits else ""


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _options(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields.get("name")
    return tuple(v for v in get_args(field.annotation) if isinstance(v, str)) if field else ()


@cache
def settings(root: type[BaseModel]) -> dict[str, frozenset[str]]:
    """Path of every setting -> the options (`adam`, `wine` …) that have it; empty where it belongs to all."""
    found: dict[str, set[str]] = {}

    def walk(model: type[BaseModel], prefix: str, options: tuple[str, ...]) -> None:
        for name, field in model.model_fields.items():
            path = prefix + name
            found.setdefault(path, set()).update(options)
            for inner in _models(field.annotation):
                walk(inner, path + ".", _options(inner) or ((name,) if prefix in MIXED else ()))

    walk(root, "", ())
    return {path: frozenset(options) for path, options in found.items()}


def unknown(path: str, root: type[BaseModel], option: str | None = None) -> str:
    """What to say of a setting that the chosen options do not have.

    Args:
        path: the setting as given, such as `model.hiden`.
        root: the settings class of the whole config.
        option: the chosen option of its group, where known.
    """
    known = settings(root)
    group = path.split(".")[0]
    if known.get(path):
        owners = sorted(known[path])
        if f"{group}." in MIXED:
            return f"{path} belongs to {group}={owners[0]}, which is not chosen; add it to {group}=[...]."
        have = sorted(p for p, who in known.items() if p.startswith(group + ".") and (not who or option in who))
        own = f" {group}={option} has {', '.join(p.split('.', 1)[1] for p in have)}." if option and have else ""
        return f"{path} is a setting of {group}={', '.join(owners)}, not of the chosen {group}.{own}"
    usable = [p for p, who in known.items() if option is None or not who or option in who or p.split(".")[0] != group]
    leaf = [p for p in usable if p.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1]]
    hint = nearest(path, usable) or (f" Did you mean '{leaf[0]}'?" if leaf else "")
    return f"there is no setting '{path}'.{hint}"


def _allowed(error: Any) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than":
            return f"must be greater than {context['gt']:g}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than":
            return f"must be less than {context['lt']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "literal_error":
            return f"must be {context['expected']}"
        case "too_short":
            return f"must have at least {context['min_length']} item{'s' if context['min_length'] > 1 else ''}"
        case "too_long":
            return f"must have at most {context['max_length']} items"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "must be a number"
        case "bool_type":
            return "must be true or false"
        case "string_type":
            return "must be a text"
        case "list_type":
            return "must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a group of settings"
        case _:
            return str(error["msg"]).lower()


_TAG = re.compile(r"(function-\w+\[.*\]|constrained-.*|list\[.*\]|literal\[.*\]|int|float|str|bool)")


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """One line for each mistake that pydantic found, most telling first; alternatives of one setting in one line."""
    lines: dict[str, str] = {}
    allowed: dict[str, list[str]] = {}
    deferred: dict[str, str] = {}
    unions = {name for name, field in root.model_fields.items() if len(list(_models(field.annotation))) > 1}
    for mistake in error.errors():
        if mistake["type"] == "value_error":
            lines.setdefault(str(mistake["ctx"]["error"]), str(mistake["ctx"]["error"]))
            continue
        place = [str(part) for part in mistake["loc"]]
        option = place[1] if len(place) > 1 and place[0] in unions else None
        parts = [p for i, p in enumerate(place) if not (i == 1 and p == option) and not _TAG.fullmatch(p)]
        path = ".".join(parts)
        if mistake["type"] == "extra_forbidden":
            lines[path] = unknown(path, root, option)
        elif mistake["type"] == "missing":
            lines[path] = f"{path} is missing; every setting has its default in conf/."
        elif mistake["type"] == "union_tag_invalid":
            tags = [t.strip(" '") for t in mistake["ctx"]["expected_tags"].split(",")]
            given = shortened(str(mistake["ctx"]["tag"]))
            lines[path] = f"{path}={given} is not an option; {', '.join(sorted(tags))} are.{nearest(given, tags)}"
        elif mistake["type"] == "union_tag_not_found":
            lines[path] = f"{path} must be a group of settings with a name; choose an option, as in {path}=<option>."
        else:
            if isinstance(mistake["input"], list) and mistake["type"] in ("int_type", "literal_error"):
                deferred[path] = f"{path}={shortened(repr(mistake['input']))} is not allowed: it {_allowed(mistake)}."
                continue  # a list was meant: what is wrong inside it says more than that it is no number
            allowed.setdefault(path, []).append(_allowed(mistake))
            alternatives = " or ".join(dict.fromkeys(a.removeprefix("must be ") for a in allowed[path]))
            verb = "must be " if allowed[path][0].startswith("must be ") else ""
            lines[path] = f"{path}={shortened(repr(mistake['input']))} is not allowed: it {verb}{alternatives}."
    for path, line in deferred.items():
        if not any(other == path or other.startswith(path + ".") for other in lines):
            lines[path] = line
    return "\n".join(lines.values())
