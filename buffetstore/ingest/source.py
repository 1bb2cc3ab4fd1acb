"""Files as batches of rows: CSV (also `.gz`, and every member of a `.zip`) and Parquet, never whole in memory."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_BLOCK_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file.

    Parameters
    ----------
    rows:
        The columns by the names that the file gives them; of a CSV file, all text.
    member:
        The file's name, or its member's.
    first:
        The number of the first row in the file or member; 0 is the first.
    share:
        How much of the file has been read, 0 to 1.
    malformed:
        Lines that are no rows, with what is wrong.
    """

    rows: pa.Table
    member: str
    first: int
    share: float
    malformed: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read.

    Parameters
    ----------
    path:
        Parquet by its name (`.parquet`, `.pq`), else CSV; `.gz` is unpacked, and each member of a `.zip` is read.
    header:
        Names of the columns where the file has none.
    delimiter, encoding:
        Of a CSV file; `.tsv` files have tabs.
    batch_rows:
        Rows in a batch, about.
    """

    path: Path
    header: Sequence[str] = ()
    delimiter: str | None = None
    encoding: str = "utf-8"
    batch_rows: int = 500_000

    @property
    def is_parquet(self) -> bool:
        """Whether the file is Parquet."""
        return self.path.suffix.lower() in {".parquet", ".pq"}

    def batches(self) -> Iterator[Batch]:
        """Yield the file's rows in order. Reads as it goes: run each step off the event loop.

        Raises
        ------
        NotFoundError
            The file is not there.
        InvalidInputError
            The file has no columns, or is in another encoding.
        CorruptFileError
            It cannot be unpacked or decoded.
        """
        if not self.path.is_file():
            raise NotFoundError(f"there is no file {self.path}", key=str(self.path))
        try:
            yield from self._parquet() if self.is_parquet else self._zip() if self._is_zip else self._csv_file()
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{self.path} is not {self.encoding} (byte {error.start}: {error.reason}): give its encoding, "
                "such as latin-1",
                key=str(self.path),
            ) from error
        except (pa.ArrowInvalid, OSError, EOFError, zipfile.BadZipFile) as error:
            raise self._translated(error) from error

    @property
    def _is_zip(self) -> bool:
        return self.path.suffix.lower() == ".zip"

    def _translated(self, error: Exception) -> Exception:
        text = str(error)
        if "Empty CSV" in text:
            return InvalidInputError(f"{self.path} is empty", key=str(self.path))
        if "UTF8" in text or "UTF-8" in text:
            return InvalidInputError(
                f"{self.path} is not {self.encoding}: give its encoding, such as latin-1", key=str(self.path)
            )
        return CorruptFileError(f"{self.path} cannot be read: {text}", key=str(self.path))

    def _parquet(self) -> Iterator[Batch]:
        with pq.ParquetFile(self.path) as file:
            total, done = file.metadata.num_rows, 0
            for batch in file.iter_batches(batch_size=self.batch_rows):
                rows = pa.Table.from_batches([batch])
                yield Batch(rows, self.path.name, done, (done + len(rows)) / total)
                done += len(rows)

    def _csv_file(self) -> Iterator[Batch]:
        size = self.path.stat().st_size or 1
        packed = self.path.suffix.lower() == ".gz"
        name = self.path.name.removesuffix(self.path.suffix) if packed else self.path.name
        raw: list[IO[bytes]] = []

        def opened() -> Any:
            raw[:] = [self.path.open("rb")]
            return pa.CompressedInputStream(raw[0], "gzip") if packed else pa.PythonFile(raw[0], mode="r")

        for batch in self._csv(opened, name):
            share = 1.0 if raw[0].closed else min(raw[0].tell() / size, 1.0)
            yield replace(batch, share=share)

    def _zip(self) -> Iterator[Batch]:
        with zipfile.ZipFile(self.path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            size, done = sum(member.file_size for member in members) or 1, 0
            for member in members:
                done += member.file_size
                for batch in self._csv(partial(archive.open, member), member.filename):
                    yield replace(batch, share=done / size)

    def _csv(self, opened: Callable[[], Any], name: str) -> Iterator[Batch]:
        malformed: list[tuple[str, str]] = []

        def note(row: csv.InvalidRow) -> str:
            malformed.append((row.text, f"{row.actual_columns} fields instead of {row.expected_columns}"))
            return "skip"

        delimiter = self.delimiter or ("\t" if name.lower().endswith(".tsv") else ",")
        read = csv.ReadOptions(
            block_size=_BLOCK_BYTES, column_names=list(self.header) or None, encoding=self.encoding, use_threads=False
        )
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=note)
        # Only an empty field is null: NA is a ticker, and what is no number is for the contract to name.
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(self._columns(opened, name, read, parse), pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        malformed.clear()
        with opened() as stream, csv.open_csv(stream, read, parse, convert) as reader:
            first = 0
            for rows in _gathered(reader, self.batch_rows):
                yield Batch(rows, name, first, 1.0, tuple(malformed))
                malformed.clear()
                first += len(rows)
            if malformed:
                yield Batch(reader.schema.empty_table(), name, first, 1.0, tuple(malformed))

    def _columns(
        self, opened: Callable[[], Any], name: str, read: csv.ReadOptions, parse: csv.ParseOptions
    ) -> Sequence[str]:
        if self.header:
            return self.header
        with opened() as stream, csv.open_csv(stream, read, parse) as reader:
            columns: list[str] = reader.schema.names
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise InvalidInputError(f"{name} has two columns {twice[0]!r}: give header names of your own", key=name)
        return columns


def _gathered(reader: Any, rows: int) -> Iterator[pa.Table]:
    """Put blocks together until a batch is full: every batch is a commit of its own."""
    blocks: list[pa.RecordBatch] = []
    held = 0
    for block in reader:
        blocks.append(block)
        held += len(block)
        if held >= rows:
            yield pa.Table.from_batches(blocks)
            blocks, held = [], 0
    if held:
        yield pa.Table.from_batches(blocks)
