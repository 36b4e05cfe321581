"""The pictures of the lessons show the curves that they name."""

import numpy as np
import pytest

from mlplab.compose import load_config
from mlplab.reports import lessons
from mlplab.reports.figures import png


def test_activations_and_their_derivatives() -> None:
    figure = lessons.activations(("sigmoid", "relu", "elu"))
    assert [axes.get_title() for axes in figure.axes] == ["sigmoid", "relu", "elu"]
    for axes in figure.axes:
        f, slope = (np.asarray(line.get_ydata()) for line in axes.lines)
        z = np.asarray(axes.lines[0].get_xdata())
        kink = np.abs(z) < 0.05
        np.testing.assert_allclose(np.gradient(f, z)[~kink][1:-1], slope[~kink][1:-1], atol=2e-3)
    assert np.asarray(figure.axes[0].lines[1].get_ydata()).max() == pytest.approx(0.25)
    assert png(figure).startswith(b"\x89PNG")


def test_three_kinds_of_gradient_descent() -> None:
    config = load_config("data=iris", "optimizer=sgd", "trainer.max_epochs=4", "accelerator=cpu", "data.batch_size=7")
    figure = lessons.descents(config, sizes=("full", 16, 1))
    by_epoch, by_step = figure.axes
    assert [line.get_label() for line in by_epoch.lines] == ["full batch", "mini-batch of 16", "stochastic"]
    for line in by_epoch.lines:
        assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3, 4]
    steps = [np.asarray(line.get_xdata()).tolist() for line in by_step.lines]
    assert steps == [[1, 2, 3, 4], [6, 12, 18, 24], [90, 180, 270, 360]]
    last = [float(np.asarray(line.get_ydata())[-1]) for line in by_epoch.lines]
    assert last[0] > last[1] > last[2], "in four passes the most steps come furthest"
    assert png(figure).startswith(b"\x89PNG")
