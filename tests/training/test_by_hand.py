"""Every number of the first step is right, and the training takes that very step."""

import math

import pytest
import torch

from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data.prepared import prepare
from mlplab.training.by_hand import first_step
from mlplab.training.fit import fit

PLACE = ("experiment=backprop_by_hand", "accelerator=cpu", "logger=none")


def numbers(*overrides: str) -> dict[str, float]:
    config = load_config(*PLACE, *overrides)
    return {n.name: n.value for n in first_step(config, prepare(config.data, torch.float64))}


def test_numbers_are_what_one_writes_on_paper() -> None:
    n = numbers()
    x1, x2, t = n["x1"], n["x2"], n["t"]
    z1 = [n[f"w1[{k},1]"] * x1 + n[f"w1[{k},2]"] * x2 + n[f"b1[{k}]"] for k in (1, 2)]
    a1 = [max(z, 0) for z in z1]
    z2 = n["w2[1,1]"] * a1[0] + n["w2[1,2]"] * a1[1] + n["b2[1]"]
    p = 1 / (1 + math.exp(-z2))
    d2 = p - t
    d1 = [n[f"w2[1,{k}]"] * d2 * (z1[k - 1] > 0) for k in (1, 2)]
    expected = {"z1[1]": z1[0], "z1[2]": z1[1], "a1[1]": a1[0], "a1[2]": a1[1], "z2[1]": z2, "p": p}
    expected |= {"L": -t * math.log(p) - (1 - t) * math.log(1 - p), "d2[1]": d2, "d1[1]": d1[0], "d1[2]": d1[1]}
    gradients = {"b2[1]": d2}
    for k in (1, 2):
        gradients |= {f"w2[1,{k}]": d2 * a1[k - 1], f"b1[{k}]": d1[k - 1]}
        gradients |= {f"w1[{k},1]": d1[k - 1] * x1, f"w1[{k},2]": d1[k - 1] * x2}
    expected |= {f"dL/d{name}": value for name, value in gradients.items()}
    expected |= {f"new {name}": n[name] - 0.1 * value for name, value in gradients.items()}
    starts = {"x1", "x2", "t", *gradients}
    assert n.keys() == expected.keys() | starts
    for name, value in expected.items():
        assert n[name] == pytest.approx(value, abs=1e-12), name
    assert all(d1), "the example shows nothing if a unit is dead"


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer=adam", "model.hidden=[3,2]", "activation=tanh", "loss=mse"),
        ("loss=cross_entropy", "model.bias=false", "scheduler=cosine", "scheduler.warmup_epochs=1"),
        ("loss=focal", "activation=elu", "optimizer=momentum"),
    ],
    ids=" ".join,
)
def test_training_takes_that_step(overrides: tuple[str, ...]) -> None:
    n = numbers(*overrides)
    config = load_config(*PLACE, *overrides)
    fitted = fit(config, prepare(config.data, torch.float64), "cpu", None, [])
    assert fitted.history[0]["train/loss"] == pytest.approx(n["L"], abs=1e-12)
    new = [value for name, value in n.items() if name.startswith("new ")]
    torch.testing.assert_close(
        torch.nn.utils.parameters_to_vector(fitted.network.parameters()),
        torch.tensor(new, dtype=torch.float64),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=mlp", "model=mlp does not fit; use model=numpy_mlp"),
        ("data.batch_size=2", "data.batch_size=2 does not fit; use data.batch_size=1"),
        ("regularization=dropout", "regularization=dropout does not fit"),
        ("optimizer=lbfgs", "optimizer=lbfgs needs the whole training part"),
    ],
)
def test_refuses_what_cannot_be_followed_by_hand(override: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        load_config(*PLACE, override)


def test_refuses_a_table_that_nobody_reads() -> None:
    with pytest.raises(SettingError, match=r"model.hidden=50 makes 201 parameters; use a network of at most 100"):
        numbers("model.hidden=50")
