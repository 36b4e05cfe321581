"""Each loss equals torch's, or its formula by hand, alone and over a whole training."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.optim import SGD
from training.loops import assert_same_course, by_hand, config_of, data_of, trained

from mlplab.compose import CONF
from mlplab.config import SettingError
from mlplab.training import losses

MOONS = ("data=moons", "data.samples=90")
WEIGHTS3, WEIGHTS2 = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.0, 3.0]).double()


def _weighted(rows: Tensor, weights: Tensor) -> Tensor:
    return (rows * weights).sum() / weights.sum()


def _focal(logits: Tensor, y: Tensor, gamma: float = 1.5) -> Tensor:
    p = logits.softmax(1)[torch.arange(len(y)), y]
    return (-((1 - p) ** gamma) * p.log()).mean()


Loss = Callable[[Tensor, Tensor], Tensor]
CASES: dict[str, tuple[tuple[str, ...], Loss]] = {
    "cross_entropy": ((), lambda z, y: F.cross_entropy(z, y)),
    "cross_entropy, two softmax outputs": (MOONS, lambda z, y: F.cross_entropy(z.view(-1, 2), y)),
    "cross_entropy, weights": (
        ("loss.class_weights=[1,2,0.5]",),
        lambda z, y: F.cross_entropy(z, y, weight=WEIGHTS3),
    ),
    "cross_entropy, smoothed": (
        ("regularization=label_smoothing", "regularization.label_smoothing.epsilon=0.2"),
        lambda z, y: F.cross_entropy(z, y, label_smoothing=0.2),
    ),
    "bce": (MOONS, lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.double())),
    "bce, weights": (
        (*MOONS, "loss.class_weights=[1,3]"),
        lambda z, y: _weighted(F.binary_cross_entropy_with_logits(z[:, 0], y.double(), reduction="none"), WEIGHTS2[y]),
    ),
    "bce, smoothed": (
        (*MOONS, "regularization=label_smoothing", "regularization.label_smoothing.epsilon=0.2"),
        lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], y.double() * 0.8 + 0.1),
    ),
    "mse": ((), lambda z, y: F.mse_loss(z.softmax(1), F.one_hot(y, 3).double())),
    "mse, one sigmoid": (MOONS, lambda z, y: ((1 / (1 + (-z[:, 0]).exp()) - y) ** 2).mean()),
    "focal": (("loss.gamma=1.5",), _focal),
    "focal, gamma 0 is cross-entropy": (("loss.gamma=0",), lambda z, y: F.cross_entropy(z, y)),
    "focal, gamma 0, two classes": ((*MOONS, "loss.gamma=0"), lambda z, y: F.cross_entropy(z, y)),
    "focal, weights": (
        ("loss.gamma=0", "loss.class_weights=[1,2,0.5]"),
        lambda z, y: F.cross_entropy(z, y, weight=WEIGHTS3),
    ),
}


def test_every_loss_of_conf_has_its_case() -> None:
    assert {name.split(",")[0] for name in CASES} == {path.stem for path in (CONF / "loss").iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_training_with_the_loss_equals_a_loop_with_its_formula(name: str) -> None:
    overrides, formula = CASES[name]
    config = config_of("optimizer=sgd", "optimizer.lr=0.5", f"loss={name.split(',')[0]}", *overrides)
    assert_same_course(config, by_hand(config, lambda n: SGD(n.parameters(), 0.5), formula))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "mse"])
def test_balanced_weights_are_scikit_learns(name: str) -> None:
    config = config_of(
        *("data=wine", "data.stratified=false", "data.split_seed=3", "optimizer=sgd", f"loss={name}"),
        "loss.class_weights=balanced",
    )
    y = data_of(config).parts["train"].y
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y.numpy())
    assert losses.class_weights(config.loss, y, 3).numpy() == pytest.approx(expected)
    assert len(set(expected)) == 3, "the case is balanced already"
    assert trained(config)[0].class_weights.numpy() == pytest.approx(expected)


def test_balanced_weights_make_every_class_count_the_same() -> None:
    """The weighted loss of a constant guess is the mean over classes, however rare one is."""
    y = torch.tensor([0] * 97 + [1] * 2 + [2])
    settings = config_of("loss.class_weights=balanced").loss
    rows = torch.tensor([1.0, 2.0, 6.0]).double()[y]
    mean = losses.weighted_mean(rows, F.one_hot(y, 3).double(), losses.class_weights(settings, y, 3))
    assert mean.item() == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "mse"])
def test_many_networks_at_once_lose_what_each_loses_alone(name: str) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 7, 3).double(), F.one_hot(torch.arange(7) % 3, 3).double()
    settings = config_of(f"loss={name}").loss
    together = losses.row_losses(settings, logits, targets)
    assert together.shape == (4, 7)
    for m in range(4):
        assert torch.equal(together[m], losses.row_losses(settings, logits[m], targets))


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
@pytest.mark.parametrize("right", [True, False])
def test_focal_stays_finite_where_the_network_is_certain(gamma: float, right: bool) -> None:
    """Softmax reaches 1 exactly: the loss is then 0 for the right class, large for a wrong one, never NaN."""
    settings = config_of("loss=focal", f"loss.gamma={gamma}").loss
    logits = torch.tensor([[60.0, 0.0, -60.0]], requires_grad=True)
    targets = torch.tensor([[1.0, 0.0, 0.0] if right else [0.0, 1.0, 0.0]])
    loss = losses.row_losses(settings, logits, targets).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0 if right else 60, abs=1e-3)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_smoothed_targets_are_still_probabilities(epsilon: float) -> None:
    targets = F.one_hot(torch.arange(4), 4).double()
    smooth = losses.smooth(targets, epsilon)
    assert torch.allclose(smooth.sum(1), torch.ones(4).double())
    assert smooth.diagonal().tolist() == pytest.approx([1 - epsilon + epsilon / 4] * 4)
    assert smooth[0, 1:].tolist() == pytest.approx([epsilon / 4] * 3)


@pytest.mark.parametrize(
    ("loss", "n_classes", "outputs"),
    [("bce", 2, 1), ("mse", 2, 1), ("cross_entropy", 2, 2), ("focal", 2, 2), ("cross_entropy", 3, 3), ("mse", 3, 3)],
)
def test_the_network_has_the_outputs_that_the_loss_needs(loss: str, n_classes: int, outputs: int) -> None:
    assert losses.n_outputs(loss, n_classes) == outputs
    config = config_of(*(MOONS if n_classes == 2 else ()), f"loss={loss}", "trainer.max_epochs=1")
    assert trained(config)[0].network.layers[-1].out_features == outputs


@pytest.mark.parametrize("wrong", ["loss=bce", "loss.class_weights=[1,2]"])
def test_a_loss_that_does_not_fit_custom_data_is_refused_once_it_is_read(wrong: str) -> None:
    config = config_of(
        "data=custom", "data.target=sklearn.datasets.load_iris", "+data.kwargs.return_X_y=true", wrong,
        "allow_targets=[sklearn]",
    )  # fmt: skip
    with pytest.raises(SettingError, match="data=custom has 3"):
        trained(config)
