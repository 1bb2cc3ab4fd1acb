"""Delete and overwrite, planned on one snapshot by copy-on-write; nothing is committed here."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import ALWAYS, mask, render
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.features import writes_changes
from buffetstore.tables.file_actions import removed
from buffetstore.tables.file_table import rows as file_rows
from buffetstore.tables.operations.changes import DELETE, INSERT, marked, write_with_changes
from buffetstore.tables.operations.write import Writer, written
from buffetstore.tables.reading import check_columns
from buffetstore.tables.results import CommitResult, DeleteResult

if TYPE_CHECKING:
    from buffetstore.expressions import Expression
    from buffetstore.tables.files import DataPart, Layout
    from buffetstore.tables.snapshot import Snapshot


async def delete_rows(
    writer: Writer, snapshot: Snapshot, predicate: Expression
) -> tuple[Proposal | None, DeleteResult]:
    """Write the files of a delete. There is no proposal where no row matches."""
    plan = await _deletion(writer, snapshot, predicate)
    if not plan.files.num_rows:
        return None, DeleteResult(snapshot.version, 0)
    gone = await in_thread(removed, plan.files)
    adds, cdc = await write_with_changes(writer, snapshot, plan.kept, plan.changes)
    # Rows that were acknowledged before this commit are to be deleted too, though this snapshot did not show them.
    metrics = {"numDeletedRows": plan.deleted, "numAddedFiles": len(adds), "numRemovedFiles": plan.files.num_rows}
    proposal = Proposal("DELETE", adds, gone, reads=predicate, metrics=metrics, cdc=cdc)
    return proposal, DeleteResult(snapshot.version, plan.deleted, adds, len(gone))


async def overwrite_rows(
    writer: Writer, snapshot: Snapshot, rows: pa.Table, layout: Layout, predicate: Expression | None = None
) -> tuple[Proposal | None, CommitResult]:
    """Write the files of an overwrite; what the predicate leaves of the snapshot's files stays."""
    reads: Expression = ALWAYS
    if predicate is None:
        plan = _Deletion(snapshot.files)
    else:
        outside = (await in_thread(_parted, rows, predicate))[0].num_rows
        if outside:
            raise InvalidInputError(f"{outside} of the rows are not among those that {render(predicate)} replaces")
        reads = predicate
        plan = await _deletion(writer, snapshot, predicate)
    if not plan.files.num_rows and not rows.num_rows:
        return None, CommitResult(snapshot.version, (), 0)
    gone = await in_thread(removed, plan.files)
    # Together, so that where one file fails none is left behind.
    parts = [*plan.kept, *await writer.parts(rows, layout)]
    changes = [*plan.changes, marked(rows, INSERT)] if plan.changes else []
    both, cdc = await write_with_changes(writer, snapshot, parts, changes)
    adds = both[len(plan.kept) :]
    metrics = written(adds, rows.num_rows)
    asked = {"mode": "Overwrite"} | ({} if predicate is None else {"predicate": render(predicate)})
    proposal = Proposal("WRITE", both, gone, reads=reads, metrics=metrics, cdc=cdc, parameters=asked)
    return proposal, CommitResult(snapshot.version, adds, rows.num_rows)


@dataclass(slots=True)
class _Deletion:
    """The files that go, what takes their places, and how many rows are deleted.

    `changes` has the deleted rows, for a change feed that could not tell them by the files that go.
    """

    files: pa.Table
    kept: list[DataPart] = field(default_factory=list)
    deleted: int = 0
    changes: list[pa.Table] = field(default_factory=list)


async def _deletion(writer: Writer, snapshot: Snapshot, predicate: Expression) -> _Deletion:
    check_columns(snapshot, None, predicate)
    candidates = await in_thread(snapshot.prune, predicate)
    tracked = writes_changes(snapshot.protocol, snapshot.metadata)
    found = _Deletion(candidates)
    changing = np.zeros(candidates.num_rows, np.bool_)
    at = -1
    async with aclosing(writer.read(snapshot, candidates)) as tables:
        async for table in tables:
            at += 1
            kept, gone = await in_thread(_parted, table, predicate)
            if kept.num_rows == table.num_rows:
                continue
            found.deleted += table.num_rows - kept.num_rows
            changing[at] = True
            if kept.num_rows:
                (file,) = file_rows(candidates.slice(at, 1))
                found.kept.append(writer.replacing(snapshot, file, kept))
            if tracked:
                found.changes.append(marked(gone, DELETE))
    found.files = await in_thread(candidates.filter, pa.array(changing))
    if not found.kept:
        found.changes.clear()  # whole files go, whose rows are the change
    return found


def _parted(table: pa.Table, predicate: Expression) -> tuple[pa.Table, pa.Table]:
    """Return the rows that stay, and those for which the predicate is true; where it is unknown a row stays."""
    chosen = pc.fill_null(mask(table, predicate), False)
    return table.filter(pc.invert(chosen)), table.filter(chosen)
