"""Going back to an earlier version, planned on one snapshot: its files come back, those added since go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from buffetstore.errors import NotFoundError, UnsupportedFeatureError
from buffetstore.expressions import ALWAYS
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.features import check_writable, lacking
from buffetstore.tables.file_actions import removed, restored, texts
from buffetstore.tables.log import join
from buffetstore.tables.operations.presence import missing_files, without
from buffetstore.tables.results import RestoreResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.snapshot import Snapshot

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
    back = await in_thread(lambda: _without(target.with_statistics(), snapshot.files))
    gone = await in_thread(_without, snapshot.files, target.files)
    missing = await missing_files(store, snapshot.path, back)
    if missing.num_rows and not ignore_missing:
        first = missing["path"].slice(0, _NAMED).to_pylist()
        shown = ", ".join(map(repr, first)) + (", ..." if missing.num_rows > _NAMED else "")
        raise NotFoundError(
            f"table {snapshot.path!r} cannot be restored to version {target.version}: {missing.num_rows} of its data "
            f"files are gone, vacuumed or deleted by hand: {shown}; with ignore_missing what is left comes back",
            key=join(snapshot.path, first[0]),
        )
    if missing.num_rows:
        back = await in_thread(without, back, missing)
    metadata = target.metadata if target.metadata != snapshot.metadata else None
    named = await in_thread(texts, missing["path"])
    result = RestoreResult(snapshot.version, target.version, back.num_rows, gone.num_rows, named)
    if metadata is None and not back.num_rows and not gone.num_rows:
        return None, result
    proposal = Proposal(
        "RESTORE",
        removes=await in_thread(removed, gone),
        restores=await in_thread(restored, back, target.metadata, _bounded(target)),
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


def _bounded(target: Snapshot) -> list[str]:
    return [name for name in target.schema.names if name not in target.partition_columns]
