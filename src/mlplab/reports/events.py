"""A synchronous writer of one TensorBoard event file: no thread, and no file handle between flushes.

A file is a row of records (length, checksum, payload, checksum); a payload is one serialized ``Event``. Scalars are
packed straight into bytes from a template cached for each set of tags; everything else goes through tensorboard's
protos, imported only when first needed. Checksums (CRC-32C) of a whole flush are computed at once with numpy, since
the pure-Python checksum that tensorboard falls back to costs more than all the rest together.
"""

import functools
import itertools
import math
import os
import socket
import struct
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

_BLOCK = 512  # bytes checksummed by one row of look-ups
_BUFFER = 1 << 20  # bytes buffered before a flush is forced
_counter = itertools.count()


class EventFile:
    """Writes one event file into ``folder``; events are buffered until ``flush_secs`` have passed since the last flush.

    There is no timer: an event is written by the first ``add_*`` call at or after that time, by ``flush()`` or by
    ``close()``. The file is open only while it is being appended to, so a writer that is never closed leaks nothing.
    Not safe to share between threads.
    """

    def __init__(self, folder: Path | str, flush_secs: float = 2.0) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.flush_secs = flush_secs
        self.closed = False
        now = time.time()
        version = b"\x09" + struct.pack("<d", now) + b"\x1a\x0dbrain.Event:2"  # Event: wall_time, file_version
        while True:
            name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{next(_counter)}"
            self.path = folder / name
            try:
                with self.path.open("xb") as file:
                    file.write(records([version]))
                break
            except FileExistsError:  # another container with the same host name and process id
                continue
        self._pending: list[bytes] = []
        self._size = 0
        self._step = 0
        self._flushed = time.monotonic()

    def add_scalars(self, values: Mapping[str, float], step: int, wall_time: float | None = None) -> None:
        """Write one event with a scalar for each tag of ``values`` (stored, as TensorBoard does, in float32)."""
        if not values:
            return
        packer, parts = _template(tuple(values))
        fields = parts.copy()
        fields[1] = time.time() if wall_time is None else wall_time
        fields[3::2] = values.values()
        try:
            event = packer.pack(*fields)
        except OverflowError:  # beyond float32: infinity, not an error in a diverging run
            with np.errstate(over="ignore"):
                fields[3::2] = np.array([float(value) for value in values.values()]).astype(np.float32).tolist()
            event = packer.pack(*fields)
        self._append(event + b"\x10" + _varint(step), step)

    def add_histogram(self, tag: str, values: "NDArray[Any] | torch.Tensor", step: int, bins: int = 60) -> None:
        """Write a histogram of the finite entries of ``values`` (any shape) in even bins; nothing if there are none."""
        from torch.utils.tensorboard.summary import histogram

        array = _numpy(values).reshape(-1).astype(np.float64)
        array = array[np.isfinite(array)]
        if array.size:
            self._add_summary(histogram(tag, array, bins), step)

    def add_image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Write ``image``, uint8 of shape (height, width, channels) with 1, 3 or 4 channels."""
        from torch.utils.tensorboard.summary import image as make_summary

        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3, 4):
            raise ValueError(f"expected uint8 (height, width, 1|3|4), got {image.dtype} {image.shape}")
        pixels = image.repeat(3, axis=2) if image.shape[2] == 1 else image
        self._add_summary(make_summary(tag, pixels, dataformats="HWC"), step)

    def add_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Write ``figure`` as an image, rendered with Agg; pyplot is not involved."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        from mlplab.reports.figures import png

        data = png(figure)
        width, height = struct.unpack(">II", data[16:24])  # of the PNG header
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Write ``text``, shown as Markdown."""
        from torch.utils.tensorboard.summary import text as make_summary

        self._add_summary(make_summary(tag, text), step)

    def add_pr_curve(self, tag: str, labels: ArrayLike, scores: ArrayLike, step: int) -> None:
        """Write a precision-recall curve of ``labels`` (rows,) in {0, 1} and ``scores`` (rows,) in [0, 1]."""
        from torch.utils.tensorboard.summary import pr_curve

        self._add_summary(pr_curve(tag, _numpy(labels).astype(np.int64), _numpy(scores).astype(np.float64)), step)

    def add_graph(self, network: "torch.nn.Module", example: "torch.Tensor | tuple[torch.Tensor, ...]") -> None:
        """Write the graph of ``network`` traced in eval mode on ``example``; every module's mode is then restored."""
        from tensorboard.compat.proto.event_pb2 import Event, TaggedRunMetadata
        from torch.utils.tensorboard._pytorch_graph import graph

        modes = [(module, module.training) for module in network.modules()]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of tracing: deprecation, and constants taken from Python values
                definition, statistics = graph(network, example)
        finally:
            for module, training in modes:
                module.training = training
        metadata = TaggedRunMetadata(tag="step1", run_metadata=statistics.SerializeToString())
        for event in (Event(graph_def=definition.SerializeToString()), Event(tagged_run_metadata=metadata)):
            event.wall_time = time.time()
            self._append(event.SerializeToString(), self._step)

    def add_hparams(self, params: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """Write this run's row of the HPARAMS tab, once and at the end: its parameters and its final ``metrics``.

        Each metric is also written as a scalar of that tag at the last step seen (the tab reads it from there); one
        that is not finite is left out, though it stays a column. TensorBoard takes the columns from whichever run it
        finds first, so runs to be compared should name the same parameters and metrics.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import api_pb2, metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

        now = time.time()
        start, experiment = SessionStartInfo(start_time_secs=now), api_pb2.Experiment(time_created_secs=now)
        for name, value in params.items():
            if isinstance(value, bool):  # before int, which bool is too
                start.hparams[name].bool_value, kind = value, api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, int | float):
                start.hparams[name].number_value, kind = value, api_pb2.DATA_TYPE_FLOAT64
            else:
                start.hparams[name].string_value, kind = str(value), api_pb2.DATA_TYPE_STRING
            experiment.hparam_infos.add(name=name, type=kind)
        for tag in metrics:
            experiment.metric_infos.add(name=api_pb2.MetricName(tag=tag))
        end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=now)
        summary = Summary()
        for tag, data in (
            (metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment)),
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
        ):
            summary.value.add(tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR)
        self._add_summary(summary, self._step)
        self.add_scalars({tag: value for tag, value in metrics.items() if math.isfinite(value)}, self._step)

    def add_custom_scalars_layout(self, layout: Mapping[str, Mapping[str, tuple[str, list[str]]]]) -> None:
        """Lay out the CUSTOM SCALARS tab: category -> chart -> ("Multiline", tags) or ("Margin", 3 tags)."""
        from torch.utils.tensorboard.summary import custom_scalars

        self._add_summary(custom_scalars(layout), 0)

    def flush(self) -> None:
        """Append the buffered events to the file."""
        if self._pending:
            with self.path.open("ab", buffering=0) as file:
                file.write(records(self._pending))
            self._pending.clear()
            self._size = 0
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush and refuse further events; closing again does nothing."""
        if not self.closed:
            self.flush()
            self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_summary(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._append(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString(), step)

    def _append(self, event: bytes, step: int) -> None:
        if self.closed:
            raise ValueError(f"{self.path} is closed")
        self._pending.append(event)
        self._size += len(event)
        self._step = max(self._step, step)
        if self._size > _BUFFER or time.monotonic() - self._flushed >= self.flush_secs:
            self.flush()
