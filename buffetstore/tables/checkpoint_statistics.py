"""The statistics in a checkpoint's Parquet file, of which columns are decoded when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from buffetstore.expressions import Bounds
from buffetstore.tables.arrays import present
from buffetstore.tables.file_statistics import FileStatistics, parse_statistics, typed_statistics
from buffetstore.tables.schema import stored_name
from buffetstore.tables.stored_statistics import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PARSED_MARK = "buffetstore.parsed"  # in the footer: every file's statistics have been parsed
_ROWS = 65_536  # files at a time: the texts of all could be gigabytes
_PARSED = "add.stats_parsed"
_TEXT = "add.stats"


class ParquetBlock(Block):
    """The statistics of the `add` actions in some row groups: parsed by the writer, or as JSON texts.

    Parameters
    ----------
    exact:
        The parsed ones are all there and enclose every value.
    """

    def __init__(self, file: pq.ParquetFile, groups: Sequence[int], *, exact: bool) -> None:
        super().__init__()
        self._file = file
        self._groups = groups
        self._exact = exact
        schema = file.metadata.schema
        self._leaves = {schema.column(index).path for index in range(len(schema))}
        self.exact = exact or f"{_PARSED}.numRecords" not in self._leaves

    def _typed(self, schema: pa.Schema) -> FileStatistics:
        has_texts = _TEXT in self._leaves and not self._exact
        parsed = self._parsed(schema) if f"{_PARSED}.numRecords" in self._leaves else None
        if not has_texts or (parsed is not None and not parsed.rows.null_count):
            return parsed or self._of_texts(schema)
        texts = self._of_texts(schema)
        # A writer may leave the text out where it has parsed them, and the other way about.
        return texts if parsed is None or parsed.rows.null_count > texts.rows.null_count else parsed

    def _parsed(self, schema: pa.Schema) -> FileStatistics:
        sides = ("minValues", "maxValues", "nullCount")
        wanted = {f"{_PARSED}.{side}.{stored_name(field)}" for side in sides for field in schema}
        leaves = [f"{_PARSED}.numRecords", *sorted(wanted & self._leaves)]

        def read(adds: pa.StructArray) -> FileStatistics:
            return typed_statistics(_field(adds, "stats_parsed"), schema, exact=self._exact)

        return _joined([read(adds) for adds in self._adds(leaves)], schema)

    def _of_texts(self, schema: pa.Schema) -> FileStatistics:
        def read(adds: pa.StructArray) -> FileStatistics:
            held = _field(adds, "stats") if _TEXT in self._leaves else pa.nulls(len(adds))
            return parse_statistics(held.cast(pa.string()), schema)

        leaves = [_TEXT] if _TEXT in self._leaves else ["add.path"]
        return _joined([read(adds) for adds in self._adds(leaves)], schema)

    def _adds(self, leaves: Sequence[str]) -> Iterator[pa.StructArray]:
        for batch in self._file.iter_batches(_ROWS, self._groups, leaves):
            yield present(batch["add"])


def _field(bodies: pa.StructArray, name: str) -> pa.Array:
    names = [field.name for field in bodies.type]
    return bodies.flatten()[names.index(name)]


def _joined(parts: Sequence[FileStatistics], schema: pa.Schema) -> FileStatistics:
    if len(parts) == 1:
        return parts[0]

    def side(take: Callable[[Bounds], pa.Array], name: str) -> pa.Array:
        return pa.concat_arrays([take(part.bounds[name]) for part in parts])

    bounds = {
        field.name: Bounds(
            side(lambda held: held.lowest, field.name),
            side(lambda held: held.highest, field.name),
            side(lambda held: held.null_count, field.name),
        )
        for field in schema
    }
    return FileStatistics(pa.concat_arrays([part.rows for part in parts]), bounds)
