"""Upsert, delete and overwrite, planned on one snapshot by copy-on-write; nothing is committed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import ALWAYS, mask, render
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.file_table import rows as file_rows
from buffetstore.tables.operations.upsert import check_key, key_range, plan_upsert
from buffetstore.tables.operations.write import Writer, removals, written
from buffetstore.tables.pruning import prune
from buffetstore.tables.reading import check_columns
from buffetstore.tables.results import CommitResult, DeleteResult, UpsertResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.tables.actions import AddFile
    from buffetstore.tables.files import DataPart, Layout
    from buffetstore.tables.snapshot import Snapshot


async def upsert_rows(
    writer: Writer,
    snapshot: Snapshot,
    new: pa.Table,
    *,
    key: Sequence[str],
    ignore: Sequence[str],
    placed_by: Sequence[str],
    layout: Layout,
) -> tuple[Proposal | None, UpsertResult]:
    """Write the files of an upsert. There is no proposal where nothing changes."""
    await in_thread(check_key, new, key)
    if not new.num_rows:
        return None, UpsertResult(snapshot.version, 0, 0, 0)
    reads = await in_thread(key_range, new, key)
    candidates = await in_thread(prune, snapshot.files, reads)
    files = file_rows(candidates)
    stored = [table async for table in writer.read(snapshot, candidates)]
    plan = await in_thread(plan_upsert, new, stored, key, ignore, placed_by)
    parts = [
        writer.replacing(snapshot, files[at], rows) for at, rows in plan.rewritten.items() if rows.num_rows
    ] + await writer.parts(plan.added, layout)
    result = UpsertResult(snapshot.version, plan.inserted, plan.updated, plan.unchanged)
    if not parts and not plan.rewritten:
        return None, result
    adds = await writer.write_parts(snapshot, parts)
    gone = removals([files[at] for at in plan.rewritten])
    done = UpsertResult(snapshot.version, plan.inserted, plan.updated, plan.unchanged, adds, len(gone))
    metrics = {
        "numTargetRowsInserted": plan.inserted,
        "numTargetRowsUpdated": plan.updated,
        "numTargetFilesAdded": len(adds),
        "numTargetFilesRemoved": len(gone),
    }
    return Proposal("MERGE", adds, gone, reads=reads, metrics=metrics), done


async def delete_rows(
    writer: Writer, snapshot: Snapshot, predicate: Expression
) -> tuple[Proposal | None, DeleteResult]:
    """Write the files of a delete. There is no proposal where no row matches."""
    check_columns(snapshot, None, predicate)
    candidates = await in_thread(prune, snapshot.files, predicate)
    files = file_rows(candidates)
    gone: list[dict[str, Any]] = []
    parts: list[DataPart] = []
    deleted, position = 0, 0
    async for table in writer.read(snapshot, candidates):
        kept = await in_thread(_others, table, predicate)
        if kept.num_rows < table.num_rows:
            deleted += table.num_rows - kept.num_rows
            gone.append(files[position])
            if kept.num_rows:
                parts.append(writer.replacing(snapshot, files[position], kept))
        position += 1
    if not gone:
        return None, DeleteResult(snapshot.version, 0)
    adds = await writer.write_parts(snapshot, parts)
    # Rows that were acknowledged before this commit are to be deleted too, though this snapshot did not show them.
    metrics = {"numDeletedRows": deleted, "numAddedFiles": len(adds), "numRemovedFiles": len(gone)}
    proposal = Proposal("DELETE", adds, removals(gone), reads=predicate, metrics=metrics)
    return proposal, DeleteResult(snapshot.version, deleted, adds, len(gone))


async def overwrite_rows(
    writer: Writer, snapshot: Snapshot, rows: pa.Table, layout: Layout, predicate: Expression | None = None
) -> tuple[Proposal | None, CommitResult]:
    """Write the files of an overwrite; what the predicate leaves of the snapshot's files stays."""
    kept: tuple[AddFile, ...] = ()
    reads: Expression = ALWAYS
    if predicate is None:
        gone = removals(file_rows(snapshot.files))
    else:
        check_columns(snapshot, None, predicate)
        outside = (await in_thread(_others, rows, predicate)).num_rows
        if outside:
            raise InvalidInputError(f"{outside} of the rows are not among those that {render(predicate)} replaces")
        deletion, _ = await delete_rows(writer, snapshot, predicate)
        kept, gone = (deletion.adds, deletion.removes) if deletion is not None else ((), ())
        reads = predicate
    if not gone and not rows.num_rows:
        return None, CommitResult(snapshot.version, (), 0)
    adds = await writer.write(snapshot, rows, layout)
    proposal = Proposal("WRITE", (*kept, *adds), gone, reads=reads, metrics=written(adds, rows.num_rows))
    return proposal, CommitResult(snapshot.version, adds, rows.num_rows)


def _others(table: pa.Table, predicate: Expression) -> pa.Table:
    # A row for which the predicate is unknown stays.
    return table.filter(pc.invert(pc.fill_null(mask(table, predicate), False)))
