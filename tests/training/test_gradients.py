"""The gradient check passes right gradients and finds wrong ones."""

from typing import Any

import pytest
import torch

from mlplab.compose import load_config
from mlplab.config import Config
from mlplab.config.tools import GradientCheck
from mlplab.data.prepared import prepare
from mlplab.training.gradients import check_gradients

HOW = GradientCheck(rows=8, entries=10, step=1e-5, tolerance=1e-6)


def check(config: Config) -> list[Any]:
    return check_gradients(config, prepare(config.data, torch.float64), HOW)


@pytest.mark.parametrize("model", ["mlp", "numpy_mlp"])
@pytest.mark.parametrize("rest", ["none", "[dropout,batch_norm,l1,elastic_net]", "[layer_norm,l2,mixup,input_noise]"])
def test_gradients_of_a_training_step_are_right(model: str, rest: str) -> None:
    if "elastic_net" in rest:
        rest = rest.replace("l1,", "")
    checked = check(load_config(f"model={model}", "model.hidden=[7,5]", "activation=elu", f"regularization={rest}"))
    assert max(c.error for c in checked) < HOW.tolerance
    assert checked[0].error == max(c.error for c in checked)
    assert {c.parameter for c in checked} > {"layers.0.weight"}
    assert all(c.entries <= HOW.entries for c in checked)


def test_a_wrong_derivative_is_found_where_it_acts() -> None:
    checked = check(load_config("activation=custom", "activation.target=models.wrong.WrongTanh", "model.hidden=6"))
    errors = {c.parameter: c.error for c in checked}
    assert errors["layers.0.weight"] > 1e-3
    assert errors["layers.2.weight"] < HOW.tolerance, "the output layer lies behind the wrong derivative"
    assert checked[0].parameter.startswith("layers.0")
