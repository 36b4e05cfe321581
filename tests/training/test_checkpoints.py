"""Checkpoint files: what is saved is what is read, and nothing else is believed."""

from pathlib import Path

import pytest
import torch

from mlplab.config import SettingError
from mlplab.training import checkpoints


def test_a_packed_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    content = {
        "format": 1,
        "network": {"w": torch.randn(3, 4), "count": torch.tensor(7), "none": torch.empty(0, 5)},
        "optimizer": [{"step": torch.tensor(2.0), "exp_avg": torch.randn(3, 4, dtype=torch.float64)}, {}],
        "history": [{"epoch": 0, "loss": 0.1 + 0.2, "val": float("nan")}, {"epoch": 1, "loss": 1e-300, "val": 1.0}],
        "selection": {"best": float("-inf"), "mode": "max", "stop": False, "nothing": None},
    }
    checkpoints.save_last(content, tmp_path / "last.ckpt")
    read = checkpoints.load(tmp_path / "last.ckpt")
    for name, tensor in content["network"].items():
        assert torch.equal(read["network"][name], tensor)
        assert read["network"][name].dtype == tensor.dtype
    assert torch.equal(read["optimizer"][0]["exp_avg"], content["optimizer"][0]["exp_avg"])
    assert read["optimizer"][0]["step"].shape == ()
    assert repr(read["history"]) == repr(content["history"])
    assert read["selection"] == content["selection"]


def test_tensors_of_a_packed_checkpoint_do_not_share_memory(tmp_path: Path) -> None:
    checkpoints.save_last({"a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "last.ckpt")
    read = checkpoints.load(tmp_path / "last.ckpt")
    read["a"].add_(1)
    assert read["b"].tolist() == [0, 0]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-400] + b"x" * 400])
def test_a_damaged_packed_checkpoint_is_refused_in_one_sentence(tmp_path: Path, damage) -> None:
    path = tmp_path / "last.ckpt"
    checkpoints.save_last({"a": torch.zeros(200)}, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SettingError, match=r"last\.ckpt is damaged"):
        checkpoints.load(path)
