"""A trained network back from its run folder alone: no data is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlplab.config import Config, parse
from mlplab.data.images import shape_of
from mlplab.data.pixels import Pixels
from mlplab.data.preprocess import Features, SideBySide
from mlplab.data.schema import Schema
from mlplab.models.build import build, dtype_of, members, together
from mlplab.models.ensemble import Blend, Calibrated
from mlplab.runs import RunFolder
from mlplab.training import checkpoints
from mlplab.training.evaluation import logits_of, number_format
from mlplab.training.metrics import probabilities


@dataclass(frozen=True)
class Restored:
    """A run's best network in evaluation mode, with what turns raw rows into its input."""

    config: Config
    network: nn.Module
    preprocess: nn.Module
    """From the raw columns of `schema`, float64 (rows, raw columns), or uint8 (rows, channels, height, width)."""
    schema: Schema | None
    """Columns of a table; None for images."""
    feature_names: list[str]
    """What the network is given."""
    class_names: list[str]
    fingerprint: str
    """Of the data that it was trained on."""

    def probabilities(self, raw: Tensor) -> Tensor:
        """Probability of each class of raw rows, (rows, n_classes), in the number format that training used.

        Rows go through preprocessing and network a few thousand at a time, as in `evaluate`.
        """
        inputs = self.preprocess(raw).to(dtype_of(self.config))
        with number_format(self.config.accelerator.precision, inputs.device):
            return probabilities(logits_of(self.network, inputs))


def restore(folder: Path, allow_targets: Sequence[str] = ()) -> Restored:
    """Rebuild the network of a run folder with its best weights.

    Args:
        allow_targets: modules whose code the run's own settings may name, beside those that are always allowed.

    Raises:
        SettingError: the folder is no run folder, or a file is damaged.
    """
    path = RunFolder(folder).best
    checkpoint = checkpoints.load(path)
    config = checkpoints.config_of(checkpoint, path, allow_targets)
    schema = None if checkpoint["schema"] is None else Schema.of_plain(checkpoint["schema"])
    sizes = len(checkpoint["feature_names"]), checkpoint["n_outputs"], checkpoint["categories"]
    n_numbers = schema.n_numbers if schema else 0
    if "blend" in checkpoint:
        assert schema is not None
        return _blend(checkpoint, config, schema)
    network = together(config, [build(m, *sizes, n_numbers) for m in members(config)[: n_members(checkpoint)]])
    network.load_state_dict(checkpoint["network"])
    if (temperature := checkpoint.get("temperature")) is not None:
        network = Calibrated(network, temperature)
    preprocess: nn.Module
    if schema is None:
        preprocess = Pixels(shape_of(checkpoint["feature_names"])[0], dtype_of(config))
        preprocess.load_state_dict(checkpoint["preprocess"])
    else:
        onehot = checkpoint["categories"] is None
        state, scaling = checkpoint["preprocess"], config.data.scaling
        preprocess = Features.of_state(state, schema.n_numbers, schema.sizes, onehot, scaling)
    return Restored(
        config,
        network.eval(),
        preprocess.eval(),
        schema,
        checkpoint["feature_names"],
        checkpoint["class_names"],
        checkpoint["fingerprint"],
    )


def _blend(checkpoint: dict[str, Any], config: Config, schema: Schema) -> Restored:
    """The blend of a portfolio: its members' features side by side, and the members."""
    told, state = checkpoint["blend"], checkpoint["preprocess"]
    parts = []
    for i, own in enumerate(told["features"]):
        start = f"parts.{i}."
        of_part = {name.removeprefix(start): v for name, v in state.items() if name.startswith(start)}
        parts.append(Features.of_state(of_part, schema.n_numbers, schema.sizes, own["onehot"], own["scaling"]))
    ends = list(accumulate(part.n_features for part in parts))
    members, stretches = [], []
    for member in told["members"]:
        part, end = parts[member["features"]], ends[member["features"]]
        codes = None if part.onehot else schema.sizes
        own = parse({**member["config"], "allow_targets": config.allow_targets})
        members.append(build(own, part.n_features, checkpoint["n_outputs"], codes, schema.n_numbers))
        stretches.append((end - part.n_features, end))
    network: nn.Module = Blend(members, stretches, torch.ones(len(members)))
    network.load_state_dict(checkpoint["network"])
    if (temperature := checkpoint["temperature"]) is not None:
        network = Calibrated(network, temperature)
    names = checkpoint["feature_names"], checkpoint["class_names"]
    preprocess = SideBySide(parts, dtype_of(config)).eval()
    return Restored(config, network.eval(), preprocess, schema, *names, checkpoint["fingerprint"])


def n_members(checkpoint: dict[str, Any]) -> int:
    """Networks of an ensemble that came to an end; 1 without ensemble."""
    weights = checkpoint["network"].get("log_weights")
    return 1 if weights is None else len(weights)
