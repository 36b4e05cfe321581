"""`data=table`: a file of a person's own, from columns of text to the raw matrix, and what was understood of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mlplab.config.base import SettingError
from mlplab.config.messages import nearest
from mlplab.config.tables import TableFile
from mlplab.data import memory
from mlplab.data.schema import Column, Schema, not_this_kind


@dataclass
class FileTable:
    """A table file whose columns are recognised, before any split."""

    settings: TableFile
    names: list[str]
    """Columns of the file."""
    target: str
    y: np.ndarray
    """Class of each row, int64 of shape (rows,); those of the test file come last."""
    class_names: list[str]
    n_test: int | None
    """Rows of the test file, None where there is none."""
    found: dict[str, Any]
    """Column -> what it was recognised as, without the columns that are dropped."""
    test: Any
    """The test file's columns, or None."""
    dropped: dict[str, str]
    """Column -> why it is not used."""
    notes: list[str] = field(default_factory=list)
    """What a person should know."""

    def fit(self, train: np.ndarray) -> tuple[Schema, np.ndarray]:
        """The schema that the training rows give, and the raw matrix of all rows.

        Args:
            train: numbers of the training rows.

        Raises:
            SettingError: no column is left, or the test file's do not fit.
        """
        columns: list[Column] = []
        for name, one in self.found.items():
            if one.text is not None:
                vocabulary = _vocabulary(one.text, train)
                if len(vocabulary) < 2:
                    self.dropped[name] = "constant in the training rows"
                    continue
                columns.append(Column(name, "category", vocabulary))
                continue
            values = one.values[train].reshape(len(train), -1)
            gone = np.isnan(values[:, 0])
            if gone.all():
                self.dropped[name] = "missing in all training rows"
            elif (values[~gone] == values[~gone][0]).all() and not gone.any():
                self.dropped[name] = "constant in the training rows"
            else:
                columns.append(Column(name, one.kind, form=one.form))
        if not columns:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(self.dropped.items())[:5])
            raise SettingError(f"{self.settings.path} has no column left to learn from ({why})")
        s = self.settings
        columns.sort(key=lambda column: column.vocabulary is not None)
        schema = Schema(columns, self.target, list(self.dropped), s.missing, s.header, s.separator)
        raw = np.empty((len(self.y), len(schema.raw_names)))
        n = len(self.y) - (self.n_test or 0)
        at = 0
        for column in schema.columns:
            one = self.found.pop(column.name)
            width = len(column.raw_names)
            values = one.values if one.text is None else _codes(one.text, column.vocabulary or [])
            raw[:n, at : at + width] = values.reshape(n, width)
            at += width
        if self.test is not None:
            try:
                raw[n:] = schema.encode(self.test)
            except SettingError as error:
                raise SettingError(f"{s.test_path}: {error}") from None
        return schema, raw


def read(settings: TableFile) -> FileTable:
    """Read the file and the test file, if there is one, and recognise what the columns hold.

    Raises:
        SettingError: a file cannot be read, a column that the settings name is not there, a label is missing, a number
            is none.
    """
    from mlplab.data.kinds import recognise

    names, table = _read(settings, settings.path)
    target = _column(settings.target, names, "data.target")
    drop = [_column(name, names, "data.drop") for name in settings.drop]
    forced = [] if settings.categorical == "auto" else settings.categorical
    as_category = [_column(name, names, "data.categorical") for name in forced]
    for option, chosen in (("data.drop", drop), ("data.categorical", as_category)):
        if target in chosen:
            raise SettingError(f"{option} names '{target}', which is data.target; leave it out of one of them")
    labels = _labels(table, target, settings, settings.path)
    class_names = _classes(labels, settings)
    test = n_test = None
    if settings.test_path is not None:
        test, test_labels = _test_file(settings, names, target, class_names)
        labels, n_test = [*labels, *test_labels], len(test_labels)
    place = {name: i for i, name in enumerate(class_names)}
    y = np.fromiter((place[label] for label in labels), np.int64, len(labels))
    made = FileTable(settings, names, target, y, class_names, n_test, {}, test, dict.fromkeys(drop, "data.drop"))
    wrong: list[str] = []
    for name in names:
        if name == target or name in made.dropped:
            continue
        column = table.column(name)
        know = partial(recognise, column, settings.missing, name in as_category, settings.max_categories)
        one = _recognised(settings.path, name, know)
        table = table.drop_columns([name])  # its text makes room for its numbers
        if one.wrong is not None:
            wrong.append(not_this_kind(name, "number", one.wrong))
        elif one.kind == "empty":
            made.dropped[name] = "empty"
        elif one.kind == "identifier":
            made.dropped[name] = f"text with {len(one.text.dictionary)} different values: an identifier"
            made.notes.append(
                f"column '{name}' is left out: {len(one.text.dictionary)} different texts in {len(column)} rows look "
                f"like an identifier; data.categorical=[{name}] keeps it"
            )
        else:
            made.found[name] = one
    if wrong:
        lines = "\n".join(f"{settings.path}: {line}" for line in wrong[:20])
        name = wrong[0].split("'")[1]
        raise SettingError(
            f"{lines}\nput the value right, name it in data.missing, or use data.categorical=[{name}] or "
            f"data.drop=[{name}]"
        )
    return made


def _read(settings: TableFile, path: str) -> tuple[list[str], Any]:
    from mlplab.data.reading import Form, TableReader

    reader = TableReader(Path(path), Form(settings.header, settings.separator))
    memory.check(reader.memory_needed(), path, "give fewer rows or columns")
    return reader.names, reader.read()


def _recognised(path: str, name: str, make: Any) -> Any:
    import pyarrow as pa

    try:
        return make()
    except (pa.ArrowException, NotImplementedError) as error:
        what = str(error).splitlines()[0][:150]
        raise SettingError(f"{path}: column '{name}' holds neither numbers nor text nor dates ({what})") from None


def _column(given: str | int, names: Sequence[str], setting: str) -> str:
    """Name of a column given by name or position."""
    if isinstance(given, str):
        if given in names:
            return given
        raise SettingError(f"{setting}={given} is no column; the file has {_some(names)}.{nearest(given, names)}")
    if -len(names) <= given < len(names):
        return names[given]
    if str(given) in names:
        return str(given)
    raise SettingError(
        f"{setting}={given} is no column; the {len(names)} columns are counted from 0, or -1 from the end"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _labels(table: Any, target: str, settings: TableFile, path: str) -> list[str]:
    from mlplab.data.kinds import texts

    column = table.column(target)
    text = _recognised(path, target, lambda: texts(column, settings.missing))
    if text.null_count:
        row = int(np.asarray(text.is_null()).argmax()) + 1
        more = f" and {text.null_count - 1} more rows have none" if text.null_count > 1 else ""
        raise SettingError(
            f"{path}: row {row} has no label in column '{target}'{more}; a row without a label cannot be learned from: "
            "take it out of the file"
        )
    distinct = text.dictionary_encode()
    known = dict(settings.label_map)
    words = [_whole(known.get(label, label)) for label in distinct.dictionary.to_pylist()]
    return [words[i] for i in distinct.indices.to_pylist()]


def _whole(label: str) -> str:
    """1.0 is the class 1."""
    return label.split(".")[0] if re.fullmatch(r"[-+]?\d+\.0*", label) else label


def _classes(labels: list[str], settings: TableFile) -> list[str]:
    distinct = sorted(set(labels))
    if len(distinct) < 2:
        raise SettingError(
            f"{settings.path}: all rows have the class '{distinct[0]}' in data.target={settings.target}; two classes "
            "are the least to tell apart"
        )
    values = [_number(label) for label in distinct]
    given = [value for value in values if value is not None]
    if len(given) < len(values):
        return distinct
    fraction = next((label for label, value in zip(distinct, given, strict=True) if value != int(value)), None)
    if fraction is not None:
        raise SettingError(
            f"{settings.path}: data.target={settings.target} holds numbers with fractions, such as {fraction}, and "
            "classes are names or whole numbers; choose another column, or name them with data.label_map"
        )
    order = np.argsort(given, kind="stable")
    return [distinct[i] for i in order]


def _number(label: str) -> float | None:
    try:
        value = float(label)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _test_file(settings: TableFile, names: list[str], target: str, classes: list[str]) -> tuple[Any, list[str]]:
    assert settings.test_path is not None
    test_names, table = _read(settings, settings.test_path)
    lacking, extra = [n for n in names if n not in test_names], [n for n in test_names if n not in names]
    if lacking or extra:
        told = [f"lacks {_some(lacking)}"] * bool(lacking) + [f"has {_some(extra)} too much"] * bool(extra)
        raise SettingError(f"{settings.test_path} {' and '.join(told)}; its columns must be those of {settings.path}")
    labels = _labels(table, target, settings, settings.test_path)
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        pairs = {u: c for u in unknown for c in classes if u.rstrip(".") == c.rstrip(".")}
        listed = ",".join(f'["{u}","{c}"]' for u, c in pairs.items())
        hint = f"'data.label_map=[{listed}]' makes them one" if pairs else f"the classes are {_some(classes)}"
        raise SettingError(
            f"{settings.test_path} has labels that {settings.path} has not: {_some([repr(u) for u in unknown])}; {hint}"
        )
    return table, labels


def _vocabulary(text: Any, train: np.ndarray) -> list[str | None]:
    import pyarrow.compute as pc

    indices = pc.fill_null(text.indices, -1).to_numpy(zero_copy_only=False)[train]
    words: list[str] = text.dictionary.to_pylist()
    present = np.unique(indices)
    known: list[str | None] = sorted(words[i] for i in present if i >= 0)
    return [*known, None] if len(present) and present[0] == -1 else known


def _codes(text: Any, vocabulary: Sequence[str | None]) -> np.ndarray:
    import pyarrow.compute as pc

    place = {value: i + 1.0 for i, value in enumerate(vocabulary)}
    codes = np.array([place.get(value, 0.0) for value in (*text.dictionary.to_pylist(), None)])
    return codes[pc.fill_null(text.indices, len(codes) - 1).to_numpy(zero_copy_only=False)]
