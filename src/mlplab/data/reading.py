"""Table files as they are: CSV, TSV and Parquet, compressed or not, whole or in chunks; strict about their form."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlplab.config.base import SettingError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 16 << 20
"""Bytes that are parsed at a time; a row must fit into one block."""
SEPARATORS = (",", ";", "\t", "|")
"""What separator=auto tells apart."""
_FOREIGN = {
    b"PK\x03\x04": "a zip file, as Excel's are; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}


@dataclass(frozen=True)
class Form:
    """How a text file is laid out."""

    header: bool
    """Whether the first line names the columns; without it they are c0, c1 and so on."""
    separator: str
    """auto, tab or one character."""


class TableReader:
    """One file of a table, opened: its column names, and its rows as columns of text (Parquet: of their own types).

    Args:
        path: .csv, .tsv or .txt, also as .gz, or .parquet.
        least_columns: fewer are refused.

    Raises:
        SettingError: there is no such file, or it is empty or not what its name says, a name stands twice.
    """

    def __init__(self, path: Path, form: Form, least_columns: int = 2) -> None:
        self.path, self.header = path, form.header
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise SettingError(f"{path} {what}; give the file of a table (.csv, .tsv, .parquet, also .gz)")
        with path.open("rb") as file:
            start = file.read(8)
        if not start:
            raise SettingError(f"{path} is empty; a table needs rows")
        for magic, what in _FOREIGN.items():
            if start.startswith(magic):
                raise SettingError(f"{path} is {what}")
        self.gzipped = start.startswith(b"\x1f\x8b")
        self.parquet = start.startswith(b"PAR1") or path.suffix in (".parquet", ".pq")
        if self.parquet:
            names = list(self._parquet().schema_arrow.names)
        else:
            self.separator = self._separator(form.separator)
            with self._said():
                names = self._first_names()
                if not self.header:
                    names = [f"c{i}" for i in range(len(names))]
        self.raw_names = names
        self.names = [name.strip() or f"c{i}" for i, name in enumerate(names)]
        self._check_names(least_columns)

    def _check_names(self, least_columns: int) -> None:
        seen: set[str] = set()
        twice = [name for name in self.names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        numbers = [name for name in self.names if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", name)]
        hint = ""
        if self.header and not self.parquet and len(numbers) * 2 >= len(self.names):
            hint = " (its first line holds numbers: data.header=false if it names no columns)"
            if not twice and len(numbers) == len(self.names):
                raise SettingError(f"{self.path}: the columns are named {', '.join(numbers[:3])} ...{hint}")
        if twice:
            raise SettingError(f"{self.path}: the column name '{twice[0]}' stands twice{hint}; each needs its own")
        if len(self.names) < least_columns:
            raise SettingError(
                f"{self.path} has one column, '{self.names[0]}'; a table needs features and a target "
                "(is data.separator right?)"
            )

    def read(self) -> pa.Table:
        """The whole table.

        Raises:
            SettingError: the file holds no row, a row is too short or too long, a text is not UTF-8.
        """
        with self._said():
            table = self._parquet().read() if self.parquet else self._csv(self.raw_names).read_all()
        if not table.num_rows:
            what = "a header and no row" if self.header else "no row"
            raise SettingError(f"{self.path} holds {what}; a table needs rows")
        return table.rename_columns(self.names)

    def memory_needed(self) -> int:
        """Bytes that the whole table takes at most while it is read and made into features: an estimate."""
        columns = len(self.names)
        if self.parquet:
            file = self._parquet()
            stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
            return int(2 * stored) + file.metadata.num_rows * columns * 20
        size = self.path.stat().st_size
        with self._said(), self._open() as opened:
            start = opened.read(1 << 20)
        if self.gzipped:  # the file's own note of its size, modulo 4 GiB, or what its beginning suggests
            with self.path.open("rb") as file:
                file.seek(-4, 2)
                size = max(int.from_bytes(file.read(4), "little"), 2 * size)
        rows = size * max(start.count(b"\n"), 1) / max(len(start), 1)
        return int(1.3 * size + rows * columns * 28)

    def chunks(self, rows: int, numbers: Sequence[str] = (), missing: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The table in order, about `rows` rows at a time: a file of any size passes through little memory.

        Args:
            numbers: columns of a text file to read as float64, which is several times faster than by way of text. From
                the first value on that is no number they come as text, with that value in it.
            missing: what stands for a missing value in them.
        """
        with self._said():
            self.rows_read = 0
            for table in self._batches(rows, numbers, missing):
                self.rows_read += table.num_rows
                for start in range(0, table.num_rows, rows):
                    yield table.slice(start, rows)

    def share_read(self) -> float:
        """How much of the file `chunks` has read, from 0 to 1."""
        if self.parquet:
            return self.rows_read / max(self._parquet().metadata.num_rows, 1)
        return 1.0 if self.file.closed else self.file.tell() / self.file.size()

    def _batches(self, rows: int, numbers: Sequence[str], missing: Sequence[str]) -> Iterator[pa.Table]:
        import pyarrow as pa

        done = 0
        if numbers and not self.parquet:
            raw = [old for old, name in zip(self.raw_names, self.names, strict=True) if name in numbers]
            try:
                for batch in self._csv(self.raw_names, raw, missing):
                    if _written_nan(batch):
                        break
                    done += batch.num_rows
                    yield pa.Table.from_batches([batch]).rename_columns(self.names)
                else:
                    return
            except pa.ArrowInvalid:
                pass  # read again as text, to take what was meant or to say what is wrong
        for batch in self._parquet().iter_batches(rows) if self.parquet else self._csv(self.raw_names):
            if (skipped := min(done, batch.num_rows)) < batch.num_rows:
                yield pa.Table.from_batches([batch.slice(skipped)]).rename_columns(self.names)
            done -= skipped

    def _parquet(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.path)
        except (pa.ArrowException, OSError) as error:
            raise SettingError(f"{self.path} is not a Parquet file ({_first(error)})") from None

    def _first_names(self) -> list[str]:
        import pyarrow as pa

        try:  # the names stand in the first line: a small block is read several times faster
            return list(self._csv(names=None, block=1 << 16).schema.names)
        except pa.ArrowInvalid:
            return list(self._csv(names=None).schema.names)

    def _csv(
        self,
        names: list[str] | None,
        numbers: Sequence[str] = (),
        missing: Sequence[str] = (),
        block: int = BLOCK,
    ) -> Any:
        import pyarrow as pa
        import pyarrow.csv as arrow

        self.file = pa.OSFile(str(self.path))
        stream = pa.CompressedInputStream(self.file, "gzip") if self.gzipped else self.file
        own_names = names if names is not None and not self.header else None
        return arrow.open_csv(
            stream,
            arrow.ReadOptions(
                use_threads=True,
                block_size=block,
                column_names=own_names,
                autogenerate_column_names=names is None and not self.header,
            ),
            arrow.ParseOptions(delimiter=self.separator, newlines_in_values=True),
            arrow.ConvertOptions(
                column_types=dict.fromkeys(names or [], pa.string()) | dict.fromkeys(numbers, pa.float64()),
                null_values=list(missing),
                check_utf8=True,
            ),
        )

    def _open(self) -> Any:
        return gzip.open(self.path, "rb") if self.gzipped else self.path.open("rb")

    def _separator(self, given: str) -> str:
        if given != "auto":
            return "\t" if given == "tab" else given
        try:
            with self._open() as file:
                text = file.read(1 << 18).decode("utf-8-sig", "replace")
        except (OSError, EOFError) as error:
            raise SettingError(f"{self.path} is damaged ({_first(error)})") from None
        best, most = "\t" if ".tsv" in self.path.suffixes else ",", 1
        for separator in SEPARATORS:
            lines = csv.reader(io.StringIO(text, newline=None), delimiter=separator)
            try:
                widths = [len(row) for row in islice(lines, 20) if row]
            except csv.Error:  # a field longer than Python's reader takes: the other reader will say what it is
                continue
            if widths and min(widths) == max(widths) > most:
                best, most = separator, widths[0]
        return best

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the reader library has against the file, in one message with the line."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
            self._explain(error)

    def _explain(self, error: BaseException) -> NoReturn:
        text = _first(error)
        if "mpty CSV" in text:
            raise SettingError(f"{self.path} is empty; a table needs rows")
        if self.parquet:
            raise SettingError(f"{self.path} is a damaged Parquet file ({text})")
        try:
            with self._open() as file:
                self._look(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=None))
        except (OSError, EOFError, csv.Error):
            pass
        raise SettingError(f"{self.path} cannot be read as a table: {text}")

    def _look(self, file: Any) -> None:
        csv.field_size_limit(1 << 27)
        reader = csv.reader(file, delimiter=self.separator)
        width, before = 0, 0
        for record in reader:
            line, before = before + 1, reader.line_num
            width = width or len(record)
            if any("\udc80" <= c <= "\udcff" for field in record for c in field):
                raise SettingError(
                    f"{self.path}, line {line}: not UTF-8, though other lines are; save the whole file as UTF-8"
                )
            if record and len(record) != width:
                raise SettingError(
                    f"{self.path}, line {line}: {len(record)} field{'s' * (len(record) != 1)}, but the first line has "
                    f"{width}; each row needs all of them (is a separator or a quote missing?)"
                )


def _written_nan(batch: Any) -> bool:
    """Whether a number is nan though nothing says that this stands for a missing value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return any(pa.types.is_floating(c.type) and pc.any(pc.is_nan(c)).as_py() for c in batch.columns)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
