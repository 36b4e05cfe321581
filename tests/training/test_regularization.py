"""What each regularization does to a training; those inside the network are in tests/models."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from models.own import Recorder
from scipy import stats
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from training.loops import assert_same_course, by_hand, config_of, cross_entropy, data_of, matrices, trained

from mlplab import randomness
from mlplab.compose import CONF
from mlplab.config import SettingError
from mlplab.data.batches import Batches
from mlplab.models.build import build
from mlplab.training import losses, perturbations

SGD_HALF = ("optimizer=sgd", "optimizer.lr=0.5")
IN_THE_NETWORK = {"dropout", "batch_norm", "layer_norm"}  # tests/models
WITH_THE_LOSS = {"label_smoothing"}  # test_losses.py
HERE = {"none", "l1", "l2", "elastic_net", "weight_decay", "early_stopping", "gradient_clipping", "max_norm"}


def plain_sgd(network: nn.Module) -> SGD:
    return SGD(network.parameters(), 0.5)


def test_every_regularization_of_conf_is_tested() -> None:
    perturbing = {"input_noise", "mixup"}
    assert HERE | perturbing | WITH_THE_LOSS | IN_THE_NETWORK == {p.stem for p in (CONF / "regularization").iterdir()}


def test_none_is_the_plain_loop() -> None:
    config = config_of(*SGD_HALF, "regularization=none")
    assert_same_course(config, by_hand(config, plain_sgd))


@pytest.mark.parametrize(
    ("overrides", "l1", "l2"),
    [
        (("regularization=l1", "regularization.l1.strength=0.03"), 0.03, 0.0),
        (("regularization=l2", "regularization.l2.strength=0.02"), 0.0, 0.02),
        (("regularization=[l1,l2]", "regularization.l1.strength=0.03", "regularization.l2.strength=0.02"), 0.03, 0.02),
        (
            ("regularization=elastic_net", "regularization.elastic_net.l1=0.03", "regularization.elastic_net.l2=0.02"),
            0.03,
            0.02,
        ),
    ],
    ids=["l1", "l2", "l1 and l2", "elastic_net"],
)
def test_penalties_are_added_to_the_loss_for_weights_only(overrides: tuple[str, ...], l1: float, l2: float) -> None:
    def penalty(network: nn.Module) -> Tensor:
        terms = [l1 * w.abs().sum() + l2 * (w**2).sum() for w in matrices(network)]
        return torch.stack(terms).sum()

    config = config_of(*SGD_HALF, *overrides)
    assert_same_course(config, by_hand(config, plain_sgd, penalty=penalty))
    weights = [torch.tensor([[1.0, -2.0]]), torch.tensor([[-3.0]])]
    assert float(losses.penalty(weights, l1, l2)) == pytest.approx(l1 * 6 + l2 * 14)


def test_reported_losses_leave_the_penalty_out() -> None:
    """So that losses compare between strengths: with the rate at 0 they are equal."""
    rate = ("optimizer=sgd", "optimizer.lr=1e-300", "trainer.max_epochs=1")
    plain, punished = (
        trained(config_of(*rate, *more))[0].history[0]
        for more in ((), ("regularization=l2", "regularization.l2.strength=5"))
    )
    assert plain["train/loss"] == punished["train/loss"]
    assert plain["val/loss"] == punished["val/loss"]


@pytest.mark.parametrize("norm", [False, True])
def test_weight_decay_with_adam_is_torchs_adamw_on_weights_only(norm: bool) -> None:
    names = "[weight_decay,layer_norm]" if norm else "weight_decay"
    config = config_of("optimizer.lr=0.02", f"regularization={names}", "regularization.weight_decay.strength=0.3")

    def adamw(network: nn.Module) -> AdamW:
        weights = matrices(network)
        others = [p for p in network.parameters() if all(p is not w for w in weights)]
        groups = [{"params": weights, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}]
        return AdamW(groups, lr=0.02, foreach=False)

    assert_same_course(config, by_hand(config, adamw))


def test_gradient_clipping_is_torchs_and_bounds_the_step() -> None:
    config = config_of(
        *SGD_HALF,
        "data.batch_size=full",
        "regularization=gradient_clipping",
        "regularization.gradient_clipping.max_norm=0.01",
        "trainer.max_epochs=5",
    )
    weights = trained(config)[1].weights
    for before, after in pairwise(weights):
        assert (after - before).norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)  # torch adds 1e-6 to the norm
    clipped = by_hand(config, plain_sgd, before_step=lambda n: torch.nn.utils.clip_grad_norm_(n.parameters(), 0.01))
    assert_same_course(config, clipped)


def test_a_gradient_below_the_limit_is_not_clipped() -> None:
    config = config_of(*SGD_HALF, "regularization=gradient_clipping", "regularization.gradient_clipping.max_norm=1e6")
    assert_same_course(config, by_hand(config, plain_sgd))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_gradient_clipping_works_in_mixed_precision(optimizer: str) -> None:
    config = config_of(f"optimizer={optimizer}", "accelerator.precision=bf16-mixed", "regularization=gradient_clipping")
    fitted, _ = trained(config)
    assert len(fitted.history) == 3
    assert fitted.history[-1]["train/loss"] != fitted.history[0]["train/loss"]


def test_max_norm_bounds_what_goes_into_each_hidden_unit_after_each_step() -> None:
    limit = 1.2
    config = config_of("optimizer.lr=0.1", "regularization=max_norm", f"regularization.max_norm.limit={limit}")

    def bound(network: nn.Module) -> None:
        with torch.no_grad():
            for w in matrices(network)[:-1]:
                for unit in w:
                    unit.mul_(min(1.0, limit / float(unit.norm())))

    def adam(network: nn.Module) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), 0.1, foreach=False)

    assert_same_course(config, by_hand(config, adam, after_step=bound))
    for network in trained(config)[1].networks:
        *hidden, output = [w.norm(dim=1) for k, w in network.items() if k.endswith("weight")]
        norms = torch.cat(hidden)
        assert (norms <= limit + 1e-9).all()
        assert (norms > limit - 1e-9).any(), "the case bounds nothing"
        assert (norms < limit - 1e-3).any(), "units below the limit were blown up"
    assert (output > limit).any()


def test_early_stopping_ends_the_run_at_the_epoch_that_its_history_says() -> None:
    fast = ("optimizer=sgd", "optimizer.lr=2", "trainer.max_epochs=40")
    values = [row["val/loss"] for row in trained(config_of(*fast))[0].history]
    stopped = {}
    for patience, min_delta in ((0, 0.0), (2, 0.0), (2, 0.13)):
        config = config_of(
            *fast,
            "regularization=early_stopping",
            f"regularization.early_stopping.patience={patience}",
            f"regularization.early_stopping.min_delta={min_delta}",
        )
        best, waited, expected = math.inf, 0, len(values)
        for epoch, value in enumerate(values):
            best, waited = (value, 0) if value < best - min_delta else (best, waited + 1)
            if waited > patience:
                expected = epoch + 1
                break
        fitted, _ = trained(config)
        stopped[patience, min_delta] = len(fitted.history)
        assert len(fitted.history) == expected
        assert [row["val/loss"] for row in fitted.history] == values[:expected]
        assert fitted.best_epoch == values[:expected].index(min(values[:expected]))
    assert len(set(stopped.values())) >= 2, "the settings act"
    assert max(stopped.values()) < 40


def test_early_stopping_without_a_validation_part_is_refused() -> None:
    with pytest.raises(SettingError, match="early_stopping watches the validation part"):
        trained(config_of("regularization=early_stopping", "data.split=[0.8,0.2]"))


RECORDED = ("model=custom", "model.target=models.own.Recorder", "trainer.max_epochs=4")


def seen_batches(*overrides: str) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What the network was given in each training step, and the rows and classes that the loader gave."""
    config = config_of(*RECORDED, *overrides)
    Recorder.batches.clear()
    trained(config)
    given = list(Recorder.batches)
    part = data_of(config).parts["train"]
    loaders = [Batches(part, config.data.batch_size, config.seed, epoch=lambda e=e: e) for e in range(4)]
    batches = [batch for loader in loaders for batch in loader]
    assert len(given) == len(batches)
    return given, [b.x for b in batches], [b.y for b in batches]


def test_input_noise_is_normal_with_the_std_and_new_at_every_step() -> None:
    given, x, _ = seen_batches("regularization=input_noise", "regularization.input_noise.std=0.3")
    noise = torch.cat([(g - b) / 0.3 for g, b in zip(given, x, strict=True)]).flatten()
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01
    assert len(noise.unique()) == len(noise)
    again, _, _ = seen_batches("regularization=input_noise", "regularization.input_noise.std=0.3")
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))
    other, _, _ = seen_batches("regularization=input_noise", "regularization.input_noise.std=0.3", "seed=1")
    assert not any(torch.equal(a, b) for a, b in zip(given, other, strict=True))


def test_input_noise_leaves_evaluation_alone() -> None:
    noisy = config_of("regularization=input_noise", "optimizer=sgd", "optimizer.lr=1e-300")
    plain = config_of("optimizer=sgd", "optimizer.lr=1e-300")
    noisy_row, plain_row = trained(noisy)[0].history[0], trained(plain)[0].history[0]
    assert noisy_row["val/loss"] == plain_row["val/loss"]
    assert noisy_row["train/loss"] != plain_row["train/loss"]


def test_mixup_gives_the_network_convex_mixtures_of_two_rows() -> None:
    given, x, _ = seen_batches("regularization=mixup", "regularization.mixup.alpha=0.7")
    shares = []
    for mixed, rows in zip(given, x, strict=True):
        # each mixed row = s * itself + (1 - s) * a partner, with one s for the batch
        apart = (mixed - rows)[:, None, :]
        towards = rows[None] - rows[:, None]
        share = (apart * towards).sum(-1) / towards.square().sum(-1).clamp(min=1e-12)
        fits = (apart - share[..., None] * towards).abs().amax(-1) < 1e-9
        moved = (apart.squeeze(1).abs().amax(-1) > 1e-6).nonzero().flatten()
        found = [{round(float(s), 6) for s in share[i][fits[i]]} for i in moved]
        common = set.intersection(*found)
        assert len(common) == 1
        shares.append(common.pop())
    assert len(set(shares)) == len(shares)
    assert all(0 < s < 1 for s in shares)


def test_mixup_mixes_rows_and_targets_alike() -> None:
    rows, n_classes = 50, 4
    x = torch.arange(rows).double()[:, None]
    y = torch.arange(rows) % n_classes
    targets = F.one_hot(y, n_classes).double()
    address = randomness.key(5, "here")
    mixed, mixed_targets = perturbations.mixup(x, targets, address, 0.8)
    share = perturbations.mixup_share(randomness.at(address, 0), 0.8)
    partner = ((mixed - share * x) / (1 - share)).round().long().flatten()
    assert sorted(partner.tolist()) == list(range(rows))
    assert not torch.equal(partner, torch.arange(rows))
    assert torch.allclose(mixed_targets, share * targets + (1 - share) * targets[partner])
    assert torch.allclose(mixed_targets.sum(1), torch.ones(rows).double())


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_share_of_mixup_is_beta_distributed(alpha: float) -> None:
    address = randomness.key(0, "mixup")
    shares = [float(perturbations.mixup_share(randomness.at(address, i), alpha)) for i in range(2000)]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_the_share_of_many_networks_is_each_ones_own() -> None:
    keys = torch.tensor([randomness.key(m, "mixup") for m in range(5)])
    alphas = torch.tensor([0.2, 0.5, 1.0, 2.0, 5.0])
    together = perturbations.mixup_share(keys, alphas)
    alone = [perturbations.mixup_share(int(k), float(a)).item() for k, a in zip(keys, alphas.double(), strict=True)]
    assert together.tolist() == alone


def test_a_training_with_mixup_equals_a_loop_on_the_mixtures() -> None:
    """The loss is the share-weighted cross-entropy of the two classes, as in Zhang et al.'s own code."""
    config = config_of(*SGD_HALF, "regularization=mixup", "model=linear", "trainer.max_epochs=2")
    prepared = data_of(config)
    network = build(config, prepared.n_features, prepared.n_classes).double()
    optimizer, step, expected = plain_sgd(network), 0, []
    for epoch in range(2):
        for batch in Batches(prepared.parts["train"], 32, 0, epoch=lambda e=epoch: e):
            address = randomness.at(randomness.key(0, "mixup", 0), step)
            share = perturbations.mixup_share(randomness.at(address, 0), 0.2).item()
            partner = randomness.permutation(randomness.at(address, 1), len(batch.y))
            logits = network(share * batch.x + (1 - share) * batch.x[partner])
            loss = share * cross_entropy(logits, batch.y) + (1 - share) * cross_entropy(logits, batch.y[partner])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        expected.append(torch.nn.utils.parameters_to_vector(network.parameters()).detach().clone())
    assert_same_course(config, expected)


def test_several_at_once_all_act() -> None:
    config = config_of(
        *SGD_HALF,
        "regularization=[l2,gradient_clipping,label_smoothing,batch_norm]",
        "regularization.l2.strength=0.02",
        "regularization.gradient_clipping.max_norm=0.1",
    )
    expected = by_hand(
        config,
        plain_sgd,
        loss=lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1),
        penalty=lambda n: 0.02 * torch.stack([(w**2).sum() for w in matrices(n)]).sum(),
        before_step=lambda n: torch.nn.utils.clip_grad_norm_(n.parameters(), 0.1),
    )
    assert_same_course(config, expected)
