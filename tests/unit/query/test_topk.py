from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from buffetstore.expressions import col
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2024, 1, 1, tzinfo=UTC)


class Bar(Record, data_type="bars", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    volume: int | None = None
    share: float | None = None


class Kept(Bar, data_type="kept", version="1.0.0", revisions="keep"):
    pass


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Bar, Kept])) as lake:
        for day in range(8):
            rows = [
                {
                    "symbol": symbol,
                    "timestamp": START + timedelta(days=day, hours=hour),
                    "volume": day % 4 * 10 + hour if day != 7 else None,
                    "share": 1.0,
                }
                for symbol in "AB"
                for hour in range(2)
            ]
            await lake.store_data("bars", rows)
            await lake.store_data("kept", rows)
        yield lake


async def first(lake: LakeStorage, filters: Any = None, data_type: str = "bars", **options: Any) -> Any:
    options.setdefault("columns", ["symbol", "timestamp", "volume"])
    return await lake.retrieve_data(DataQuery(data_type, filters, **options))


async def test_the_newest_rows_are_in_the_newest_file(lake: LakeStorage) -> None:
    answer = await first(lake, order_by=["-timestamp"], limit=3)
    assert [(row["symbol"], row["timestamp"]) for row in answer.to_pylist()] == [
        ("A", START + timedelta(days=7, hours=1)),
        ("B", START + timedelta(days=7, hours=1)),
        ("A", START + timedelta(days=7)),
    ]
    assert (answer.files_scanned, answer.short_cut) == (1, "top-k")


async def test_the_oldest_rows_of_a_symbol(lake: LakeStorage) -> None:
    answer = await first(lake, {"symbol": "B"}, order_by=["timestamp"], limit=3, offset=1)
    assert [row["timestamp"].day for row in answer.to_pylist()] == [1, 2, 2]
    assert answer.files_scanned < 8


async def test_files_with_equal_bounds_are_read_for_their_ties(lake: LakeStorage) -> None:
    answer = await first(lake, order_by=["-volume", "timestamp"], limit=2)
    assert [(row["volume"], row["timestamp"].day) for row in answer.to_pylist()] == [(31, 4), (31, 4)]
    assert (answer.files_scanned, answer.short_cut) == (1, "top-k")
    equal = await first(lake, order_by=["symbol", "-timestamp"], limit=2)
    assert [row["timestamp"].hour for row in equal.to_pylist()] == [1, 0]
    assert (equal.files_scanned, equal.short_cut) == (8, None)


async def test_rows_without_a_value_come_last(lake: LakeStorage) -> None:
    answer = await first(lake, order_by=["volume"], limit=40)
    assert [row["volume"] for row in answer.to_pylist()][-4:] == [None] * 4
    assert (answer.files_scanned, answer.short_cut) == (8, None)


@pytest.mark.parametrize(
    "options",
    [
        {"order_by": ["-share"], "columns": ["symbol", "share"]},
        {"order_by": ["-twice"], "columns": ["symbol", (col("volume") * 2).alias("twice")]},
        {"order_by": ["-timestamp"], "latest": ["symbol"]},
        {"order_by": ["-volume"], "columns": ["volume"], "distinct": True},
        {"order_by": ["-timestamp"], "known_at": START + timedelta(days=36500)},
        {"order_by": ["-timestamp"], "data_type": "kept"},
    ],
)
async def test_where_bounds_do_not_tell_the_first_rows(lake: LakeStorage, options: Any) -> None:
    answer = await first(lake, limit=1, **options)
    assert (len(answer), answer.files_scanned, answer.short_cut) == (1, 8, None)


async def test_filters_may_leave_too_few_rows_in_the_best_files(lake: LakeStorage) -> None:
    answer = await first(lake, col("volume") + 0 < 2, order_by=["-timestamp"], limit=1)
    assert [row["timestamp"].day for row in answer.to_pylist()] == [5]


async def test_it_is_explained(lake: LakeStorage) -> None:
    found = await lake.explain(DataQuery("bars", order_by=["-timestamp"], limit=1), analyze=True)
    assert found.counted is not None
    assert (found.short_cut, found.estimated.files, found.counted.files) == ("top-k", 8, 1)
    assert any("best first" in note for note in found.notes)
