"""Writing checkpoints: the last one and the entries since become the next, without the whole state in memory.

Source: Delta protocol, "Checkpoints", "Checkpoint Schema", "Last Checkpoint File".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import AlreadyExistsError, ConflictError, CorruptLogError, NotFoundError
from buffetstore.formats.stored import align
from buffetstore.objects.base import CREATE, OVERWRITE, Attributes, Update
from buffetstore.objects.helpers import read_object
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import Metadata, Protocol, Txn
from buffetstore.tables.checkpoint import ParquetPart, fetched
from buffetstore.tables.checkpoint_schema import (
    ADD,
    METADATA,
    PROTOCOL,
    REMOVE,
    TXN,
    add_bodies,
    metadata_body,
    parsed_statistics,
    remove_bodies,
)
from buffetstore.tables.checkpoint_statistics import PARSED_MARK
from buffetstore.tables.file_statistics import statistics_struct
from buffetstore.tables.idempotency import expired
from buffetstore.tables.latest import latest_actions
from buffetstore.tables.log import join, read_entries
from buffetstore.tables.log_columns import STRINGS, AddColumns, add_columns, decoded, has_pairs
from buffetstore.tables.properties import Properties
from buffetstore.tables.revision_order import keeps_revisions, version_tag
from buffetstore.tables.schema import schema_of, stored_schema
from buffetstore.tables.segment import find_segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore, PutMode, Upload
    from buffetstore.tables.log import Entry

_PIECE = 65_536  # actions at a time
_PARQUET = Attributes(content_type="application/vnd.apache.parquet")
_JSON = Attributes(content_type="application/json")


@dataclass(frozen=True, slots=True)
class WrittenCheckpoint:
    """A checkpoint that is there: its version, its size in bytes and in actions, and how many data files it names."""

    version: int
    bytes: int
    actions: int
    files: int


async def write_checkpoint(
    store: ObjectStore, path: str, version: int, *, tags: Mapping[str, str] | None = None
) -> WrittenCheckpoint | None:
    """Write the checkpoint of `version` and point `_last_checkpoint` to it; None where somebody else has written it.

    Memory holds the last checkpoint's bytes, the entries since, and some ten thousand actions.

    Parameters
    ----------
    tags:
        What `_last_checkpoint` says beyond the protocol.

    Raises
    ------
    TableNotFoundError, TableVersionNotFoundError, CorruptLogError
    """
    segment = await find_segment(store, path, version)
    if segment.checkpoint is not None and segment.checkpoint.version == version:
        return None
    where = f"the last checkpoint of table {path!r}"
    parts = [] if segment.checkpoint is None else await fetched(store, segment.checkpoint.keys, where)
    entries = await read_entries(store, path, segment.entries)
    now = int(segment.entries[-1].last_modified.timestamp() * 1000)  # by the store's clock
    plan = await in_thread(_planned, path, parts, entries, now)
    key = join(path, f"_delta_log/{version:020}.checkpoint.parquet")
    try:
        async with await store.start_upload(key, mode=_create(store), attributes=_PARQUET) as upload:
            counts = await _send(upload, plan)
            size = (await upload.complete()).size
    except AlreadyExistsError:
        return None
    written = WrittenCheckpoint(version, size, *counts)
    await _point_to(store, path, written, tags or {})
    return written


def _create(store: ObjectStore) -> PutMode:
    return CREATE if store.capabilities.conditional_create else OVERWRITE


async def _point_to(store: ObjectStore, path: str, written: WrittenCheckpoint, tags: Mapping[str, str]) -> None:
    """Make `_last_checkpoint` name this one, unless it names a later one: it is a hint, so a lost race is let be."""
    key = join(path, "_delta_log/_last_checkpoint")
    hint = {
        "version": written.version,
        "size": written.actions,
        "sizeInBytes": written.bytes,
        "numOfAddFiles": written.files,
    } | ({"tags": dict(tags)} if tags else {})
    mode = OVERWRITE
    try:
        meta, held = await read_object(store, key)
        known = json.loads(held)
        if isinstance(known, dict) and isinstance(known.get("version"), int) and known["version"] >= written.version:
            return
        mode = Update(meta.version) if store.capabilities.conditional_update else OVERWRITE
    except NotFoundError:
        mode = _create(store)
    except ValueError:
        pass  # it is damaged: it is replaced
    try:
        await store.put(key, json.dumps(hint).encode(), mode=mode, attributes=_JSON)
    except ConflictError:
        return


@dataclass(frozen=True, slots=True)
class _Plan:
    """What goes into the checkpoint: small actions, what is new, and what is kept of the last one."""

    protocol: Protocol
    metadata: Metadata
    txns: Sequence[Txn]
    adds: Sequence[AddColumns]
    removes: pa.Table
    parts: Sequence[bytes]
    changed: pa.Array
    oldest: int  # tombstones from before are not kept
    add_schema: pa.Schema

    @property
    def schema(self) -> pa.Schema:
        """The columns of the file."""
        add = pa.struct([*ADD, ("stats_parsed", statistics_struct(self.add_schema))])
        return pa.schema(
            [("txn", TXN), ("add", add), ("remove", REMOVE), ("metaData", METADATA), ("protocol", PROTOCOL)]
        )

    def tables(self) -> Iterator[tuple[pa.Table, int]]:
        """Yield the actions, some at a time, and how many of them are data files."""
        heads: dict[str, list[Any]] = {
            "protocol": [self.protocol.to_json()["protocol"]],
            "metaData": [metadata_body(self.metadata)],
            "txn": [txn.to_json()["txn"] for txn in self.txns],
        }
        for name, bodies in heads.items():
            yield self._table(name, pa.array(bodies, self.schema.field(name).type)), 0
        for part in self.parts:
            with pq.ParquetFile(pa.BufferReader(part)) as file:
                is_parsed = PARSED_MARK.encode() in (file.metadata.metadata or {})
                for batch in file.iter_batches(_PIECE, columns=_leaves(file, ("add", "remove"))):
                    yield from self._kept(pa.table(batch), is_parsed=is_parsed)
        for columns in self.adds:
            for at in range(0, len(columns), _PIECE):
                found = self._adds(add_bodies(columns.part(at, min(at + _PIECE, len(columns)))))
                yield self._table("add", found), len(found)
        for at in range(0, len(self.removes), _PIECE):
            yield self._table("remove", remove_bodies(self.removes.slice(at, _PIECE))), 0

    def _kept(self, part: pa.Table, *, is_parsed: bool) -> Iterator[tuple[pa.Table, int]]:
        if "add" in part.column_names:
            kind = self.schema.field("add").type
            is_parsed = is_parsed and part["add"].type.field("stats_parsed").type == kind.field("stats_parsed").type
            adds = _struct(part["add"], kind if is_parsed else pa.struct(ADD))
            adds = adds.filter(pc.invert(pc.is_in(decoded(adds.field("path")), value_set=self.changed)))
            yield self._table("add", adds if is_parsed else self._adds(adds)), len(adds)
        if "remove" in part.column_names:
            removes = _struct(part["remove"], REMOVE)
            known = pc.is_in(decoded(removes.field("path")), value_set=self.changed)
            stamps = pc.fill_null(removes.field("deletionTimestamp"), 0)
            kept = pc.and_(pc.invert(known), pc.greater_equal(stamps, self.oldest))
            yield self._table("remove", removes.filter(kept)), 0

    def _adds(self, adds: pa.StructArray) -> pa.StructArray:
        """Add the parsed statistics, which a reader need not parse."""
        fields = [adds.field(name) for name, _ in ADD]
        parsed = parsed_statistics(adds.field("stats"), self.add_schema)
        kind = self.schema.field("add").type
        return pa.StructArray.from_arrays([*fields, parsed], fields=list(kind))

    def _table(self, name: str, bodies: Any) -> pa.Table:
        columns = [bodies if field.name == name else pa.nulls(len(bodies), field.type) for field in self.schema]
        return pa.table(columns, schema=self.schema)


def _planned(path: str, parts: Sequence[bytes], entries: Sequence[Entry], now: int) -> _Plan:
    protocol, metadata, txns = _head(parts)
    kept: list[Entry] = []
    for entry in entries:
        protocol, metadata = entry.protocol or protocol, entry.metadata or metadata
        txns.update((txn.app_id, txn) for txn in entry.txns)
        kept.append(_versioned(entry) if metadata is not None and keeps_revisions(metadata) else entry)
    if protocol is None or metadata is None:
        raise CorruptLogError(f"the log of table {path!r} has no protocol or no metadata", key=path)
    properties = Properties(metadata.configuration)
    retention = properties.transaction_retention
    oldest = now - properties.deleted_file_retention
    latest = latest_actions(kept)
    return _Plan(
        protocol,
        metadata,
        [txn for txn in txns.values() if retention is None or not expired(txn, now, retention)],
        latest.adds,
        latest.removes.filter(pc.greater_equal(pc.fill_null(latest.removes["deletion_timestamp"], 0), oldest)),
        parts,
        latest.paths,
        oldest,
        stored_schema(schema_of(metadata), metadata),
    )


def _versioned(entry: Entry) -> Entry:
    """Return the files with the version of their rows, which a checkpoint has no other place for."""
    known = version_tag(None if entry.compacted else entry.version)
    columns = add_columns(entry.adds)
    batch = columns.batch
    if not batch.num_rows or has_pairs(batch["tags"]):
        return replace(entry, adds=tuple(replace(add, tags={**known, **add.tags}) for add in entry.adds))
    ((name, value),) = known.items()
    names, values = (pa.repeat(text, batch.num_rows) for text in (name, value))
    tags = pa.MapArray.from_arrays(pa.array(range(batch.num_rows + 1), pa.int32()), names, values, STRINGS)
    tagged = batch.set_column(batch.schema.get_field_index("tags"), "tags", tags)
    return replace(entry, adds=AddColumns(tagged, columns.statistics))


def _head(parts: Sequence[bytes]) -> tuple[Protocol | None, Metadata | None, dict[str, Txn]]:
    """Return what the last checkpoint has besides files."""
    protocol, metadata, txns = None, None, {}
    for part in map(ParquetPart, parts):
        for body in part.values("protocol"):
            protocol = Protocol.from_json(body)
        for body in part.values("metaData"):
            metadata = Metadata.from_json(body)
        for body in part.values("txn"):
            txn = Txn.from_json(body)
            txns[txn.app_id] = txn
    return protocol, metadata, txns


def _leaves(file: pq.ParquetFile, actions: Sequence[str]) -> list[str]:
    paths = [file.metadata.schema.column(index).path for index in range(len(file.metadata.schema))]
    return [path for path in paths if path.partition(".")[0] in actions]


def _struct(column: pa.ChunkedArray, kind: Any) -> pa.StructArray:
    """Return the bodies that are there, with the fields of `kind`: others are dropped, absent ones are null."""
    held = column.drop_null().combine_chunks()
    held = held if isinstance(held, pa.StructArray) else pa.concat_arrays(held.chunks or [pa.array([], column.type)])
    names = {held.type.field(index).name for index in range(held.type.num_fields)}
    children = [
        align(held.field(field.name), field, field.type) if field.name in names else pa.nulls(len(held), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind))


async def _send(upload: Upload, plan: _Plan) -> tuple[int, int]:
    """Write the file; return how many actions and data files are in it."""
    sink = _Pieces()
    writer = await in_thread(pq.ParquetWriter, sink, plan.schema, compression="zstd")
    writer.add_key_value_metadata({PARSED_MARK: "1"})
    actions = files = 0
    tables = plan.tables()
    try:
        while (found := await in_thread(next, tables, None)) is not None:
            table, adds = found
            await upload.write(await in_thread(_written, writer, sink, table))
            actions, files = actions + table.num_rows, files + adds
    finally:
        await in_thread(writer.close)
    await upload.write(sink.taken())
    return actions, files


def _written(writer: pq.ParquetWriter, sink: _Pieces, table: pa.Table) -> bytes:
    writer.write_table(table)
    return sink.taken()


class _Pieces:
    """A file that is read while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._at += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        """Have nothing to do."""

    def close(self) -> None:
        self.closed = True
