"""The data files of a snapshot as one Arrow table, with typed statistics.

Columns: `path`, `log_path`, `size`, `modification_time`, `partition_values`, `tags`, `num_records`, `commit_version`
(that of the rows: see `revision_order`; null where unknown), `deletion_vector` (JSON, mostly null), and for each column
of the table that has bounds `min.<column>`, `max.<column>`, `null_count.<column>`. Partition columns have their value
as both bounds. Rows that a deletion vector deletes are not in `num_records`, and bounds may be wider than the rows that
are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.tables.actions import AddFile, RemoveFile
from buffetstore.tables.file_statistics import INSTANT, has_bounds, parse_statistics, without_deleted
from buffetstore.tables.log_columns import STRINGS, add_batch, whole
from buffetstore.tables.revision_order import versions_of
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from buffetstore.tables.file_statistics import FileStatistics

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
        ("num_records", pa.int64()),
        ("commit_version", pa.int64()),
        ("deletion_vector", pa.string()),
    ]
)


def files_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the files of a table with this schema."""
    fields = list(FIXED)
    for field in schema:
        if not pa.types.is_nested(field.type):
            kind = field.type if has_bounds(field.type) else pa.null()
            fields += [pa.field(f"min.{field.name}", kind), pa.field(f"max.{field.name}", kind)]
            fields.append(pa.field(f"null_count.{field.name}", pa.int64()))
    return pa.schema(fields)


def from_actions(
    adds: Sequence[AddFile], versions: Sequence[int | None], schema: pa.Schema, partition_columns: Sequence[str]
) -> pa.Table:
    """Return the files that the actions add."""
    known = pa.array(versions, pa.int64())
    found = pa.Table.from_batches([add_batch(adds)]).append_column("commit_version", known)
    return from_batches(found, schema, partition_columns)


def from_batches(adds: pa.Table, schema: pa.Schema, partition_columns: Sequence[str]) -> pa.Table:
    """Return the files that the actions add, given as columns: `log_columns.ADDS` and `commit_version`."""
    pieces = []
    for at in range(0, max(adds.num_rows, 1), PIECE_ROWS):
        piece = adds.slice(at, PIECE_ROWS)
        raw = {name: whole(piece[name]) for name in piece.column_names}
        pieces.append(from_columns(raw, schema, partition_columns))
    return pa.concat_tables(pieces)


def from_columns(
    raw: Mapping[str, Any],
    schema: pa.Schema,
    partition_columns: Sequence[str],
    *,
    statistics: FileStatistics | None = None,
) -> pa.Table:
    """Return the files told by columns: `path`, `log_path`, `size`, ..., `stats`, `commit_version`.

    `statistics` are those of `stats`, where they are known without parsing it.
    """
    if statistics is None:
        statistics = parse_statistics(raw["stats"], schema)
    known = without_deleted(statistics, raw["deletion_vector"])
    columns: dict[str, Any] = {
        "path": raw["path"],
        "log_path": raw["log_path"],
        "size": raw["size"],
        "modification_time": raw["modification_time"].cast(FIXED.field("modification_time").type),
        "partition_values": raw["partition_values"],
        "tags": raw["tags"],
        "num_records": known.rows,
        "commit_version": versions_of(raw["tags"], raw["commit_version"]),
        "deletion_vector": raw["deletion_vector"],
    }
    for name, bounds in known.bounds.items():
        columns[f"min.{name}"], columns[f"max.{name}"] = bounds.lowest, bounds.highest
        columns[f"null_count.{name}"] = bounds.null_count
    for name in partition_columns:
        field = schema.field(name)
        values = partition_array(raw["partition_values"], stored_name(field), field.type)
        nulls = pc.if_else(pc.is_null(values), known.rows, pa.scalar(0, pa.int64()))
        columns |= {f"min.{name}": values, f"max.{name}": values, f"null_count.{name}": nulls}
    return conform(pa.table(columns), files_schema(schema))


def conform(files: pa.Table, target: pa.Schema) -> pa.Table:
    """Return the files with the columns of `target`: those of columns added since are null."""
    if files.schema.equals(target):
        return files
    columns = []
    for field in target:
        if field.name not in files.column_names:
            columns.append(pa.nulls(files.num_rows, field.type))
        elif files[field.name].type == field.type:
            columns.append(files[field.name])
        elif pa.types.is_null(field.type):
            columns.append(pa.nulls(files.num_rows))
        else:
            columns.append(files[field.name].cast(field.type))
    return pa.table(columns, schema=target)


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
        "num_records",
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
