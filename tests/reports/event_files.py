"""Event files as TensorBoard reads them."""

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2 as _api_pb2
from tensorboard.plugins.hparams import backend_context, list_session_groups

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
