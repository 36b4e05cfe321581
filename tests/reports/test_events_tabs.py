"""What each tab of TensorBoard shows of an event file."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from reports.event_files import hparams_table, read, scalars, served
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import backend_context
from tensorboard.util import tensor_util

from mlplab.reports.events import EventFile


def test_scalars_tab_lists_them(tmp_path: Path) -> None:
    with EventFile(tmp_path / "run") as file:
        file.add_scalars({"a": 1.0, "b/c": 2.0}, 7)
    listed = served(tmp_path).list_scalars(RequestContext(), experiment_id="", plugin_name="scalars")
    assert {tag: series.max_step for tag, series in listed["run"].items()} == {"a": 7, "b/c": 7}


def test_hparams_tab_lists_each_run_with_its_real_values(tmp_path: Path) -> None:
    params = {"lr": 0.01, "layers": 2, "norm": True, "activation": "relu"}
    for i, score in enumerate([0.0, 0.875]):
        with EventFile(tmp_path / f"run{i}") as file:
            file.add_scalars({"val/accuracy": 0.1}, 29)
            file.add_hparams(params | {"layers": i}, {"best/accuracy": score, "best/loss": float(i)})
    assert hparams_table(tmp_path) == {
        f"run{i}": (
            params | {"layers": i},
            {"best/accuracy": score, "best/loss": i, "val/accuracy": pytest.approx(0.1)},
        )
        for i, score in enumerate([0.0, 0.875])
    }
    table = hparams_table(tmp_path)
    assert table["run0"][0]["norm"] is True
    assert scalars(tmp_path / "run1")["best/accuracy"] == [(29, 0.875)]


@pytest.mark.parametrize("first", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_left_out_of_its_run_only(tmp_path: Path, first: float) -> None:
    for i, loss in enumerate([first, 0.5]):
        with EventFile(tmp_path / f"run{i}") as file:
            file.add_hparams({"lr": 0.1}, {"accuracy": 0.25, "loss": loss})
    assert [metrics for _, metrics in hparams_table(tmp_path).values()] == [
        {"accuracy": 0.25},
        {"accuracy": 0.25, "loss": 0.5},
    ]


def test_hparams_of_a_run_without_metrics_is_still_a_row(tmp_path: Path) -> None:
    with EventFile(tmp_path / "run") as file:
        file.add_hparams({"lr": 0.5}, {})
    assert hparams_table(tmp_path) == {"run": ({"lr": 0.5}, {})}


def test_rows_of_different_settings_share_a_table_of_all_columns(tmp_path: Path) -> None:
    for name, params in {"a": {"lr": 0.5}, "b": {"lr": 0.1, "hidden": 8}, "c": {"norm": True}}.items():
        with EventFile(tmp_path / name) as file:
            file.add_hparams(params, {"accuracy": 0.5})
    assert {name: params for name, (params, _) in hparams_table(tmp_path).items()} == {
        "a": {"lr": 0.5},
        "b": {"lr": 0.1, "hidden": 8},
        "c": {"norm": True},
    }
    context = backend_context.Context(base_plugin.TBContext(data_provider=served(tmp_path)))
    found = context.hparams_metadata(RequestContext(), "")
    table = context.experiment_from_metadata(RequestContext(), "", True, found, [])
    assert {column.name for column in table.hparam_infos} == {"lr", "hidden", "norm"}


def test_histogram_counts_the_finite_values(tmp_path: Path) -> None:
    values = torch.cat([torch.randn(50, 4).flatten(), torch.tensor([torch.nan, torch.inf])])
    with EventFile(tmp_path) as file:
        file.add_histogram("weights", values.requires_grad_(), 3)
        file.add_histogram("weights", values.to(torch.bfloat16), 4)
        file.add_histogram("weights", np.full(5, 2.0), 5)
        file.add_histogram("weights", np.full(3, np.nan), 6)
    found = read(tmp_path).Histograms("weights")
    assert [event.step for event in found] == [3, 4, 5]
    histogram = found[0].histogram_value
    finite = values[torch.isfinite(values)].detach().double()
    assert histogram.num == sum(histogram.bucket) == 200
    assert histogram.sum == pytest.approx(finite.sum().item())
    assert (histogram.min, histogram.max) == (finite.min().item(), finite.max().item())


def decoded(folder: Path, tag: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(read(folder).Images(tag)[0].encoded_image_string)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_image_comes_back_pixel_by_pixel(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    with EventFile(tmp_path) as file:
        file.add_image("x", image, 1)
    assert (decoded(tmp_path, "x") == image).all()


def test_figure_is_the_image_of_itself(tmp_path: Path) -> None:
    figure = Figure(figsize=(2, 1), dpi=50, facecolor="#0072B2")
    with EventFile(tmp_path) as file:
        file.add_figure("figure", figure, 2)
    event = read(tmp_path).Images("figure")[0]
    assert (event.step, event.width, event.height) == (2, 100, 50)
    assert (decoded(tmp_path, "figure") == [0x00, 0x72, 0xB2]).all()


def test_text_and_custom_layout_reach_their_plugins(tmp_path: Path) -> None:
    with EventFile(tmp_path) as file:
        file.add_text("config", "**lr** `0.1` ü", 0)
        file.add_custom_scalars_layout({"curves": {"loss": ("Multiline", ["train/loss", "val/loss"])}})
    found = read(tmp_path)
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert text.decode() == "**lr** `0.1` ü"
    assert found.PluginTagToContent("text").keys() == {"config/text_summary"}
    assert found.PluginTagToContent("custom_scalars").keys() == {"custom_scalars__config__"}
    layout = found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"train/loss" in layout
    assert b"val/loss" in layout


def test_pr_curve_holds_the_counts_at_its_thresholds(tmp_path: Path) -> None:
    labels = torch.tensor([0, 0, 1, 1])
    scores = torch.tensor([0.1, 0.6, 0.4, 0.9])
    with EventFile(tmp_path) as file:
        file.add_pr_curve("pr", labels, scores, 1)
    found = read(tmp_path)
    assert found.PluginTagToContent("pr_curves").keys() == {"pr"}
    true_positives, false_positives = tensor_util.make_ndarray(found.Tensors("pr")[0].tensor_proto)[:2]
    assert (true_positives[0], false_positives[0]) == (2, 2)
    assert (true_positives[63], false_positives[63]) == (1, 1)  # at 63 / 126 = 0.5


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.last = torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) != 2:  # tracing warns of this
            raise ValueError("two rows")
        return self.last(self.drop(self.norm(x)))


def test_graph_names_the_layers_and_leaves_the_network_and_the_random_numbers_as_they_were(tmp_path: Path) -> None:
    network = Network()
    network.norm.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    with EventFile(tmp_path) as file:
        file.add_graph(network, torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    assert [module.training for module in (network, network.norm, network.drop, network.last)] == [1, 0, 1, 1]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    found = read(tmp_path)
    assert any("Linear[last]" in node.name for node in found.Graph().node)
    assert found.RunMetadata("step1") is not None
