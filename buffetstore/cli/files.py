"""Record batches into a file whose name says its format."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from buffetstore.cli.common import to_json
from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class _Format(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...

    def finish(self) -> None: ...


class Writer:
    """Writes beside the file, and puts it in its place when all is written: a broken-off run leaves nothing."""

    def __init__(self, path: Path, make: Callable[[IO[bytes]], _Format]) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        try:
            self._file = self._partial.open("wb")
        except OSError as error:
            raise InvalidInputError(f"cannot write {path}: {error.strerror}", key=str(path)) from error
        self._format = make(self._file)
        self._finished = False

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._format.write(batch)

    def finish(self) -> None:
        """Make the file visible."""
        self._format.finish()
        self._file.close()
        self._partial.replace(self._path)
        self._finished = True

    def close(self) -> None:
        """Clear up what was not finished. May be called twice."""
        if not self._finished:
            self._file.close()
            self._partial.unlink(missing_ok=True)


def open_writer(path: Path) -> Writer:
    """Return the writer for the path's suffix.

    Raises
    ------
    InvalidInputError
        The suffix says no format that is known, or the file cannot be written.
    """
    make = _FORMATS.get(path.suffix.lower())
    if make is None:
        raise InvalidInputError(f"--out {str(path)!r}: the name must end with {', '.join(_FORMATS)}")
    return Writer(path, make)


class _Columns:
    """Parquet and CSV: the schema is the first batch's."""

    def __init__(self, make: Callable[[pa.Schema], Any]) -> None:
        self._make = make
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._make(batch.schema)
        self._writer.write_batch(batch)

    def finish(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Parquet(_Columns):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(lambda schema: pq.ParquetWriter(file, schema, compression="zstd"))

    def finish(self) -> None:
        if self._writer is None:  # no batch came; a file without a schema would not be Parquet
            self._writer = self._make(pa.schema([]))
        super().finish()


class _Csv(_Columns):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(lambda schema: csv.CSVWriter(file, schema))

    def write(self, batch: pa.RecordBatch) -> None:
        super().write(_flat(batch))


class _Json:
    """One array of objects, a line each."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._between = b"[\n"

    def write(self, batch: pa.RecordBatch) -> None:
        for start in range(0, len(batch), 2_000):
            for row in batch.slice(start, 2_000).to_pylist():
                self._file.write(self._between + to_json(row).encode())
                self._between = b",\n"

    def finish(self) -> None:
        self._file.write(b"[]\n" if self._between == b"[\n" else b"\n]\n")


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with nested columns as JSON text: CSV has no other place for them."""
    columns = [
        pa.array([None if value is None else to_json(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


_FORMATS: dict[str, Callable[[IO[bytes]], _Format]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".json": _Json,
}
