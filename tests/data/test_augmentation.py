"""Each augmentation obeys its law; images get draws of their own, whoever else is in the batch."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from mlplab import randomness
from mlplab.compose import load_config
from mlplab.config import SettingError
from mlplab.data import augmentation as augmentations
from mlplab.data.augmentation import AUGMENTATIONS, addresses, augment
from mlplab.data.batches import Batch
from mlplab.data.prepared import prepare
from mlplab.models.build import build
from mlplab.training.classifier import Classifier

NAMES = sorted(AUGMENTATIONS)


def images(n: int = 64, channels: int = 1, height: int = 12, width: int = 10) -> Tensor:
    draws = randomness.uniform(randomness.key(0, "test images"), (n, channels, height, width))
    return (draws * 255).round().to(torch.uint8)


@cache
def chosen(*overrides: str):
    names = ",".join(dict.fromkeys(o.split(".")[0] for o in overrides))
    values = [f"augmentation.{o}" for o in overrides if "=" in o]
    return load_config("data=digits_images", f"augmentation=[{names}]", *values).augmentation


def applied(x: Tensor, *overrides: str, seed: int = 0, step: int = 0, first_row: int = 0) -> Tensor:
    settings = chosen(*overrides)
    return augment(x, settings, addresses(settings, seed, step), first_row)


def test_none_changes_nothing() -> None:
    settings = load_config("data=digits_images").augmentation
    assert settings.chosen == []
    assert torch.equal(augment(images(), settings, {}), images())


@pytest.mark.parametrize("direction", ["horizontal", "vertical"])
def test_flip_of_all_mirrors_and_twice_is_the_identity(direction: str) -> None:
    overrides = ("flip.p=1.0", f"flip.direction={direction}")
    once = applied(images(), *overrides)
    assert torch.equal(once, images().flip(3 if direction == "horizontal" else 2))
    assert torch.equal(applied(once, *overrides), images())


def test_flip_takes_its_share_of_images() -> None:
    x = images(4000, 1, 4, 4)
    mirrored = (applied(x, "flip.p=0.3") != x).flatten(1).any(1).double().mean()
    assert abs(mirrored - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)


@pytest.mark.parametrize(
    "nothing", ["flip.p=0.0", "shift.pixels=0", "rotate.degrees=0.0", "crop.least=1.0", "erase.p=0.0", "noise.std=0.0"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_augmentation_by_nothing_is_the_identity(nothing: str, channels: int) -> None:
    assert torch.equal(applied(images(channels=channels), nothing), images(channels=channels))


def test_shift_moves_whole_images_by_every_distance_alike() -> None:
    x = images(2000, 3, 8, 8) | 1  # never black, so that what came into view can be told
    moved = applied(x, "shift.pixels=2")
    counts = torch.zeros(5, 5)
    for before, after in zip(x, moved, strict=True):
        seen = after[0] > 0
        top, left = int(seen.any(1).double().argmax()), int(seen.any(0).double().argmax())
        down = top or int(seen.any(1).sum()) - 8
        right = left or int(seen.any(0).sum()) - 8
        counts[down + 2, right + 2] += 1
        expected = torch.zeros_like(before)
        to = (slice(max(down, 0), 8 + min(down, 0)), slice(max(right, 0), 8 + min(right, 0)))
        of = (slice(max(-down, 0), 8 - max(down, 0)), slice(max(-right, 0), 8 - max(right, 0)))
        expected[:, *to] = before[:, *of]
        assert torch.equal(after, expected)
    expected_count = 2000 / 25
    assert ((counts - expected_count).square() / expected_count).sum() < 51.2  # chi-square, 24 degrees, p = 0.001


def test_rotate_turns_squares_by_quarters_and_keeps_the_angle_in_bounds(monkeypatch) -> None:
    x = images(4, 3, 9, 9)
    monkeypatch.setattr(augmentations, "_draws", lambda *_: torch.ones(1, 4, dtype=torch.float64))
    assert torch.equal(applied(x, "rotate.degrees=90.0"), x.rot90(1, (2, 3)))
    assert torch.equal(applied(x, "rotate.degrees=180.0"), x.rot90(2, (2, 3)))
    oblong = images(4, 1, 6, 10)
    assert torch.equal(applied(oblong, "rotate.degrees=180.0"), oblong.rot90(2, (2, 3)))


def test_crop_stretches_a_window_from_inside() -> None:
    x = torch.full((64, 1, 12, 12), 200, dtype=torch.uint8)
    assert torch.equal(applied(x, "crop.least=0.5")[:, :, 1:-1, 1:-1], x[:, :, 1:-1, 1:-1])  # never from outside
    ramp = torch.arange(0, 240, 20, dtype=torch.uint8).expand(64, 1, 12, 12).contiguous()
    slope = applied(ramp, "crop.least=0.5")[:, 0, 6].double().diff(dim=1)[:, 2:-2].mean(1)
    assert slope.min() >= 20 * 0.5 - 0.3
    assert slope.max() <= 20.3
    assert slope.std() > 1  # each image its own window


def test_erase_blackens_one_rectangle_within_its_bounds() -> None:
    x = torch.full((500, 3, 10, 20), 9, dtype=torch.uint8)
    gone = applied(x, "erase.p=1.0", "erase.largest=0.4") == 0
    assert torch.equal(gone[:, 0], gone[:, 2])
    tall, wide = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].sum((1, 2)), tall * wide)  # full inside its bounding box: a rectangle
    assert (int(tall.min()), int(tall.max())) == (1, 4)
    assert (int(wide.min()), int(wide.max())) == (1, 8)


def test_noise_has_its_spread_and_stays_within_bytes() -> None:
    grey = torch.full((200, 1, 20, 20), 128, dtype=torch.uint8)
    change = (applied(grey, "noise.std=0.1").double() - 128) / 255
    assert abs(change.mean()) < 0.002
    assert abs(change.std() - 0.1) < 0.002
    black = applied(torch.zeros_like(grey), "noise.std=0.1")
    assert abs((black == 0).double().mean() - 0.5) < 0.02  # half of the noise was cut off, not wrapped round


@pytest.mark.parametrize("name", NAMES)
def test_images_steps_and_seeds_get_draws_of_their_own(name: str) -> None:
    x = images(1).expand(64, 1, 12, 10).contiguous()
    out = applied(x, name)
    assert len(out.flatten(1).unique(dim=0)) > 1
    assert not torch.equal(out, applied(x, name, step=1))
    assert not torch.equal(out, applied(x, name, seed=1))
    assert torch.equal(out, applied(x, name))


@pytest.mark.parametrize("name", NAMES)
def test_draws_are_the_place_in_the_batch_whoever_computes_them(name: str) -> None:
    x, whole = images(10), applied(images(10), name)
    assert torch.equal(applied(x[:4], name), whole[:4])
    assert torch.equal(applied(x[4:], name, first_row=4), whole[4:])  # as a second process sees it


@pytest.mark.parametrize("name", NAMES)
def test_several_networks_see_what_each_would_see_alone(name: str) -> None:
    settings = chosen(name)
    alone = [addresses(settings, seed, step=3)[name] for seed in (0, 1, 2)]
    stacked = {name: torch.tensor(alone)}
    x = torch.stack([images().roll(seed, 0) for seed in range(3)])
    together = augment(x, settings, stacked)
    for network, address in enumerate(alone):
        assert torch.equal(together[network], augment(x[network], settings, {name: address}))


def test_several_at_once_act_in_their_stated_order() -> None:
    both = applied(images(), "noise", "flip")
    assert torch.equal(both, applied(applied(images(), "flip"), "noise"))


def test_training_never_changes_labels_or_the_data() -> None:
    config = load_config("data=digits_images", f"augmentation=[{','.join(NAMES)}]")
    prepared = prepare(config.data)
    train = prepared.parts["train"]
    before = train.x.clone()
    network = build(config, prepared.n_features, prepared.n_classes)
    classifier = Classifier(network, config, prepared.n_classes, None, 10, train.preprocess)
    batch = Batch(train.x[:32], train.y[:32], 0, 1.0)
    x, targets = classifier._targets(classifier._perturb(batch, step=0), batch, step=0)
    assert torch.equal(targets.argmax(1), batch.y)
    assert not torch.equal(x, train.inputs(batch.x))
    assert torch.equal(train.x, before)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["data=wine", "augmentation=flip"], "is for images, and data=wine is a table"),
        (["data=digits_images", "augmentation.flip.p=0.3"], "belongs to augmentation=flip, which is not chosen"),
        (["data=digits_images", "augmentation=flip", "augmentation.flip.p=2.0"], "must be at most 1"),
        (["data=digits_images", "augmentation=flp"], "Did you mean 'flip'?"),
        (["data=digits_images", "data.batch_size=full", "optimizer=lbfgs", "augmentation=shift"], "one fixed function"),
    ],
)
def test_mistakes_are_refused_in_one_message(overrides: list[str], part: str) -> None:
    with pytest.raises(SettingError) as refused:
        load_config(*overrides)
    assert part in str(refused.value)
