"""Hot data is in the caches when it is asked for, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore import StorageManager, sync
from buffetstore.caching import LRUCache
from buffetstore.errors import InvalidInputError, TableNotFoundError, UnknownDataTypeError
from buffetstore.expressions import col
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery, QueryOptimizer
from buffetstore.query.usage import SymbolUsage
from buffetstore.storage import LakeStorage
from buffetstore.testing import CountingStore
from buffetstore.testing.data_storage import bar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Each symbol has files of its own, of a day each: one batch is one symbol.
VOLUMES = {"LOW": 1, "MID": 10, "TOP": 100}
DAYS = range(1, 21)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
async def lake(store: CountingStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store) as storage:
        await fill(storage)
        store.reset()
        yield storage


async def fill(storage: Any) -> None:
    for symbol, volume in VOLUMES.items():
        await storage.store_data("market_data", [bar(symbol, day) | {"volume": volume} for day in DAYS])


async def requests_of(lake: LakeStorage, query: DataQuery) -> int:
    return (await lake.retrieve_data(query)).requests


async def test_the_last_days_of_every_symbol(lake: LakeStorage) -> None:
    done = await lake.preload("market_data", top=0)
    assert done.since == datetime(2024, 1, 13, tzinfo=UTC), "the newest rows are of the 20th, however long ago that is"
    assert (done.files, done.files_left, done.symbols) == (8 * 3, 0, ())
    assert (done.requests, done.bytes_read) == (done.files, done.bytes)
    assert done.bytes == lake.files.cache.stats().bytes > 0
    assert done.seconds > 0
    assert await requests_of(lake, DataQuery("market_data", date_range={"start": "2024-01-13"})) == 0
    assert await requests_of(lake, DataQuery("market_data", date_range={"start": "2024-01-12"})) == 3
    again = await lake.preload("market_data", top=0)
    assert (again.files, again.requests, again.bytes_read) == (24, 0, 0)


async def test_the_symbols_that_were_asked_for_most(lake: LakeStorage) -> None:
    for _ in range(3):
        await lake.retrieve_data(DataQuery("market_data", {"symbol": "LOW"}, limit=1))
    async for _ in lake.scan(DataQuery("market_data", {"symbol": ["MID", "LOW"]}, limit=1)):
        pass
    lake.files.cache.clear()
    done = await lake.preload("market_data", days=0, top=1)
    assert done.symbols == ("LOW",)
    assert await requests_of(lake, DataQuery("market_data", {"symbol": "LOW"})) == 0
    assert await requests_of(lake, DataQuery("market_data", {"symbol": "TOP"})) == 19, "all but the newest day"
    assert (await lake.preload("market_data", days=0)).symbols == ("LOW", "MID", "TOP")


async def test_the_symbols_that_were_traded_most_where_nothing_was_asked(lake: LakeStorage) -> None:
    done = await lake.preload("market_data", days=2, top=2)
    assert done.symbols == ("TOP", "MID")
    assert done.files == 20 * 2 + 3
    assert await requests_of(lake, DataQuery("market_data", {"symbol": ["TOP", "MID"]})) == 0
    assert len(lake.queries) == 1, "what was asked to find them is no question of anybody's"


async def test_symbols_that_are_named(lake: LakeStorage) -> None:
    assert (await lake.preload("market_data", days=0, symbols=["MID", "none"])).files == 20 + 2
    assert await requests_of(lake, DataQuery("market_data", {"symbol": "MID"})) == 0


async def test_nothing_is_driven_out_by_what_has_no_room(store: CountingStore) -> None:
    async with LakeStorage(store.inner) as writer:
        await fill(writer)
        size = (await writer.list_files("market_data"))[0].bytes
    async with LakeStorage(store, cache=LRUCache(10 * size + size // 2)) as lake:
        done = await lake.preload("market_data")
        assert 8 <= done.files <= 12
        assert (done.files + done.files_left, done.symbols) == (24, ())
        stats = lake.files.cache.stats()
        assert (stats.evictions, stats.entries) == (0, done.files)
        newest = DataQuery("market_data", date_range={"start": "2024-01-18"})
        assert await requests_of(lake, newest) == 0, "the newest came first"
        named = await lake.preload("market_data", symbols=["TOP"])
        assert (named.files, named.requests, named.symbols) == (done.files, 0, ("TOP",))
        assert lake.files.cache.stats().evictions == 0


async def test_rows_of_times_to_come_do_not_count(lake: LakeStorage) -> None:
    later = datetime.now(UTC) + timedelta(days=300)
    await lake.store_data("market_data", [bar("LOW", 1) | {"timestamp": later}])
    done = await lake.preload("market_data", top=0)
    assert done.since < datetime.now(UTC) - timedelta(days=6)
    assert done.files == 1, "it is after that, as nothing else is"


@pytest.mark.parametrize(
    "wrong",
    [
        {"days": -1},
        {"days": "7"},
        {"days": float("nan")},
        {"top": -1},
        {"top": 1.5},
        {"symbols": "AAPL"},
        {"symbols": [1]},
    ],
)
async def test_what_cannot_be_right_is_told(lake: LakeStorage, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        await lake.preload("market_data", **wrong)


async def test_what_is_not_there(lake: LakeStorage) -> None:
    with pytest.raises(UnknownDataTypeError):
        await lake.preload("nothing")
    with pytest.raises(TableNotFoundError):
        await lake.preload("forecasts")
    await lake.delete_data("market_data", filters={})
    assert (await lake.preload("market_data")).files == 0


async def test_a_preload_that_is_cancelled_leaves_nothing_running(store: CountingStore) -> None:
    async with LakeStorage(store.inner) as writer:
        await fill(writer)
    slow = CountingStore(store.inner, latency_seconds=0.01)
    async with LakeStorage(slow) as lake:
        loading = asyncio.create_task(lake.preload("market_data"))
        while slow.requests["get"] < 10 and not loading.done():  # noqa: ASYNC110 - a count, no event
            await asyncio.sleep(0)
        loading.cancel()
        await asyncio.wait([loading])
        assert loading.cancelled()
        assert len(lake.files._flights) == 0


async def test_the_manager_and_the_blocking_face() -> None:
    async with StorageManager("memory://") as storage:
        await fill(storage)
        assert (await storage.preload("market_data", days=1, top=0)).files == 6


def test_the_blocking_face() -> None:
    with sync.open("memory://") as storage:
        storage.store_data("market_data", [bar("A", 1)])
        assert storage.preload("market_data").symbols == ("A",)


def plan(filters: Any, data_type: str = "market_data") -> Any:
    return QueryOptimizer().optimize(DataQuery(data_type, filters))


def test_only_symbols_that_must_be_there_count() -> None:
    usage = SymbolUsage()
    usage.note(plan((col("symbol") == "A") | (col("symbol") == "B")))
    usage.note(plan(~(col("symbol") == "C")))
    usage.note(plan({"exchange": "XNYS"}))
    usage.note(plan({"symbol": [f"S{number}" for number in range(65)]}))
    usage.note(plan({"symbol": {"ne": "D"}}))
    assert not {symbol for _, symbol in usage.top("market_data", 9)} - {"A", "B"}
    usage.note(plan({"underlying_symbol": "AAPL"}, "options_data"))
    assert usage.top("options_data", 9) == [("underlying_symbol", "AAPL")]
    for number in range(100):
        usage.note(plan({"symbol": "A"}, f"type_{number}"))
    assert len(usage) < 70, "of so many data types, and no more"


@given(st.lists(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 2 + "AAAABBB"), max_size=400), st.integers(1, 8))
def test_who_is_asked_for_often_is_counted_in_bounded_memory(asked: list[str], kept: int) -> None:
    usage = SymbolUsage(kept)
    for symbol in asked:
        usage.note(plan({"symbol": symbol}))
        assert len(usage) <= 2 * kept
    found = {symbol for _, symbol in usage.top("market_data", 2 * kept)}
    assert found >= {symbol for symbol, count in Counter(asked).items() if count > len(asked) / kept}
