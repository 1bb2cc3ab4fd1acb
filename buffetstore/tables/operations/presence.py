"""Whether data files are there: asked for one by one where they are few, else by one listing of the table."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.objects.helpers import exists
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.log import join
from buffetstore.tables.operations.vacuum import listed_files

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore

_ASKED_ONE_BY_ONE = 256  # beyond this many files one listing is quicker


async def missing_files(store: ObjectStore, path: str, files: pa.Table) -> pa.Table:
    """Return those of the files, rows of a snapshot's, that are not in the table's folder."""
    if files.num_rows <= _ASKED_ONE_BY_ONE:
        keys = [join(path, name) for name in files["path"].to_pylist()]
        there = await gather([partial(exists, store, key) for key in keys])
        return files.filter(pa.array([not found for found in there], pa.bool_()))
    async with aclosing(listed_files(store, path, set())) as pieces:
        async for piece in pieces:
            files = await in_thread(without, files, piece)
            if not files.num_rows:
                break
    return files


def without(files: pa.Table, others: pa.Table) -> pa.Table:
    """Return the files whose paths the others do not have."""
    return files.filter(pc.invert(pc.is_in(files["path"], value_set=_whole(others["path"]))))


def _whole(column: Any) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
