"""File actions of the Delta log from lines to Arrow columns, by pyarrow's JSON reader.

What the reader cannot express, or might take otherwise than the line parser, is left to that one: see `parse`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from buffetstore.resilience.threads import give_way
from buffetstore.tables.actions import CdcFile
from buffetstore.tables.arrays import present, whole
from buffetstore.tables.log_columns import ADDS, REMOVES, STRINGS, AddColumns, RemoveColumns, decoded
from buffetstore.tables.stored_statistics import StoredStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 20  # bytes that one thread parses at a time
_NEWLINE = ord("\n")
_LOOKED_THROUGH = 1 << 20  # bytes at a time, after which others may run
_SAMPLED = 4  # entries of those parsed together whose lines tell which fields there are
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
_COMMON = {"path": pa.string(), "dataChange": pa.bool_(), "size": pa.int64(), "stats": pa.string()}
_ROW_IDS = {"baseRowId": pa.int64(), "defaultRowCommitVersion": pa.int64(), "deletionVector": _VECTOR}
_FIELDS: dict[str, dict[str, pa.DataType]] = {
    "add": {**_COMMON, **_ROW_IDS, "modificationTime": pa.int64(), "clusteringProvider": pa.string()},
    "remove": {**_COMMON, **_ROW_IDS, "deletionTimestamp": pa.int64(), "extendedFileMetadata": pa.bool_()},
    "cdc": _COMMON,
}
_MAPS = ("partitionValues", "tags")
_FILE_ACTIONS = tuple(f'{{"{kind}":{{'.encode() for kind in _FIELDS)


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
    text = _text(bodies)
    ends = _line_ends(text, bodies)
    if ends is None:
        return None
    try:
        add, remove, cdc = _read(text, bodies)
        if not _one_each(len(add), int(ends[-1]), add, remove, cdc):
            return None
        adds, texts, removes = *_adds(present(add)), _removes(present(remove))
        for found in (adds, texts, removes):
            found.validate(full=True)  # the reader lets text pass that is not UTF-8
        cdcs = _cdcs(present(cdc))
    except (ValueError, KeyError, AttributeError):  # pa.ArrowInvalid is a ValueError
        return None
    needed = ("path", "size", "modification_time")
    if any(adds[name].null_count for name in needed) or removes["path"].null_count:
        return None
    columns = AddColumns(adds, StoredStatistics.of_texts(texts))
    places = zip(*(_ranges(kind, ends) for kind in (add, remove, cdc)), strict=True)
    return [
        Parsed(columns.part(a.start, a.stop), RemoveColumns(removes[b]), cdcs[c], others)
        for (a, b, c), (_, others) in zip(places, pieces, strict=True)
    ]


def _text(bodies: Sequence[_Body]) -> NDArray[np.uint8]:
    """Return the bodies as one, each ending a line: one that is large is not copied, others not at once."""
    if len(bodies) == 1 and bodies[0].is_ended:
        return bodies[0].view
    found, at = np.empty(sum(map(len, bodies)), np.uint8), 0
    for body in bodies:
        piece = body.view
        found[at : at + len(piece)] = piece
        at += len(body)
        if not body.is_ended:
            found[at - 1] = _NEWLINE
    return found


def _line_ends(text: NDArray[np.uint8], bodies: Sequence[_Body]) -> NDArray[np.int64] | None:
    """Return how many lines end with each of the bodies; None where a line does not begin as an action does."""
    ends = np.flatnonzero(text == _NEWLINE)
    if not len(ends) or not (text[ends[:-1] + 1] == ord("{")).all():
        return None
    return np.searchsorted(ends, np.cumsum([len(body) for body in bodies]))


def _read(text: NDArray[np.uint8], bodies: Sequence[_Body]) -> list[pa.StructArray]:
    """Return the bodies of each kind of file action, null in the lines of others."""
    fields, keys = _seen(bodies)
    try:
        return _read_as(text, _layout(fields, keys))
    except pa.ArrowInvalid:
        # A later line has fields that those looked at have not. All that there may be would double the time.
        return _read_as(
            text, _layout({kind: {**known, **dict.fromkeys(keys)} for kind, known in _FIELDS.items()}, keys)
        )


def _read_as(text: NDArray[np.uint8], layout: pa.Schema) -> list[pa.StructArray]:
    found = pyarrow.json.read_json(
        pa.BufferReader(text),
        read_options=pyarrow.json.ReadOptions(block_size=_BLOCK),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=layout, unexpected_field_behavior="error"),
    )
    return [whole(found[kind]) if kind in layout.names else pa.nulls(len(found), pa.struct([])) for kind in _FIELDS]


@dataclass(frozen=True, slots=True)
class _Body:
    """Lines of an entry, from `start` to before `end`. What is large is not copied: that would hold the interpreter."""

    data: bytes
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start + (not self.is_ended)

    @property
    def is_ended(self) -> bool:
        """Whether the last line has an end; there may be no lines."""
        return self.start == self.end or self.data[self.end - 1] == _NEWLINE

    @property
    def view(self) -> NDArray[np.uint8]:
        """The lines, uncopied."""
        return np.frombuffer(self.data, np.uint8)[self.start : self.end]

    def line(self, start: int) -> bytes:
        """Return the line that begins there."""
        end = self.data.find(b"\n", start, self.end)
        return self.data[start : end if end >= 0 else self.end]


def find(data: bytes, text: bytes, start: int, end: int) -> int:
    """Return where the text begins first between `start` and `end`, or -1; others may run meanwhile."""
    for begin in range(start, end, _LOOKED_THROUGH):
        at = data.find(text, begin, min(begin + _LOOKED_THROUGH + len(text), end))
        if at >= 0:
            return at
        give_way()
    return -1


def _taken_apart(data: bytes) -> tuple[_Body, list[bytes]]:
    """Return the lines of file actions, and those before and after them: writers put the others there."""
    start = 0
    before: list[bytes] = [] if data else [data]  # an empty entry is damaged, which the line parser tells
    while start < len(data) and not data.startswith(_FILE_ACTIONS, start):
        end = data.find(b"\n", start) + 1 or len(data)
        before.append(data[start:end])
        start = end
    end, after = len(data), []
    while end > start and not data.startswith(_FILE_ACTIONS, at := data.rfind(b"\n", start, end - 1) + 1 or start):
        after.append(data[at:end])
        end = at
    return _Body(data, start, end), before + after[::-1]


def _seen(bodies: Sequence[_Body]) -> tuple[dict[str, dict[str, None]], dict[str, dict[str, None]]]:
    """Return by kind of action the fields that a few lines have, and by field that is a map the keys in it."""
    fields: dict[str, dict[str, None]] = {kind: {} for kind in _FIELDS}
    keys: dict[str, dict[str, None]] = {name: {} for name in _MAPS}
    for body in bodies[:: max(len(bodies) // _SAMPLED, 1)]:
        for line in _sample(body):
            for kind, action in json.loads(line).items():
                fields[kind] |= dict.fromkeys(action)
                for name in _MAPS:
                    keys[name] |= dict.fromkeys(action.get(name) or ())
    return fields, keys


def _layout(fields: Mapping[str, Iterable[str]], keys: Mapping[str, Iterable[str]]) -> pa.Schema:
    """Return the columns to read: maps as structs of their keys."""
    maps = {name: pa.struct([(key, pa.string()) for key in held]) for name, held in keys.items()}
    return pa.schema(
        [
            (kind, pa.struct([(name, maps[name] if name in maps else _FIELDS[kind][name]) for name in held]))
            for kind, held in fields.items()
            if held
        ]
    )


def _sample(body: _Body) -> Iterator[bytes]:
    if not body:
        return
    yield body.line(body.start)
    yield body.line(body.data.rfind(b"\n", body.start, body.end - 1) + 1 or body.start)
    if (at := find(body.data, b'\n{"remove":{', body.start, body.end) + 1) > 0:
        yield body.line(at)


def _one_each(rows: int, lines: int, *kinds: pa.Array) -> bool:
    return rows == lines == sum(rows - int(kind.null_count) for kind in kinds)


def _ranges(kind: pa.Array, ends: NDArray[np.int64]) -> list[slice]:
    """Return for each entry which of the actions of a kind are its own."""
    before = np.concatenate([[0], np.cumsum(kind.is_valid().to_numpy(zero_copy_only=False))])
    return [slice(int(at), int(end)) for at, end in pairwise(before[np.concatenate([[0], ends])])]


def _adds(found: pa.StructArray) -> tuple[pa.RecordBatch, pa.Array]:
    columns = _Fields(found, "add")
    log_paths = columns["path"]
    batch = pa.record_batch(
        [
            decoded(log_paths),
            log_paths,
            columns["size"],
            columns["modificationTime"],
            _map(columns["partitionValues"], keep_nulls=True),
            _map(columns["tags"]),
            pc.fill_null(columns["dataChange"], True),
            _vectors(columns["deletionVector"]),
        ],
        schema=ADDS,
    )
    return batch, columns["stats"]


def _removes(found: pa.StructArray) -> pa.RecordBatch:
    columns = _Fields(found, "remove")
    log_paths = columns["path"]
    return pa.record_batch(
        [
            decoded(log_paths),
            log_paths,
            columns["deletionTimestamp"],
            pc.fill_null(columns["dataChange"], True),
            _map(columns["partitionValues"], keep_nulls=True),
            columns["size"],
            _map(columns["tags"]),
            _vectors(columns["deletionVector"]),
        ],
        schema=REMOVES,
    )


class _Fields:
    """The fields of the actions of a kind, null where no action has them."""

    def __init__(self, bodies: pa.StructArray, kind: str) -> None:
        self._bodies = bodies
        self._names = {field.name for field in bodies.type}
        self._kinds = _FIELDS[kind]

    def __getitem__(self, name: str) -> pa.Array:
        if name in self._names:
            return self._bodies.field(name)
        return pa.nulls(len(self._bodies), self._kinds.get(name, pa.struct([])))


def _cdcs(found: pa.StructArray) -> tuple[CdcFile, ...]:
    columns = _Fields(found, "cdc")
    if columns["path"].null_count or columns["size"].null_count:
        raise ValueError("a cdc action has no path or no size")
    bodies = found.to_pylist()
    for body in bodies:
        body["partitionValues"] = body.get("partitionValues") or None
    return tuple(CdcFile.from_json(body) for body in bodies)


def _map(found: pa.StructArray, *, keep_nulls: bool = False) -> pa.MapArray:
    """Return the structs as maps; a key that is absent from one says as much as one that is null."""
    rows, names = len(found), [field.name for field in found.type]
    if not names or found.null_count == rows:
        ends = pa.array(np.zeros(rows + 1, np.int32))
        nothing = pa.array([], pa.string())
        return pa.MapArray.from_arrays(ends, nothing, nothing, STRINGS, mask=found.is_null())
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
