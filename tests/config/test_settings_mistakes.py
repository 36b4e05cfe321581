"""Mistakes in settings get one short message; what lies just inside the bounds is taken."""

import pytest

from mlplab.compose import load_config
from mlplab.config import SettingError

# (overrides, what the message must say); from issue 2's tried cases on
REFUSED = [
    # a misspelt group, option or key, with the nearest name
    (["optimiser=adam"], ["optimiser", "Did you mean 'optimizer'?"]),
    (["optimizer=adm"], ["optimizer=adm", "adamw", "Did you mean 'adam'?"]),
    (["data=whine"], ["data=whine", "Did you mean 'wine'?"]),
    (["regularization=[l2,dropuot]"], ["regularization=dropuot", "Did you mean 'dropout'?"]),
    (["model.hiden=64"], ["model.hiden", "Did you mean 'model.hidden'?"]),
    (["optimizer.lrr=0.1"], ["optimizer.lrr", "Did you mean 'optimizer.lr'?"]),
    (["+model.hiden=64"], ["model.hiden", "Did you mean 'model.hidden'?"]),
    (["sed=1"], ["sed", "Did you mean 'seed'?"]),
    (["lr=0.1"], ["lr", "Did you mean 'optimizer.lr'?"]),
    # a setting of another option
    (["optimizer=sgd", "optimizer.betas=[0.9,0.99]"], ["optimizer.betas", "adam"]),
    (["regularization.dropout.p=0.5"], ["regularization.dropout", "add it to regularization=[...]"]),
    # a wrong type
    (["optimizer.lr=fast"], ["optimizer.lr='fast'", "number"]),
    (["model.bias=3"], ["model.bias=3", "true or false"]),
    (["trainer.max_epochs=2.5"], ["trainer.max_epochs=2.5", "whole number"]),
    (["trainer.max_epochs=true"], ["trainer.max_epochs=True", "whole number"]),
    (["seed=one"], ["seed='one'", "whole number"]),
    (["model.hidden=[8,a]"], ["model.hidden", "whole number"]),
    (["data.batch_size=all"], ["data.batch_size='all'", "whole number", "'full'"]),
    # out of bounds
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "greater than 0"]),
    (["optimizer.lr=0"], ["optimizer.lr=0", "greater than 0"]),
    (["optimizer.lr=inf"], ["optimizer.lr=inf", "number"]),
    (["optimizer.betas=[0.9,1.0]"], ["optimizer.betas", "less than 1"]),
    (["optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]", "at least 2 items"]),
    (["regularization=dropout", "regularization.dropout.p=1.5"], ["regularization.dropout.p=1.5", "less than 1"]),
    (["model.hidden=[]"], ["model.hidden=[]", "at least 1 item"]),
    (["model.hidden=[8,0]"], ["model.hidden", "greater than 0"]),
    (["model.hidden=0"], ["model.hidden=0", "greater than 0"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0", "greater than 0"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["data.batch_size=0"], ["data.batch_size=0", "greater than 0"]),
    (["data.folds=1", "data.fold=0"], ["data.folds=1", "at least 2"]),
    (["data=synthetic", "data.label_noise=1.5"], ["data.label_noise=1.5", "at most 1"]),
    (["data.scaling=big"], ["data.scaling='big'", "'standard'", "'minmax'", "'none'"]),
    (["trainer.monitor=test/accuracy"], ["trainer.monitor='test/accuracy'", "'val/accuracy'"]),
    # contradictions, saying which to change
    (["data.folds=5", "data.fold=7"], ["data.fold=7", "data.folds=5", "4"]),
    (["data.fold=1"], ["data.fold=1", "data.folds"]),
    (["data.split=[0.6,0.2,0.3]"], ["data.split=[0.6, 0.2, 0.3]", "1.1"]),
    (["data.split=[0.5]"], ["data.split=[0.5]", "at least 2 items"]),
    (["optimizer=lbfgs"], ["optimizer=lbfgs", "data.batch_size=16", "data.batch_size=full"]),
    (["optimizer=lbfgs", "data.batch_size=full", "regularization=dropout"], ["lbfgs", "regularization=dropout"]),
    (["loss=bce"], ["loss=bce", "data=wine has 3", "loss=cross_entropy"]),
    (["loss=bce", "data=spirals"], ["loss=bce", "data=spirals has 3"]),
    (["loss.class_weights=[1,2]"], ["loss.class_weights has 2", "3 classes"]),
    (["loss.class_weights=[1,2,-1]"], ["loss.class_weights", "greater than 0"]),
    (["model.hidden=[8,8]", "model.depth=3"], ["model.hidden=[8, 8]", "model.depth=3"]),
    (["regularization=[batch_norm,layer_norm]"], ["batch_norm", "layer_norm", "choose one"]),
    (["regularization=[elastic_net,l2]"], ["elastic_net", "l2"]),
    (["regularization=batch_norm", "data.batch_size=1"], ["batch_norm", "data.batch_size=1", "layer_norm"]),
    (["model=linear", "regularization=dropout"], ["regularization=dropout", "model=linear", "model=mlp"]),
    (["model=linear", "regularization=max_norm"], ["regularization=max_norm", "model=linear"]),
    (["accelerator=cpu", "accelerator.precision=16-mixed"], ["16-mixed", "accelerator=cpu", "bf16-mixed"]),
    (["accelerator=cpu", "accelerator.devices=2"], ["accelerator=cpu", "accelerator.devices=2", "ddp_cpu"]),
    (["objective=test/accuracy"], ["objective=test/accuracy", "the test part never chooses"]),
    (["data=synthetic", "data.features=3"], ["data.informative=2", "data.redundant=2", "data.features=3"]),
    (["data=synthetic", "data.classes=5"], ["data.classes=5", "data.informative"]),
    (["data=xor", "data.samples=3"], ["data.samples=3", "four corners"]),
    (["data=digits_images", "embedding=periodic"], ["embedding=periodic", "data=digits_images", "embedding=none"]),
    (["model=numpy_mlp", "embedding=piecewise_linear"], ["embedding=piecewise_linear", "model=numpy_mlp", "model=mlp"]),
    (["model=custom", "model.target=models.own.Net", "embedding=periodic"], ["embedding=periodic", "model=custom"]),
    (["embedding=periodic", "embedding.bins=3"], ["embedding.bins", "piecewise_linear"]),
    (["embedding=periodic", "embedding.scale=0"], ["embedding.scale=0", "greater than 0"]),
    (["embedding=periodic", "embedding.frequencies=4096"], ["embedding.frequencies=4096", "1024"]),
    (["ensemble=packed", "model=linear"], ["ensemble=packed", "model=linear", "model=mlp"]),
    (["ensemble=packed", "model=numpy_mlp"], ["ensemble=packed", "model=numpy_mlp", "model=mlp"]),
    (["ensemble=packed", "regularization=batch_norm"], ["ensemble=packed", "batch_norm", "layer_norm"]),
    (["ensemble=packed", "ensemble.size=0"], ["ensemble.size=0", "at least 1"]),
    (["ensemble=pack"], ["ensemble=pack", "Did you mean 'packed'?"]),
    (["embedding=period"], ["embedding=period", "Did you mean 'periodic'?"]),
    # values that are not there yet, overrides that cannot be read
    (["model=custom"], ["model.target", "no value yet"]),
    (["data=custom"], ["data.target", "no value yet"]),
    (["model.hidden=[8"], ["model.hidden=[8"]),
]


@pytest.mark.parametrize(("overrides", "said"), REFUSED, ids=lambda value: " ".join(value))
def test_a_mistake_gets_one_short_message_that_says_what_to_change(overrides: list[str], said: list[str]) -> None:
    with pytest.raises(SettingError) as refused:
        load_config(*overrides)
    message = str(refused.value)
    assert all(text in message for text in said), message
    assert "\n" not in message
    assert len(message) < 300


def test_two_mistakes_get_two_lines() -> None:
    with pytest.raises(SettingError) as refused:
        load_config("optimizer.lr=-1", "model.hidden=0")
    assert [line.split("=")[0] for line in str(refused.value).splitlines()] == ["model.hidden", "optimizer.lr"]


@pytest.mark.parametrize(
    ("overrides", "value"),
    [
        (["data.batch_size=full"], "full"),
        (["data.batch_size=1"], 1),
        (["data.batch_size=32", "data.folds=5", "data.fold=4"], 32),
    ],
)
def test_what_lies_just_inside_the_bounds_is_taken(overrides: list[str], value: object) -> None:
    assert load_config(*overrides).data.batch_size == value


@pytest.mark.parametrize(
    ("overrides", "widths"),
    [
        (["model.hidden=64"], [64]),
        (["model.hidden=[256,128,100]"], [256, 128, 100]),
        (["model.hidden=8", "model.depth=3"], [8, 8, 8]),
    ],
)
def test_hidden_is_an_int_or_a_list(overrides: list[str], widths: list[int]) -> None:
    assert load_config(*overrides).model.widths == widths
