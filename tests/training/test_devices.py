"""What a machine lacks is refused in one sentence that names what it has."""

import os

import pytest
import torch
from training.loops import config_of

from mlplab.compose import CONF
from mlplab.config import SettingError
from mlplab.training.devices import available, resolve

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
no_mps = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an Apple GPU")
FOUND = {
    "cpu": "cpu",
    "ddp_cpu": "cpu",
    **(dict.fromkeys(("auto", "gpu"), "cuda") if torch.cuda.is_available() else {}),
    **(dict.fromkeys(("auto", "mps"), "mps") if torch.backends.mps.is_available() else {}),
}


def of(*overrides: str) -> str:
    return resolve(config_of(*overrides, "accelerator.precision=32").accelerator)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "accelerator").iterdir()))
def test_an_accelerator_is_there_or_is_refused_by_name(name: str) -> None:
    expected = FOUND.get(name, "cpu" if name == "auto" else None)
    if name == "ddp" and torch.cuda.device_count() >= 2:
        expected = "cuda"
    if expected:
        assert of(f"accelerator={name}") == expected
        return
    with pytest.raises(SettingError) as refused:
        of(f"accelerator={name}")
    message = str(refused.value)
    assert message.startswith(f"accelerator{'.devices=2' if 'devices' in message else '=' + name}")
    assert f"this machine has cpu ({os.cpu_count()} cores)" in message
    assert "\n" not in message
    assert len(message) < 150


@no_gpu
@no_mps
def test_sixteen_bits_need_a_gpu() -> None:
    accelerator = config_of("accelerator=auto", "accelerator.precision=16-mixed").accelerator
    with pytest.raises(SettingError, match="precision=16-mixed needs a GPU; this machine has cpu"):
        resolve(accelerator)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_is_named_with_its_number() -> None:
    assert any(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}" in text for text in available())
    with pytest.raises(SettingError, match="this machine has"):
        of("accelerator=ddp", "accelerator.devices=99")
