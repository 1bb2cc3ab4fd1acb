"""A table at one version, as a value; entries of the log are replayed into it without any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_pieces import as_table, changed, first_missing, pieces_of
from buffetstore.tables.file_table import conform, files_schema, from_batches
from buffetstore.tables.latest import latest_actions
from buffetstore.tables.log_columns import may_be_unusual, whole
from buffetstore.tables.schema import mapping_of, schema_of, stored_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from buffetstore.tables.actions import Metadata, Protocol, Txn
    from buffetstore.tables.checkpoint import State
    from buffetstore.tables.file_pieces import Piece
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
    pieces:
        The same files as they are in memory, which the next snapshot shares.
    """

    path: str
    version: int
    protocol: Protocol
    metadata: Metadata
    schema: pa.Schema
    files: pa.Table
    timestamp: datetime
    txns: Mapping[str, Txn]
    pieces: tuple[Piece, ...] = field(default=(), repr=False, compare=False)

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The Delta partition columns, usually none."""
        return self.metadata.partition_columns

    def missing(self, paths: Iterable[str]) -> str | None:
        """Return the first of the paths that is not a data file of this version; None where all are."""
        return first_missing(self.pieces, pa.array(paths, pa.string()))


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
    pieces = _replay_files(path, base, entries, schema, metadata.partition_columns)
    files = as_table(pieces, files_schema(schema))
    txns = dict(base.txns) if base else {}
    txns.update({txn.app_id: txn for entry in entries for txn in entry.txns})
    return Snapshot(path, last, protocol, metadata, schema, files, _timestamp(entries, timestamp), txns, pieces)


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
    path: str,
    base: Snapshot | State | None,
    entries: Sequence[Entry],
    schema: pa.Schema,
    partition_columns: Sequence[str],
) -> tuple[Piece, ...]:
    latest = latest_actions(entries)
    added = from_batches(latest.adds, schema, partition_columns)
    _refuse_absolute(whole(added["path"]), path)
    if base is None:
        return changed((), pa.array([], pa.string()), added)
    target, moved = files_schema(schema), _moved(base.schema, schema)
    if isinstance(base, Snapshot) and not moved and base.files.schema.equals(target):
        pieces = base.pieces
    else:
        statistics = [f"{kind}.{name}" for name in moved for kind in ("min", "max", "null_count")]
        held = [name for name in statistics if name in base.files.column_names]
        pieces = pieces_of(conform(base.files.drop_columns(held), target))
        if not isinstance(base, Snapshot):
            for piece in pieces:
                _refuse_absolute(piece.batch["path"], path)
    return changed(pieces, latest.paths, added)


def _moved(before: pa.Schema, now: pa.Schema) -> list[str]:
    """Return the columns that files have under another name than before: what was known of them is another's."""
    return [
        field.name
        for field in now
        if field.name in before.names and stored_name(field) != stored_name(before.field(field.name))
    ]


def _refuse_absolute(paths: pa.Array, path: str) -> None:
    if not may_be_unusual(paths):
        return
    outside = pc.match_substring_regex(paths, r"^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    if pc.any(outside).as_py():
        found = paths.filter(outside)[0].as_py()
        raise UnsupportedFeatureError(
            f"table {path!r} names the data file {found!r} by an absolute path; only files inside the table are read",
            key=path,
        )


def _timestamp(entries: Sequence[Entry], otherwise: datetime) -> datetime:
    info = entries[-1].info if entries else None
    milliseconds = (info.in_commit_timestamp or info.timestamp) if info is not None else 0
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else otherwise
