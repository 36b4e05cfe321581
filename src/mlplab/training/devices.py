"""Which device trains, in which number format: what the settings ask for, against what the machine has."""

from __future__ import annotations

import logging
import os
from itertools import pairwise

import torch

from mlplab.config import Config, SettingError
from mlplab.config.data import DataSettings
from mlplab.config.images import ImageSettings
from mlplab.config.network import Mlp
from mlplab.config.training import Accelerator
from mlplab.data.prepared import Part, Prepared
from mlplab.training.losses import n_outputs

log = logging.getLogger(__name__)

BF16_PAYS_FROM = 100e6
"""Multiplications and additions in a step's matrix products from which bf16 was measured to be at least 1.15 times as
fast as float32 (Zen 4, one and two threads, 42 sizes); below, converting the numbers costs more than it saves."""


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


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has instructions for products of bf16 matrices (AVX-512 BF16 or AMX)."""
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)


def with_precision(config: Config, device: str, prepared: Prepared) -> Config:
    """The same Config with accelerator.precision=auto decided.

    Args:
        device: from `resolve`.
    """
    if config.accelerator.precision != "auto":
        return config
    rows = len(prepared.parts["train"])
    precision: int | str = 32
    if device == "cpu" and isinstance(config.model, Mlp) and config.optimizer.name != "lbfgs":
        batch = rows if config.data.batch_size == "full" else min(config.data.batch_size, rows)
        n_inputs = prepared.n_features + prepared.n_numbers * config.embedding.width
        sizes = [n_inputs, *config.model.widths, n_outputs(config.loss.name, prepared.n_classes)]
        # a multiplication and an addition for each weight and row, in forward and twice in backward
        operations = 6 * batch * config.ensemble.packed * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
        if operations >= BF16_PAYS_FROM and cpu_multiplies_bf16():
            precision = "bf16-mixed"
            log.info("accelerator.precision=auto: bf16-mixed, for %.0f million operations a step", operations / 1e6)
    chosen = config.accelerator.model_copy(update={"precision": precision})
    return config.model_copy(update={"accelerator": chosen})


def workers(settings: DataSettings, train: Part, device: str) -> int | None:
    """How many processes fetch batches; None where the device that trains holds the whole training part."""
    if not isinstance(settings, ImageSettings):
        return None
    resident = settings.device_resident
    if resident == "auto":  # half of a GPU's memory is for the network, its activations and the optimizer
        resident = device != "cuda" or train.x.nbytes <= torch.cuda.mem_get_info()[0] / 2
    return None if resident else settings.workers
