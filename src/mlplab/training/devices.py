"""Which device trains: what the settings ask for, against what the machine has."""

from __future__ import annotations

import os

import torch

from mlplab.config import SettingError
from mlplab.config.training import Accelerator


def available() -> list[str]:
    """What this machine has, in words."""
    found = [f"cpu ({os.cpu_count()} cores)"]
    if torch.cuda.is_available():
        found.append(f"gpu ({torch.cuda.device_count()} x {torch.cuda.get_device_name(0)})")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def resolve(settings: Accelerator) -> str:
    """`cpu`, `cuda` or `mps`.

    Raises:
        SettingError: the machine lacks what is asked for, in one sentence that names what it has.
    """
    name, n_gpus = settings.name, torch.cuda.device_count() if torch.cuda.is_available() else 0
    has = " and ".join(available())
    if name in ("gpu", "ddp") and n_gpus == 0:
        raise SettingError(f"accelerator={name} needs a CUDA GPU; this machine has {has}. Use accelerator=auto or cpu.")
    if name == "ddp" and settings.devices > n_gpus:
        raise SettingError(f"accelerator.devices={settings.devices}, but this machine has {has}.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise SettingError(f"accelerator=mps needs an Apple GPU; this machine has {has}. Use accelerator=auto or cpu.")
    if name in ("gpu", "ddp") or (name == "auto" and n_gpus > 0):
        device = "cuda"
    elif name == "mps" or (name == "auto" and torch.backends.mps.is_available() and settings.precision != 64):
        device = "mps"
    else:
        device = "cpu"
    if settings.precision == "16-mixed" and device == "cpu":
        raise SettingError(f"accelerator.precision=16-mixed needs a GPU; this machine has {has}. Use bf16-mixed or 32.")
    return device
