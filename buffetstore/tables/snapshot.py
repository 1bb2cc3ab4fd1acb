"""A table at one version, as a value; entries of the log are replayed into it without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_table import conform, files_schema, from_actions
from buffetstore.tables.schema import mapping_of, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.tables.actions import AddFile, Metadata, Protocol, Txn
    from buffetstore.tables.checkpoint import State
    from buffetstore.tables.log import Entry

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a table is at one version.

    Parameters
    ----------
    path:
        Where the table is in its store.
    schema:
        The columns, partition columns included.
    files:
        The data files, one a row, with typed statistics: see `buffetstore.tables.file_table`.
    timestamp:
        When the version was committed, by its writer's clock; of a version known from a checkpoint alone, when that
        was written.
    txns:
        How far each application has come, by its id.
    """

    path: str
    version: int
    protocol: Protocol
    metadata: Metadata
    schema: pa.Schema
    files: pa.Table
    timestamp: datetime
    txns: Mapping[str, Txn]

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The Delta partition columns, usually none."""
        return self.metadata.partition_columns


def replay(
    path: str,
    base: Snapshot | State | None,
    entries: Sequence[Entry],
    *,
    version: int = -1,
    timestamp: datetime = datetime.fromtimestamp(0, UTC),  # noqa: B008 - immutable
) -> Snapshot:
    """Return the snapshot after `entries`, which follow `base` without a gap.

    Parameters
    ----------
    version, timestamp:
        What holds where there are no entries; an entry knows its own.

    Raises
    ------
    CorruptLogError
        No entry told the protocol or the metadata.
    UnsupportedFeatureError
        The table needs what we cannot read, or names data files outside of itself.
    """
    protocol = _latest([base.protocol if base else None, *(entry.protocol for entry in entries)])
    metadata = _latest([base.metadata if base else None, *(entry.metadata for entry in entries)])
    last = entries[-1].version if entries else version
    if protocol is None or metadata is None:
        missing = "protocol" if protocol is None else "metadata"
        raise CorruptLogError(f"the log of table {path!r} up to version {last} has no {missing} action", key=path)
    check_readable(protocol, metadata, path)
    schema = base.schema if base is not None and _same_columns(base.metadata, metadata) else schema_of(metadata)
    files = _replay_files(base.files if base else None, entries, schema, metadata.partition_columns)
    _refuse_absolute(files, path)
    txns = dict(base.txns) if base else {}
    txns.update({txn.app_id: txn for entry in entries for txn in entry.txns})
    return Snapshot(path, last, protocol, metadata, schema, files, _timestamp(entries, timestamp), txns)


def advance(snapshot: Snapshot, entries: Sequence[Entry]) -> Snapshot:
    """Return the snapshot after further entries."""
    if not entries:
        return snapshot
    return replay(snapshot.path, snapshot, entries, version=snapshot.version, timestamp=snapshot.timestamp)


def _same_columns(one: Metadata, other: Metadata) -> bool:
    return one.schema_string == other.schema_string and mapping_of(one) == mapping_of(other)


def _latest(values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)


def _replay_files(
    base: pa.Table | None, entries: Sequence[Entry], schema: pa.Schema, partition_columns: Sequence[str]
) -> pa.Table:
    latest: dict[str, tuple[AddFile, int | None] | None] = {}
    for entry in entries:
        # Actions of one entry have no order; the same path in both is a change of its deletion vector.
        for remove in entry.removes:
            latest[remove.path] = None
        for add in entry.adds:
            latest.pop(add.path, None)  # so that files are in the order of their commits
            latest[add.path] = (add, None if entry.compacted else entry.version)
    living = [found for found in latest.values() if found is not None]
    added = from_actions([add for add, _ in living], [version for _, version in living], schema, partition_columns)
    if base is None:
        return added
    kept = conform(base, files_schema(schema))
    if latest:
        gone = pc.is_in(kept["path"], value_set=pa.array(list(latest), pa.string()))
        kept = kept.filter(pc.invert(gone))
    return pa.concat_tables([kept, added]) if living else kept


def _refuse_absolute(files: pa.Table, path: str) -> None:
    outside = pc.match_substring_regex(files["path"], r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    if pc.any(outside).as_py():
        found = files["path"].filter(outside)[0].as_py()
        raise UnsupportedFeatureError(
            f"table {path!r} names the data file {found!r} by an absolute path; only files inside the table are read",
            key=path,
        )


def _timestamp(entries: Sequence[Entry], otherwise: datetime) -> datetime:
    info = entries[-1].info if entries else None
    milliseconds = (info.in_commit_timestamp or info.timestamp) if info is not None else 0
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else otherwise
