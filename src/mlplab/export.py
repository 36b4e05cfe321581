"""One file from raw features to probabilities: ONNX or torch.export's archive, checked against the checkpoint."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlplab.config import SettingError
from mlplab.config.tools import Export
from mlplab.data.images import shape_of
from mlplab.data.schema import Column
from mlplab.evaluate import load
from mlplab.restore import Restored
from mlplab.runs import RunFolder, versions, write_atomic
from mlplab.training.metrics import probabilities

Answer = Callable[[Tensor], Tensor]
"""From raw rows to probabilities, (rows, n_classes)."""


@dataclass(frozen=True)
class Exported:
    """What an export came to."""

    file: Path
    about: Path
    """JSON that names the inputs, their columns and the classes."""
    rows: int
    """Rows that were compared."""
    difference: float
    """Largest difference of a probability from the checkpoint's."""
    note: str
    """What else must be known of the numbers, or nothing."""


class Served(nn.Module):
    """Preprocessing, network and softmax as one module, the network in float32.

    onnxruntime has few activations in float64, and on a processor nothing in bfloat16.
    """

    def __init__(self, run: Restored) -> None:
        super().__init__()
        self.preprocess = copy.deepcopy(run.preprocess)
        self.network = copy.deepcopy(run.network).float()

    def forward(self, raw: Tensor) -> Tensor:
        """Raw rows to probabilities, (rows, n_classes), float32."""
        return probabilities(self.network(self.preprocess(raw).float()))


def export(chosen: Export) -> Exported:
    """Write the file and its JSON, or neither.

    Raises:
        SettingError: the run cannot be read or exported, a file is in the way, or the probabilities differ.
    """
    file = Path(chosen.output) if chosen.output else RunFolder(Path(chosen.run)).path / f"model.{chosen.format}"
    about = Path(f"{file}.json")
    _check_files(file, about, chosen)
    loaded = load(Path(chosen.run), chosen.allow_targets)
    run, raw = loaded.restored, loaded.raw("train")[: chosen.check_rows]
    described = describe_input(run)
    served = Served(run).eval()
    try:
        content, answer = WRITERS[chosen.format](served, raw, described["name"])
    except Exception as error:  # whatever torch cannot trace in a person's own module
        why = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {why[0][:200] if why else ''}"
        raise SettingError(f"run={chosen.run} cannot be exported as {chosen.format}: {reason}") from None
    difference, note = compare(run, served, answer, raw)
    if not difference <= chosen.tolerance:
        raise SettingError(
            f"run={chosen.run}: the {chosen.format} file gives probabilities that differ from the checkpoint's by "
            f"{difference:.1e}, more than tolerance={chosen.tolerance:g}; nothing is written"
        )
    values = {
        "format": chosen.format,
        "run": run.config.name,
        "input": described,
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["rows", len(run.class_names)]},
        "classes": run.class_names,
        "checked": {"rows": len(raw), "difference": difference},
        "fingerprint": run.fingerprint,
        "versions": versions(),
    }
    write_atomic(file, content)
    write_atomic(about, (json.dumps(values, indent=2) + "\n").encode())
    return Exported(file, about, len(raw), difference, note)


def _check_files(file: Path, about: Path, chosen: Export) -> None:
    for path in (file, about):
        if path.is_dir():
            raise SettingError(f"output={path} is a folder; give the name of a file in it")
        if path.exists() and not chosen.overwrite:
            raise SettingError(f"{path} exists; use overwrite=true, or choose another file with output=<file>")
    if not file.parent.is_dir():
        raise SettingError(f"there is no folder {file.parent}; is run={chosen.run} a run folder?")


def describe_input(run: Restored) -> dict[str, Any]:
    """What the file is given: name, number format, shape, and the columns or how images are made."""
    if run.schema is None:
        shape = shape_of(run.feature_names)
        color = {1: "grey", 3: "rgb"}[shape[0]]
        return {"name": "images", "dtype": "uint8", "shape": ["rows", *shape], "color": color}
    names = run.schema.raw_names
    columns = [
        {"name": name, **({"form": column.form} if column.kind == "date" else {}), **_codes(column)}
        for column in (*run.schema.numeric, *run.schema.categorical)
        for name in column.raw_names
    ]
    return {"name": "features", "dtype": "float64", "shape": ["rows", len(names)], "columns": columns, "missing": "NaN"}


def _codes(column: Column) -> dict[str, Any]:
    """The code of each category; 0 is any other."""
    if column.vocabulary is None:
        return {"kind": column.kind}
    codes = {word: i + 1 for i, word in enumerate(column.vocabulary) if word is not None}
    missing = column.vocabulary.index(None) + 1 if None in column.vocabulary else 0
    return {"kind": "category", "codes": codes, "unknown": 0, "missing": missing}


def compare(run: Restored, served: nn.Module, answer: Answer, raw: Tensor) -> tuple[float, str]:
    """Largest difference of the file's probabilities from the checkpoint's, all rows at once and one alone; a note."""
    kept = run.probabilities(raw)
    precision, note = run.config.accelerator.precision, ""
    found = answer(raw)
    if isinstance(precision, str):  # mixed: the file computes with the same weights, but not in halves
        moved = float((found - kept).abs().max())
        note = f"trained in {precision}; the file computes in float32, which moves probabilities by up to {moved:.1e}"
        with torch.no_grad():
            kept = served(raw)
    differences = [(found - kept).abs().max(), (answer(raw[:1]) - kept[:1]).abs().max()]
    return float(torch.stack(differences).max()), note


def _program(served: nn.Module, raw: Tensor) -> Any:
    example = raw[:1].expand(3, *raw.shape[1:]).contiguous()  # one row would become a constant
    with torch.no_grad():
        return torch.export.export(served, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))


def _pt2(served: nn.Module, raw: Tensor, name: str) -> tuple[bytes, Answer]:
    buffer = io.BytesIO()
    torch.export.save(_program(served, raw), buffer)
    content = buffer.getvalue()
    module = torch.export.load(io.BytesIO(content)).module()

    def answer(given: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(module(given))

    return content, answer


def _onnx(served: nn.Module, raw: Tensor, name: str) -> tuple[bytes, Answer]:
    import onnxruntime

    program = torch.onnx.export(
        _program(served, raw),
        dynamo=True,
        input_names=[name],
        output_names=["probabilities"],
        dynamic_shapes=({0: "rows"},),
        external_data=False,
        verbose=False,
    )
    assert program is not None
    content = program.model_proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def answer(given: Tensor) -> Tensor:
        values: np.ndarray = session.run(None, {name: given.numpy()})[0]
        return torch.from_numpy(values)

    return content, answer


WRITERS: dict[str, Callable[[nn.Module, Tensor, str], tuple[bytes, Answer]]] = {"onnx": _onnx, "pt2": _pt2}
"""Format -> function from a module, raw rows and the input's name to a file and what it answers."""
