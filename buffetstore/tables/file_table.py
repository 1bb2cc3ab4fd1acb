"""The data files of a snapshot as Arrow tables.

Columns that every file has: `path`, `log_path`, `size`, `modification_time`, `partition_values`, `tags`,
`commit_version` (that of the rows: see `revision_order`; null where unknown), `deletion_vector` (JSON, mostly null).
Statistics are further columns, made when they are asked for (see `Snapshot.with_statistics`): `num_records`, and for a
column of the table `min.<column>`, `max.<column>`, `null_count.<column>`. Partition columns have their value as both
bounds. Rows that a deletion vector deletes are not in `num_records`, and bounds may be wider than the rows that are
left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import Bounds
from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.tables.actions import AddFile, RemoveFile
from buffetstore.tables.file_statistics import INSTANT, FileStatistics, without_deleted
from buffetstore.tables.log_columns import STRINGS, add_columns
from buffetstore.tables.revision_order import versions_of
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from buffetstore.tables.stored_statistics import StoredStatistics

PIECE_ROWS = 65_536  # files at a time: the statistics of all files as one text could be gigabytes
_PIECE = 1000  # files made into dicts at a time
FIXED = pa.schema(
    [
        ("path", pa.string()),
        ("log_path", pa.string()),
        ("size", pa.int64()),
        ("modification_time", pa.timestamp("ms", tz="UTC")),
        ("partition_values", STRINGS),
        ("tags", STRINGS),
        ("commit_version", pa.int64()),
        ("deletion_vector", pa.string()),
    ]
)


def file_batch(adds: pa.RecordBatch, versions: pa.Array) -> pa.RecordBatch:
    """Return what every file has, of `add` actions as `log_columns.ADDS`."""
    columns = {name: adds[name] for name in FIXED.names if name != "commit_version"}
    columns["modification_time"] = columns["modification_time"].cast(FIXED.field("modification_time").type)
    columns["commit_version"] = versions_of(columns["tags"], versions)
    return pa.record_batch([columns[name] for name in FIXED.names], schema=FIXED)


def statistics_of(
    files: pa.RecordBatch, stored: StoredStatistics, fields: Sequence[pa.Field], partition_columns: Sequence[str]
) -> FileStatistics:
    """Return what is known of the rows of the files, of these columns."""
    told = [field for field in fields if field.name not in partition_columns and not pa.types.is_nested(field.type)]
    known = without_deleted(stored.typed(told), files["deletion_vector"])
    bounds: dict[str, Bounds] = {}
    for field in fields:
        if field.name in known.bounds:
            bounds[field.name] = known.bounds[field.name]
        elif field.name in partition_columns:
            values = partition_array(files["partition_values"], stored_name(field), field.type)
            nulls = pc.if_else(pc.is_null(values), known.rows, pa.scalar(0, pa.int64()))
            bounds[field.name] = Bounds(values, values, nulls)
    return FileStatistics(known.rows, bounds)


def statistics_columns(known: FileStatistics) -> dict[str, pa.Array]:
    """Return the statistics as columns."""
    columns = {"num_records": known.rows}
    for name, held in known.bounds.items():
        columns |= {f"min.{name}": held.lowest, f"max.{name}": held.highest, f"null_count.{name}": held.null_count}
    return columns


def from_actions(
    adds: Sequence[AddFile], versions: Sequence[int | None], schema: pa.Schema, partition_columns: Sequence[str]
) -> pa.Table:
    """Return the files that the actions add, with all statistics."""
    columns = add_columns(adds)
    files = file_batch(columns.batch, pa.array(versions, pa.int64()))
    known = statistics_of(files, columns.statistics, list(schema), partition_columns)
    held = dict(zip(files.schema.names, files.columns, strict=True))
    return pa.table(held | statistics_columns(known))


def removal(file: Mapping[str, Any], now: datetime) -> RemoveFile:
    """Return the action that removes a file, given as a row of the table (see `rows`)."""
    return RemoveFile(
        file["path"],
        int(now.timestamp() * 1000),
        partition_values=file["partition_values"],
        size=file["size"],
        tags=file["tags"],
        log_path=file["log_path"],
        deletion_vector=file.get("deletion_vector"),
    )


async def listed(files: pa.Table) -> list[dict[str, Any]]:
    """Return `rows` of the files; where they are many the event loop does not wait for it."""
    return rows(files) if files.num_rows <= _PIECE else await in_thread(rows, files)


def rows(files: pa.Table) -> list[dict[str, Any]]:
    """Return the files as dicts, without their statistics; partition values under their stored names.

    Making dicts holds the interpreter, so that others are let in after each thousand.
    """
    wanted = [
        "path",
        "log_path",
        "size",
        "commit_version",
        "partition_values",
        "tags",
        "deletion_vector",
    ]
    found: list[dict[str, Any]] = []
    for batch in files.select(wanted).to_batches(max_chunksize=_PIECE):
        for file in batch.to_pylist():
            file["partition_values"] = dict(file["partition_values"] or ())
            file["tags"] = dict(file["tags"] or ())
            found.append(file)
        give_way()
    return found


def partition_array(values: Any, name: str, kind: pa.DataType) -> Any:
    """Return the typed values of a partition column from the files' `partition_values`; empty text means null."""
    texts = pc.map_lookup(values, pa.scalar(name, pa.string()), "first")
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if pa.types.is_timestamp(kind):
        # "Z" or a zone where the writer is modern; otherwise in the writer's zone, which nobody knows: UTC it is.
        zoned = pc.match_substring_regex(texts, INSTANT)
        instants = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", "")).cast(pa.timestamp("us", "UTC"))
        return instants.cast(kind)
    return texts.cast(kind)


def partition_text(value: pa.Scalar) -> str | None:
    """Return a partition value as the log writes it. Source: Delta protocol, "Partition Value Serialization"."""
    if not value.is_valid:
        return None
    if pa.types.is_timestamp(value.type):
        return f"{value.as_py().replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if pa.types.is_boolean(value.type):
        return "true" if value.as_py() else "false"
    return format(value.as_py(), "f") if pa.types.is_decimal(value.type) else str(value.as_py())
