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
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_statistics import typed_statistics
from buffetstore.tables.file_table import PIECE_ROWS, files_schema, from_actions, from_columns
from buffetstore.tables.log import join
from buffetstore.tables.log_columns import STRINGS, decoded
from buffetstore.tables.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.segment import Checkpoint

PARSED_MARK = "buffetstore.parsed"  # in the footer: every file's statistics have been parsed
_OPTIONAL = frozenset(f"add.{name}" for name in ("partitionValues", "stats", "stats_parsed", "tags", "deletionVector"))


@dataclass(frozen=True, slots=True)
class State:
    """A table at one version."""

    protocol: Protocol
    metadata: Metadata
    schema: pa.Schema
    txns: Mapping[str, Txn]
    files: pa.Table


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

    def files(self, schema: pa.Schema, partition_columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the data files, some at a time."""


class ParquetPart:
    """A Parquet file: each action has a column. Only what holds values is decoded, some files at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(data))
        self._exact = PARSED_MARK.encode() in (self._file.metadata.metadata or {})
        self._held = _held(self._file.metadata)

    def values(self, name: str) -> list[dict[str, Any]]:
        """Return the bodies of the actions of this name."""
        leaves = [leaf for leaf in self._held if leaf.partition(".")[0] == name]
        groups = sorted({group for leaf in leaves for group in self._held[leaf]})
        if not leaves or not groups:
            return []
        found: list[dict[str, Any]] = self._file.read_row_groups(groups, leaves)[name].drop_null().to_pylist()
        return found

    def files(self, schema: pa.Schema, partition_columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the data files, some at a time."""
        fields = {leaf: ".".join(leaf.split(".")[:2]) for leaf in self._held}
        used = {fields[leaf] for leaf, groups in self._held.items() if groups}
        if self._exact:
            used.discard("add.stats")  # the parsed ones are all there, and need less time and memory
        wanted = {"add.path", "add.size", "add.modificationTime", *(used & _OPTIONAL)}
        leaves = [leaf for leaf, field in fields.items() if field in wanted]
        groups = self._held.get("add.path", [])
        for batch in self._file.iter_batches(PIECE_ROWS, groups, leaves) if groups else ():
            yield _files(batch["add"].drop_null(), schema, partition_columns, exact=self._exact)


@dataclass(frozen=True, slots=True)
class _Lines:
    """A JSON file: each line has an action."""

    actions: Sequence[Mapping[str, Any]]

    def values(self, name: str) -> list[dict[str, Any]]:
        return [action[name] for action in self.actions if action.get(name) is not None]

    def files(self, schema: pa.Schema, partition_columns: Sequence[str]) -> Iterator[pa.Table]:
        adds = [AddFile.from_json(body) for body in self.values("add")]
        yield from_actions(adds, [None] * len(adds), schema, partition_columns)


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
    files = [found for part in every for found in part.files(schema, about.partition_columns)]
    return State(
        known,
        about,
        schema,
        {txn.app_id: txn for txn in txns},
        pa.concat_tables(files) if files else files_schema(schema).empty_table(),
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


def _files(adds: pa.StructArray, schema: pa.Schema, partition_columns: Sequence[str], *, exact: bool) -> pa.Table:
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
        "stats": columns["stats"].cast(pa.string()) if "stats" in columns else pa.nulls(count, pa.string()),
        "commit_version": pa.nulls(count, pa.int64()),
        "deletion_vector": _as_json(columns.get("deletionVector"), count),
    }
    parsed = columns.get("stats_parsed")
    # Parsed statistics need no JSON; a writer may leave the text out where it has them.
    if parsed is not None and parsed.null_count <= raw["stats"].null_count:
        statistics = typed_statistics(parsed, schema, exact=exact)
        return from_columns(raw, schema, partition_columns, statistics=statistics)
    return from_columns(raw, schema, partition_columns)


def _as_json(column: Any, count: int) -> Any:
    if column is None or column.null_count == count:
        return pa.nulls(count, pa.string())
    return pa.array([None if held is None else json.dumps(held) for held in column.to_pylist()], pa.string())


def _strings(column: Any, count: int) -> Any:
    if column is None:
        return pa.nulls(count, STRINGS)
    return pc.cast(column, STRINGS) if column.type != STRINGS else column
