from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.expressions import bucket, col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2024, 1, 1, tzinfo=UTC)


class Replaced(Record, data_type="replaced", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    volume: int | None = None
    share: float | None = None


class Kept(Replaced, data_type="kept", version="1.0.0", revisions="keep"):
    pass


def rows(day: int, symbol: str = "A", count: int = 4, **others: Any) -> list[dict[str, Any]]:
    return [
        {
            "symbol": symbol,
            "timestamp": START + timedelta(days=day, microseconds=1 + at),
            "price": Decimal(day * 10 + at + 1),
            "volume": at,
            "share": at / 2,
        }
        | others
        for at in range(count)
    ]


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Replaced, Kept])) as lake:
        for day in range(3):
            await lake.store_data("replaced", rows(day))
        yield lake


async def asked(lake: LakeStorage, filters: Any = None, data_type: str = "replaced", **shape: Any) -> Any:
    return await lake.retrieve_data(DataQuery(data_type, filters, **shape))


SUMMARY = {
    "n": count(),
    "known": col("price").count(),
    "low": col("price").min(),
    "first": col("timestamp").min(),
    "last": col("timestamp").max(),
    "most": col("share").max(),
}


async def test_counts_and_extremes_read_nothing(lake: LakeStorage) -> None:
    answer = await asked(lake, aggregates=SUMMARY)
    assert answer.to_pylist() == [
        {
            "n": 12,
            "known": 12,
            "low": Decimal(1),
            "first": START + timedelta(microseconds=1),
            "last": START + timedelta(days=2, microseconds=4),
            "most": 1.5,
        }
    ]
    assert (answer.files_scanned, answer.requests, answer.short_cut) == (0, 0, "metadata")


async def test_only_files_that_a_filter_divides_are_read(lake: LakeStorage) -> None:
    answer = await asked(lake, {"timestamp": {"gte": START + timedelta(days=1, microseconds=3)}}, aggregates=SUMMARY)
    assert answer.to_pylist()[0]["n"] == 6
    assert answer.to_pylist()[0]["low"] == Decimal(13)
    assert answer.files_scanned == 1


async def test_groups_that_are_one_in_each_file(lake: LakeStorage) -> None:
    await lake.store_data("replaced", rows(1, "B"))
    answer = await asked(lake, group_by=["symbol", bucket("timestamp", "1d", name="day")], aggregates={"n": count()})
    assert [(row["symbol"], row["n"]) for row in answer.to_pylist()] == [("A", 4)] * 3 + [("B", 4)]
    assert answer.files_scanned == 0
    months = await asked(lake, group_by=[bucket("timestamp", "1mo", name="m")], aggregates={"n": count()}, limit=1)
    assert (months.to_pylist(), months.files_scanned) == ([{"m": START, "n": 16}], 0)


async def test_a_file_of_several_groups_is_read(lake: LakeStorage) -> None:
    await lake.store_data("replaced", [*rows(5, "B"), *rows(5, "C")])
    answer = await asked(lake, group_by=["symbol"], aggregates={"n": count()})
    assert [(row["symbol"], row["n"]) for row in answer.to_pylist()] == [("A", 12), ("B", 4), ("C", 4)]
    assert answer.files_scanned == 1


async def test_where_a_clock_goes_back_files_are_read(lake: LakeStorage) -> None:
    day = bucket("timestamp", "1d", tz="America/St_Johns", name="day")
    # In a thread: the zone is read from disk.
    query = await asyncio.to_thread(DataQuery, "replaced", group_by=[day], aggregates={"n": count()})
    answer = await lake.retrieve_data(query)
    assert (len(answer), answer.files_scanned) == (3, 3)


@pytest.mark.parametrize(
    "aggregates",
    [
        {"total": col("volume").sum()},
        {"n": count(), "mean": col("price").mean()},
        {"twice": (col("price") * 2).max()},
        {"last": col("price").last()},
        {"kinds": col("volume").count_distinct()},
    ],
)
async def test_other_aggregates_read_their_rows(lake: LakeStorage, aggregates: Any) -> None:
    answer = await asked(lake, aggregates=aggregates)
    assert (answer.files_scanned, answer.short_cut) == (3, None)


async def test_values_that_bounds_do_not_tell(lake: LakeStorage) -> None:
    long = "Z" * 40
    await lake.store_data("replaced", [*rows(7, long), *rows(7, "Y")])
    answer = await asked(lake, aggregates={"name": col("symbol").max(), "share": col("share").max()})
    assert answer.to_pylist() == [{"name": long, "share": 1.5}]
    assert answer.files_scanned == 1


async def test_filters_that_may_be_unknown_read_their_rows(lake: LakeStorage) -> None:
    await lake.store_data("replaced", rows(9, price=None))
    for filters, found in (({"price": {"gte": 0}}, 12), ({"price": None}, 4), (~(col("price") < 0), 12)):
        answer = await asked(lake, filters, aggregates={"n": count()})
        assert answer.to_pylist() == [{"n": found}]
    assert (await asked(lake, {"price": None}, aggregates={"n": count()})).files_scanned == 0


async def test_revisions_and_times_of_knowledge_are_not_in_statistics(lake: LakeStorage) -> None:
    await lake.store_data("kept", rows(0))
    await lake.store_data("kept", rows(0, volume=9))
    latest = await asked(lake, None, "kept", aggregates={"n": count(), "v": col("volume").min()})
    assert (latest.to_pylist(), latest.short_cut) == ([{"n": 4, "v": 9}], None)
    every = await asked(lake, None, "kept", aggregates={"n": count()}, revisions="all")
    assert (every.to_pylist(), every.short_cut) == ([{"n": 8}], "metadata")
    known = await asked(lake, aggregates={"n": count()}, known_at=START)
    assert (known.to_pylist(), known.short_cut) == ([{"n": 0}], None)


async def test_deleted_rows_are_not_counted(lake: LakeStorage) -> None:
    await lake.delete_data("replaced", filters={"price": 2})
    answer = await asked(lake, aggregates={"n": count(), "high": col("price").max()})
    assert answer.to_pylist() == [{"n": 11, "high": Decimal(24)}]


async def test_moments_of_other_writers_are_read(lake: LakeStorage) -> None:
    table = await lake.table("replaced")
    other = pa.Table.from_pylist(rows(20, created_at=START, version="1.0.0"), schema=table.schema)
    await table.append(other)  # without the marks of a governed write
    answer = await asked(lake, aggregates={"last": col("timestamp").max(), "n": count()})
    assert answer.to_pylist() == [{"last": START + timedelta(days=20, microseconds=4), "n": 16}]
    assert answer.files_scanned == 1
