"""Writing data files: rows to parts, parts to Parquet objects, objects to `add` actions."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError, StorageError
from buffetstore.objects.base import CREATE, Attributes
from buffetstore.objects.keys import checked_key
from buffetstore.resilience.concurrency import BYTES_IN_FLIGHT, gather, unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import AddFile
from buffetstore.tables.file_table import partition_text
from buffetstore.tables.log import join
from buffetstore.tables.row_group_index import FOOTER_TAG, tag_of_footer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from buffetstore.formats.parquet import Encoded, ParquetFormatter
    from buffetstore.objects.base import ObjectStore

_PARQUET = Attributes(content_type="application/vnd.apache.parquet")
_IDENTIFIER = re.compile(r"-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(\.\w+)*\.parquet$")


@dataclass(frozen=True, slots=True)
class DataPart:
    """Rows for one data file, `<directory>/<stem>-<unique id>.parquet`.

    `directory` and `stem` must be fit for a key: whatever comes from data (symbols) is to be encoded by the layout.
    `table` does not hold the partition columns; `partition_values` are texts as the log holds them.
    """

    table: pa.Table
    directory: str = ""
    stem: str = "part"
    partition_values: Mapping[str, str | None] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


Layout: TypeAlias = "Callable[[pa.Table], list[DataPart]]"


def default_layout(partition_columns: Sequence[str] = ()) -> Layout:
    """Return the layout of one file, or of one for each combination of the partition columns' values."""

    def lay_out(table: pa.Table) -> list[DataPart]:
        return _by_partition(table, tuple(partition_columns)) if partition_columns else [DataPart(table)]

    return lay_out


def _by_partition(table: pa.Table, columns: tuple[str, ...]) -> list[DataPart]:
    rest = [name for name in table.column_names if name not in columns]
    places = pa.table({**{name: table[name] for name in columns}, "row": pa.array(range(table.num_rows), pa.int64())})
    parts = []
    for group in places.group_by(list(columns), use_threads=False).aggregate([("row", "list")]).to_batches():
        for index in range(group.num_rows):
            values = {name: partition_text(group[name][index]) for name in columns}
            directory = "/".join(f"{_escaped(name)}={_escaped(value)}" for name, value in values.items())
            parts.append(DataPart(table.select(rest).take(group["row_list"][index].values), directory, "part", values))
    return parts


def _escaped(text: str | None) -> str:
    # Hive's convention; what is left of "." and ".." cannot be a path segment of its own behind "name=".
    return quote(text, safe=" ") if text else "__HIVE_DEFAULT_PARTITION__"


def stem_of(path: str) -> tuple[str, str]:
    """Return the directory and the stem of a data file, so that a rewritten file takes its place."""
    directory, _, name = path.rpartition("/")
    stem = _IDENTIFIER.sub("", name)
    return directory, stem if stem != name and stem else "part"


async def write_parts(
    store: ObjectStore,
    path: str,
    parts: Sequence[DataPart],
    formatter: ParquetFormatter,
    *,
    bytes_in_flight: int = BYTES_IN_FLIGHT,
    encode: Callable[[pa.Table], Encoded] | None = None,
) -> list[AddFile]:
    """Encode the parts in threads and put them in parallel; return what to add to the log, in order.

    When one fails or the caller is cancelled, those that were written are deleted again.

    Parameters
    ----------
    bytes_in_flight:
        Arrow bytes of parts that are encoded and sent at a time; a larger part goes alone.
    encode:
        In place of the formatter's: may look at what it made, and raise so that nothing is written.
    """
    budget = _Budget(bytes_in_flight)
    written: list[str] = []

    async def write(part: DataPart) -> AddFile:
        async with budget.take(part.table.nbytes):
            encoded = await in_thread(encode or formatter.encode, part.table)
            name = f"{part.stem}-{uuid.uuid4()}.parquet"
            inside = f"{part.directory}/{name}" if part.directory else name
            key = checked_key(join(path, inside))
            written.append(key)
            await store.put(key, encoded.data, mode=CREATE, attributes=_PARQUET)
        now = time.time_ns() // 1_000_000
        tags = {name: text for name, text in part.tags.items() if name != FOOTER_TAG}  # of a file before this one
        tags |= tag_of_footer(inside, encoded.data)
        return AddFile(inside, encoded.size, now, part.partition_values, tags, encoded.statistics, data_change=True)

    try:
        return await gather([partial(write, part) for part in parts])
    except BaseException:
        # No commit was begun, so nobody can refer to these files.
        with suppress(StorageError):
            await unhurried(store.delete(written))
        raise


class _Budget:
    """Admits work while its bytes fit, and always one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = asyncio.Condition()

    def take(self, size: int) -> _Share:
        return _Share(self, size)

    async def enter(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size

    async def leave(self, size: int) -> None:
        async with self._changed:
            self._held -= size
            self._changed.notify_all()


class _Share:
    def __init__(self, budget: _Budget, size: int) -> None:
        self._budget = budget
        self._size = size

    async def __aenter__(self) -> None:
        await self._budget.enter(self._size)

    async def __aexit__(self, *_: object) -> None:
        await self._budget.leave(self._size)


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows with exactly the columns and types of the table's schema; absent nullable columns are null.

    Raises
    ------
    InvalidInputError
        A column is not in the schema, a required one is absent or has nulls, or a value does not fit its type. All
        such columns are named.
    """
    faults = [f"{name!r} is not a column of the table" for name in table.column_names if name not in schema.names]
    columns: list[Any] = []
    for target in schema:
        if target.name not in table.column_names:
            if not target.nullable:
                faults.append(f"required column {target.name!r} is missing")
            columns.append(pa.nulls(table.num_rows, target.type))
            continue
        column = table[target.name]
        if not target.nullable and column.null_count:
            faults.append(f"required column {target.name!r} has {column.null_count} nulls")
        try:
            columns.append(_cast(column, target.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            faults.append(f"{target.name!r} is {column.type} and does not fit {target.type} ({error})")
    if faults:
        raise InvalidInputError(f"the rows do not fit the table's schema: {'; '.join(faults)}")
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    if column.type == kind:
        return column
    if (
        pa.types.is_timestamp(kind)
        and pa.types.is_timestamp(column.type)
        and (column.type.tz is None) != (kind.tz is None)
    ):
        raise pa.ArrowInvalid("one has a time zone and the other has none")
    return pc.cast(column, kind)
