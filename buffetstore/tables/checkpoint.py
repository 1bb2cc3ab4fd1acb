"""Reading checkpoints: the whole state of a table at one version, as Parquet. Source: Delta protocol, "Checkpoints"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import CorruptLogError, NotFoundError, UnsupportedFeatureError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import Metadata, Protocol, Txn
from buffetstore.tables.features import check_readable
from buffetstore.tables.file_table import STRINGS, files_schema, from_columns
from buffetstore.tables.schema import schema_from_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.log import Checkpoint

_PIECE = 65_536  # rows at a time: the statistics of all files as one text could be gigabytes
_WANTED = (
    "txn",
    "metaData",
    "protocol",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.stats",
    "add.tags",
    "add.deletionVector",
    "sidecar",
    "checkpointMetadata",
)


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
        parts = await gather([lambda key=key: get_bytes(store, key) for key in checkpoint.keys])  # type: ignore[misc]
    except NotFoundError as error:
        raise CorruptLogError(f"{where} is gone: {error.key!r}", key=error.key) from error
    try:
        return await in_thread(_parse, parts, path, where)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        if isinstance(error, NotFoundError):
            raise
        raise CorruptLogError(f"{where} cannot be read: {error}", key=checkpoint.keys[0]) from error


def _parse(parts: Sequence[bytes], path: str, where: str) -> State:
    tables = [_read(part) for part in parts]
    _refuse_sidecars(tables, path)
    protocol = _last(tables, "protocol")
    metadata = _last(tables, "metaData")
    if protocol is None or metadata is None:
        missing = "protocol" if protocol is None else "metadata"
        raise CorruptLogError(f"{where} has no {missing}", key=path)
    known, about = Protocol.from_json(protocol), Metadata.from_json(metadata)
    check_readable(known, about, path)
    schema = schema_from_json(about.schema_string)
    txns = [Txn.from_json(body) for table in tables for body in _valid(table, "txn").to_pylist()]
    files = [
        _files(table.slice(at, _PIECE), schema, about.partition_columns, path)
        for table in tables
        if "add" in table.column_names
        for at in range(0, table.num_rows, _PIECE)
    ]
    return State(
        known,
        about,
        schema,
        {txn.app_id: txn for txn in txns},
        pa.concat_tables(files) if files else files_schema(schema).empty_table(),
    )


def _read(part: bytes) -> pa.Table:
    with pq.ParquetFile(pa.BufferReader(part)) as file:
        leaves = [file.metadata.schema.column(index).path for index in range(len(file.metadata.schema))]
        return file.read([leaf for leaf in leaves if leaf.startswith(_WANTED)])


def _refuse_sidecars(tables: Sequence[pa.Table], path: str) -> None:
    for table in tables:
        if len(_valid(table, "sidecar")) or len(_valid(table, "checkpointMetadata")):
            raise UnsupportedFeatureError(
                f"table {path!r} has a checkpoint of the feature v2Checkpoint, which is not supported", key=path
            )


def _valid(table: pa.Table, name: str) -> Any:
    return table[name].drop_null() if name in table.column_names else pa.nulls(0)


def _last(tables: Sequence[pa.Table], name: str) -> dict[str, Any] | None:
    found = [body for table in tables for body in _valid(table, name).to_pylist()]
    return found[-1] if found else None


def _files(table: pa.Table, schema: pa.Schema, partition_columns: Sequence[str], path: str) -> pa.Table:
    adds = table["add"].drop_null().combine_chunks()
    adds = pa.concat_arrays(adds.chunks) if isinstance(adds, pa.ChunkedArray) else adds
    names = [adds.type.field(index).name for index in range(adds.type.num_fields)]
    columns = dict(zip(names, adds.flatten(), strict=True))
    vectors = columns.get("deletionVector")
    if vectors is not None and vectors.null_count < len(vectors):
        raise UnsupportedFeatureError(
            f"table {path!r} has files with deletion vectors (feature deletionVectors), which is not supported",
            key=path,
        )
    count = len(adds)
    raw = {
        "log_path": columns["path"].cast(pa.string()),
        "size": columns["size"],
        "modification_time": columns["modificationTime"],
        "partition_values": _strings(columns.get("partitionValues"), count),
        "tags": _strings(columns.get("tags"), count),
        "stats": columns["stats"].cast(pa.string()) if "stats" in columns else pa.nulls(count, pa.string()),
        "commit_version": pa.nulls(count, pa.int64()),
    }
    return from_columns(raw, schema, partition_columns)


def _strings(column: Any, count: int) -> Any:
    if column is None:
        return pa.nulls(count, STRINGS)
    return pc.cast(column, STRINGS) if column.type != STRINGS else column
