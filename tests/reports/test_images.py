"""Pictures of image data show what they say."""

import numpy as np

from mlplab.reports.images import before_after, grid, mistakes, weights_as_images, worst_mistakes


def test_grid_puts_each_image_in_its_place() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 3, 28, 28), np.uint8)
    sheet = grid(images, columns=2, border=1)
    assert sheet.shape == (3 * 57 + 1, 2 * 57 + 1, 3)
    for i in range(5):
        tile = sheet[i // 2 * 57 + 1 : i // 2 * 57 + 57, i % 2 * 57 + 1 : i % 2 * 57 + 57]
        assert (tile == i).all()
    assert (sheet[:, 0] == 128).all()
    assert (sheet[2 * 57 + 1 :, 58:] == 128).all()  # the place of a sixth


def test_before_stands_above_after() -> None:
    before = np.full((10, 1, 60, 60), 10, np.uint8)
    sheet = before_after(before, before + 1, columns=8)
    assert [int(sheet[r * 61 + 5, 5, 0]) for r in range(4)] == [10, 11, 10, 11]


def test_weights_become_grey_at_zero_and_white_at_their_largest() -> None:
    weights = np.array([[0.0, 0.5, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    shown = weights_as_images(weights, (1, 2, 2))
    assert shown[0].flatten().tolist() == [128, 191, 255, 0]
    assert shown[1].flatten().tolist() == [128] * 4


def test_mistakes_come_with_the_surest_first_under_their_names() -> None:
    targets = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    worst = worst_mistakes(targets, probs)
    assert worst.tolist() == [2, 1]
    images = np.zeros((2, 1, 4, 4), np.uint8)
    figure = mistakes(images, targets[worst], probs[worst], ["cat", "dog"])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["dog, told as\ncat (0.80)", "cat, told as\ndog (0.60)"]
    assert len([axis for axis in figure.axes if axis.images]) == 2
