"""The rows that a commit changes, for the change feed. Source: Delta protocol, "Change Data Files"."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.tables.actions import CdcFile
from buffetstore.tables.files import DataPart, default_layout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.tables.actions import AddFile
    from buffetstore.tables.operations.write import Writer
    from buffetstore.tables.snapshot import Snapshot

DIRECTORY = "_change_data"
CHANGE_TYPE = pa.field("_change_type", pa.string())
INSERT, DELETE = "insert", "delete"
PREIMAGE, POSTIMAGE = "update_preimage", "update_postimage"


def marked(rows: pa.Table, kind: str) -> pa.Table:
    """Return the rows with what became of them in a column of its own."""
    return rows.append_column(CHANGE_TYPE, pa.repeat(pa.scalar(kind, pa.string()), rows.num_rows))


async def write_with_changes(
    writer: Writer, snapshot: Snapshot, parts: Sequence[DataPart], changes: Sequence[pa.Table]
) -> tuple[tuple[AddFile, ...], tuple[CdcFile, ...]]:
    """Write data files and, in the order given, the changed rows; when one fails none is left behind."""
    told = await change_parts(writer, snapshot, changes)
    found = await writer.write_parts(snapshot, [*parts, *told])
    return found[: len(parts)], as_changes(found[len(parts) :])


async def change_parts(writer: Writer, snapshot: Snapshot, changes: Sequence[pa.Table]) -> list[DataPart]:
    """Return the files for changed rows, which stay in their order."""
    rows = pa.concat_tables(changes) if changes else None
    return [
        # Not in folders of their partitions: deltalake's reader does not find those whose names are escaped.
        replace(part, directory=DIRECTORY, stem="cdc")
        for part in (await writer.parts(rows, default_layout(snapshot.partition_columns)) if rows is not None else ())
    ]


def as_changes(written: Sequence[AddFile]) -> tuple[CdcFile, ...]:
    """Return the actions for files that were written with changed rows."""
    return tuple(CdcFile(add.path, add.size, add.partition_values) for add in written)
