"""File actions of the Delta log as Arrow columns: from lines by pyarrow's JSON reader, and from action values.

What the reader cannot express, or might take otherwise than the line parser, is left to that one: see `parse`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from buffetstore.tables.actions import AddFile, CdcFile, RemoveFile, decode_path, encode_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

STRINGS = pa.map_(pa.string(), pa.string())
_BLOCK = 1 << 20  # bytes that one thread parses at a time
_PIECE = 4096
ADDS = pa.schema(
    [
        ("path", pa.string()),
        ("log_path", pa.string()),
        ("size", pa.int64()),
        ("modification_time", pa.int64()),
        ("partition_values", STRINGS),
        ("tags", STRINGS),
        ("stats", pa.string()),
        ("data_change", pa.bool_()),
        ("deletion_vector", pa.string()),
    ]
)
REMOVES = pa.schema(
    [
        ("path", pa.string()),
        ("log_path", pa.string()),
        ("deletion_timestamp", pa.int64()),
        ("data_change", pa.bool_()),
        ("partition_values", STRINGS),
        ("size", pa.int64()),
        ("tags", STRINGS),
        ("deletion_vector", pa.string()),
    ]
)
_VECTOR = pa.struct(
    [
        ("storageType", pa.string()),
        ("pathOrInlineDv", pa.string()),
        ("offset", pa.int32()),
        ("sizeInBytes", pa.int32()),
        ("cardinality", pa.int64()),
        ("maxRowIndex", pa.int64()),
    ]
)
# Of a file action; all that the protocol knows are named, so that an unknown one leaves an entry to the line parser.
_COMMON = [("path", pa.string()), ("dataChange", pa.bool_()), ("size", pa.int64()), ("stats", pa.string())]
_ROW_IDS = [("baseRowId", pa.int64()), ("defaultRowCommitVersion", pa.int64()), ("deletionVector", _VECTOR)]
_ADD = [*_COMMON, *_ROW_IDS, ("modificationTime", pa.int64()), ("clusteringProvider", pa.string())]
_REMOVE = [*_COMMON, *_ROW_IDS, ("deletionTimestamp", pa.int64()), ("extendedFileMetadata", pa.bool_())]
_FILE_ACTIONS = (b'{"add":{', b'{"remove":{', b'{"cdc":{')


class _Columns(Sequence[Any]):
    """Actions of one kind, held as columns; as a sequence it yields them as values."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._value(self.batch.slice(index % len(self), 1).to_pylist()[0])

    def __iter__(self) -> Iterator[Any]:
        for at in range(0, len(self), _PIECE):
            for row in self.batch.slice(at, _PIECE).to_pylist():
                yield self._value(row)

    @staticmethod
    def _value(row: dict[str, Any]) -> Any:
        raise TypeError(row)


class AddColumns(_Columns, Sequence[AddFile]):
    """`add` actions as columns: the schema is `ADDS`."""

    @staticmethod
    def _value(row: dict[str, Any]) -> AddFile:
        row["partition_values"], row["tags"] = dict(row["partition_values"] or ()), dict(row["tags"] or ())
        return AddFile(**row)


class RemoveColumns(_Columns, Sequence[RemoveFile]):
    """`remove` actions as columns: the schema is `REMOVES`."""

    @staticmethod
    def _value(row: dict[str, Any]) -> RemoveFile:
        for name in ("partition_values", "tags"):
            row[name] = None if row[name] is None else dict(row[name])
        return RemoveFile(**row)


def add_batch(adds: Sequence[AddFile]) -> pa.RecordBatch:
    """Return `add` actions as columns: the schema is `ADDS`."""
    if isinstance(adds, AddColumns):
        return adds.batch
    columns: dict[str, Callable[[AddFile], Any]] = {
        "log_path": lambda add: add.log_path or encode_path(add.path),
        "partition_values": lambda add: list(add.partition_values.items()),
        "tags": lambda add: list(add.tags.items()),
    }
    return _batch(adds, ADDS, columns)


def remove_batch(removes: Sequence[RemoveFile]) -> pa.RecordBatch:
    """Return `remove` actions as columns: the schema is `REMOVES`."""
    if isinstance(removes, RemoveColumns):
        return removes.batch
    columns: dict[str, Callable[[RemoveFile], Any]] = {
        "log_path": lambda remove: remove.log_path or encode_path(remove.path),
        "partition_values": lambda remove: _pairs(remove.partition_values),
        "tags": lambda remove: _pairs(remove.tags),
    }
    return _batch(removes, REMOVES, columns)


def _pairs(held: Mapping[str, Any] | None) -> list[tuple[str, Any]] | None:
    return None if held is None else list(held.items())


def _batch(actions: Sequence[Any], schema: pa.Schema, columns: Mapping[str, Callable[[Any], Any]]) -> pa.RecordBatch:
    # Making arrays of Python objects holds the interpreter, so it is done in pieces that others can run between.
    take = [columns.get(field.name, attrgetter(field.name)) for field in schema]
    pieces = [
        pa.record_batch(
            [
                pa.array([get(action) for action in actions[at : at + _PIECE]], field.type)
                for field, get in zip(schema, take, strict=True)
            ],
            schema=schema,
        )
        for at in range(0, max(len(actions), 1), _PIECE)
    ]
    return pa.concat_batches(pieces) if len(pieces) > 1 else pieces[0]


def decoded(log_paths: Any) -> Any:
    """Return the paths that the log's URIs name: only unusual ones need Python, a million plain ones do not."""
    if not may_be_unusual(log_paths):
        return log_paths
    return pa.array([decode_path(path) for path in log_paths.to_pylist()], pa.string())


def may_be_unusual(paths: pa.Array) -> bool:
    """Return whether a path may be percent-encoded, absolute or a URL; False is certain."""
    if pc.any(pc.starts_with(paths, "/")).as_py():
        return True
    _, offsets, values = paths.buffers()
    if values is None or not len(paths):
        return False
    ends = np.frombuffer(offsets, np.int32)[paths.offset : paths.offset + len(paths) + 1]
    # Looking through the bytes of all at once is twenty times as fast as a kernel over each.
    text = values.slice(int(ends[0]), int(ends[-1] - ends[0])).to_pybytes()
    return b"%" in text or b":" in text


@dataclass(frozen=True, slots=True)
class Parsed:
    """One entry: its file actions, and the lines of the others."""

    adds: AddColumns
    removes: RemoveColumns
    cdcs: tuple[CdcFile, ...]
    others: list[bytes]


def parse(entries: Sequence[bytes]) -> list[Parsed] | None:
    """Return the actions of log entries, parsed together; None where only the line parser knows what they mean."""
    pieces = [_taken_apart(data) for data in entries]
    bodies = [body for body, _ in pieces]
    # Blank lines, other line ends and whatever has not one action a line make these counts wrong, and that shows.
    ends = np.cumsum(np.array([body.count(b"\n") for body in bodies]))
    text = b"".join(bodies)
    if not text or b"\n\n" in text:
        return None
    try:
        found = pyarrow.json.read_json(
            pa.BufferReader(text),
            read_options=pyarrow.json.ReadOptions(block_size=_BLOCK),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_layout(bodies), unexpected_field_behavior="error"),
        )
        add, remove, cdc = (whole(found[name]) for name in ("add", "remove", "cdc"))
        if not _one_each(len(add), int(ends[-1]), add, remove, cdc):
            return None
        adds, removes = _adds(add.drop_null()), _removes(remove.drop_null())
        adds.validate(full=True)  # the reader lets text pass that is not UTF-8
        removes.validate(full=True)
        cdcs = _cdcs(cdc.drop_null())
    except (ValueError, AttributeError):  # pa.ArrowInvalid is a ValueError
        return None
    if any(adds[name].null_count for name in ("path", "size", "modification_time")) or removes["path"].null_count:
        return None
    places = zip(*(_ranges(kind, ends) for kind in (add, remove, cdc)), strict=True)
    return [
        Parsed(AddColumns(adds[a]), RemoveColumns(removes[b]), cdcs[c], others)
        for (a, b, c), (_, others) in zip(places, pieces, strict=True)
    ]


def _taken_apart(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the lines of file actions, and those before and after them: writers put the others there."""
    data = data if data.endswith(b"\n") else data + b"\n"
    start, before = 0, []
    while start < len(data) and not data.startswith(_FILE_ACTIONS, start):
        end = data.index(b"\n", start) + 1
        before.append(data[start:end])
        start = end
    end, after = len(data), []
    while end > start and not data.startswith(_FILE_ACTIONS, at := data.rfind(b"\n", start, end - 1) + 1 or start):
        after.append(data[at:end])
        end = at
    return data[start:end], before + after[::-1]


def _layout(bodies: Sequence[bytes]) -> pa.Schema:
    """Return the columns to read: maps as structs of the keys that a few lines have."""
    partitions: dict[str, None] = {}
    tags: dict[str, None] = {}
    for body in bodies:
        for line in _sample(body):
            for action in json.loads(line).values():
                partitions |= dict.fromkeys(action.get("partitionValues") or ())
                tags |= dict.fromkeys(action.get("tags") or ())
    maps = [
        ("partitionValues", pa.struct([(name, pa.string()) for name in partitions])),
        ("tags", pa.struct([(name, pa.string()) for name in tags])),
    ]
    return pa.schema(
        [
            ("add", pa.struct([*_ADD, *maps])),
            ("remove", pa.struct([*_REMOVE, *maps])),
            ("cdc", pa.struct([*_COMMON, *maps])),
        ]
    )


def _sample(body: bytes) -> Iterator[bytes]:
    if not body:
        return
    yield body[: body.index(b"\n")]
    yield body[body.rfind(b"\n", 0, -1) + 1 :]
    if (at := body.find(b'\n{"remove":{') + 1) > 0:
        yield body[at : body.index(b"\n", at)]


def _one_each(rows: int, lines: int, *kinds: pa.Array) -> bool:
    return rows == lines == sum(rows - int(kind.null_count) for kind in kinds)


def _ranges(kind: pa.Array, ends: NDArray[np.int64]) -> list[slice]:
    """Return for each entry which of the actions of a kind are its own."""
    before = np.concatenate([[0], np.cumsum(kind.is_valid().to_numpy(zero_copy_only=False))])
    return [slice(int(at), int(end)) for at, end in pairwise(before[np.concatenate([[0], ends])])]


def _adds(found: pa.StructArray) -> pa.RecordBatch:
    return pa.record_batch(
        [
            decoded(found.field("path")),
            found.field("path"),
            found.field("size"),
            found.field("modificationTime"),
            _map(found.field("partitionValues"), keep_nulls=True),
            _map(found.field("tags")),
            found.field("stats"),
            pc.fill_null(found.field("dataChange"), True),
            _vectors(found.field("deletionVector")),
        ],
        schema=ADDS,
    )


def _removes(found: pa.StructArray) -> pa.RecordBatch:
    return pa.record_batch(
        [
            decoded(found.field("path")),
            found.field("path"),
            found.field("deletionTimestamp"),
            pc.fill_null(found.field("dataChange"), True),
            _map(found.field("partitionValues"), keep_nulls=True),
            found.field("size"),
            _map(found.field("tags")),
            _vectors(found.field("deletionVector")),
        ],
        schema=REMOVES,
    )


def _cdcs(found: pa.StructArray) -> tuple[CdcFile, ...]:
    if found.field("path").null_count or found.field("size").null_count:
        raise ValueError("a cdc action has no path or no size")
    bodies = found.to_pylist()
    for body in bodies:
        body["partitionValues"] = body["partitionValues"] or None
    return tuple(CdcFile.from_json(body) for body in bodies)


def _map(found: pa.StructArray, *, keep_nulls: bool = False) -> pa.MapArray:
    """Return the structs as maps; a key that is absent from one says as much as one that is null."""
    rows, names = len(found), [field.name for field in found.type]
    if not names or found.null_count == rows:
        empty = pa.scalar([], STRINGS)
        return pc.if_else(found.is_valid(), empty, pa.scalar(None, STRINGS))
    # Row by row: a row's values are those at its number in each of the columns.
    order = pa.array(np.arange(rows * len(names)).reshape(len(names), rows).T.ravel())
    values = pa.concat_arrays(found.flatten()).take(order)
    keys = pa.DictionaryArray.from_arrays(np.tile(np.arange(len(names), dtype=np.int32), rows), names).cast(pa.string())
    kept = np.repeat(found.is_valid().to_numpy(zero_copy_only=False), len(names))
    if not keep_nulls:
        kept &= values.is_valid().to_numpy(zero_copy_only=False)
    counts = np.concatenate([[0], np.cumsum(kept.reshape(rows, len(names)).sum(axis=1))]).astype(np.int32)
    chosen = pa.array(kept)
    return pa.MapArray.from_arrays(
        pa.array(counts), keys.filter(chosen), values.filter(chosen), STRINGS, mask=found.is_null()
    )


def _vectors(found: pa.StructArray) -> pa.Array:
    if found.null_count == len(found):
        return pa.nulls(len(found), pa.string())
    held = [{name: value for name, value in (body or {}).items() if value is not None} for body in found.to_pylist()]
    return pa.array([json.dumps(body) if body else None for body in held], pa.string())


def has_pairs(maps: pa.MapArray) -> bool:
    """Return whether one of the maps is not empty."""
    offsets = maps.offsets
    return bool(len(maps) and offsets[0] != offsets[len(maps)])


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    if not column.num_chunks:
        return pa.array([], column.type)
    return pa.concat_arrays(column.chunks) if column.num_chunks > 1 else column.chunk(0)
