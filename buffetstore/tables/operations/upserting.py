"""Upsert, carried out by copy-on-write on one snapshot; nothing is committed here.

The stored files whose key ranges overlap those of the new rows pass by in bounded memory: files are read ahead while
others are compared, and as soon as half of the budget is held what has changed is written, and let go. Only the new
rows and what is to be said in the log stay until the end.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from buffetstore.errors import InvalidInputError, StorageError
from buffetstore.resilience.concurrency import ordered, unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.features import writes_changes
from buffetstore.tables.file_table import listed
from buffetstore.tables.log import join
from buffetstore.tables.operations.bins import arrow_bytes, row_width
from buffetstore.tables.operations.changes import INSERT, as_changes, change_parts, marked
from buffetstore.tables.operations.upsert import Matching, Met, check_key, key_range
from buffetstore.tables.operations.write import removals
from buffetstore.tables.reading import read_file
from buffetstore.tables.results import UpsertResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.tables.actions import AddFile, CdcFile, RemoveFile
    from buffetstore.tables.files import DataPart, Layout
    from buffetstore.tables.operations.write import Writer
    from buffetstore.tables.snapshot import Snapshot

MEMORY_BYTES = 512 * 1024 * 1024
_FILES = 1000  # made into dicts, and compared, at a time at most


async def upsert_rows(
    writer: Writer,
    snapshot: Snapshot,
    new: pa.Table,
    *,
    key: Sequence[str],
    ignore: Sequence[str],
    placed_by: Sequence[str],
    layout: Layout,
    bytes_in_flight: int = MEMORY_BYTES,
) -> tuple[Proposal | None, UpsertResult]:
    """Write the files of an upsert. There is no proposal where nothing changes.

    When it fails, or the caller is cancelled, the files that were written are deleted.
    """
    if bytes_in_flight <= 0:
        raise InvalidInputError(f"bytes_in_flight {bytes_in_flight} must be positive")
    await in_thread(check_key, new, key)
    if not new.num_rows:
        return None, UpsertResult(snapshot.version, 0, 0, 0)
    reads = await in_thread(key_range, new, key)
    candidates = await in_thread(snapshot.prune, reads, ())
    tracked = writes_changes(snapshot.protocol, snapshot.metadata)
    upsert = _Upsert(writer, snapshot, Matching(new, key, ignore, placed_by, tracked=tracked))
    try:
        await upsert.run(candidates, layout, max(bytes_in_flight // 2, 1))
    except BaseException:
        await upsert.discard()
        raise
    return upsert.proposal(reads), upsert.result()


@dataclass(slots=True)
class _Upsert:
    """What an upsert has written so far: files in place of others, and those of the change feed."""

    writer: Writer
    snapshot: Snapshot
    matching: Matching
    adds: list[AddFile] = field(default_factory=list)
    removes: list[RemoveFile] = field(default_factory=list)
    gone: list[CdcFile] = field(default_factory=list)
    told: list[CdcFile] = field(default_factory=list)

    async def run(self, candidates: pa.Table, layout: Layout, budget: int) -> None:
        files: list[dict[str, Any]] = []
        tables: list[pa.Table] = []
        held = 0
        async with aclosing(_stored(self.writer, self.snapshot, candidates, budget)) as stored:
            async for file, table in stored:
                files.append(file)
                tables.append(table)
                held += table.nbytes
                del table
                if held >= budget or len(files) >= _FILES:
                    await self._rewrite(files, tables)
                    files, held = [], 0
        await self._rewrite(files, tables, layout)

    def proposal(self, reads: Expression) -> Proposal | None:
        """Return the commit."""
        if not self.adds and not self.removes:
            return None
        metrics = {
            "numTargetRowsInserted": self.matching.inserted,
            "numTargetRowsUpdated": self.matching.updated,
            "numTargetFilesAdded": len(self.adds),
            "numTargetFilesRemoved": len(self.removes),
        }
        cdc = (*self.gone, *self.told)
        return Proposal("MERGE", tuple(self.adds), tuple(self.removes), reads=reads, metrics=metrics, cdc=cdc)

    def result(self) -> UpsertResult:
        """Return what it comes to."""
        matching = self.matching
        counts = matching.inserted, matching.updated, matching.unchanged
        return UpsertResult(self.snapshot.version, *counts, tuple(self.adds), len(self.removes))

    async def discard(self) -> None:
        """Delete what was written, as nobody refers to it."""
        names = [*(add.path for add in self.adds), *(cdc.path for cdc in (*self.gone, *self.told))]
        keys = [join(self.snapshot.path, name) for name in names]
        if keys:
            with suppress(StorageError):
                await unhurried(self.writer.store.delete(keys))

    async def _rewrite(
        self, files: Sequence[dict[str, Any]], tables: list[pa.Table], layout: Layout | None = None
    ) -> None:
        """Write what changes in the files, whose rows are let go; with a layout also what is in none of them."""
        writer, snapshot, matching = self.writer, self.snapshot, self.matching
        met = await in_thread(matching.meet, tables)
        tables.clear()
        parts, removes = await in_thread(self._replaced, files, met)
        gone, told = list(met.gone), list(met.told)
        if layout is not None:
            parts += await writer.parts(await in_thread(matching.added), layout)
            if matching.tracked and (removes or self.removes):
                told.append(marked(await in_thread(matching.inserts), INSERT))
            if not self.told:  # the last is the first too: one file has them in order
                gone, told = [], [*gone, *told]
        first = await change_parts(writer, snapshot, gone)
        # Together, so that where one file fails none is left behind.
        written: tuple[AddFile, ...] = await writer.write_parts(
            snapshot, [*parts, *first, *await change_parts(writer, snapshot, told)]
        )
        ends = len(parts), len(parts) + len(first)
        self.adds += written[: ends[0]]
        self.gone += as_changes(written[ends[0] : ends[1]])
        self.told += as_changes(written[ends[1] :])
        self.removes += removes

    def _replaced(self, files: Sequence[dict[str, Any]], met: Met) -> tuple[list[DataPart], tuple[RemoveFile, ...]]:
        pairs = [(files[at], rows) for at, rows in met.rewritten.items()]
        parts = [self.writer.replacing(self.snapshot, file, rows) for file, rows in pairs if rows.num_rows]
        return parts, removals([file for file, _ in pairs])


async def _stored(
    writer: Writer, snapshot: Snapshot, candidates: pa.Table, bytes_in_flight: int
) -> AsyncGenerator[tuple[dict[str, Any], pa.Table], None]:
    """Yield the files with their rows, while later ones are read as far as they fit."""
    width = row_width(snapshot.schema)
    for at in range(0, candidates.num_rows, _FILES):
        piece = candidates.slice(at, _FILES)
        files = await listed(piece)
        # Texts may be longer than a row's width has it, but seldom longer than in the file.
        needs = np.maximum(arrow_bytes(piece, width), piece["size"].to_numpy()).tolist()
        calls = [partial(read_file, writer.store, snapshot, file, formatter=writer.formatter) for file in files]
        read = iter(files)
        async with aclosing(ordered(calls, needs, bytes_in_flight=bytes_in_flight)) as tables:
            async for table in tables:
                yield next(read), table
