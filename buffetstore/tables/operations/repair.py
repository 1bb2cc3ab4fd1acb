"""Repair: what `verify` finds and can be mended without guessing."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import CommitConflictError
from buffetstore.objects.base import Attributes
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.checkpoint import fetched
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.file_actions import removed, texts
from buffetstore.tables.log import join
from buffetstore.tables.operations.presence import missing_files
from buffetstore.tables.operations.verify import VerifyReport, hint_fault
from buffetstore.tables.segment import list_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.head import Head
    from buffetstore.tables.segment import Checkpoint
    from buffetstore.tables.snapshot import Snapshot

_JSON = Attributes(content_type="application/json")
_CLASSIC = re.compile(r"/\d{20}\.checkpoint(\.\d{10}\.\d{10})?\.parquet$")
MAX_PLANS = 16
_NAMES = 4096  # made into an array at a time, which holds the interpreter


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What was mended, or would be.

    Parameters
    ----------
    version:
        The version that the repair made, or the one that was found.
    removed:
        Data files that are gone and were taken out of the table; their rows are lost to the newest version.
    last_checkpoint:
        Whether the hint to the newest checkpoint was written anew, or deleted where there is none to point to.
    unmended:
        What cannot be mended here, and what to do about it.
    """

    version: int
    removed: tuple[str, ...]
    last_checkpoint: bool
    unmended: tuple[str, ...]
    dry_run: bool


async def repair(head: Head, report: VerifyReport, *, dry_run: bool) -> RepairResult:
    """Mend what `report` tells of; see `MaintenanceMethods.repair`."""
    if dry_run:
        hint = report.last_checkpoint is not None
        return RepairResult(report.version, report.missing, hint, tuple(_unmended(report)), dry_run=True)
    version, removed = report.version, report.missing
    if report.missing:
        version, removed = await _remove(head, report)
    hint = await mend_hint(head.committer.store, head.committer.path) if report.last_checkpoint is not None else False
    return RepairResult(version, removed, hint, tuple(_unmended(report)), dry_run=False)


async def _remove(head: Head, report: VerifyReport) -> tuple[int, tuple[str, ...]]:
    """Commit the removal of what is missing, after having looked again."""
    for _ in range(MAX_PLANS):
        async with head.lock:
            snapshot = await head.refresh()
            gone = await _gone(head.committer.store, snapshot, report)
            if not gone.num_rows:
                return snapshot.version, ()
            names, removes = await in_thread(texts, gone["path"]), await in_thread(removed, gone)
            proposal = Proposal("FSCK", removes=removes, metrics={"numRemovedFiles": len(removes)})
            try:
                committed = await head.commit(snapshot, proposal)
            except CommitConflictError:
                continue
            return committed.snapshot.version, names
    raise CommitConflictError(
        f"table {report.path!r} was changed by others during each of {MAX_PLANS} repairs; try again when fewer write",
        key=report.path,
    )


async def _gone(store: ObjectStore, snapshot: Snapshot, report: VerifyReport) -> pa.Table:
    return await missing_files(store, snapshot.path, await in_thread(_named, snapshot.files, report.missing))


def _named(files: pa.Table, names: Sequence[str]) -> pa.Table:
    pieces = [pa.array(names[at : at + _NAMES], pa.string()) for at in range(0, max(len(names), 1), _NAMES)]
    return files.filter(pc.is_in(files["path"], value_set=pa.concat_arrays(pieces)))


async def mend_hint(store: ObjectStore, path: str) -> bool:
    """Point `_last_checkpoint` to the newest complete checkpoint, where it does not; return whether it did not.

    Of a checkpoint of the newer kind (named by a UUID) the hint is deleted: readers list the log then, and the next
    checkpoint writes it again.
    """
    checkpoints = (await list_log(store, path)).checkpoints(2**63)
    if await hint_fault(store, path, checkpoints) is None:
        return False
    key = join(path, "_delta_log/_last_checkpoint")
    newest = checkpoints[-1] if checkpoints else None
    if newest is None or not all(_CLASSIC.search(each) for each in newest.keys):
        await store.delete([key])
        return True
    hint = await _hint(store, path, newest)
    await (store.delete([key]) if hint is None else store.put(key, json.dumps(hint).encode(), attributes=_JSON))
    return True


async def _hint(store: ObjectStore, path: str, checkpoint: Checkpoint) -> dict[str, int] | None:
    parts = await fetched(store, checkpoint.keys, f"the checkpoint of version {checkpoint.version} of table {path!r}")
    try:
        rows = await in_thread(lambda: [pq.read_metadata(pa.BufferReader(part)).num_rows for part in parts])
    except (pa.ArrowException, OSError):
        return None
    hint = {"version": checkpoint.version, "size": sum(rows), "sizeInBytes": sum(map(len, parts))}
    return hint if len(parts) == 1 else hint | {"parts": len(parts)}


def _unmended(report: VerifyReport) -> list[str]:
    found = [
        *(f"{name} has {there} bytes, the log says {told}" for name, (told, there) in report.wrong_size.items()),
        *(f"{name} cannot be read: {why}" for name, why in report.corrupt.items()),
        *(f"{name} has {there} rows, the log says {told}" for name, (told, there) in report.rows_mismatch.items()),
    ]
    mend = "restore the file from a backup, or restore the table to a version from before it"
    told = [f"{fault}: {mend}" for fault in found]
    for name, columns in report.bounds_mismatch.items():
        told.append(f"{name} has rows outside of its bounds in {', '.join(columns)}: write its rows again")
    told += [
        f"entry {version} of the log is missing: restore it from a backup; versions after the next checkpoint are whole"
        for version in report.gaps
    ]
    for version, why in report.checkpoints.items():
        told.append(
            f"the checkpoint of version {version}: {why}; if the log from before it is there, delete the checkpoint "
            "and call checkpoint()"
        )
    return told
