"""Which files commits changed, decided without I/O. Source: Delta protocol, "Change Data Files".

A commit can name a hundred thousand files. As Python values they would take a second of the interpreter, and the
collector would look through all of them: here they are rows of Arrow batches, named by their number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.resilience.threads import give_way
from buffetstore.tables.file_actions import paths_of, texts
from buffetstore.tables.log_columns import STRINGS, add_columns, remove_batch
from buffetstore.tables.operations.changes import DELETE, INSERT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from buffetstore.tables.log import Entry

_UNKNOWN_SIZE = 64 * 1024 * 1024
_ABSENT = -1
_NAMES = 1000  # at a time, after which others may run
_VALUES = 128  # parts made at a time: a millisecond, so that the event loop may do it
_DEAD = 65_536  # rows that nobody needs any more, before those that somebody needs are put together
_BATCHES = 1024  # and as many batches
_FILES = pa.schema(
    [("path", pa.string()), ("size", pa.int64()), ("partition_values", STRINGS), ("deletion_vector", pa.string())]
)


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file that changed in one way.

    Parameters
    ----------
    kind:
        What became of them; None where the file says it, row by row.
    vector, among:
        Deletion vectors: the rows that are not in `vector`, and of those only the ones in `among` where there is one.
    """

    kind: str | None
    path: str
    size: int
    partition_values: Mapping[str, str | None] = field(default_factory=dict)
    vector: str | None = None
    among: str | None = None


class Parts:
    """What one commit changed: parts of files, of which values are made when they are asked for."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch  # `_FILES`, then `kind` and `among`

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def sizes(self, seen: int) -> Iterator[int]:
        """Return the sizes of the files, of all parts but the first `seen`."""
        return map(int, self._batch["size"].slice(seen).to_numpy())

    def since(self, seen: int) -> Iterator[Part]:
        """Yield all parts but the first `seen`."""
        for at in range(seen, len(self), _VALUES):
            for row in self._batch.slice(at, _VALUES).to_pylist():
                values = dict(row["partition_values"])
                yield Part(row["kind"], row["path"], row["size"], values, row["deletion_vector"], row["among"])


class LiveFiles:
    """Which files a table has while commits are replayed, as far as these name them.

    Parameters
    ----------
    files:
        Those before the first of the commits; None where that is not known any more.
    partitioned:
        The table has partition columns.
    """

    def __init__(self, files: pa.Table | None, *, partitioned: bool) -> None:
        self._files = files
        self._partitioned = partitioned
        self._rows: dict[str, int] = {}  # which row says what a file is
        self._batches: list[pa.RecordBatch] = []
        self._ends: list[int] = []  # how many rows there are up to the end of each batch
        self._first: dict[str, None] = {}  # of the files before the first commit, those that were looked up

    def look_up(self, entries: Sequence[Entry]) -> None:
        """Find the files that these commits name; to be called before `parts`, in a thread."""
        if self._files is None:
            return
        named = [paths_of(actions) for entry in entries for actions in (entry.adds, entry.removes) if actions]
        wanted = pc.is_in(self._files["path"], value_set=pa.concat_arrays([pa.array([], pa.string()), *named]))
        found = self._files.select(_FILES.names).filter(wanted).combine_chunks()
        for batch in found.to_batches():
            start = self._keep(batch)
            for at, name in enumerate(_each(batch["path"]), start):
                if name not in self._rows:
                    self._first[name] = None
                    self._rows[name] = at

    def parts(self, entry: Entry, path: str) -> Parts:
        """Return what the next commit changed: rows that went before rows that came; to be called in a thread.

        Of a file that is added although it is there already, or removed although it is not, nothing changed.

        Raises
        ------
        CorruptLogError
            Nobody can tell any more what the partition values of a removed file are.
        UnsupportedFeatureError
            It names a file outside of the table.
        """
        adds, removes = add_columns(entry.adds).batch, self._removed(entry)
        kept = self._keep(adds.select(_FILES.names))
        told = self._keep(removes.select(_FILES.names))
        before, after, changed = self._replay(adds, removes, kept, told)
        if entry.cdcs:
            found = _change_files(entry)
        else:
            lost, new = self._differing(before, after)
            gone = self._batch(before, after, changed & lost, DELETE)
            come = self._batch(after, before, changed & new, INSERT)
            found = pa.concat_batches([gone, come])
        self._forget()
        _check(found, entry.version, path)
        return Parts(found)

    def _removed(self, entry: Entry) -> pa.RecordBatch:
        found = remove_batch(entry.removes)
        found = found.set_column(found.schema.get_field_index("size"), "size", _known_sizes(found["size"]))
        if self._partitioned:
            return found
        empty = pa.array([], pa.string())
        none = pa.MapArray.from_arrays(pa.array(np.zeros(found.num_rows + 1, np.int32)), empty, empty)
        return found.set_column(found.schema.get_field_index("partition_values"), "partition_values", none)

    def _replay(
        self, adds: pa.RecordBatch, removes: pa.RecordBatch, kept: int, told: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Return for each file named which row it was before and is after, and whether its rows are said to change."""
        removed = {name: at for at, name in enumerate(_each(removes["path"]))}
        added = {name: at for at, name in enumerate(_each(adds["path"]))}
        names = list(removed | added)
        before, after = np.full(len(names), _ABSENT), np.full(len(names), _ABSENT)
        changed = np.zeros(len(names), np.bool_)
        adding, removing = (each["data_change"].to_numpy(zero_copy_only=False) for each in (adds, removes))
        for at, name in enumerate(names):
            if at % _NAMES == 0:
                give_way()
            add, remove = added.get(name), removed.get(name)
            row = self._rows.get(name)
            if row is None:
                row = _ABSENT if self._files is not None or remove is None else told + remove
            before[at] = row
            if add is not None:
                after[at] = self._rows[name] = kept + add
                changed[at] = adding[add]
            else:
                changed[at] = removing[remove]
                self._set_absent(name)
        return before, after, changed

    def _set_absent(self, name: str) -> None:
        if self._files is not None and name not in self._first:
            self._rows.pop(name, None)  # it came and went: nothing need be kept of it
        else:
            self._rows[name] = _ABSENT

    def _differing(
        self, before: NDArray[np.int64], after: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return of which files there may be rows that went, and rows that came."""
        lost, new = before != _ABSENT, after != _ABSENT
        both = np.flatnonzero(lost & new)
        was, now = (_each(self._take(rows[both])["deletion_vector"]) for rows in (before, after))
        for at, one, other in zip(both, was, now, strict=True):
            same = _identity(one) == _identity(other)
            lost[at] = not same and other is not None
            new[at] = not same and one is not None
        return lost, new

    def _batch(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], wanted: NDArray[np.bool_], kind: str
    ) -> pa.RecordBatch:
        found, among = self._take(rows[wanted]), self._take(others[wanted])["deletion_vector"]
        return _with_kind(found, pa.repeat(pa.scalar(kind, pa.string()), found.num_rows), among)

    def _keep(self, batch: pa.RecordBatch) -> int:
        """Add rows, and return the number of the first."""
        start = self._ends[-1] if self._ends else 0
        self._batches.append(batch)
        self._ends.append(start + batch.num_rows)
        return start

    def _take(self, rows: NDArray[np.int64]) -> pa.RecordBatch:
        """Return the rows of these numbers, all null for those that there are not."""
        if not len(rows):
            return _NOTHING
        places = np.searchsorted(self._ends, rows, "right")
        order = np.argsort(places, kind="stable")
        parts = []
        for at, asked in zip(*_runs(places[order], rows[order]), strict=True):
            inside = asked - (self._ends[at] - self._batches[at].num_rows)
            parts.append(self._batches[at].take(pa.array(inside, pa.int64(), mask=asked == _ABSENT)))
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return pa.concat_batches([_NOTHING, *parts]).take(pa.array(back))

    def _forget(self) -> None:
        """Leave out what nobody will ask for, once it is more than the rest, and put the rest together."""
        if self._ends[-1] <= 2 * len(self._rows) + _DEAD and len(self._batches) < _BATCHES:
            return
        held = [row for row in self._rows.values() if row != _ABSENT]
        batch = self._take(np.array(held, np.int64))
        self._batches, self._ends = [], []
        self._keep(batch)
        numbers = iter(range(len(held)))
        self._rows = {name: row if row == _ABSENT else next(numbers) for name, row in self._rows.items()}


_NOTHING = pa.RecordBatch.from_pylist([], _FILES)


def _each(column: Any) -> Sequence[str]:
    return texts(column)


def _runs(places: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """Return the places, which are in order, each once and with its rows."""
    found, first = np.unique(places, return_index=True)
    return found.tolist(), np.split(rows, first[1:])


def _known_sizes(sizes: Any) -> Any:
    known = pc.fill_null(sizes, 0)
    return pc.if_else(pc.equal(known, 0), pa.scalar(_UNKNOWN_SIZE, pa.int64()), known)


def _with_kind(files: pa.RecordBatch, kinds: Any, among: Any) -> pa.RecordBatch:
    return files.append_column("kind", kinds).append_column("among", among)


def _change_files(entry: Entry) -> pa.RecordBatch:
    files = [
        {"path": cdc.path, "size": cdc.size, "partition_values": list(cdc.partition_values.items())}
        for cdc in entry.cdcs
    ]
    none = pa.nulls(len(files), pa.string())
    return _with_kind(pa.RecordBatch.from_pylist(files, _FILES), none, none)


def _check(found: pa.RecordBatch, version: int, path: str) -> None:
    unknown = found.filter(pc.is_null(found["partition_values"]))
    if unknown.num_rows:
        raise CorruptLogError(
            f"version {version} of table {path!r} removes {unknown['path'][0].as_py()!r} without its partition values, "
            "and the version before it cannot be read any more; begin with a later version",
            key=path,
        )
    names = found["path"]
    outside = found.filter(pc.or_(pc.starts_with(names, "/"), pc.match_substring(names, "://")))
    if outside.num_rows:
        raise UnsupportedFeatureError(
            f"version {version} of table {path!r} names the file {outside['path'][0].as_py()!r} by an absolute path; "
            "only files inside the table are read",
            key=path,
        )


def _identity(vector: str | None) -> tuple[Any, ...] | None:
    if vector is None:
        return None
    body = json.loads(vector)
    return body["storageType"], body["pathOrInlineDv"], body.get("offset")
