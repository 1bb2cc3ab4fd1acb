"""No call of a table of many files keeps the event loop: each step of the loop's own thread is short in CPU time."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import random
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.expressions import And, Comparison
from buffetstore.objects import MemoryStore
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.resilience.threads import in_thread
from buffetstore.tables import DeltaTable
from buffetstore.tables.log import commit_key
from buffetstore.testing.loop_steps import loop_steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

FILES = 20_000
LONGEST = 0.010  # seconds: what a table of five times as many files may take at most
MOMENT = datetime(2024, 1, 1, tzinfo=UTC)
SCHEMA = pa.schema([("symbol", pa.string()), ("day", pa.timestamp("us", tz="UTC")), ("price", pa.float64())])
INSIDE = And((Comparison("symbol", "==", "S0"), Comparison("price", "<", 20.0)))


class Apart(StoreWrapper):
    """Copies what is put in a thread: the store itself, which is in memory, would do so on the loop."""

    async def put(self, key, data, **options):
        return await self.inner.put(key, await in_thread(bytes, data), **options)


def rows(symbol: str) -> pa.Table:
    return pa.table({"symbol": [symbol], "day": [MOMENT], "price": [5.0]}, schema=SCHEMA)


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


async def many_files(store: MemoryStore) -> None:
    """Make version 1 of a table: so many files, each of them with the row of another symbol."""
    await (await DeltaTable.create(store, "t", SCHEMA)).aclose()
    data, lines = parquet(rows("S0")), ['{"commitInfo":{"timestamp":1,"operation":"WRITE"}}']
    unique = random.Random(7)
    for at in range(FILES):
        path = f"year=2024/S{at}-{unique.getrandbits(64):016x}.parquet"
        low, high = ({"symbol": f"S{at}", "day": "2024-01-01T00:00:00.000000Z", "price": at + n} for n in (0, 10))
        counts = {"symbol": 0, "day": 0, "price": 0}
        stats = {"numRecords": 1, "minValues": low, "maxValues": high, "nullCount": counts}
        add = {"path": path, "partitionValues": {}, "size": len(data), "modificationTime": 1, "dataChange": True}
        lines.append(json.dumps({"add": add | {"stats": json.dumps(stats)}}, separators=(",", ":")))
        await store.put(f"t/{path}", data)
    await store.put(commit_key("t", 1), ("\n".join(lines) + "\n").encode())


@pytest.fixture(scope="module")
def made() -> MemoryStore:
    store = MemoryStore()
    asyncio.run(many_files(store))
    return store


@pytest.fixture(autouse=True)
def no_collection_of_what_others_left() -> Iterator[None]:
    """Keep the collector from the values of other tests: how long it takes over them is no fault of the table's."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@asynccontextmanager
async def opened(made: MemoryStore) -> AsyncGenerator[DeltaTable, None]:
    """Open a copy of the table."""
    copy = MemoryStore()
    copy._objects, copy._keys = dict(made._objects), list(made._keys)
    async with DeltaTable.open(Apart(copy), "t") as table:
        yield table


async def lost(table: DeltaTable) -> Any:
    await table.store.delete([f"t/{name}" for name in table.files()["path"].to_pylist()[::3]])
    return await table.repair(dry_run=False)


async def restored(table: DeltaTable) -> Any:
    await table.overwrite(rows("ONE"))
    return await table.restore(1)


async def followed(table: DeltaTable) -> None:
    """Follow the changes of the commit of all files for some hundred of them."""
    async with aclosing(table.changes(since=0)) as changes:
        left = 300
        async for change in changes:
            left -= change.rows.num_rows
            if not left:
                return


CALLS: dict[str, Callable[[DeltaTable], Awaitable[Any]]] = {
    "refresh": lambda table: table.refresh(),
    "find_files": lambda table: table.find_files(INSIDE),
    "to_arrow": lambda table: table.to_arrow(filters=INSIDE),
    "append": lambda table: table.append(rows("NEW")),
    "overwrite": lambda table: table.overwrite(rows("ONE")),
    "overwrite where": lambda table: table.overwrite(rows("S0"), predicate=INSIDE),
    "upsert": lambda table: table.upsert(rows("S0"), key=["symbol", "day"]),
    "delete": lambda table: table.delete(INSIDE),
    "compact": lambda table: table.compact(predicate=Comparison("price", "<", 400.0)),
    "vacuum": lambda table: table.vacuum(dry_run=True),
    "checkpoint": lambda table: table.checkpoint(),
    "restore": restored,
    "history": lambda table: table.history(),
    "verify": lambda table: table.verify(),
    "repair": lost,
    "changes": followed,
}


@pytest.mark.parametrize("name", CALLS)
async def test_steps_are_short(made: MemoryStore, name: str) -> None:
    async with opened(made) as table:
        assert table.files().num_rows == FILES
        with loop_steps() as steps:
            await CALLS[name](table)
        assert steps.longest < LONGEST


async def test_opening_takes_short_steps(made: MemoryStore) -> None:
    with loop_steps() as steps:
        async with opened(made) as table:
            assert table.files().num_rows == FILES
    assert steps.longest < LONGEST


def test_a_step_that_takes_long_is_seen() -> None:
    async def busy() -> None:
        await asyncio.sleep(0)
        sum(range(1_000_000))

    with loop_steps() as steps:
        asyncio.run(busy())
    assert steps.longest > 0.001
    assert steps.total >= steps.longest
