"""Reading data files of a snapshot, several at a time, in the table's schema."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from buffetstore.errors import CorruptFileError, InvalidQueryError, NotFoundError
from buffetstore.expressions import Expression, columns_of
from buffetstore.objects.helpers import get_buffer, get_bytes
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, ordered
from buffetstore.tables.deletion_vectors import DeletionVector, read_positions
from buffetstore.tables.file_actions import each_file
from buffetstore.tables.file_table import partition_array
from buffetstore.tables.log import join
from buffetstore.tables.log_columns import STRINGS
from buffetstore.tables.schema import stored_name, stored_schema

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.objects.base import Data, ObjectStore
    from buffetstore.tables.snapshot import Snapshot

_IN_PARTS_FROM = 16 * 1024 * 1024  # bytes: one stream of more than this is slower than several at once

Fetch: TypeAlias = "Callable[[str, int], Awaitable[Data]]"


def fetch_from(store: ObjectStore) -> Fetch:
    """Return what fetches an object, named by its key and size, whole; a cache can stand in for it."""

    async def fetch(key: str, size: int) -> Data:
        if size <= _IN_PARTS_FROM:
            return await get_bytes(store, key)
        return await get_buffer(store, key, size=size)

    return fetch


def check_columns(snapshot: Snapshot, columns: Sequence[str] | None, predicate: Expression | None) -> None:
    """Raise `InvalidQueryError` naming the columns that the table does not have."""
    asked = [*(columns or ()), *(sorted(columns_of(predicate)) if predicate is not None else ())]
    unknown = list(dict.fromkeys(name for name in asked if name not in snapshot.schema.names))
    if unknown:
        raise InvalidQueryError(
            f"table {snapshot.path!r} has no column {', '.join(map(repr, unknown))}: "
            f"there are {', '.join(snapshot.schema.names)}",
            key=snapshot.path,
        )


async def read_file(
    store: ObjectStore,
    snapshot: Snapshot,
    file: Mapping[str, Any],
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str] | None = None,
    predicate: Expression | None = None,
    fetch: Fetch | None = None,
) -> pa.Table:
    """Return the rows of one data file that satisfy the predicate, in the table's schema.

    Parameters
    ----------
    file:
        A row of `snapshot.files`, as `buffetstore.tables.file_table.rows` gives it.
    fetch:
        Gets the file's bytes by key and size; by default from the store.

    Raises
    ------
    NotFoundError
        The file is gone: vacuumed, or deleted by hand.
    CorruptFileError
        It cannot be decoded.
    """
    key = join(snapshot.path, file["path"])
    where = f"data file {key!r} of version {snapshot.version} of table {snapshot.path!r}"
    try:
        data = await (fetch or fetch_from(store))(key, file["size"])
    except NotFoundError as error:
        raise NotFoundError(f"{where} is gone; if it was vacuumed, read a later version", key=key) from error
    constants = _constants(snapshot, file) if snapshot.partition_columns else None
    vector = file.get("deletion_vector")
    deleted = None if vector is None else await _deleted(store, snapshot, vector, file["path"])
    try:
        return await formatter.adecode(
            data,
            columns,
            predicate,
            schema=snapshot.schema,
            constants=constants,
            stored=stored_schema(snapshot.schema, snapshot.metadata),
            deleted=deleted,
        )
    except CorruptFileError as error:
        mend = "restore the file from a backup, or read a table version from before it"
        raise CorruptFileError(f"{where} is damaged: {error}; {mend}", key=key) from error


async def read_tables(
    store: ObjectStore,
    snapshot: Snapshot,
    files: pa.Table,
    *,
    formatter: ParquetFormatter,
    columns: Sequence[str] | None = None,
    predicate: Expression | None = None,
    fetch: Fetch | None = None,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
) -> AsyncGenerator[pa.Table, None]:
    """Yield the rows of each of `files`, in their order, while later files are being read already.

    Whoever may stop half way closes the iterator: until then files are being read.
    """
    read = partial(read_file, formatter=formatter, columns=columns, predicate=predicate, fetch=fetch)
    calls = (partial(read, store, snapshot, file) for file in each_file(files))
    sizes = map(int, files["size"].to_numpy())
    async with aclosing(ordered(calls, sizes, bytes_in_flight=bytes_in_flight)) as tables:
        async for table in tables:
            yield table


def projected(snapshot: Snapshot, columns: Sequence[str] | None) -> pa.Schema:
    """Return the schema of an answer with these columns."""
    return snapshot.schema if columns is None else pa.schema([snapshot.schema.field(name) for name in columns])


def _constants(snapshot: Snapshot, file: Mapping[str, Any]) -> dict[str, pa.Scalar]:
    held = pa.array([list(file["partition_values"].items())], STRINGS)
    return {
        name: partition_array(held, stored_name(field), field.type)[0]
        for name, field in ((name, snapshot.schema.field(name)) for name in snapshot.partition_columns)
    }


async def _deleted(store: ObjectStore, snapshot: Snapshot, vector: str, file: str) -> NDArray[np.int64]:
    return await read_positions(store, snapshot.path, DeletionVector.from_text(vector), file)
