"""What a commit changed, as the parts of files that have the rows: decided without I/O, then read.

Source: Delta protocol, "Change Data Files".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import CorruptLogError, UnsupportedFeatureError
from buffetstore.expressions import columns_of, filter_rows
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.deletion_vectors import DeletionVector, read_positions
from buffetstore.tables.file_table import rows as file_rows
from buffetstore.tables.operations.changes import CHANGE_TYPE, DELETE, INSERT, marked
from buffetstore.tables.reading import read_file
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.actions import RemoveFile
    from buffetstore.tables.log import Entry
    from buffetstore.tables.snapshot import Snapshot

_UNKNOWN_SIZE = 64 * 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class _Held:
    size: int
    partition_values: Mapping[str, str | None] | None
    vector: str | None


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
        self._held: dict[str, _Held | None] = {}
        self._first: set[str] = set()  # of the files before the first commit, those that were looked up

    def look_up(self, entries: Iterable[Entry]) -> None:
        """Find the files that these commits name; to be called before `parts`, in a thread."""
        named = {each.path for entry in entries for each in entry.removes}
        named |= {each.path for entry in entries for each in entry.adds}
        names = named - self._held.keys()
        if self._files is None or not names:
            return
        wanted = pc.is_in(self._files["path"], value_set=pa.array(sorted(names), pa.string()))
        for file in file_rows(self._files.filter(wanted)):
            self._first.add(file["path"])
            self._held[file["path"]] = _Held(file["size"], file["partition_values"], file["deletion_vector"])

    def parts(self, entry: Entry, path: str) -> list[Part]:
        """Return what the next commit changed: rows that went before rows that came.

        Of a file that is added although it is there already, or removed although it is not, nothing changed.

        Raises
        ------
        UnsupportedFeatureError
            It names a file outside of the table.
        """
        removes = {remove.path: remove for remove in entry.removes}
        adds = {add.path: add for add in entry.adds}
        gone, come = [], []
        for name in dict.fromkeys((*removes, *adds)):
            add, remove = adds.get(name), removes.get(name)
            before = self._before(name, remove)
            after = None if add is None else _Held(add.size, add.partition_values, add.deletion_vector)
            self._set(name, after)
            if (add is not None and add.data_change) or (add is None and remove is not None and remove.data_change):
                gone += _lost(name, before, after, entry.version, path)
                come += _lost(name, after, before, entry.version, path, INSERT)
        told = [Part(None, cdc.path, cdc.size, cdc.partition_values) for cdc in entry.cdcs]
        found = told or [*gone, *come]
        outside = next((part.path for part in found if part.path.startswith("/") or "://" in part.path), None)
        if outside is not None:
            raise UnsupportedFeatureError(
                f"version {entry.version} of table {path!r} names the file {outside!r} by an absolute path; only files "
                "inside the table are read",
                key=path,
            )
        return found

    def _before(self, name: str, remove: RemoveFile | None) -> _Held | None:
        if name in self._held or self._files is not None or remove is None:
            return self._held.get(name)
        values = remove.partition_values if self._partitioned else {}
        return _Held(remove.size or _UNKNOWN_SIZE, values, remove.deletion_vector)

    def _set(self, name: str, held: _Held | None) -> None:
        if held is None and self._files is not None and name not in self._first:
            self._held.pop(name, None)  # it came and went: nothing need be kept of it
        else:
            self._held[name] = held


def _lost(
    name: str, before: _Held | None, after: _Held | None, version: int, path: str, kind: str = DELETE
) -> list[Part]:
    """Return the rows that a file has before and not after; with both exchanged, those that came."""
    if before is None:
        return []
    among = None
    if after is not None:
        if after.vector is None or _identity(after.vector) == _identity(before.vector):
            return []  # all of its rows are there, or the same
        among = after.vector
    if before.partition_values is None:
        raise CorruptLogError(
            f"version {version} of table {path!r} removes {name!r} without its partition values, and the version "
            "before it cannot be read any more; begin with a later version",
            key=path,
        )
    return [Part(kind, name, before.size, before.partition_values, before.vector, among)]


def _identity(vector: str | None) -> tuple[Any, ...] | None:
    if vector is None:
        return None
    body = json.loads(vector)
    return body["storageType"], body["pathOrInlineDv"], body.get("offset")


async def read_part(
    store: ObjectStore,
    snapshot: Snapshot,
    part: Part,
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str],
    predicate: Expression | None,
) -> pa.Table:
    """Return the part's rows that satisfy the predicate, with `_change_type`; the version is that of `snapshot`.

    Raises
    ------
    NotFoundError
        The file has been vacuumed; the message names it and the version.
    CorruptFileError
    """
    # Files know their own partitions, whatever the table's were then or are now.
    partitioned = tuple(field.name for field in snapshot.schema if stored_name(field) in part.partition_values)
    shape = replace(snapshot, metadata=replace(snapshot.metadata, partition_columns=partitioned))
    file = {
        "path": part.path,
        "size": part.size,
        "partition_values": part.partition_values,
        "deletion_vector": part.vector,
    }
    if part.kind is None:
        shape = replace(shape, schema=snapshot.schema.append(CHANGE_TYPE))
        wanted = [*columns, CHANGE_TYPE.name]
        return await read_file(store, shape, file, formatter=formatter, columns=wanted, predicate=predicate)
    if part.among is None:
        rows = await read_file(store, shape, file, formatter=formatter, columns=columns, predicate=predicate)
        return await in_thread(marked, rows, part.kind)
    chosen = await _chosen(store, snapshot.path, part)
    tested = sorted(columns_of(predicate) - set(columns)) if predicate is not None else []
    whole = {**file, "deletion_vector": None}
    rows = await read_file(store, shape, whole, formatter=formatter, columns=[*columns, *tested])
    return await in_thread(_taken, rows, chosen, columns, predicate, part.kind)


async def _chosen(store: ObjectStore, path: str, part: Part) -> NDArray[np.int64]:
    async def positions(vector: str | None) -> NDArray[np.int64]:
        if vector is None:
            return np.empty(0, np.int64)
        return await read_positions(store, path, DeletionVector.from_text(vector), part.path)

    among, deleted = await gather([lambda: positions(part.among), lambda: positions(part.vector)])
    return np.setdiff1d(among, deleted, assume_unique=True)


def _taken(
    rows: pa.Table, chosen: NDArray[np.int64], columns: Sequence[str], predicate: Expression | None, kind: str
) -> pa.Table:
    found = rows.take(pa.array(chosen))
    if predicate is not None:
        found = filter_rows(found, predicate)
    return marked(found.select(list(columns)), kind)
