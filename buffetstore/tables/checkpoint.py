"""Reading checkpoints: the whole state of a table at one version, as Parquet. Source: Delta protocol, "Checkpoints"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from typing import Protocol as Protocol_

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import CorruptLogError, NotFoundError, StorageError, UnsupportedFeatureError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile, Metadata, Protocol, Txn, decode_path
from buffetstore.tables.arrays import present
from buffetstore.tables.checkpoint_statistics import PARSED_MARK, ParquetBlock
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_pieces import Piece, as_table, pieces_of
from buffetstore.tables.file_table import FIXED, PIECE_ROWS, file_batch
from buffetstore.tables.log import join
from buffetstore.tables.log_columns import ADDS, STRINGS, add_columns, decoded
from buffetstore.tables.schema import schema_of
from buffetstore.tables.stored_statistics import StoredStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.segment import Checkpoint

_OPTIONAL = frozenset(f"add.{name}" for name in ("partitionValues", "tags", "deletionVector"))


@dataclass(frozen=True, slots=True)
class State:
    """A table at one version."""

    protocol: Protocol
    metadata: Metadata
    schema: pa.Schema
    txns: Mapping[str, Txn]
    pieces: tuple[Piece, ...]

    @property
    def files(self) -> pa.Table:
        """The data files, without their statistics."""
        return as_table(self.pieces, FIXED)


async def read_checkpoint(store: ObjectStore, path: str, checkpoint: Checkpoint) -> State:
    """Return the state that the checkpoint holds; its parts are read in parallel and decoded in a thread.

    Raises
    ------
    CorruptLogError
        A part is damaged or gone, or the checkpoint has no protocol or metadata.
    UnsupportedFeatureError
        The table needs what we cannot read.
    """
    where = f"the checkpoint of version {checkpoint.version} of table {path!r}"
    try:
        heads = await fetched(store, checkpoint.keys, where)
        parts = await in_thread(lambda: [_read(part, key) for key, part in zip(checkpoint.keys, heads, strict=True)])
        sidecars = [_sidecar(path, held["path"]) for part in parts for held in part.values("sidecar")]
        further = await fetched(store, sidecars, where)
        return await in_thread(_state, parts, further, path, where)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, StorageError):
            raise
        raise CorruptLogError(f"{where} cannot be read: {error}", key=checkpoint.keys[0]) from error


async def fetched(store: ObjectStore, keys: Sequence[str], where: str) -> list[bytes]:
    """Return the files of a checkpoint; `where` names it in the error about one that is gone."""
    try:
        return await gather([partial(get_bytes, store, key) for key in keys])
    except NotFoundError as error:
        raise CorruptLogError(f"{where} is gone: {error.key!r}", key=error.key) from error


def _sidecar(path: str, name: str) -> str:
    if "://" in name or name.startswith("/"):
        raise UnsupportedFeatureError(f"table {path!r} has a sidecar outside of itself, {name!r}", key=path)
    return join(path, f"_delta_log/_sidecars/{decode_path(name)}")


class _Part(Protocol_):
    """One file of a checkpoint."""

    def values(self, name: str) -> list[dict[str, Any]]:
        """Return the bodies of the actions of this name."""

    def pieces(self) -> Iterator[Piece]:
        """Yield the data files, some at a time."""


class ParquetPart:
    """A Parquet file: each action has a column. Only what holds values is decoded, some files at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(data))
        self._exact = PARSED_MARK.encode() in (self._file.metadata.metadata or {})
        self._held = _held(self._file.metadata)
        self._groups = self._held.get("add.path", [])

    def values(self, name: str) -> list[dict[str, Any]]:
        """Return the bodies of the actions of this name."""
        leaves = [leaf for leaf in self._held if leaf.partition(".")[0] == name]
        groups = sorted({group for leaf in leaves for group in self._held[leaf]})
        if not leaves or not groups:
            return []
        found: list[dict[str, Any]] = self._file.read_row_groups(groups, leaves)[name].drop_null().to_pylist()
        return found

    def pieces(self) -> Iterator[Piece]:
        """Yield the data files, some at a time; their statistics stay where they are until they are asked for."""
        fields = {leaf: ".".join(leaf.split(".")[:2]) for leaf in self._held}
        used = {fields[leaf] for leaf, groups in self._held.items() if groups}
        wanted = {"add.path", "add.size", "add.modificationTime", *(used & _OPTIONAL)}
        leaves = [leaf for leaf, field in fields.items() if field in wanted]
        block = ParquetBlock(self._file, self._groups, exact=self._exact)
        at = 0
        for batch in self._file.iter_batches(PIECE_ROWS, self._groups, leaves) if self._groups else ():
            files = _files(present(batch["add"]))
            yield Piece(files, StoredStatistics([(block, range(at, at + len(files)))]))
            at += len(files)


@dataclass(frozen=True, slots=True)
class _Lines:
    """A JSON file: each line has an action."""

    actions: Sequence[Mapping[str, Any]]

    def values(self, name: str) -> list[dict[str, Any]]:
        return [action[name] for action in self.actions if action.get(name) is not None]

    def pieces(self) -> Iterator[Piece]:
        adds = add_columns([AddFile.from_json(body) for body in self.values("add")])
        yield from pieces_of([adds], [pa.nulls(len(adds), pa.int64())])


def _state(parts: Sequence[_Part], sidecars: Sequence[bytes], path: str, where: str) -> State:
    protocol = _last(parts, "protocol")
    metadata = _last(parts, "metaData")
    if protocol is None or metadata is None:
        missing = "protocol" if protocol is None else "metadata"
        raise CorruptLogError(f"{where} has no {missing}", key=path)
    known, about = Protocol.from_json(protocol), Metadata.from_json(metadata)
    check_readable(known, about, path)
    schema = schema_of(about)
    txns = [Txn.from_json(body) for part in parts for body in part.values("txn")]
    every = (*parts, *(_read(data, ".parquet") for data in sidecars))
    return State(
        known,
        about,
        schema,
        {txn.app_id: txn for txn in txns},
        tuple(piece for part in every for piece in part.pieces() if piece.batch.num_rows),
    )


def _read(part: bytes, key: str) -> _Part:
    if key.endswith(".json"):
        return _Lines([json.loads(line) for line in part.splitlines() if line.strip()])
    return ParquetPart(part)


def _held(metadata: pq.FileMetaData) -> dict[str, list[int]]:
    """Return by leaf of the schema in which row groups it may hold values; by its statistics, where it has them."""
    held: dict[str, list[int]] = {metadata.schema.column(index).path: [] for index in range(len(metadata.schema))}
    for group in range(metadata.num_row_groups):
        of_group = metadata.row_group(group)
        for index, leaf in enumerate(held):
            column = of_group.column(index)
            known = column.statistics
            if known is None or not known.has_null_count or known.null_count < column.num_values:
                held[leaf].append(group)
    return held


def _last(parts: Sequence[_Part], name: str) -> dict[str, Any] | None:
    found = [body for part in parts for body in part.values(name)]
    return found[-1] if found else None


def _files(adds: pa.StructArray) -> pa.RecordBatch:
    names = [field.name for field in adds.type]
    columns = dict(zip(names, adds.flatten(), strict=True))
    count = len(adds)
    log_paths = columns["path"].cast(pa.string())
    raw = {
        "path": decoded(log_paths),
        "log_path": log_paths,
        "size": columns["size"],
        "modification_time": columns["modificationTime"],
        "partition_values": _strings(columns.get("partitionValues"), count),
        "tags": _strings(columns.get("tags"), count),
        "data_change": pa.repeat(pa.scalar(False), count),  # it is state, not news
        "deletion_vector": _as_json(columns.get("deletionVector"), count),
    }
    return file_batch(pa.record_batch([raw[name] for name in ADDS.names], schema=ADDS), pa.nulls(count, pa.int64()))


def _as_json(column: Any, count: int) -> Any:
    if column is None or column.null_count == count:
        return pa.nulls(count, pa.string())
    return pa.array([None if held is None else json.dumps(held) for held in column.to_pylist()], pa.string())


def _strings(column: Any, count: int) -> Any:
    if column is None:
        return pa.nulls(count, STRINGS)
    return pc.cast(column, STRINGS) if column.type != STRINGS else column
