"""Reading the rows that a commit changed, part by part.

Source: Delta protocol, "Change Data Files".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from buffetstore.expressions import columns_of, filter_rows
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.deletion_vectors import DeletionVector, read_positions
from buffetstore.tables.operations.changes import CHANGE_TYPE, marked
from buffetstore.tables.reading import read_file
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.live_files import Part
    from buffetstore.tables.snapshot import Snapshot


async def read_part(
    store: ObjectStore,
    snapshot: Snapshot,
    part: Part,
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str],
    predicate: Expression | None,
) -> pa.Table:
    """Return the part's rows that satisfy the predicate, with `_change_type`; the version is that of `snapshot`.

    Raises
    ------
    NotFoundError
        The file has been vacuumed; the message names it and the version.
    CorruptFileError
    """
    # Files know their own partitions, whatever the table's were then or are now.
    partitioned = tuple(field.name for field in snapshot.schema if stored_name(field) in part.partition_values)
    shape = replace(snapshot, metadata=replace(snapshot.metadata, partition_columns=partitioned))
    file = {
        "path": part.path,
        "size": part.size,
        "partition_values": part.partition_values,
        "deletion_vector": part.vector,
    }
    if part.kind is None:
        shape = replace(shape, schema=snapshot.schema.append(CHANGE_TYPE))
        wanted = [*columns, CHANGE_TYPE.name]
        return await read_file(store, shape, file, formatter=formatter, columns=wanted, predicate=predicate)
    if part.among is None:
        rows = await read_file(store, shape, file, formatter=formatter, columns=columns, predicate=predicate)
        return await in_thread(marked, rows, part.kind)
    chosen = await _chosen(store, snapshot.path, part)
    tested = sorted(columns_of(predicate) - set(columns)) if predicate is not None else []
    whole = {**file, "deletion_vector": None}
    rows = await read_file(store, shape, whole, formatter=formatter, columns=[*columns, *tested])
    return await in_thread(_taken, rows, chosen, columns, predicate, part.kind)


async def _chosen(store: ObjectStore, path: str, part: Part) -> NDArray[np.int64]:
    async def positions(vector: str | None) -> NDArray[np.int64]:
        if vector is None:
            return np.empty(0, np.int64)
        return await read_positions(store, path, DeletionVector.from_text(vector), part.path)

    among, deleted = await gather([lambda: positions(part.among), lambda: positions(part.vector)])
    return np.setdiff1d(among, deleted, assume_unique=True)


def _taken(
    rows: pa.Table, chosen: NDArray[np.int64], columns: Sequence[str], predicate: Expression | None, kind: str
) -> pa.Table:
    found = rows.take(pa.array(chosen))
    if predicate is not None:
        found = filter_rows(found, predicate)
    return marked(found.select(list(columns)), kind)
