"""Answers that are kept, equal questions at one time, and which state of a table is asked."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.errors import InvalidQueryError, NotFoundError, TableVersionNotFoundError
from buffetstore.objects import MemoryStore, list_all
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.testing import CountingStore
from buffetstore.testing.data_storage import bar, bars, keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1024 * 1024
AAPL = DataQuery("market_data", {"symbol": "AAPL"})


class Plain(Record, data_type="plain", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    value: Price


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
async def lake(store: CountingStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, results_bytes=64 * MIB) as storage:
        await storage.store_data("market_data", bars())
        yield storage


def data_reads(store: CountingStore) -> int:
    return store.requests["get"] + store.requests["get_ranges"]


async def test_a_kept_answer_costs_one_question_for_news(lake: LakeStorage, store: CountingStore) -> None:
    first = await lake.retrieve_data(AAPL)
    store.reset()
    again = await lake.retrieve_data(DataQuery("market_data", {"symbol": ["AAPL", "AAPL"]}))
    assert again.table is first.table
    assert (again.cache_hit, again.requests, again.bytes_read) == (True, 0, 0)
    assert (again.table_version, again.files_scanned) == (first.table_version, first.files_scanned)
    assert store.total == 1
    assert len(lake.queries) == 1, "what was not read says nothing about the layout"


async def test_no_answer_is_of_another_state(lake: LakeStorage, store: CountingStore) -> None:
    async with LakeStorage(store.inner) as other:
        for day in range(10, 14):
            before = await lake.retrieve_data(AAPL)
            await other.store_data("market_data", [bar("AAPL", day)])
            after = await lake.retrieve_data(AAPL)
            assert after.rows == before.rows + 1
            assert after.table_version == before.table_version + 1
        await lake.delete_data("market_data", filters={"symbol": "AAPL"})
        assert (await lake.retrieve_data(AAPL)).rows == 0


async def test_rows_read_by_another_contract_are_other_rows(store: CountingStore) -> None:
    schemas = SchemaManager([Plain])
    async with LakeStorage(store, schemas, results_bytes=MIB) as lake:
        row = {"symbol": "A", "timestamp": datetime(2024, 1, 1, tzinfo=UTC), "value": Decimal(1)}
        await lake.store_data("plain", [row])
        query = DataQuery("plain")
        assert "note" not in (await lake.retrieve_data(query)).table.column_names

        class Noted(Plain, version="1.1.0"):
            note: str | None = None

        schemas.register(Noted)
        for version in ("1.0.0", "1.1.0", "1.0.0", "1.1.0"):
            answer = await lake.retrieve_data(DataQuery("plain", version=version))
            assert ("note" in answer.table.column_names) == (version == "1.1.0")
        assert answer.cache_hit
        first = await lake.retrieve_data(query)
        await lake.store_data("plain", [row | {"symbol": "B", "note": "n"}])
        assert "note" not in first.table.column_names
        assert "note" in (await lake.retrieve_data(query)).table.column_names


async def test_a_table_made_anew_has_answers_of_its_own(store: CountingStore) -> None:
    async with LakeStorage(store, results_bytes=MIB) as lake:
        await lake.store_data("market_data", bars(["OLD"]))
        await lake.retrieve_data(DataQuery("market_data"))
        await store.inner.delete([meta.key for meta in await list_all(store.inner, "raw/")])
        async with LakeStorage(store.inner) as other:
            await other.store_data("market_data", bars(["NEW"]))
        await lake._tables.pop("market_data").aclose()
        found = await lake.retrieve_data(DataQuery("market_data", columns=["symbol"]))
        assert set(found.table["symbol"].to_pylist()) == {"NEW"}


async def test_a_thousand_equal_questions_cause_one_fetch(store: CountingStore) -> None:
    async with LakeStorage(store) as lake:
        await lake.store_data("market_data", bars(["AAPL", "MSFT"], [2]))
        read = 0
        retrieve = lake._executor.retrieve

        async def counted(*given: Any) -> Any:
            nonlocal read
            read += 1
            return await retrieve(*given)

        lake._executor.retrieve = counted  # type: ignore[method-assign]
        store.reset()
        answers = await asyncio.gather(*(lake.retrieve_data(AAPL) for _ in range(1_000)))
        assert all(keys(answer.to_pylist()) == [("AAPL", 2)] for answer in answers)
        assert sum(answer.requests for answer in answers) == 1, "of data"
        assert store.total < 20, "and few for news"
        assert read < 20, "no answer is kept, but many are shared"


async def test_an_answer_under_way_is_not_given_to_who_asks_after_a_write(lake: LakeStorage) -> None:
    asking = [asyncio.create_task(lake.retrieve_data(AAPL)) for _ in range(5)]
    await asyncio.sleep(0)
    await lake.store_data("market_data", [bar("AAPL", 20)])
    late = await lake.retrieve_data(AAPL)
    assert ("AAPL", 20) in keys(late.to_pylist())
    await asyncio.gather(*asking)


async def test_a_mistake_is_told_to_each_who_makes_it(lake: LakeStorage) -> None:
    wrong = DataQuery("market_data", {"symbl": "A"})
    found = await asyncio.gather(*(lake.retrieve_data(wrong) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, InvalidQueryError) for error in found)


async def test_what_is_fresh_enough_is_answered_without_a_request(lake: LakeStorage, store: CountingStore) -> None:
    fresh = DataQuery("market_data", {"symbol": "AAPL"}, freshness=timedelta(hours=1))
    await lake.retrieve_data(AAPL)
    store.reset()
    answer = await lake.retrieve_data(fresh)
    assert (answer.rows, store.total) == (5, 0)
    async with LakeStorage(store.inner) as other:
        await other.store_data("market_data", [bar("AAPL", 20)])
    assert (await lake.retrieve_data(fresh)).rows == 5
    assert (await lake.retrieve_data(DataQuery("market_data", freshness=timedelta(0)))).rows == 11
    assert (await lake.retrieve_data(fresh)).rows == 6, "what one question learned is known to the next"
    batches = [batch async for batch in lake.scan(fresh)]
    assert sum(batch.num_rows for batch in batches) == 6
    assert lake.snapshots.stats().hits == 4


async def test_own_writes_are_seen_however_old_an_answer_may_be(lake: LakeStorage) -> None:
    fresh = DataQuery("market_data", {"symbol": "AAPL"}, freshness=timedelta(days=1))
    for day in range(10, 13):
        before = (await lake.retrieve_data(fresh)).rows
        await lake.store_data("market_data", [bar("AAPL", day)])
        assert (await lake.retrieve_data(fresh)).rows == before + 1


async def test_paging_through_the_past_opens_it_once(lake: LakeStorage, store: CountingStore) -> None:
    version = (await lake.retrieve_data(AAPL)).table_version
    for day in range(10, 13):
        await lake.store_data("market_data", [bar("AAPL", day)])
    pages = []
    for offset in range(5):
        query = DataQuery("market_data", {"symbol": "AAPL"}, table_version=version, limit=1, offset=offset)
        store.reset()
        pages.append((await lake.retrieve_data(query)).to_pylist()[0])
        assert store.requests["list_objects"] == (1 if offset == 0 else 0)
        assert offset == 0 or store.total == 0, "the files are in memory, and the state is kept"
    assert keys(pages) == [("AAPL", day) for day in range(1, 6)]
    with pytest.raises(TableVersionNotFoundError):
        await lake.retrieve_data(DataQuery("market_data", table_version=99))


async def test_the_table_as_of_a_moment(lake: LakeStorage, store: CountingStore) -> None:
    versions = [(await lake.retrieve_data(AAPL)).table_version]
    moments = [await committed(store, versions[-1])]
    for day in range(10, 13):
        stored = await lake.store_data("market_data", [bar("AAPL", day)])
        versions.append(stored.table_version)
        moments.append(await committed(store, stored.table_version))
    for number, (version, moment) in enumerate(zip(versions, moments, strict=True)):
        answer = await lake.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}, as_of=moment))
        assert (answer.table_version, answer.rows) == (version, 5 + number)
    store.reset()
    await lake.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}, as_of=moments[1]))
    assert store.total == 0, "which version that was cannot change any more"
    await lake.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}, as_of=moments[-1]))
    assert store.requests["list_objects"] > 0, "of the newest it could: another commit may be of the same moment"
    with pytest.raises(TableVersionNotFoundError, match="had no version at"):
        await lake.retrieve_data(DataQuery("market_data", as_of="2000-01-01T00:00:00Z"))


async def committed(store: CountingStore, version: int) -> datetime:
    found = [
        meta for meta in await list_all(store.inner, "raw/market_data/_delta_log/") if f"{version:020}" in meta.key
    ]
    return found[0].last_modified


async def test_a_future_moment_is_now_each_time(lake: LakeStorage) -> None:
    later = DataQuery("market_data", {"symbol": "AAPL"}, as_of=datetime(2100, 1, 1, tzinfo=UTC))
    before = (await lake.retrieve_data(later)).rows
    await lake.store_data("market_data", [bar("AAPL", 20)])
    assert (await lake.retrieve_data(later)).rows == before + 1


async def test_what_was_answered_stays_answered_after_a_vacuum(lake: LakeStorage, store: CountingStore) -> None:
    answer = await lake.retrieve_data(AAPL)
    for meta in await list_all(store.inner, "raw/market_data/year="):
        await store.inner.delete([meta.key])
    assert (await lake.retrieve_data(AAPL)).table is answer.table
    lake.results.clear()
    lake.files.cache.clear()
    with pytest.raises(NotFoundError, match="is gone"):
        await lake.retrieve_data(AAPL)
