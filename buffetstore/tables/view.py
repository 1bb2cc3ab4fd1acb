"""Reading a table at one version."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.resilience.threads import in_thread
from buffetstore.tables.filters import Filters, predicate_of
from buffetstore.tables.reading import check_columns, projected, read_tables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.actions import Metadata
    from buffetstore.tables.reading import Fetch
    from buffetstore.tables.snapshot import Snapshot


_PRUNED_AT_ONCE = 1000  # files: less than it costs to ask a thread


class TableView:
    """The rows of one snapshot. An answer that has begun stays with the snapshot it began with."""

    def __init__(self, store: ObjectStore, snapshot: Snapshot, formatter: ParquetFormatter) -> None:
        self._store = store
        self._pinned_snapshot = snapshot
        self._formatter = formatter

    @property
    def store(self) -> ObjectStore:
        """Where the table is."""
        return self._store

    @property
    def path(self) -> str:
        """The table's key prefix in its store."""
        return self.snapshot.path

    @property
    def snapshot(self) -> Snapshot:
        """The version that is read; it changes with `refresh` and with every write through this object."""
        return self._pinned_snapshot

    @property
    def version(self) -> int:
        """The version of the snapshot."""
        return self.snapshot.version

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.snapshot.schema

    @property
    def metadata(self) -> Metadata:
        """Name, id, partition columns and configuration."""
        return self.snapshot.metadata

    def files(self) -> pa.Table:
        """Return the data files, without their statistics, which `snapshot.with_statistics` gives."""
        return self.snapshot.files

    async def find_files(self, filters: Filters | None) -> pa.Table:
        """Return the data files that may hold a row that satisfies the filters; no file with such a row is left out.

        The first filter on a column of a table of very many files takes a while, in a thread.

        Raises
        ------
        InvalidQueryError
            A column is not in the table, or the filters are malformed.
        """
        return await _files_for(self.snapshot, None, predicate_of(filters))

    async def to_arrow(self, columns: Sequence[str] | None = None, filters: Filters | None = None) -> pa.Table:
        """Return the rows that satisfy the filters, whole in memory.

        Parameters
        ----------
        filters:
            A predicate, or triples as pyarrow and deltalake take them: ``[("price", ">", 100)]``.

        Raises
        ------
        InvalidQueryError
            A column is not in the table, or the filters are malformed.
        """
        predicate = predicate_of(filters)
        snapshot = self.snapshot
        files = await _files_for(snapshot, columns, predicate)
        return await self._joined(snapshot, files, columns, predicate, None)

    async def scan(
        self, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Yield the rows that satisfy the filters; memory holds the files that are in flight, not the table."""
        predicate = predicate_of(filters)
        snapshot = self.snapshot
        files = await _files_for(snapshot, columns, predicate)
        async with aclosing(self._read(snapshot, files, columns, predicate, None)) as tables:
            async for table in tables:
                for batch in table.to_batches():
                    yield batch

    async def read_files(
        self,
        files: pa.Table,
        columns: Sequence[str] | None = None,
        predicate: Expression | None = None,
        *,
        fetch: Fetch | None = None,
    ) -> pa.Table:
        """Return the rows of `files`, which are some of `self.files()`, in their order."""
        return await self._joined(self.snapshot, files, columns, predicate, fetch)

    async def _joined(
        self,
        snapshot: Snapshot,
        files: pa.Table,
        columns: Sequence[str] | None,
        predicate: Expression | None,
        fetch: Fetch | None,
    ) -> pa.Table:
        async with aclosing(self._read(snapshot, files, columns, predicate, fetch)) as found:
            tables = [table async for table in found]
        if not projected(snapshot, columns).names:  # tables without columns lose their rows when joined
            return pa.table({"": pa.nulls(sum(table.num_rows for table in tables))}).select([])
        return pa.concat_tables(tables) if tables else projected(snapshot, columns).empty_table()

    def _read(
        self,
        snapshot: Snapshot,
        files: pa.Table,
        columns: Sequence[str] | None,
        predicate: Expression | None,
        fetch: Fetch | None,
    ) -> AsyncGenerator[pa.Table, None]:
        return read_tables(
            self._store, snapshot, files, formatter=self._formatter, columns=columns, predicate=predicate, fetch=fetch
        )


async def _files_for(snapshot: Snapshot, columns: Sequence[str] | None, predicate: Expression | None) -> pa.Table:
    """Return the files to read for a question, whose columns are checked."""
    check_columns(snapshot, columns, predicate)
    if predicate is None:
        return snapshot.files
    if snapshot.files.num_rows <= _PRUNED_AT_ONCE:
        return snapshot.prune(predicate)
    return await in_thread(snapshot.prune, predicate)
