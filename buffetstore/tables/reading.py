"""Reading data files of a snapshot, several at a time, in the table's schema."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from buffetstore.errors import CorruptFileError, InvalidQueryError, NotFoundError
from buffetstore.expressions import ALWAYS, Expression, columns_of
from buffetstore.formats.chunks import Chunks
from buffetstore.resilience.adaptive import MOST
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, gather, ordered_from
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.deletion_vectors import DeletionVector, read_positions
from buffetstore.tables.file_actions import each_file
from buffetstore.tables.file_table import partition_array
from buffetstore.tables.log import join
from buffetstore.tables.log_columns import STRINGS
from buffetstore.tables.row_group_index import footer_told
from buffetstore.tables.row_groups import UNKNOWN_WHOLE_BYTES, FetchSource, StoreSource, Wanted, is_whole
from buffetstore.tables.schema import stored_name, stored_schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    import numpy as np
    import pyarrow.parquet as pq
    from numpy.typing import NDArray

    from buffetstore.formats.chunks import Span
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import Data, ObjectStore
    from buffetstore.tables.row_groups import Source
    from buffetstore.tables.snapshot import Snapshot

_PLANNED = 64  # files whose footers are looked at together, in a thread

Fetch: TypeAlias = "Callable[[str, int], Awaitable[Data]]"


def check_columns(snapshot: Snapshot, columns: Sequence[str] | None, predicate: Expression | None) -> None:
    """Raise `InvalidQueryError` naming the columns that the table does not have."""
    asked = [*(columns or ()), *(sorted(columns_of(predicate)) if predicate is not None else ())]
    unknown = list(dict.fromkeys(name for name in asked if name not in snapshot.schema.names))
    if unknown:
        raise InvalidQueryError(
            f"table {snapshot.path!r} has no column {', '.join(map(repr, unknown))}: "
            f"there are {', '.join(snapshot.schema.names)}",
            key=snapshot.path,
        )


async def read_file(
    store: ObjectStore,
    snapshot: Snapshot,
    file: Mapping[str, Any],
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str] | None = None,
    predicate: Expression | None = None,
    source: Source | None = None,
) -> pa.Table:
    """Return the rows of one data file that satisfy the predicate, in the table's schema.

    Parameters
    ----------
    file:
        A row of `snapshot.files`, as `buffetstore.tables.file_table.rows` gives it.
    source:
        Where data files come from; by default the store.

    Raises
    ------
    NotFoundError
        The file is gone: vacuumed, or deleted by hand.
    CorruptFileError
        It cannot be decoded, or is not as long as the log says.
    """
    reading = _Reading(
        store, snapshot, formatter, wanted_of(snapshot, columns, predicate), source or StoreSource(store)
    )
    return await reading.read(await reading.planned(file))


async def read_tables(
    store: ObjectStore,
    snapshot: Snapshot,
    files: pa.Table,
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str] | None = None,
    predicate: Expression | None = None,
    fetch: Fetch | None = None,
    source: Source | None = None,
    rows: int | None = None,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
) -> AsyncGenerator[pa.Table, None]:
    """Yield the rows of each of `files`, in their order, while later files are being read already.

    Whoever may stop half way closes the iterator: until then files are being read.

    Parameters
    ----------
    fetch:
        Gets a file's bytes by key and size, in place of `source`.
    rows:
        Of each file so many of the first rows will do, where there is no predicate.
    """
    chosen = FetchSource(fetch) if fetch is not None else source or StoreSource(store)
    wanted = replace(wanted_of(snapshot, columns, predicate), rows=rows)
    reading = _Reading(store, snapshot, formatter, wanted, chosen)
    async with aclosing(ordered_from(reading.calls(files), bytes_in_flight=bytes_in_flight, limit=MOST)) as tables:
        async for table in tables:
            yield table


def wanted_of(snapshot: Snapshot, columns: Sequence[str] | None, predicate: Expression | None) -> Wanted:
    """Return what is to be read of a table's files."""
    tested = None if predicate == ALWAYS else predicate
    return Wanted(snapshot.schema, stored_schema(snapshot.schema, snapshot.metadata), columns, tested)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one file is read: of a known footer `ranges` are needed, or the file whole where they are None."""

    file: Mapping[str, Any]
    key: str
    constants: Mapping[str, pa.Scalar] | None = None
    metadata: pq.FileMetaData | None = None
    groups: Sequence[int] = ()
    ranges: Sequence[Span] | None = None
    looks: bool = False  # for what is needed in the footer, which has to be read for it
    cost: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    store: ObjectStore
    snapshot: Snapshot
    formatter: ParquetFormatter
    wanted: Wanted
    source: Source

    async def calls(self, files: pa.Table) -> AsyncGenerator[tuple[Callable[[], Awaitable[pa.Table]], int], None]:
        """Yield what reads each file, and how many bytes that takes."""
        every = each_file(files)
        while window := list(islice(every, _PLANNED)):
            for plan in await self._planned(window):
                yield partial(self.read, plan), plan.cost

    async def planned(self, file: Mapping[str, Any]) -> _Plan:
        """Return how one file is read."""
        return (await self._planned([file]))[0]

    async def _planned(self, files: Sequence[Mapping[str, Any]]) -> list[_Plan]:
        large = self.source.in_parts and any(not is_whole(file["size"], self.wanted) for file in files)
        if not large:
            return [self._plan(file, None) for file in files]
        held = [self.source.footer_held(join(self.snapshot.path, file["path"]), file["size"]) for file in files]
        plans = await in_thread(lambda: [self._plan(*each) for each in zip(files, held, strict=True)])
        for plan in plans:
            if plan.metadata is not None:
                self.source.hold_footer(plan.key, plan.file["size"], plan.metadata)
        return plans

    def _plan(self, file: Mapping[str, Any], footer: pq.FileMetaData | None) -> _Plan:
        key, size = join(self.snapshot.path, file["path"]), file["size"]
        constants = constants_of(self.snapshot, file) if self.snapshot.partition_columns else None
        if not self.source.in_parts or is_whole(size, self.wanted):
            return _Plan(file, key, constants, cost=size)
        metadata = footer if footer is not None else footer_told(self.snapshot.row_groups, file)
        if metadata is None:
            looks = size > UNKNOWN_WHOLE_BYTES
            return _Plan(file, key, constants, looks=looks, cost=int(size * self.wanted.share) if looks else size)
        return self._ranged(_Plan(file, key, constants, metadata))

    def _ranged(self, plan: _Plan) -> _Plan:
        assert plan.metadata is not None
        size = plan.file["size"]
        # Nobody knows how many rows of the first row groups are deleted.
        wanted = self.wanted if plan.file.get("deletion_vector") is None else replace(self.wanted, rows=None)
        parts = wanted.parts(plan.metadata, size, plan.constants)
        if parts is None:
            return replace(plan, cost=size, looks=False)
        groups, ranges = parts
        cost = sum(end - start for start, end in ranges)
        return replace(plan, groups=groups, ranges=ranges, cost=cost, looks=False)

    async def read(self, plan: _Plan) -> pa.Table:
        """Return the rows of a file."""
        file, key = plan.file, plan.key
        where = f"data file {key!r} of version {self.snapshot.version} of table {self.snapshot.path!r}"
        vector = file.get("deletion_vector")

        async def fetched() -> Data | Chunks:
            try:
                return await self._data(plan)
            except NotFoundError as error:
                raise NotFoundError(f"{where} is gone; if it was vacuumed, read a later version", key=key) from error

        async def deletions() -> NDArray[np.int64] | None:
            return None if vector is None else await _deleted(self.store, self.snapshot, vector, file["path"])

        try:
            both: list[Any] = [await fetched(), None] if vector is None else await gather([fetched, deletions])
            return await self.formatter.adecode(
                both[0],
                self.wanted.columns,
                self.wanted.predicate,
                schema=self.wanted.schema,
                constants=plan.constants,
                stored=self.wanted.stored,
                deleted=both[1],
            )
        except CorruptFileError as error:
            await self.source.forget(key, file["size"], plan.ranges or ())
            if plan.ranges is not None:  # what an index said of it may be wrong, and the file may be whole
                return await self.read(replace(plan, metadata=None, ranges=None))
            mend = "restore the file from a backup, or read a table version from before it"
            raise CorruptFileError(f"{where} is damaged: {error}; {mend}", key=key) from error

    async def _data(self, plan: _Plan) -> Data | Chunks:
        key, size = plan.key, plan.file["size"]
        held = self.source.held(key, size)
        if held is not None:
            return held
        if plan.looks:
            plan = await in_thread(self._ranged, replace(plan, metadata=await self.source.footer(key, size)))
        if plan.ranges is None or plan.metadata is None:
            return await self.source.whole(key, size)
        bodies = await self.source.chunks(key, size, plan.ranges) if plan.ranges else ()
        return Chunks(plan.metadata, size, plan.ranges, bodies, plan.groups)


def projected(snapshot: Snapshot, columns: Sequence[str] | None) -> pa.Schema:
    """Return the schema of an answer with these columns."""
    return snapshot.schema if columns is None else pa.schema([snapshot.schema.field(name) for name in columns])


def constants_of(snapshot: Snapshot, file: Mapping[str, Any]) -> dict[str, pa.Scalar]:
    """Return the partition columns' values, which a file does not store."""
    held = pa.array([list(file["partition_values"].items())], STRINGS)
    return {
        name: partition_array(held, stored_name(field), field.type)[0]
        for name, field in ((name, snapshot.schema.field(name)) for name in snapshot.partition_columns)
    }


async def _deleted(store: ObjectStore, snapshot: Snapshot, vector: str, file: str) -> NDArray[np.int64]:
    return await read_positions(store, snapshot.path, DeletionVector.from_text(vector), file)
