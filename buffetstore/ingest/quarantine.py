"""Rows that were refused, in a file beside the one they came from, each with its reasons."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from buffetstore.schemas.result import ValidationResult

_RECORD, _REASONS, _LINE = "_record", "_reasons", "_line"


class Quarantine:
    """Writes refused rows to `path`: none is made when there are none.

    The columns are the file's own, and before them `_record` (the row's number in its file, 1 is the first),
    `_reasons`, and `_line` (a line that is no row, as it stands in the file). Mend the rows, and ingest the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: Any = None
        self._schema: pa.Schema | None = None

    def add(self, rows: pa.Table, records: Sequence[int], reasons: Sequence[str]) -> None:
        """Write `rows`, whose numbers are `records`."""
        texts = pa.nulls(len(rows), pa.string())
        self._write(rows, pa.array(records, pa.int64()), pa.array(reasons, pa.string()), texts)

    def add_lines(self, like: pa.Schema, lines: Sequence[tuple[str, str]]) -> None:
        """Write lines that are no rows, with what is wrong with each."""
        rows = pa.table({field.name: pa.nulls(len(lines), field.type) for field in like}, schema=like)
        texts, reasons = zip(*lines, strict=True)
        self._write(rows, pa.nulls(len(lines), pa.int64()), pa.array(reasons), pa.array(texts))

    def _write(self, rows: pa.Table, records: pa.Array, reasons: pa.Array, lines: pa.Array) -> None:
        for name, column in ((_LINE, lines), (_REASONS, reasons), (_RECORD, records)):
            rows = rows.add_column(0, name, column)
        if self._writer is None:
            self._schema = rows.schema
            self._writer = self._open(rows.schema)
        if rows.schema.names != self._schema.names:  # type: ignore[union-attr]  # set with the writer
            raise InvalidInputError(
                f"the file's members have different columns: {rows.schema.names[3:]} after "
                f"{self._schema.names[3:]}; ingest them one by one"  # type: ignore[union-attr]
            )
        self._writer.write_table(rows.cast(self._schema))
        self.rows += len(rows)

    def _open(self, schema: pa.Schema) -> Any:
        try:
            if self.path.suffix == ".parquet":
                return pq.ParquetWriter(self.path, schema)
            return csv.CSVWriter(self.path, schema)
        except OSError as error:
            raise InvalidInputError(f"refused rows cannot be written to {self.path}: {error}") from error

    def close(self) -> None:
        """Finish the file. May be called twice."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def discard_older(self) -> None:
        """Remove the file of an earlier run, which says nothing about this one."""
        with suppress(FileNotFoundError):
            self.path.unlink()


def reasons_of(check: ValidationResult) -> list[str]:
    """Return why each row of `check.rejected` was refused, in its order."""
    found: Mapping[int, list[str]] = {row: [] for row in check.rejected}
    for finding in check.errors:
        found[finding.record_index].append(f"{finding.field}: {finding.message}")
    # Findings are kept up to a number; rows past it were refused for the like.
    return ["; ".join(messages) or "like the rows above" for messages in found.values()]
