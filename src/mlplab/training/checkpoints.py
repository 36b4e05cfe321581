"""Checkpoints: plain types and tensors only, written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mlplab.config import Config, SettingError, parse
from mlplab.data.prepared import Prepared
from mlplab.runs import write_atomic

FORMAT = 1


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files under a temporary name first."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(checkpoint, Path(path))


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint, refusing anything that is not tensors and plain types.

    Raises:
        SettingError: the file is missing, damaged, or holds what could run code.
    """
    if not path.is_file():
        raise SettingError(f"{path} does not exist; is {path.parent.parent} a run folder, and did its run get so far?")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise SettingError(
            f"{path} is damaged or not a checkpoint of mlplab ({str(error).splitlines()[0][:200]}); train again"
        ) from None


def best_content(
    config: Config, prepared: Prepared, network: dict[str, torch.Tensor], n_outputs: int, epoch: int, value: float
) -> dict[str, Any]:
    """What evaluate, predict and export need, and nothing else."""
    return {
        "format": FORMAT,
        "config": config.model_dump(),
        "network": network,
        "n_outputs": n_outputs,
        "preprocess": prepared.preprocess.state_dict(),
        "feature_names": prepared.feature_names,
        "class_names": prepared.class_names,
        "fingerprint": prepared.fingerprint,
        "epoch": epoch,
        "value": value,
    }


def config_of(checkpoint: dict[str, Any], path: Path) -> Config:
    """The Config that a best.ckpt was trained with."""
    if checkpoint.get("format") != FORMAT:
        raise SettingError(f"{path} has format {checkpoint.get('format')!r}; this mlplab reads format {FORMAT}")
    return parse(checkpoint["config"])
