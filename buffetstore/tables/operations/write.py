"""What every operation that writes needs: the store and the format."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buffetstore.resilience.threads import in_thread
from buffetstore.tables.constraints import check_rows, checks_of
from buffetstore.tables.data_skipping import telling
from buffetstore.tables.file_table import removal
from buffetstore.tables.files import DataPart, fitted, stem_of, write_parts
from buffetstore.tables.reading import read_tables
from buffetstore.tables.revision_order import kept_tags

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.actions import AddFile, RemoveFile
    from buffetstore.tables.files import Layout
    from buffetstore.tables.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes and reads data files of one table."""

    store: ObjectStore
    formatter: ParquetFormatter

    async def write(self, snapshot: Snapshot, rows: pa.Table, layout: Layout) -> tuple[AddFile, ...]:
        """Lay the rows out and write the files; nothing refers to them yet."""
        return await self.write_parts(snapshot, await self.parts(rows, layout))

    async def parts(self, rows: pa.Table, layout: Layout) -> list[DataPart]:
        """Return the parts that the layout makes of the rows, none of them empty."""
        if not rows.num_rows:
            return []
        return [part for part in await in_thread(layout, rows) if part.table.num_rows]

    async def write_parts(self, snapshot: Snapshot, parts: Sequence[DataPart]) -> tuple[AddFile, ...]:
        """Write the files; nothing refers to them yet."""
        return tuple(await write_parts(self.store, snapshot.path, parts, telling(self.formatter, snapshot)))

    def replacing(self, snapshot: Snapshot, file: Mapping[str, Any], rows: pa.Table) -> DataPart:
        """Return the part that takes a stored file's place: same directory, name, partition and tags."""
        directory, stem = stem_of(file["path"])
        stored = rows.drop_columns(list(snapshot.partition_columns)) if snapshot.partition_columns else rows
        return DataPart(stored, directory, stem, file["partition_values"], kept_tags(snapshot.metadata, file))

    def read(
        self,
        snapshot: Snapshot,
        files: pa.Table,
        columns: Sequence[str] | None = None,
        predicate: Expression | None = None,
    ) -> AsyncGenerator[pa.Table, None]:
        """Yield the rows of each file, in order."""
        return read_tables(self.store, snapshot, files, formatter=self.formatter, columns=columns, predicate=predicate)


def admitted(table: pa.Table, snapshot: Snapshot) -> pa.Table:
    """Return the rows in the table's schema, held to what it declares; call it in a thread.

    Raises
    ------
    InvalidInputError
        They do not fit the schema.
    ConstraintViolationError
        They break a constraint.
    """
    rows = fitted(table, snapshot.schema)
    check_rows(rows, checks_of(snapshot.protocol, snapshot.metadata), snapshot.path)
    return rows


def written(adds: Sequence[AddFile], rows: int) -> dict[str, int]:
    """Return Delta's metrics of an append."""
    return {"numFiles": len(adds), "numOutputRows": rows, "numOutputBytes": sum(add.size for add in adds)}


def removals(files: Sequence[Mapping[str, Any]]) -> tuple[RemoveFile, ...]:
    """Return the actions that remove these files, stamped now."""
    now = datetime.now(UTC)
    return tuple(removal(file, now) for file in files)
