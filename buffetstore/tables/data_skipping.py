"""Of which columns new files tell statistics: a table's properties may say it.

Source: "Delta table properties reference", `delta.dataSkippingNumIndexedCols` and `delta.dataSkippingStatsColumns`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.formats.statistics import MAX_COLUMNS
from buffetstore.tables.properties import INDEXED_COLUMNS, STATISTICS_COLUMNS

if TYPE_CHECKING:
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.tables.snapshot import Snapshot

_NAMES = re.compile(r"`([^`]+)`|([^,`]+)")


def telling(formatter: ParquetFormatter, snapshot: Snapshot) -> ParquetFormatter:
    """Return the formatter with the statistics that the table asks for; where it asks for none, as it is."""
    configuration = snapshot.metadata.configuration
    if STATISTICS_COLUMNS not in configuration and INDEXED_COLUMNS not in configuration:
        return formatter
    return replace(formatter, statistics_columns=indexed_columns(snapshot))


def indexed_columns(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the columns of which files tell statistics: those that are named, else the first so many."""
    configuration = snapshot.metadata.configuration
    fields = [field for field in snapshot.schema if field.name not in snapshot.partition_columns]
    named = configuration.get(STATISTICS_COLUMNS)
    if named is not None:
        wanted = {quoted or plain.strip() for quoted, plain in _NAMES.findall(named)}
        return tuple(field.name for field in fields if field.name in wanted)
    told = configuration.get(INDEXED_COLUMNS, "").strip()
    most = int(told) if re.fullmatch(r"-?\d+", told) else MAX_COLUMNS  # another engine may have let anything in
    found, leaves = [], 0
    for field in fields:
        if 0 <= most <= leaves:
            break
        found.append(field.name)
        leaves += _leaves(field.type)
    return tuple(found)


def _leaves(kind: pa.DataType) -> int:
    """Return how many columns this is by the count of the property: a struct is its fields, a list or a map is one."""
    return sum(_leaves(field.type) for field in kind) if pa.types.is_struct(kind) else 1
