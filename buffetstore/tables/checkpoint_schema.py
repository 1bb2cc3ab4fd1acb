"""The columns of the checkpoints that are written. Source: Delta protocol, "Checkpoint Schema"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.tables.arrays import whole
from buffetstore.tables.file_statistics import parse_statistics, statistics_struct
from buffetstore.tables.log_columns import STRINGS, has_pairs
from buffetstore.tables.row_group_index import without_footers

if TYPE_CHECKING:
    from buffetstore.tables.actions import Metadata
    from buffetstore.tables.log_columns import AddColumns

TXN = pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())])
PROTOCOL = pa.struct(
    [
        ("minReaderVersion", pa.int32()),
        ("minWriterVersion", pa.int32()),
        ("readerFeatures", pa.list_(pa.string())),
        ("writerFeatures", pa.list_(pa.string())),
    ]
)
METADATA = pa.struct(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("format", pa.struct([("provider", pa.string()), ("options", STRINGS)])),
        ("schemaString", pa.string()),
        ("partitionColumns", pa.list_(pa.string())),
        ("configuration", STRINGS),
        ("createdTime", pa.int64()),
    ]
)
REMOVE = pa.struct(
    [
        ("path", pa.string()),
        ("deletionTimestamp", pa.int64()),
        ("dataChange", pa.bool_()),
        ("extendedFileMetadata", pa.bool_()),
        ("partitionValues", STRINGS),
        ("size", pa.int64()),
        ("tags", STRINGS),
    ]
)
ADD = [
    ("path", pa.string()),
    ("partitionValues", STRINGS),
    ("size", pa.int64()),
    ("modificationTime", pa.int64()),
    ("dataChange", pa.bool_()),
    ("tags", STRINGS),
    ("stats", pa.string()),
]


def add_bodies(adds: AddColumns) -> pa.StructArray:
    """Return `add` actions of the log as a checkpoint has them."""
    batch = adds.batch
    columns = [
        batch["log_path"],
        _filled(batch["partition_values"]),
        batch["size"],
        batch["modification_time"],
        pa.repeat(pa.scalar(False), len(adds)),  # it is state, not news
        _unless_empty(without_footers(batch["tags"])),
        adds.statistics.texts(),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(pa.struct(ADD)))


def remove_bodies(removes: pa.Table) -> pa.StructArray:
    """Return `remove` actions of the log, which are `log_columns.REMOVES`, as a checkpoint has them."""
    values, size = whole(removes["partition_values"]), whole(removes["size"])
    extended = pc.and_(values.is_valid(), size.is_valid())
    columns = [
        whole(removes["log_path"]),
        whole(removes["deletion_timestamp"]),
        pa.repeat(pa.scalar(False), removes.num_rows),
        pc.if_else(extended, extended, None),
        pc.if_else(extended, values, pa.scalar(None, STRINGS)),
        pc.if_else(extended, size, pa.scalar(None, pa.int64())),
        pc.if_else(extended, _unless_empty(whole(removes["tags"])), pa.scalar(None, STRINGS)),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(REMOVE))


def _filled(maps: pa.Array) -> pa.Array:
    return pc.if_else(maps.is_valid(), maps, pa.scalar([], STRINGS)) if maps.null_count else maps


def _unless_empty(maps: pa.Array) -> pa.Array:
    return maps if has_pairs(maps) else pa.nulls(len(maps), STRINGS)


def metadata_body(metadata: Metadata) -> dict[str, Any]:
    """Return the body of a `metaData` action as a checkpoint has it."""
    body: dict[str, Any] = metadata.to_json()["metaData"]
    return body | {
        "format": {"provider": metadata.provider, "options": []},
        "configuration": list(metadata.configuration.items()),
    }


def parsed_statistics(texts: pa.Array, schema: pa.Schema) -> pa.StructArray:
    """Return `stats_parsed`: the statistics of each text, typed."""
    kind = statistics_struct(schema)
    known = parse_statistics(texts, schema)
    sides = {
        "minValues": {name: bounds.lowest for name, bounds in known.bounds.items()},
        "maxValues": {name: bounds.highest for name, bounds in known.bounds.items()},
        "nullCount": {name: bounds.null_count for name, bounds in known.bounds.items()},
    }
    children = []
    for field in kind:
        if field.name in sides:
            values = [sides[field.name][each.name] for each in field.type]
            children.append(pa.StructArray.from_arrays([whole(value) for value in values], fields=list(field.type)))
        else:
            children.append(whole(known.rows))
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=texts.is_null())
