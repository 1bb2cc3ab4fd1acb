"""A snapshot's files in pieces, so that a commit costs what it changes and not what the table holds.

Added files become a piece of their own, removed ones are looked up by a hash of their path and only the pieces that
hold them are made anew. Small pieces are joined now and then, so that each file is copied a few times at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way
from buffetstore.tables.arrays import whole
from buffetstore.tables.file_statistics import FileStatistics, span_of
from buffetstore.tables.file_table import PIECE_ROWS, file_batch, statistics_columns, statistics_of
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from buffetstore.expressions import Bounds
    from buffetstore.tables.log_columns import AddColumns
    from buffetstore.tables.stored_statistics import StoredStatistics

_WINDOW = 32  # bytes of a path that its hash is of
_MANY = 1024  # paths from which on it is cheaper to look through all files
_HASHED = 16_384  # paths at a time: to gather their ends holds the interpreter
_FEW_OF = 8  # rows for one set of statistics that makes it worth to look at each set once
_PARTS = 4  # of a full piece: larger ones than these are not joined any more
_SUFFIX = 8  # bytes at its end that are left out: ".parquet"
_MIXED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)


_Key: TypeAlias = tuple[str, pa.DataType, bool]
_Distinct: TypeAlias = "tuple[pa.Table, NDArray[np.int64] | None]"


def _key(field: pa.Field, partition_columns: Sequence[str]) -> _Key:
    return stored_name(field), field.type, field.name in partition_columns


class Piece:
    """Some of the files, and their statistics.

    Paths are looked for in all of them once, and by an index from then on.
    """

    def __init__(self, batch: pa.RecordBatch, statistics: StoredStatistics) -> None:
        self.batch = batch
        self.statistics = statistics
        self._rows: pa.Array | None = None
        self._bounds: dict[_Key, Bounds] = {}
        self._spans: dict[tuple[_Key, ...], pa.Table] = {}
        self._distinct: dict[tuple[_Key, ...], _Distinct] = {}
        self._was_searched = False
        self._index: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    def known(self, fields: Sequence[pa.Field], partition_columns: Sequence[str]) -> FileStatistics:
        """Return what is known of the files' rows, of these columns of the table; nested ones have no bounds."""
        keys = {field: _key(field, partition_columns) for field in fields if not pa.types.is_nested(field.type)}
        wanted = [field for field, key in keys.items() if key not in self._bounds]
        if wanted or self._rows is None:
            found = statistics_of(self.batch, self.statistics, wanted, partition_columns)
            self._bounds |= {keys[field]: found.bounds[field.name] for field in wanted}
            self._rows = found.rows
        return FileStatistics(self._rows, {field.name: self._bounds[key] for field, key in keys.items()})

    def span(self, fields: Sequence[pa.Field], partition_columns: Sequence[str]) -> pa.Table:
        """Return the statistics of all files as those of one."""
        key = tuple(_key(field, partition_columns) for field in fields)
        if key not in self._spans:
            self._spans[key] = pa.table(statistics_columns(span_of(self.known(fields, partition_columns))))
        return self._spans[key]

    def distinct(self, fields: Sequence[pa.Field], partition_columns: Sequence[str]) -> _Distinct:
        """Return the statistics that differ, and for each file which are its own; all, and None, where many differ.

        Files of one symbol have one text as their bounds: comparing each text once takes a tenth of the time.
        """
        key = tuple(_key(field, partition_columns) for field in fields)
        if key not in self._distinct:
            self._distinct[key] = _distinct(pa.table(statistics_columns(self.known(fields, partition_columns))))
        return self._distinct[key]

    def with_statistics(self, fields: Sequence[pa.Field], partition_columns: Sequence[str]) -> pa.RecordBatch:
        """Return the files with their statistics as further columns."""
        columns = dict(zip(self.batch.schema.names, self.batch.columns, strict=True))
        return pa.RecordBatch.from_pydict(columns | statistics_columns(self.known(fields, partition_columns)))

    def rows_of(self, paths: pa.Array, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return which rows are files of these paths, whose `hashes` are given."""
        held = self.batch["path"]
        if not self._was_searched:
            self._was_searched = True
            return np.flatnonzero(pc.is_in(held, value_set=paths).to_numpy(zero_copy_only=False))
        if self._index is None:
            known = hashes_of(held)
            order = np.argsort(known, kind="stable")
            self._index = known[order], order
        known, order = self._index
        first, end = np.searchsorted(known, hashes, "left"), np.searchsorted(known, hashes, "right")
        found = [order[first[at] : end[at]] for at in np.flatnonzero(first < end)]
        rows = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
        same = pc.is_in(held.take(pa.array(rows)), value_set=paths)
        found_rows: NDArray[np.int64] = rows[same.to_numpy(zero_copy_only=False)]
        return found_rows

    def without(self, rows: NDArray[np.int64]) -> Piece:
        """Return the files but those in `rows`."""
        kept = np.ones(self.batch.num_rows, np.bool_)
        kept[rows] = False
        return Piece(self.batch.filter(pa.array(kept)), self.statistics.filter(kept))


def _distinct(known: pa.Table) -> _Distinct:
    codes, first = np.zeros(known.num_rows, np.int64), np.zeros(0, np.int64)
    for column in known.columns:
        encoded = whole(column).dictionary_encode("encode")
        codes = codes * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
        _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        if len(first) * _FEW_OF > known.num_rows:
            return known, None
    return known.take(pa.array(first)), codes


def hashes_of(paths: pa.Array) -> NDArray[np.uint64]:
    """Return a hash of each path's end: writers make it unique, and equal hashes only cost a comparison."""
    found = [np.zeros(0, np.uint64)]
    for at in range(0, len(paths), _HASHED):
        found.append(_hashes_of(paths.slice(at, _HASHED)))
        give_way()
    return np.concatenate(found)


def _hashes_of(paths: pa.Array) -> NDArray[np.uint64]:
    _, offsets, values = paths.buffers()
    ends = np.frombuffer(offsets, np.int32)[paths.offset + 1 : paths.offset + len(paths) + 1].astype(np.int64)
    starts = np.frombuffer(offsets, np.int32)[paths.offset : paths.offset + len(paths)].astype(np.int64)
    text = np.frombuffer(values, np.uint8) if values is not None else np.zeros(0, np.uint8)
    short = ends - starts < _WINDOW + _SUFFIX
    places = np.where(short, 0, ends - _WINDOW - _SUFFIX)
    if short.all():
        return _short_hashes(text, starts, ends)
    windows = np.ndarray((len(text) - _WINDOW + 1,), f"V{_WINDOW}", text, strides=(1,))
    # Overflow is what makes it a hash.
    words = windows[places].view(np.uint64).reshape(-1, len(_MIXED))
    found: NDArray[np.uint64] = (words * _MIXED).sum(axis=1, dtype=np.uint64)
    if short.any():
        found[short] = _short_hashes(text, starts[short], ends[short])
    return found


def _short_hashes(text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    found = np.zeros(len(starts), np.uint64)
    for at in range(_WINDOW + _SUFFIX):
        inside = starts + at < ends
        byte = text[np.where(inside, starts + at, 0)] if len(text) else np.zeros(len(starts), np.uint8)
        found = np.where(inside, found * _MIXED[0] + byte + np.uint64(1), found)
    return found


def pieces_of(adds: Iterable[AddColumns], versions: Iterable[pa.Array]) -> list[Piece]:
    """Return files that `add` actions of the log add."""
    return [
        Piece(file_batch(each.batch, committed), each.statistics)
        for columns, known in zip(adds, versions, strict=True)
        for each, committed in _cut(columns, known)
        if len(each)
    ]


def _cut(adds: AddColumns, versions: pa.Array) -> Iterator[tuple[AddColumns, pa.Array]]:
    if len(adds) <= PIECE_ROWS:
        yield adds, versions
        return
    for at in range(0, len(adds), PIECE_ROWS):
        yield adds.part(at, min(at + PIECE_ROWS, len(adds))), versions.slice(at, PIECE_ROWS)


def changed(pieces: Sequence[Piece], gone: pa.Array, added: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return the files but those of the paths `gone`, and then `added`."""
    kept = _kept(pieces, gone) if len(gone) else pieces
    return _joined([*kept, *added])


def first_missing(pieces: Sequence[Piece], paths: pa.Array) -> str | None:
    """Return the first of the paths that is not one of the files; None where all are."""
    rows = _rows_of(pieces, paths)
    held = [piece.batch["path"].take(pa.array(there)) for piece, there in zip(pieces, rows, strict=True)]
    known = pc.is_in(paths, value_set=pa.concat_arrays([pa.array([], pa.string()), *held]))
    at = pc.index(known, False).as_py()
    return None if at < 0 else str(paths[at])


def _kept(pieces: Sequence[Piece], gone: pa.Array) -> list[Piece]:
    return [
        piece.without(there) if len(there) else piece
        for piece, there in zip(pieces, _rows_of(pieces, gone), strict=True)
        if len(there) < piece.batch.num_rows
    ]


def _rows_of(pieces: Sequence[Piece], paths: pa.Array) -> list[NDArray[np.int64]]:
    """Return for each piece which of its rows are files of these paths."""
    if len(paths) <= _MANY or not pieces:
        hashes = hashes_of(paths)
        return [piece.rows_of(paths, hashes) for piece in pieces]
    held = pa.chunked_array([piece.batch["path"] for piece in pieces])
    known = whole(pc.is_in(held, value_set=paths)).to_numpy(zero_copy_only=False)  # its chunks may be others
    ends = np.cumsum([piece.batch.num_rows for piece in pieces])[:-1]
    return [np.flatnonzero(part) for part in np.split(known, ends)]


def as_table(pieces: Iterable[Piece], schema: pa.Schema) -> pa.Table:
    """Return the files as one table, without copying them."""
    return pa.Table.from_batches([piece.batch for piece in pieces], schema)


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Join neighbours of which the first is not much larger: each file is copied about as often as a size doubles."""
    found: list[Piece] = []
    for piece in pieces:
        found.append(piece)
        while len(found) > 1 and _belong_together(found[-2].batch, found[-1].batch):
            last, before = found.pop(), found.pop()
            statistics = (before.statistics + last.statistics).together()
            found.append(Piece(pa.concat_batches([before.batch, last.batch]), statistics))
    return tuple(found)


def _belong_together(one: Any, other: Any) -> bool:
    return bool(one.num_rows <= 2 * other.num_rows and one.num_rows + other.num_rows <= PIECE_ROWS // _PARTS)
