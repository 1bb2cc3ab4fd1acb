"""What was asked is remembered without its values, and not for ever."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import col
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery, QueryLog, RecordedFilter, RecordedQuery
from buffetstore.storage import LakeStorage
from buffetstore.testing.data_storage import bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store) as storage:
        await storage.store_data("market_data", bars())
        yield storage


async def test_a_query_is_kept_with_what_it_took_and_without_its_values(lake: LakeStorage) -> None:
    answer = await lake.retrieve_data(
        DataQuery(
            "market_data",
            {"symbol": ["AAPL", "SECRET"], "price": {"gte": 0, "lt": 9999}},
            {"start": "2024-01-02", "end": "2024-01-03"},
            ["symbol", "price"],
        )
    )
    (query,) = lake.queries.of("market_data")
    assert query.filters == (RecordedFilter("symbol", "among", 2), RecordedFilter("price", "range"))
    assert (query.span, query.columns) == (timedelta(days=2), 2)
    assert (query.files_scanned, query.files_pruned, query.rows) == (2, 3, 2)
    assert query.bytes_read == answer.bytes_read > 0
    assert query.seconds == answer.seconds > 0
    assert "SECRET" not in repr(query)
    assert "9999" not in repr(query)


async def test_kinds_of_filters(lake: LakeStorage) -> None:
    await lake.retrieve_data(
        DataQuery(
            "market_data",
            (col("symbol") == "AAPL")
            & col("data_source").like("te%")
            & col("interval").like("%d")
            & (col("rsi").is_null() | (col("beta") > 1))
            & (col("price") * col("volume") > 0)
            & col("exchange").is_null(),
        )
    )
    (query,) = lake.queries.of()
    assert {(each.column, each.kind) for each in query.filters} == {
        ("symbol", "equal"),
        ("data_source", "prefix"),
        ("interval", "other"),
        ("rsi", "other"),
        ("beta", "other"),
        ("price", "other"),
        ("volume", "other"),
        ("exchange", "null"),
    }
    assert query.span is None
    assert [query.filters_by(name) for name in ("symbol", "data_source", "beta", "exchange", "open")] == [
        True,
        True,
        False,
        False,
        False,
    ]


async def test_scans_are_kept_when_they_end_early_too(lake: LakeStorage) -> None:
    assert sum([part.num_rows async for part in lake.scan(DataQuery("market_data"))]) == 10
    async with aclosing(lake.scan(DataQuery("market_data"))) as batches:
        await anext(batches)
    whole, part = lake.queries.of("market_data")
    assert (whole.rows, whole.files_scanned) == (10, 5)
    assert 0 < part.rows < 10


async def test_what_failed_or_read_nothing_is_not_kept(lake: LakeStorage) -> None:
    await lake.retrieve_data(DataQuery("market_data", {"price": {"gt": 2, "lt": 1}}))
    with pytest.raises(InvalidQueryError):
        await lake.retrieve_data(DataQuery("market_data", {"symbl": "A"}))
    assert len(lake.queries) == 0


def test_the_oldest_makes_room_and_all_can_be_forgotten() -> None:
    log = QueryLog(size=2)
    for rows in range(3):
        log.append(RecordedQuery("a" if rows else "b", rows=rows))
    assert [query.rows for query in log.of()] == [1, 2]
    assert [query.rows for query in log.of("a")] == [1, 2]
    assert log.of("b") == ()
    log.clear()
    assert len(log) == 0
