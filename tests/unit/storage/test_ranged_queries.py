"""What questions cost at the store: round trips, requests and bytes, cold and warm, before and after compaction."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.caching import LRUCache
from buffetstore.errors import NotFoundError
from buffetstore.formats import ParquetFormatter
from buffetstore.formats.footer import contents_of
from buffetstore.objects import MemoryStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.query import DataQuery
from buffetstore.storage import LakeStorage
from buffetstore.tables import row_group_index
from buffetstore.tables.row_groups import WHOLE_BYTES
from buffetstore.testing import CountingStore

SYMBOLS, DAYS, BARS = 40, 250, 20
LATENCY = 0.03  # so long that planning does not look like a round trip
COLUMNS = ["timestamp", "price"]
ONE = DataQuery("market_data", {"symbol": "S07"}, columns=COLUMNS)
DAY = DataQuery("market_data", {"symbol": "S07"}, {"start": "2024-03-01", "end": "2024-03-01"}, columns=COLUMNS)


def history() -> pa.Table:
    rng = np.random.default_rng(1)
    days = np.datetime64("2024-01-01", "us") + np.arange(DAYS).astype("timedelta64[D]")
    times = (days[:, None] + (np.arange(BARS) * 15).astype("timedelta64[m]")[None, :]).ravel()
    count = len(times) * SYMBOLS
    values = {name: np.round(rng.uniform(1, 99, count), 4) for name in ("price", "volatility", "beta")}
    return pa.table(
        {
            "symbol": np.repeat([f"S{at:02}" for at in range(SYMBOLS)], len(times)),
            "timestamp": pa.array(np.tile(times, SYMBOLS), pa.timestamp("us", "UTC")),
            "volume": rng.integers(0, 10**9, count),
            **values,
        }
    )


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return history()


def formatter() -> ParquetFormatter:
    return ParquetFormatter(row_group_rows=50_000)


@pytest.fixture
async def store(rows, monkeypatch) -> MemoryStore:
    """A year in months, compacted into one file of four row groups whose footer is in the index alone."""
    monkeypatch.setattr(row_group_index, "_TAG_CHARACTERS", 0)
    held = MemoryStore()
    async with LakeStorage(held, formatter=formatter()) as lake:
        await lake.store_data("market_data", rows, data_source="x", interval="15m")
        assert (await lake.compact("market_data")).files_added == 1
    return held


async def needed(store: MemoryStore, lake: LakeStorage) -> tuple[int, int]:
    """Return how many bytes the columns of one symbol take, and the file."""
    (file,) = await lake.list_files("market_data")
    snapshot = (await lake.table("market_data")).snapshot
    metadata = pq.read_metadata(pa.BufferReader(await get_bytes(store, file.path)))
    contents = contents_of(metadata, snapshot.schema, None, None)
    predicate = pa.scalar("S07")
    groups = [
        group
        for group in range(metadata.num_row_groups)
        if metadata.row_group(group).column(0).statistics.min
        <= predicate.as_py()
        <= metadata.row_group(group).column(0).statistics.max
    ]
    names = ["symbol", "timestamp", "interval", "data_source", "price"]
    assert len(groups) < metadata.num_row_groups == 4
    return sum(end - start for start, end in contents.ranges(names, groups)), file.bytes


@pytest.mark.parametrize("query", [ONE, DAY], ids=["all days", "one day"])
async def test_one_symbol_after_compaction(store, query) -> None:
    counting = CountingStore(store, latency_seconds=LATENCY)
    async with LakeStorage(counting, formatter=formatter(), cache=LRUCache(0)) as lake:
        cold = await lake.retrieve_data(query)
        assert cold.rows == (DAYS * BARS if query is ONE else BARS)
        assert counting.round_trips == 3, "the log's listing and hint; checkpoint and index; rows"
        least, size = await needed(store, lake)
        assert size > 2 * WHOLE_BYTES
        counting.reset()
        warm = await lake.retrieve_data(query)
        assert warm.table.equals(cold.table)
        assert counting.round_trips == 1
        assert counting.requests["list_objects"] == 0
        assert counting.bytes_in <= 1.5 * least
        assert counting.total <= 1 + 1 + 1, "news, and two spans of a file"
        assert warm.bytes_read == counting.bytes_in


async def test_what_is_in_memory_is_not_asked_for_again(store) -> None:
    counting = CountingStore(store)
    async with LakeStorage(counting, formatter=formatter()) as lake:
        first = await lake.retrieve_data(ONE)
        again = await lake.retrieve_data(ONE)
        assert (again.cache_hit, again.requests, again.bytes_read) == (True, 0, 0)
        wider = DataQuery("market_data", {"symbol": "S07"}, columns=[*COLUMNS, "beta"])
        more = await lake.retrieve_data(wider)
        async with LakeStorage(store, formatter=formatter()) as fresh:
            everything = await fresh.retrieve_data(wider)
        assert 0 < more.bytes_read <= everything.bytes_read - first.bytes_read / 2, "the one column more"
        assert more.table.select(COLUMNS).equals(first.table)


async def test_many_files_are_read_in_one_round(rows) -> None:
    held = MemoryStore()
    async with LakeStorage(held) as lake:
        for month in range(3):  # each write makes a file for each day or month of its own
            await lake.store_data("market_data", rows.slice(month * 5000, 5000), data_source=f"x{month}", interval="1m")
    counting = CountingStore(held, latency_seconds=0.1)
    async with LakeStorage(counting, cache=LRUCache(0)) as lake:
        files = (await lake.retrieve_data(DataQuery("market_data", columns=COLUMNS))).files_scanned
        counting.reset()
        assert files > 20
        assert (await lake.retrieve_data(DataQuery("market_data", columns=COLUMNS))).requests == files
        assert (counting.round_trips, counting.total) == (1, files + 1)


class Vacuumed(CountingStore):
    """A store in which another process replaces and vacuums the files of a table as one of them is asked for."""

    other: LakeStorage | None = None

    async def get(self, key, **options):
        if key.endswith(".parquet") and "_delta_log" not in key and self.other is not None:
            other, self.other = self.other, None
            await other.compact("market_data")
            table = await other.table("market_data")
            await table.vacuum(retention=timedelta(0), allow_short_retention=True)
        return await super().get(key, **options)


def few(day: int) -> list[dict]:
    return [
        {
            "symbol": "A",
            "timestamp": datetime(2024, 1, day, tzinfo=UTC),
            "price": 1 + day,
            "volume": 1,
            "data_source": "x",
        }
    ]


async def test_a_file_that_is_vacuumed_meanwhile_is_looked_for_once_more() -> None:
    held = MemoryStore()
    async with LakeStorage(held) as writer:
        for symbol in "ABCDE":
            await writer.store_data("market_data", [few(1)[0] | {"symbol": symbol}])
        store = Vacuumed(held)
        async with LakeStorage(store, cache=LRUCache(0)) as lake:
            version = (await lake.table("market_data")).version
            store.other = writer
            answer = await lake.retrieve_data(DataQuery("market_data"))
            assert answer.rows == 5
            assert answer.table_version > version
            with pytest.raises(NotFoundError, match=f"of version {version} of table 'raw/market_data' is gone"):
                await lake.retrieve_data(DataQuery("market_data", table_version=version))
            (file, *_) = await lake.list_files("market_data")
            await held.delete([file.path])
            with pytest.raises(NotFoundError, match=file.path):
                await lake.retrieve_data(DataQuery("market_data"))


async def test_news_that_come_while_rows_are_fetched_are_in_the_answer(rows) -> None:
    held = MemoryStore()
    async with LakeStorage(held) as writer, LakeStorage(CountingStore(held, latency_seconds=0.01)) as lake:
        await writer.store_data("market_data", few(1))
        assert (await lake.retrieve_data(DataQuery("market_data"))).rows == 1
        for day in range(2, 6):
            await writer.store_data("market_data", few(day))
            assert (await lake.retrieve_data(DataQuery("market_data"))).rows == day
        before = asyncio.all_tasks()
        asking = asyncio.create_task(lake.retrieve_data(DataQuery("market_data", columns=["volume"])))
        await asyncio.sleep(0.005)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() == before


async def test_a_limit_reads_the_first_rows_of_a_large_file(store) -> None:
    async with LakeStorage(store, formatter=formatter(), cache=LRUCache(0)) as lake:
        everything = await lake.retrieve_data(DataQuery("market_data", columns=["symbol", *COLUMNS]))
        for count in (0, 1, 10, 60_000, 150_000, 10**6):
            answer = await lake.retrieve_data(DataQuery("market_data", columns=["symbol", *COLUMNS], limit=count))
            assert answer.table.equals(everything.table.slice(0, count))
            assert (answer.bytes_read < everything.bytes_read / 2) == (count <= 60_000)
        cut = [batch async for batch in lake.scan(DataQuery("market_data", columns=["symbol"], limit=5, offset=49_999))]
        assert pa.Table.from_batches(cut)["symbol"].to_pylist() == everything.table["symbol"][49_999:50_004].to_pylist()
