"""How many networks train at once: what the caches or a device's memory hold."""

from __future__ import annotations

import math
from itertools import pairwise

import torch

from mlplab.config.network import CustomModel
from mlplab.fused.plan import Group
from mlplab.models.build import dtype_of

CACHE_BYTES = 4 << 20
"""Parameters, gradients and optimizer state of one chunk on a CPU: about what its second-level caches hold."""
MOST_IN_CHUNK = 4096


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine had too little memory; a CPU's allocator says so in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def chunk_size(group: Group, device: torch.device) -> int:
    """Networks to train at once: what fits the caches of a CPU, or half of a GPU's free memory."""
    config, prepared = group.jobs[0].config, group.jobs[0].prepared
    if isinstance(config.model, CustomModel):
        return 1
    embedding, n_numbers = config.embedding, prepared.n_numbers
    units = n_numbers * embedding.width
    widths = [math.prod(prepared.parts["train"].x.shape[1:]) + units, *config.model.widths, prepared.n_classes]
    n_parameters = sum((a + 1) * b for a, b in pairwise(widths)) + units * (embedding.encoded + 1)
    packed = config.ensemble.packed  # members of a network, each with scales of its own
    n_parameters += (packed > 1) * 3 * packed * sum(widths)
    size = config.data.batch_size
    rows = len(prepared.parts["train"]) if size == "full" else min(size, len(prepared.parts["train"]))
    values = 3 * rows * packed * sum(widths) + rows * n_numbers * embedding.encoded
    bytes_each = dtype_of(config).itemsize * (4 * n_parameters + values)
    if device.type == "cuda":
        evaluated = 8192 * packed * sum(widths) * dtype_of(config).itemsize
        room = torch.cuda.mem_get_info(device)[0] // 2
        return max(1, min(MOST_IN_CHUNK, room // (bytes_each + evaluated)))
    return max(1, min(MOST_IN_CHUNK, CACHE_BYTES // bytes_each))
