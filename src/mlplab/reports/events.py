"""A synchronous writer of one TensorBoard event file: no thread, and no file handle between flushes.

A record is a length, its checksum, a serialized ``Event`` and its checksum. Scalars are packed from a template cached
per set of tags, the rest by tensorboard's protos, imported when first needed. The CRC-32C checksums of a flush are
computed together with numpy: tensorboard's pure-Python loop costs more than everything else here.
"""

import functools
import itertools
import json
import math
import os
import socket
import struct
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    Array = NDArray[Any] | torch.Tensor

_counter = itertools.count()
_AROUND = 16  # bytes of a record around its event
_BLOCK = 512  # bytes checksummed by one row of table look-ups


class EventFile:
    """Writes an event file into ``folder``. An event is buffered until an ``add_*`` call ``flush_secs`` or more after
    the last flush, ``flush()`` or ``close()`` (there is no timer). One that is never closed leaks nothing but its
    last events. Not to be shared between threads.

    Args:
        name: the file's; None makes one that no other file has, later in order than those before.
        at_once: make the file now, for a TensorBoard that watches; else with the first flush.
    """

    def __init__(
        self, folder: Path | str, name: str | None = None, flush_secs: float = 2.0, at_once: bool = True
    ) -> None:
        now, host = time.time(), socket.gethostname()
        own = f"events.out.tfevents.{int(now):010d}.{host}.{os.getpid()}.{next(_counter)}"
        self.path = Path(folder) / (name or own)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.flush_secs = flush_secs
        self.closed = False
        self._written = 0
        self._pending = [struct.pack("<cd15s", b"\x09", now, b"\x1a\x0dbrain.Event:2")]  # wall_time, file_version
        self._size = self._step = 0
        self._flushed = time.monotonic()
        if at_once:
            self.flush()

    def add_scalars(self, values: Mapping[str, float], step: int, wall_time: float | None = None) -> None:
        """Write one event with a scalar for each tag of ``values``, stored (as TensorBoard does) in float32."""
        if not values:
            return
        packer, template = _template(tuple(values))
        fields = template.copy()
        fields[1] = time.time() if wall_time is None else wall_time
        fields[3::2] = values.values()
        try:
            event = packer.pack(*fields)
        except OverflowError:  # beyond float32: infinity, as a diverging run must not fail here
            with np.errstate(over="ignore"):
                fields[3::2] = np.array([float(value) for value in values.values()]).astype(np.float32).tolist()
            event = packer.pack(*fields)
        self._append(event + b"\x10" + _varint(step), step)

    def add_histogram(self, tag: str, values: "Array", step: int, bins: int = 60) -> None:
        """Write a histogram of the finite entries of ``values`` (any shape) in even bins; nothing if there are none."""
        from torch.utils.tensorboard.summary import histogram

        array = _numpy(values).astype(np.float64)
        if (array := array[np.isfinite(array)]).size:
            self._add_summary(histogram(tag, array, bins), step)

    def add_image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Write ``image``: uint8 (height, width, channels) with 1, 3 or 4 channels."""
        from torch.utils.tensorboard.summary import image as make_summary

        pixels = image.repeat(3, axis=2) if image.shape[2] == 1 else image
        self._add_summary(make_summary(tag, pixels, dataformats="HWC"), step)

    def add_figure(self, tag: str, figure: "Figure", step: int) -> None:
        """Write ``figure`` as an image, rendered by Agg without pyplot."""
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        from mlplab.reports.figures import png

        data = png(figure)
        width, height = struct.unpack(">II", data[16:24])  # of the PNG header
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Write ``text``, shown as Markdown."""
        from torch.utils.tensorboard.summary import text as make_summary

        self._add_summary(make_summary(tag, text), step)

    def add_pr_curve(self, tag: str, labels: "Array", scores: "Array", step: int) -> None:
        """Write the precision-recall curve of ``labels`` (rows,) in {0, 1} and ``scores`` (rows,) in [0, 1]."""
        from torch.utils.tensorboard.summary import pr_curve

        self._add_summary(pr_curve(tag, _numpy(labels).astype(np.int64), _numpy(scores).astype(np.float64)), step)

    def add_graph(self, network: "torch.nn.Module", example: "torch.Tensor | tuple[torch.Tensor, ...]") -> None:
        """Write the graph of ``network``, traced in eval mode on ``example``; every module gets its own mode back."""
        from tensorboard.compat.proto.event_pb2 import Event, TaggedRunMetadata  # pyright: ignore[reportAttributeAccessIssue]
        from torch.utils.tensorboard._pytorch_graph import graph

        modes = [(module, module.training) for module in network.modules()]
        try:
            with warnings.catch_warnings(action="ignore"):  # tracing is deprecated, and warns of Python values
                definition, statistics = graph(network, example)
        finally:
            for module, training in modes:
                module.training = training
        run = TaggedRunMetadata(tag="step1", run_metadata=statistics.SerializeToString())
        for field in ({"graph_def": definition.SerializeToString()}, {"tagged_run_metadata": run}):
            self._append(Event(wall_time=time.time(), **field).SerializeToString(), self._step)

    def add_hparams(self, params: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """Write this run's row of the HPARAMS tab, once and at its end: its parameters and its final ``metrics``.

        The tab reads a metric from the scalar of that tag, written here at the last step seen; one that is not finite
        is left out. No run names the tab's columns, for TensorBoard would take those of all runs from it: it then
        shows what any of them has.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

        now, (start, end) = time.time(), (HParamsPluginData() for _ in range(2))
        for name, value in params.items():
            number, flag = isinstance(value, int | float), isinstance(value, bool)  # a bool is an int too
            field = "bool" if flag else "number" if number else "string"
            setattr(start.session_start_info.hparams[name], f"{field}_value", value)
        start.session_start_info.start_time_secs = end.session_end_info.end_time_secs = now
        end.session_end_info.status = 1  # STATUS_SUCCESS
        tags = (metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG)
        described = zip(tags, map(metadata.create_summary_metadata, (start, end)), strict=True)
        values = [Summary.Value(tag=tag, metadata=data, tensor=metadata.NULL_TENSOR) for tag, data in described]
        self._add_summary(Summary(value=values), self._step)
        self.add_scalars({tag: value for tag, value in metrics.items() if math.isfinite(value)}, self._step)

    def add_restart(self, step: int) -> None:
        """Tell a TensorBoard that watches to forget what it has seen of this run from ``step`` on."""
        now = struct.pack("<cd", b"\x09", time.time())
        self._append(now + b"\x10" + _varint(step) + b"\x3a\x02\x08\x01", step)  # session_log: START

    def add_custom_scalars_layout(self, layout: Mapping[str, Mapping[str, tuple[str, list[str]]]]) -> None:
        """Lay out the CUSTOM SCALARS tab: category -> chart -> ("Multiline", tags) or ("Margin", 3 tags)."""
        self._add_summary(_layout(json.dumps(layout)), 0)

    @property
    def end(self) -> int:
        """Bytes of the file, those that are buffered among them."""
        return self._written + sum(len(event) + _AROUND for event in self._pending)

    def flush(self) -> None:
        """Append the buffered events to the file."""
        if self._pending:
            with self.path.open("ab" if self._written else "xb") as file:  # buffered: all, or an error
                self._written += file.write(_records(self._pending))
        self._pending, self._size, self._flushed = [], 0, time.monotonic()

    def close(self) -> None:
        """Flush, and refuse further events."""
        self.flush()
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _add_summary(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._append(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString(), step)

    def _append(self, event: bytes, step: int) -> None:
        if self.closed:
            raise ValueError(f"{self.path} is closed")
        self._pending.append(event)
        self._size += len(event)
        self._step = max(self._step, step)
        if self._size > 1 << 20 or time.monotonic() - self._flushed >= self.flush_secs:
            self.flush()


def cut(folder: Path, positions: Mapping[str, int]) -> None:
    """Cut the event files of ``folder`` back to ``positions``, bytes of each file by its name; others are removed."""
    for path in folder.glob("events.out.tfevents.*"):
        if path.name not in positions:
            path.unlink()
        elif path.stat().st_size > positions[path.name]:
            os.truncate(path, positions[path.name])


def _numpy(values: Any) -> NDArray[Any]:
    return np.asarray(values) if not hasattr(values, "detach") else values.detach().float().cpu().numpy()


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    data = []
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


@functools.lru_cache(maxsize=1024)
def _template(tags: tuple[str, ...]) -> tuple[struct.Struct, list[Any]]:
    """Packer of an event's bytes up to its step, and its fields: every other one is a number to fill in."""
    names = [tag.encode() for tag in tags]
    texts = [b"\x0a" + _varint(len(name)) + name + b"\x15" for name in names]  # Summary.Value: tag, simple_value
    values = [b"\x0a" + _varint(len(text) + 4) + text for text in texts]  # of Summary
    values[0] = b"\x2a" + _varint(sum(len(value) + 4 for value in values)) + values[0]  # Event: summary
    fields = [b"\x09", 0.0, *(field for value in values for field in (value, 0.0))]  # Event: wall_time
    return struct.Struct("<cd" + "".join(f"{len(value)}sf" for value in values)), fields


@functools.cache
def _layout(as_json: str) -> Any:
    from torch.utils.tensorboard.summary import custom_scalars

    return custom_scalars(json.loads(as_json))


@functools.cache
def _crc_table() -> NDArray[np.uint32]:
    """(_BLOCK, 256): the CRC-32C register, from 0, after the byte at a position of a block and zeros to its end."""
    table = np.zeros((_BLOCK, 256), np.uint32)
    table[-1] = np.arange(256)
    for _ in range(8):
        table[-1] = table[-1] >> 1 ^ (table[-1] & 1) * np.uint32(0x82F63B78)
    for position in range(_BLOCK - 2, -1, -1):
        table[position] = table[-1][table[position + 1] & 255] ^ table[position + 1] >> 8
    return table


def _checksums(payloads: Sequence[bytes]) -> list[int]:
    """Masked CRC-32C of each payload of 4 bytes or more. Leading zeros leave it as it is, so blocks are padded left."""
    counts = [-(-len(payload) // _BLOCK) for payload in payloads]
    padded = b"".join(payload.rjust(n * _BLOCK, b"\0") for n, payload in zip(counts, payloads, strict=True))
    data = np.frombuffer(bytearray(padded), np.uint8)
    starts = np.cumsum(counts) * _BLOCK - np.array([len(payload) for payload in payloads])
    data[starts[:, None] + np.arange(4)] ^= 255  # the register starts with all bits set
    table, row = _crc_table(), np.arange(_BLOCK) * 256
    chunks = np.array_split(data.reshape(-1, _BLOCK), -(-len(data) // (256 * _BLOCK)))
    blocks = iter(np.concatenate([np.bitwise_xor.reduce(table.take(c + row), axis=1) for c in chunks]).tolist())
    a, b, c, d = table[:4].tolist()
    found = []
    for n in counts:
        crc = 0
        for _ in range(n):
            crc = a[crc & 255] ^ b[crc >> 8 & 255] ^ c[crc >> 16 & 255] ^ d[crc >> 24] ^ next(blocks)
        crc ^= 0xFFFFFFFF
        found.append(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    return found


def _records(events: Sequence[bytes]) -> bytes:
    """The events as a file stores them: length, its checksum, event, its checksum."""
    sizes = [struct.pack("<Q", len(event)) for event in events]
    checksums = [struct.pack("<I", checksum) for checksum in _checksums([*sizes, *events])]
    return b"".join(itertools.chain(*zip(sizes, checksums, events, checksums[len(sizes) :], strict=False)))
