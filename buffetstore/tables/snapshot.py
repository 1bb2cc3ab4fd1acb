"""A table at one version, as a value; entries of the log are replayed into it without any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.expressions import columns_of
from buffetstore.tables.arrays import whole
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_pieces import Piece, as_table, changed, first_missing, pieces_of
from buffetstore.tables.file_table import FIXED
from buffetstore.tables.latest import latest_actions
from buffetstore.tables.log_columns import may_be_unusual
from buffetstore.tables.pruning import prune_pieces
from buffetstore.tables.row_group_index import NO_ROW_GROUPS, RowGroupIndex
from buffetstore.tables.schema import mapping_of, schema_of
from buffetstore.tables.stored_statistics import StoredStatistics

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.tables.actions import Metadata, Protocol, Txn
    from buffetstore.tables.checkpoint import State
    from buffetstore.tables.log import Entry

T = TypeVar("T")
_NO_FILES = Piece(pa.RecordBatch.from_pylist([], schema=FIXED), StoredStatistics())


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
        The data files, one a row, without their statistics: see `buffetstore.tables.file_table`.
    timestamp:
        When the version was committed, by its writer's clock; of a version known from a checkpoint alone, when that
        was written.
    txns:
        How far each application has come, by its id.
    pieces:
        The same files and their statistics as they are in memory, which the next snapshot shares.
    row_groups:
        The footers of large files that are known.
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
    row_groups: RowGroupIndex = field(default=NO_ROW_GROUPS, repr=False, compare=False)

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """The Delta partition columns, usually none."""
        return self.metadata.partition_columns

    @property
    def has_exact_statistics(self) -> bool:
        """Whether bounds are as the writers of the files told them: no checkpoint may have cut them."""
        return all(piece.statistics.is_exact for piece in self.pieces)

    def with_statistics(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the files with their statistics: `num_records`, and the bounds of these columns or of all.

        What has not been asked for before is read from the log's texts or the checkpoint's columns first, which takes
        a second for a million files: call it in a thread.
        """
        fields = self._fields(columns)
        batches = [piece.with_statistics(fields, self.partition_columns) for piece in self.pieces or (_NO_FILES,)]
        return pa.Table.from_batches(batches)

    def prune(self, predicate: Expression, statistics: Sequence[str] | None = None) -> pa.Table:
        """Return the files that may hold a row for which the predicate is true; no file with such a row is left out.

        With `statistics`, names of columns or none, they come with these and `num_records` as `with_statistics` gives
        them. As that it reads what has not been asked for before: call it in a thread.
        """
        found = prune_pieces(self.pieces, predicate, self._fields(columns_of(predicate)), self.partition_columns)
        batches = []
        for piece, rows in found or ((_NO_FILES, pa.array([], pa.int64())),):
            known = (
                None if statistics is None else piece.with_statistics(self._fields(statistics), self.partition_columns)
            )
            batches.append((piece.batch if known is None else known).take(rows))
        return pa.Table.from_batches(batches)

    def _fields(self, names: Collection[str] | None) -> list[pa.Field]:
        return [field for field in self.schema if names is None or field.name in names]

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
    pieces = _replay_files(path, base, entries)
    files = as_table(pieces, FIXED)
    txns = dict(base.txns) if base else {}
    txns.update({txn.app_id: txn for entry in entries for txn in entry.txns})
    known = base.row_groups if isinstance(base, Snapshot) else NO_ROW_GROUPS
    return Snapshot(path, last, protocol, metadata, schema, files, _timestamp(entries, timestamp), txns, pieces, known)


def advance(snapshot: Snapshot, entries: Sequence[Entry]) -> Snapshot:
    """Return the snapshot after further entries."""
    if not entries:
        return snapshot
    return replay(snapshot.path, snapshot, entries, version=snapshot.version, timestamp=snapshot.timestamp)


def _same_columns(one: Metadata, other: Metadata) -> bool:
    return one.schema_string == other.schema_string and mapping_of(one) == mapping_of(other)


def _latest(values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)


def _replay_files(path: str, base: Snapshot | State | None, entries: Sequence[Entry]) -> tuple[Piece, ...]:
    latest = latest_actions(entries)
    added = pieces_of(latest.adds, latest.versions)
    held = base.pieces if base is not None else ()
    for piece in (*added, *(() if isinstance(base, Snapshot) else held)):
        _refuse_absolute(piece.batch["path"], path)
    return changed(held, whole(latest.paths) if held else pa.array([], pa.string()), added)


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
