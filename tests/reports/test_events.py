import io
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2 as _api_pb2
from tensorboard.plugins.hparams import backend_context, list_session_groups
from tensorboard.util import tensor_util

from mlplab.reports import events
from mlplab.reports.events import EventFile

api_pb2: Any = _api_pb2  # protos have no types


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    return found.Reload()


def served(folder: Path) -> data_provider.MultiplexerDataProvider:
    """What TensorBoard's server has of every run under ``folder``."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    return data_provider.MultiplexerDataProvider(runs, str(folder))


def hparams_table(folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, float]]]:
    """Run -> (hyperparameters, metrics), as listed by the backend of the HPARAMS tab."""
    context = backend_context.Context(base_plugin.TBContext(data_provider=served(folder)))
    asked = api_pb2.ListSessionGroupsRequest(allowed_statuses=[api_pb2.STATUS_SUCCESS], slice_size=1000)
    answer = list_session_groups.Handler(RequestContext(), context, "", asked).run()
    return {
        group.name: (
            {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in group.hparams.items()},
            {metric.name.tag: metric.value for metric in group.metric_values},
        )
        for group in answer.session_groups
    }


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = read(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_scalars_come_back_with_their_steps_and_times(tmp_path: Path) -> None:
    with EventFile(tmp_path) as file:
        for step in range(30):
            file.add_scalars({"train/loss": 1 / (step + 1), "val/accuracy": step / 30}, step, wall_time=1000.5 + step)
    assert scalars(tmp_path) == {
        "train/loss": [(i, float(np.float32(1 / (i + 1)))) for i in range(30)],
        "val/accuracy": [(i, float(np.float32(i / 30))) for i in range(30)],
    }
    assert [e.wall_time for e in read(tmp_path).Scalars("train/loss")] == [1000.5 + i for i in range(30)]


def test_scalars_tab_lists_them(tmp_path: Path) -> None:
    with EventFile(tmp_path / "run") as file:
        file.add_scalars({"a": 1.0, "b/c": 2.0}, 7)
    listed = served(tmp_path).list_scalars(RequestContext(), experiment_id="", plugin_name="scalars")
    assert {tag: series.max_step for tag, series in listed["run"].items()} == {"a": 7, "b/c": 7}


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(
        st.tuples(
            st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.floats(), max_size=6),
            st.integers(0, 2**62),
        ),
        max_size=5,
    )
)
def test_any_tags_values_and_steps_are_read_back_by_tensorboards_own_loader(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[dict[str, float], int]]
) -> None:
    with EventFile(tmp_path_factory.mktemp("run")) as file:
        for values, step in calls:
            file.add_scalars(values, step)
    first, *rest = LegacyEventFileLoader(str(file.path)).Load()
    assert first.file_version == "brain.Event:2"
    with np.errstate(over="ignore"):
        expected = [(s, {tag: np.float32(value) for tag, value in values.items()}) for values, s in calls if values]
    found = [(event.step, {v.tag: np.float32(v.simple_value) for v in event.summary.value}) for event in rest]
    np.testing.assert_equal(found, expected)


def test_scalars_may_be_tensors_numpy_numbers_and_integers(tmp_path: Path) -> None:
    with EventFile(tmp_path) as file:
        file.add_scalars({"a": torch.tensor(0.5), "b": np.float32(0.25), "c": 3}, 0)  # type: ignore[dict-item]
        file.add_scalars({"a": torch.tensor(1e300, dtype=torch.float64), "b": 1, "c": True}, 1)  # type: ignore[dict-item]
    assert scalars(tmp_path) == {"a": [(0, 0.5), (1, np.inf)], "b": [(0, 0.25), (1, 1)], "c": [(0, 3), (1, 1)]}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(min_size=4, max_size=1500), min_size=1, max_size=4))
def test_checksums_are_tensorboards(payloads: list[bytes]) -> None:
    assert events._checksums(payloads) == [masked_crc32c(payload) for payload in payloads]


def test_checksum_of_a_payload_of_many_blocks() -> None:
    payload = np.random.default_rng(0).bytes(300_001)
    assert events._checksums([payload, b"1234"]) == [masked_crc32c(payload), masked_crc32c(b"1234")]


def test_file_names_are_tensorboards_and_unique(tmp_path: Path) -> None:
    files = [EventFile(tmp_path) for _ in range(50)]
    names = [file.path.name for file in files]
    assert len(set(names)) == 50
    assert all(re.fullmatch(r"events\.out\.tfevents\.\d{10}\..+\.\d+\.\d+", name) for name in names)


def test_a_run_is_readable_while_it_is_watched(tmp_path: Path) -> None:
    file = EventFile(tmp_path, flush_secs=0)
    watched = read(tmp_path)
    for step in range(5):
        file.add_scalars({"loss": float(step)}, step)
        assert [event.value for event in watched.Reload().Scalars("loss")] == list(range(step + 1))


def test_events_wait_for_their_time_or_a_flush(tmp_path: Path) -> None:
    file = EventFile(tmp_path, flush_secs=0.2)
    file.add_scalars({"loss": 0.0}, 0)
    assert scalars(tmp_path) == {}
    time.sleep(0.21)
    file.add_scalars({"loss": 1.0}, 1)
    assert len(scalars(tmp_path)["loss"]) == 2
    file.add_scalars({"loss": 2.0}, 2)
    assert len(scalars(tmp_path)["loss"]) == 2
    file.flush()
    assert len(scalars(tmp_path)["loss"]) == 3


def test_a_large_buffer_is_written_before_its_time(tmp_path: Path) -> None:
    file = EventFile(tmp_path, flush_secs=1e9)
    file.add_text("big", "x" * 2_000_000, 0)
    assert file.path.stat().st_size > 2_000_000


def test_a_killed_run_leaves_what_was_flushed(tmp_path: Path) -> None:
    code = (
        "import os, sys; from mlplab.reports.events import EventFile\n"
        "file = EventFile(sys.argv[1]); file.add_scalars({'loss': 1.0}, 1); file.flush()\n"
        "file.add_scalars({'loss': 2.0}, 2); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    assert scalars(tmp_path) == {"loss": [(1, 1.0)]}


def test_a_file_cut_off_anywhere_is_readable_up_to_there(tmp_path: Path) -> None:
    with EventFile(tmp_path / "whole") as file:
        for step in range(3):
            file.add_scalars({"loss": float(step)}, step)
    whole = file.path.read_bytes()
    cut = tmp_path / file.path.name
    counts = []
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        counts.append(sum(event.HasField("summary") for event in LegacyEventFileLoader(str(cut)).Load()))
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


def test_hundreds_of_unclosed_files_leave_no_thread_and_no_handle(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc")
    threads, handles = threading.active_count(), len(list(descriptors.iterdir()))
    kept = [EventFile(tmp_path / str(i)) for i in range(200)]
    for file in kept:
        file.add_scalars({"loss": 1.0}, 0)
    assert threading.active_count() == threads
    assert len(list(descriptors.iterdir())) == handles


def test_closed_file_refuses_events_and_closes_again(tmp_path: Path) -> None:
    file = EventFile(tmp_path)
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.add_scalars({"loss": 1.0}, 0)


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


def test_writing_scalars_needs_neither_torch_nor_tensorboard(tmp_path: Path) -> None:
    code = (
        "import sys; from mlplab.reports.events import EventFile\n"
        "with EventFile(sys.argv[1]) as file: file.add_scalars({'loss': 1.0}, 0)\n"
        "assert not {'torch', 'tensorboard', 'google.protobuf', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_scalars_are_cheap(tmp_path: Path) -> None:
    """Thirty epochs of 22 scalars take about 0.1 ms; torch's writer takes 20 ms or more."""
    values = {f"{part}/{i}": 0.5 for part in ("train", "val") for i in range(11)}
    took = []
    for _ in range(20):
        writer = EventFile(tmp_path)
        start = time.process_time()
        for step in range(30):
            writer.add_scalars(values, step)
        took.append(time.process_time() - start)
    assert min(took) < 2e-3
