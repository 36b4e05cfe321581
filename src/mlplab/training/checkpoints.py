"""Checkpoints: plain types and tensors only, written whole or not at all.

best.ckpt is for everybody: torch.load gives its weights under `network`, and under `about` what else it holds, as JSON.
last.ckpt is for resuming alone, and packed: the tensors of one dtype are one flat tensor and the rest is JSON, which is
six times as fast to write.
"""

from __future__ import annotations

import io
import json
import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic_core
import torch

from mlplab.config import Config, SettingError, parse
from mlplab.data.prepared import Prepared
from mlplab.runs import write_atomic

FORMAT = 2
_TENSOR = "tensor of dtype"
_NO_TENSORS = ("config", "history")
_OF_TENSORS = ("network", "preprocess")


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; torch's pickler asks about each single object, so what is no tensor goes as one text."""
    about = {name: value for name, value in content.items() if name not in _OF_TENSORS}
    _write({**{name: content[name] for name in _OF_TENSORS}, "about": _json(about)}, path)


def _write(content: dict[str, Any], path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything that is not tensors and plain types.

    Raises:
        SettingError: the file is missing, damaged, or holds what could run code.
    """
    folder = path.parent.parent
    if not path.is_file():
        if path.name == "best.ckpt" and whole(path.with_name("last.ckpt")):
            raise SettingError(f"{path} does not exist; {_instead(path)}")
        raise SettingError(f"{path} does not exist; is {folder} a run folder, and did its run get so far?")
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if "packed" in content:
            return _unpack(json.loads(content["packed"]), content["tensors"])
        return {**json.loads(content.pop("about")), **content}
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SettingError(f"{path} is damaged or not a checkpoint of mlplab ({why}); {_instead(path)}") from None


def _check_sums(path: Path) -> None:
    """Hold each record of torch's archive against its own checksum, which torch.load leaves aside."""
    if zipfile.is_zipfile(path):  # what is none, torch.load refuses
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
            for record in archive.infolist():  # torch reads nothing of what is marked as a folder, and gives zeros
                name = name or (record.filename if record.external_attr else None)
            if name is not None:
                raise ValueError(f"its record {name} has changed since it was written")


def whole(path: Path) -> bool:
    """Whether a checkpoint is there and is what was written."""
    try:
        _check_sums(path)
        return zipfile.is_zipfile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        return False


def _instead(path: Path) -> str:
    """What can still be done without a checkpoint."""
    if path.name == "best.ckpt" and whole(path.with_name("last.ckpt")):
        return f"python src/train.py resume={path.parent.parent} writes it anew from last.ckpt"
    if path.name == "last.ckpt" and whole(path.with_name("best.ckpt")):
        return "evaluate, predict and export still work from best.ckpt; to train on, train again"
    return "train again"


def save_last(content: dict[str, Any], path: Path) -> None:
    """Write a last.ckpt, packed; `load` gives the same content back."""
    tensors: dict[str, list[torch.Tensor]] = {}
    plain = {name: v if name in _NO_TENSORS else _pack(v, tensors) for name, v in content.items()}
    flat = {kind: torch.cat(of_kind) for kind, of_kind in tensors.items()}
    _write({"format": FORMAT, "packed": _json(plain), "tensors": flat}, path)


def _json(values: dict[str, Any]) -> str:
    return pydantic_core.to_json(values, inf_nan_mode="constants").decode()


def _pack(value: Any, tensors: dict[str, list[torch.Tensor]]) -> Any:
    """The same with each tensor moved to the list of its dtype, its shape in its place."""
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        tensors.setdefault(kind, []).append(value.detach().reshape(-1))
        return {_TENSOR: kind, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {name: _pack(v, tensors) for name, v in value.items()}
    return [_pack(v, tensors) for v in value] if isinstance(value, list | tuple) else value


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict) and _TENSOR in value:
        kind, shape = value[_TENSOR], value["shape"]
        n = math.prod(shape)
        first, tensors[kind] = tensors[kind][:n], tensors[kind][n:]
        return first.clone().view(shape)
    if isinstance(value, dict):
        return {name: _unpack(v, tensors) for name, v in value.items()}
    return [_unpack(v, tensors) for v in value] if isinstance(value, list) else value


def best_content(
    config: Config,
    prepared: Prepared,
    network: dict[str, torch.Tensor],
    n_outputs: int,
    epoch: int,
    value: float,
    temperature: float | None = None,
) -> dict[str, Any]:
    """What evaluate, predict and export need, and nothing else.

    Args:
        temperature: what the network's logits are divided by, if calibration asks for it.
    """
    return {
        "format": FORMAT,
        "config": config.model_dump(),
        "network": network,
        "n_outputs": n_outputs,
        "preprocess": prepared.preprocess.state_dict(),
        "schema": None if prepared.schema is None else prepared.schema.plain(),
        "categories": prepared.categories,
        "feature_names": prepared.feature_names,
        "class_names": prepared.class_names,
        "fingerprint": prepared.fingerprint,
        "epoch": epoch,
        "value": value,
        "temperature": temperature,
    }


def last_content(
    config: Config,
    network: dict[str, torch.Tensor],
    optimizer: list[dict[str, Any]],
    plateau: dict[str, Any],
    selection: dict[str, Any],
    history: list[dict[str, float]],
    best: dict[str, torch.Tensor],
    fingerprint: str,
    groups: list[dict[str, Any]] | None = None,
    events: dict[str, int] | None = None,
) -> dict[str, Any]:
    """The state of a training after an epoch. No generator's state: every draw is a function of seed and step.

    Args:
        optimizer: for each parameter, in the network's order, the optimizer's state under torch's names.
        fingerprint: of the data.
        groups: settings of the parameter groups, of an optimizer that changes them itself.
        events: bytes of each TensorBoard file, by its name.
    """
    return {
        "format": FORMAT,
        "config": config.model_dump(),
        "epochs": len(history),
        "network": network,
        "optimizer": optimizer,
        "plateau": plateau,
        "selection": selection,
        "history": history,
        "best": best,
        "fingerprint": fingerprint,
        "groups": groups,
        "events": events or {},
        "command": " ".join(sys.argv),
    }


def ended(config: Config, history: list[dict[str, float]], fingerprint: str) -> dict[str, Any]:
    """What last.ckpt holds of several networks that have ended: what was done, and nothing to go on from."""
    return last_content(config, {}, [], {}, {}, history, {}, fingerprint)


def config_of(checkpoint: dict[str, Any], path: Path, allow_targets: Sequence[str] = ()) -> Config:
    """The Config that a checkpoint was trained with.

    Args:
        allow_targets: packages whose functions it may name; its own list does not count, for it may be a stranger's.
    """
    if checkpoint.get("format") != FORMAT:
        raise SettingError(f"{path} has format {checkpoint.get('format')!r}; this mlplab reads format {FORMAT}")
    return parse({**checkpoint["config"], "allow_targets": list(allow_targets)})
