"""Going back to an earlier version, planned on one snapshot: its files come back, those added since go."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import NotFoundError, UnsupportedFeatureError
from buffetstore.expressions import ALWAYS
from buffetstore.formats.statistics import render_statistics
from buffetstore.objects.helpers import exists
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.features import check_writable, lacking
from buffetstore.tables.file_table import listed
from buffetstore.tables.log import join
from buffetstore.tables.operations.write import removals
from buffetstore.tables.results import RestoreResult
from buffetstore.tables.revision_order import kept_tags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.snapshot import Snapshot

_ASKED_ONE_BY_ONE = 256  # beyond this many files one listing of the table is quicker
_NAMED = 10


async def restore_files(
    store: ObjectStore, snapshot: Snapshot, target: Snapshot, asked: Mapping[str, Any], *, ignore_missing: bool
) -> tuple[Proposal | None, RestoreResult]:
    """Return what makes the table what it was at `target`; no proposal where it is that already.

    Raises
    ------
    NotFoundError
        Files of `target` are gone; without `ignore_missing`.
    UnsupportedFeatureError
        `target` needs what the protocol does not have any more.
    """
    lost = lacking(snapshot.protocol, target.protocol)
    if lost:
        raise UnsupportedFeatureError(
            f"table {snapshot.path!r} cannot be restored to version {target.version}: that needs {', '.join(lost)}, "
            "which the table does not have any more",
            key=snapshot.path,
        )
    check_writable(snapshot.protocol, target.metadata, target.schema, snapshot.path)
    back = await in_thread(_without, target.files, snapshot.files)
    gone = await in_thread(_without, snapshot.files, target.files)
    missing = await _missing(store, snapshot.path, back["path"].to_pylist())
    if missing and not ignore_missing:
        shown = ", ".join(map(repr, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
        raise NotFoundError(
            f"table {snapshot.path!r} cannot be restored to version {target.version}: {len(missing)} of its data files "
            f"are gone, vacuumed or deleted by hand: {shown}; with ignore_missing what is left comes back",
            key=join(snapshot.path, missing[0]),
        )
    if missing:
        back = back.filter(pc.invert(pc.is_in(back["path"], value_set=pa.array(missing, pa.string()))))
    metadata = target.metadata if target.metadata != snapshot.metadata else None
    result = RestoreResult(snapshot.version, target.version, back.num_rows, gone.num_rows, tuple(missing))
    if metadata is None and not back.num_rows and not gone.num_rows:
        return None, result
    proposal = Proposal(
        "RESTORE",
        removes=removals(await listed(gone)),
        restores=await in_thread(_adds, back, target),
        metadata=metadata,
        reads=ALWAYS,
        metrics={"numRestoredFiles": back.num_rows, "numRemovedFiles": gone.num_rows},
        parameters=asked,
        alone=True,
    )
    return proposal, result


def _without(files: pa.Table, others: pa.Table) -> pa.Table:
    """Return the files that are not among the others; one that lost other rows is another file."""
    same = pc.is_in(_identities(files), value_set=_identities(others).combine_chunks())
    return files.filter(pc.invert(same))


def _identities(files: pa.Table) -> Any:
    vectors = pc.fill_null(files["deletion_vector"], "")
    return pc.binary_join_element_wise(files["path"], vectors, "\n")


async def _missing(store: ObjectStore, path: str, names: Sequence[str]) -> list[str]:
    keys = {join(path, name): name for name in names}
    if len(keys) <= _ASKED_ONE_BY_ONE:
        there = await gather([partial(exists, store, key) for key in keys])
        return [name for name, found in zip(keys.values(), there, strict=True) if not found]
    async for meta in store.list_objects(join(path, "")):
        keys.pop(meta.key, None)
        if not keys:
            break
    return list(keys.values())


def _adds(files: pa.Table, target: Snapshot) -> tuple[AddFile, ...]:
    bounded = [
        name
        for name in target.schema.names
        if f"min.{name}" in files.column_names and name not in target.partition_columns
    ]
    return tuple(_add(file, target, bounded) for batch in files.to_batches() for file in batch.to_pylist())


def _add(file: Mapping[str, Any], target: Snapshot, bounded: Sequence[str]) -> AddFile:
    """Return the action that brings a file back; its bounds are as wide as reading them made them."""
    vector, rows = file["deletion_vector"], file["num_records"]
    if vector is not None and rows is not None:  # the log counts the rows that are stored
        rows += json.loads(vector)["cardinality"]
    lowest, highest, nulls = (
        {name: file[f"{side}.{name}"] for name in bounded if file[f"{side}.{name}"] is not None}
        for side in ("min", "max", "null_count")
    )
    return AddFile(
        file["path"],
        file["size"],
        int(file["modification_time"].timestamp() * 1000),
        dict(file["partition_values"] or ()),
        kept_tags(target.metadata, file),
        None if rows is None else render_statistics(rows, lowest, highest, nulls),
        data_change=True,
        log_path=file["log_path"],
        deletion_vector=vector,
    )
