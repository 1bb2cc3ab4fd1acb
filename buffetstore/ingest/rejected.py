"""Rows that were refused, in a file beside the one they came from, each with its reasons."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from buffetstore.errors import InvalidInputError
from buffetstore.ingest.delimited import OWN_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from buffetstore.ingest.delimited import Malformed
    from buffetstore.ingest.source import Batch, Source
    from buffetstore.schemas import ValidationResult


class RejectedRows:
    """Writes refused rows to `path`, in the kind of file that they came from: none is made when there are none.

    The columns are the file's own, and before them `_record` (the row's number in its file, 1 is the first),
    `_reasons`, and `_line` (a line that is no row, as it stands in the file). Rows of an archive go to an archive, in
    members of the same names, so that what is read from a name is found again. Mend the rows, and ingest the file in
    the same way as the first one.
    """

    def __init__(self, source: Source, path: Path | None = None) -> None:
        kind = ".zip" if source.is_archive else ".parquet" if source.is_parquet else ".csv"
        self.path = path or source.path.with_name(f"{source.stem}.rejected{kind}")
        if self.path.suffix.lower() != kind:
            raise InvalidInputError(f"rejected rows of {source.path.name} cannot go to {self.path}: name a {kind} file")
        if self.path.absolute() == source.path.absolute():
            raise InvalidInputError(f"rejected rows cannot go to {self.path}, the file that they come from")
        self._is_archive = source.is_archive
        self._open = ExitStack()
        self._archive: zipfile.ZipFile | None = None
        self._member: str | None = None
        self._writer: Any = None
        self._current = ExitStack()
        self._schema: pa.Schema | None = None

    def add(self, batch: Batch, rows: NDArray[Any], reasons: Sequence[str]) -> None:
        """Write the rows at these positions of the batch."""
        texts = pa.nulls(len(rows), pa.string())
        records = pa.array(batch.numbers[rows] + 1, pa.int64())
        self._write(batch, batch.rows.take(pa.array(rows)), (records, pa.array(reasons, pa.string()), texts))

    def add_lines(self, batch: Batch, lines: Sequence[Malformed]) -> None:
        """Write lines that are no rows, with what is wrong with each."""
        like = batch.rows.schema
        rows = pa.table({field.name: pa.nulls(len(lines), field.type) for field in like}, schema=like)
        records = pa.array([line.record + 1 for line in lines], pa.int64())
        told = [pa.array([getattr(line, name) for line in lines], pa.string()) for name in ("reason", "text")]
        self._write(batch, rows, (records, told[0], told[1]))

    def _write(self, batch: Batch, rows: pa.Table, own: tuple[Any, Any, Any]) -> None:
        for position, (name, column) in enumerate(zip(OWN_COLUMNS, own, strict=True)):
            rows = rows.add_column(position, name, column)
        if self._writer is None or batch.member != self._member:
            self._current.close()
            try:
                self._begin(batch, rows.schema)
            except OSError as error:
                raise InvalidInputError(
                    f"refused rows cannot be written to {self.path}: {error}; say where they are to go"
                ) from error
        self._writer.write_table(rows.cast(self._schema))

    def _begin(self, batch: Batch, schema: pa.Schema) -> None:
        sink: Any = self.path
        if self._is_archive:
            if self._archive is None:
                self._archive = self._open.enter_context(zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED))
            sink = self._current.enter_context(self._archive.open(batch.member, "w"))
        make = csv.CSVWriter if batch.is_text else pq.ParquetWriter
        self._writer = self._current.enter_context(make(sink, schema))
        self._schema, self._member = schema, batch.member

    def close(self) -> None:
        """Finish the file. May be called twice."""
        self._writer = None
        try:
            self._current.close()
        finally:
            self._open.close()

    def discard_older(self) -> None:
        """Remove the file of an earlier run, which says nothing about this one."""
        with suppress(OSError):
            self.path.unlink()


def reasons_of(check: ValidationResult) -> list[str]:
    """Return why each row of `check.rejected` was refused, in its order."""
    rows = np.asarray(check.rejected, np.int64)
    every = map(check.errors_of, rows.tolist()) if check.detail is None else check.detail.errors_of(rows)
    return ["; ".join(f"{each.field}: {each.message}" for each in found) for found in every]
