"""Carrying a plan out on a snapshot: prune, read side by side, merge, order."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import ALWAYS, columns_of, filter_rows
from buffetstore.query.answer import QueryAnswer
from buffetstore.query.cache_manager import CacheManager, Reading
from buffetstore.query.ordering import last_of_each, sort_rows
from buffetstore.query.selection import columns_read, partitions_of, rounds_of, rows_needed, select
from buffetstore.query.shaping import Shaper, with_computed
from buffetstore.query.stages import Part
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import availability
from buffetstore.tables import read_tables

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from datetime import datetime

    from buffetstore.formats import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.query.binding import BoundPlan
    from buffetstore.query.metadata_answers import KnownFiles
    from buffetstore.query.topk import TopRows
    from buffetstore.tables import Snapshot

BATCH_ROWS = 65_536
BYTES_IN_FLIGHT = 128 * 1024 * 1024


@dataclass(slots=True)
class _Progress:
    """What has been done for a query so far."""

    files: pa.Table
    total: pa.Table
    known: KnownFiles | None = None
    top: TopRows | None = None
    short_cut: str | None = None
    reading: Reading = field(default_factory=Reading)
    files_done: int = 0
    earliest: datetime | None = None  # when the first of the rows read could be known


class QueryExecutor:
    """Executes bound plans on the tables of one store.

    Parameters
    ----------
    store:
        Where the tables are.
    formatter:
        Decodes data files.
    cache:
        Fetches data files.
    bytes_in_flight:
        Bytes of data files that are fetched and decoded ahead of the one that is being taken.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        formatter: ParquetFormatter,
        cache: CacheManager,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
    ) -> None:
        self._store = store
        self._formatter = formatter
        self._cache = cache
        self._bytes_in_flight = bytes_in_flight

    async def retrieve(self, bound: BoundPlan, snapshot: Snapshot) -> QueryAnswer:
        """Return all rows, in order of key unless the query says another.

        Raises
        ------
        NotFoundError, CorruptFileError
            A data file is gone, or damaged.
        """
        started = time.perf_counter()
        progress = await in_thread(_begin, bound, snapshot)
        shaped = bound.shape is not None and not bound.shape.streams and not bound.merge
        table = await (self._shaped if shaped else self._collected)(bound, snapshot, progress)
        return _answer(bound, snapshot, progress, table, time.perf_counter() - started)

    async def _collected(self, bound: BoundPlan, snapshot: Snapshot, progress: _Progress) -> pa.Table:
        tables: list[pa.Table] = []
        rows = 0
        async with aclosing(self._tables(bound, snapshot, progress)) as found:
            async for table in found:
                tables.append(table)
                rows += table.num_rows
                if bound.limit is not None and not bound.merge and rows >= bound.limit:
                    break
        return await in_thread(_finish, bound, tables)

    async def _shaped(self, bound: BoundPlan, snapshot: Snapshot, progress: _Progress) -> pa.Table:
        """Return what is made of the rows, of which none is held longer than that takes."""
        assert bound.shape is not None
        shaper = Shaper(bound.shape)
        shaper.add(bound.row_schema().empty_table())
        if progress.known is not None:
            told = progress.known
            await in_thread(shaper.add_known, told.groups, told.rows, told.known)
        left, top = progress.files, progress.top
        while left.num_rows:
            size = left.num_rows if top is None else max(2 * progress.files_done, top.first_round(left))
            async with aclosing(self._tables(bound, snapshot, progress, left.slice(0, size))) as found:
                async for table in found:
                    await in_thread(shaper.add, table.select(list(bound.columns)))
            left = left.slice(size)
            if top is not None and left.num_rows:
                left, beaten = await in_thread(_unbeaten, top, left, shaper)
                progress.short_cut = "top-k" if beaten else progress.short_cut
        return await in_thread(shaper.finish)

    async def scan(
        self, bound: BoundPlan, snapshot: Snapshot, counts: dict[str, int]
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Yield rows in batches: by time bucket, and by key within a file. Files are read as batches are taken.

        Where revisions are merged, or rows are ordered, grouped or made distinct, the answer is held until its first
        batch is given.

        Parameters
        ----------
        counts:
            Told what was read, when the scan ends.
        """
        started = time.perf_counter()
        if bound.merge or (bound.shape is not None and not bound.shape.streams):
            answer = await self.retrieve(bound, snapshot)
            counts.update(counts_of(answer))
            for batch in answer.table.to_batches(max_chunksize=BATCH_ROWS):
                yield batch
            return
        progress = await in_thread(_begin, bound, snapshot)
        part = Part(0 if bound.shape is None else bound.shape.offset, bound.plan.limit)
        rows = 0
        try:
            async with aclosing(self._tables(bound, snapshot, progress)) as found:
                async for table in found:
                    chosen = part.take(table)
                    rows += chosen.num_rows
                    for batch in (await in_thread(_chosen_columns, bound, chosen)).to_batches(BATCH_ROWS):
                        yield batch
                    if part.is_full:
                        return
        finally:
            empty = bound.output_schema().empty_table()
            answer = _answer(bound, snapshot, progress, empty, time.perf_counter() - started)
            counts.update(counts_of(answer) | {"rows_read": rows})

    async def _tables(
        self, bound: BoundPlan, snapshot: Snapshot, progress: _Progress, chosen: pa.Table | None = None
    ) -> AsyncGenerator[pa.Table, None]:
        """Yield of each file, or of each of the chosen, the rows that satisfy what may be tested before a merge."""
        columns = columns_read(bound)
        below = bound.tested
        for files in rounds_of(progress.files if chosen is None else chosen, bound):
            read = read_tables(
                self._store,
                snapshot,
                files,
                formatter=self._formatter,
                columns=columns,
                predicate=below,
                source=self._cache.source(progress.reading),
                rows=_first_rows(bound) if chosen is None else None,
                bytes_in_flight=self._bytes_in_flight,
            )
            async with aclosing(read) as tables:
                async for table in tables:
                    progress.files_done += 1
                    yield await self._completed(bound, table, progress)

    async def _completed(self, bound: BoundPlan, table: pa.Table, progress: _Progress) -> pa.Table:
        whole = bound.stored >= columns_of(bound.below) | set(bound.columns)
        if whole and bound.known_at is None and bound.conversion is None:
            return table
        table, earliest = await in_thread(_complete, bound, table)
        if earliest is not None:
            progress.earliest = earliest if progress.earliest is None else min(progress.earliest, earliest)
        return table


def _first_rows(bound: BoundPlan) -> int | None:
    """Return how many of a file's first rows will do; None where some may have to be left out, or all are needed."""
    is_plain = bound.below == ALWAYS and not bound.merge and bound.known_at is None and bound.conversion is None
    return bound.limit if is_plain else None


def _begin(bound: BoundPlan, snapshot: Snapshot) -> _Progress:
    selection = select(bound, snapshot)
    short_cut = None if selection.known is None else "metadata"
    return _Progress(selection.files, snapshot.files, selection.known, selection.top, short_cut)


def _unbeaten(top: TopRows, files: pa.Table, shaper: Shaper) -> tuple[pa.Table, bool]:
    left = top.unbeaten(files, shaper.first())
    return left, left.num_rows < files.num_rows


def _complete(bound: BoundPlan, table: pa.Table) -> tuple[pa.Table, datetime | None]:
    """Add the columns that the table does not have yet, test what reads them, and keep what was known."""
    if bound.conversion is not None:
        wanted = rows_needed(bound)
        table = bound.conversion.apply(table, [field for field in bound.schema if field.name in wanted])
    table = _with_absent(bound, table)
    if bound.conversion is not None or not bound.stored >= columns_of(bound.below):
        table = filter_rows(table, bound.below)
    if bound.known_at is None or not table.num_rows:
        return table, None
    known = availability(table, bound.contract)
    earliest = pc.min(known).as_py()
    return table.filter(pc.less_equal(known, pa.scalar(bound.known_at, known.type))), earliest


def _with_absent(bound: BoundPlan, table: pa.Table) -> pa.Table:
    for name in sorted((set(bound.columns) | columns_of(bound.predicate)) - set(table.column_names) - bound.stored):
        table = table.append_column(bound.schema.field(name), pa.nulls(table.num_rows, bound.schema.field(name).type))
    return table


def _finish(bound: BoundPlan, tables: Sequence[pa.Table]) -> pa.Table:
    if not tables:
        return _shaped_rows(bound, bound.row_schema().empty_table())
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    if bound.merge:
        table = _with_absent(bound, sort_rows(table, ["created_at"]))
        table = sort_rows(filter_rows(last_of_each(table, bound.key), bound.predicate), bound.key)
    return _shaped_rows(bound, table)


def _shaped_rows(bound: BoundPlan, table: pa.Table) -> pa.Table:
    shape = bound.shape
    if shape is not None and not shape.streams:
        shaper = Shaper(shape)
        shaper.add(table.select(list(bound.columns)))
        return shaper.finish()
    # The first by time bucket are chosen, then all are put in order.
    start = 0 if shape is None else shape.offset
    return _chosen_columns(bound, sort_rows(table.slice(start, bound.plan.limit), bound.key))


def _chosen_columns(bound: BoundPlan, table: pa.Table) -> pa.Table:
    if bound.shape is None:
        return table.select(list(bound.columns))
    return with_computed(table, bound.shape).select(list(bound.shape.columns))


def _answer(bound: BoundPlan, snapshot: Snapshot, progress: _Progress, table: pa.Table, seconds: float) -> QueryAnswer:
    scanned = progress.files_done
    reading = progress.reading
    return QueryAnswer(
        table=table,
        data_type=bound.plan.data_type,
        table_version=snapshot.version,
        partitions_scanned=partitions_of(progress.files.slice(0, scanned)),
        partitions_total=partitions_of(progress.total),
        files_scanned=scanned,
        files_pruned=progress.total.num_rows - scanned,
        bytes_read=reading.bytes,
        requests=reading.requests,
        cache_hit=scanned > 0 and reading.requests == 0,
        seconds=seconds,
        short_cut=progress.short_cut,
        notes=tuple(_notes(bound, progress, table)),
    )


def _notes(bound: BoundPlan, progress: _Progress, table: pa.Table) -> Iterator[str]:
    if bound.known_at is None:
        return
    contract = bound.contract
    yield f"availability of {contract.data_type} is {contract.availability}"
    if contract.revisions == "replace":
        yield f"{contract.data_type} keeps no revisions: rows that were replaced since are not what was known then"
    if progress.earliest is not None and progress.earliest > bound.known_at and not table.num_rows:
        yield (
            f"nothing was known at {bound.known_at}, the first of these rows was at {progress.earliest}: history that "
            "was loaded later needs store_data(..., available_at='timestamp+1d')"
        )


def counts_of(answer: QueryAnswer) -> dict[str, Any]:
    """Return what metrics count of an answer."""
    return {
        "rows_read": answer.rows,
        "bytes_in": answer.bytes_read,
        "files_scanned": answer.files_scanned,
        "files_pruned": answer.files_pruned,
        "partitions_scanned": answer.partitions_scanned,
        "partitions_pruned": answer.partitions_pruned,
        "cache_hits": int(answer.cache_hit),
        "cache_misses": int(not answer.cache_hit),
    }
