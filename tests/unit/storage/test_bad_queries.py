"""Questions that cannot be right, or that nothing can answer: a clear error, or no row and no data file read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import Not, Or, bucket, col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.storage import LakeStorage
from buffetstore.testing.counting import CountingStore
from buffetstore.testing.data_storage import bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NEW_YORK, TOKYO = (ZoneInfo(name) for name in ("America/New_York", "Asia/Tokyo"))  # read from disk once, not in a loop


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(MemoryStore())


@pytest.fixture
async def lake(store: CountingStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store) as storage:
        await storage.store_data("market_data", bars())
        yield storage


def days(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["timestamp"].day for row in rows})


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"filters": {"symbl": "AAPL"}}, "no column 'symbl': did you mean 'symbol'"),
        ({"filters": (col("symbol") == "A") | ~(col("zzzz") > 1)}, "no column 'zzzz': it has symbol"),
        ({"filters": col("price") * col("volum") > 1}, "no column 'volum': did you mean 'volume'"),
        ({"filters": col("price") < col("opn")}, "no column 'opn': did you mean 'open'"),
        ({"filters": col("symbl").like("A%")}, "did you mean 'symbol'"),
        ({"filters": col("symbl").is_null()}, "did you mean 'symbol'"),
        ({"filters": col("symbl").is_in(["A"])}, "did you mean 'symbol'"),
        ({"filters": {"price": "cheap"}}, "'cheap' is a str: give a number"),
        ({"filters": {"price": {"between": (1, "b")}}}, "'b' is a str: give a number"),
        ({"filters": {"symbol": 5}}, "'symbol' is string, 5 is a int"),
        ({"filters": {"symbol": {"in": ["A", 5]}}}, "5 is a int"),
        ({"filters": col("volume").like("1%")}, "only text is like '1%'"),
        ({"filters": col("symbol") * 2 > 1}, "symbol is string: only numbers can be computed with"),
        ({"filters": {"timestamp": "15/01/2024"}}, "'15/01/2024'.*ISO 8601"),
        ({"filters": {"timestamp": {"gte": datetime(2024, 1, 1)}}}, "time zone"),  # noqa: DTZ001
        ({"columns": ["symbol", "prise"]}, "did you mean 'price'"),
        ({"columns": [(col("prise") * 2).alias("double")]}, "'prise'"),
        ({"order_by": "-prise"}, "prise"),
        ({"group_by": "exchnge", "aggregates": {"n": count()}}, "exchnge"),
        ({"group_by": bucket("created", "1d"), "aggregates": {"n": count()}}, "created"),
        ({"group_by": bucket("symbol", "1d"), "aggregates": {"n": count()}}, "symbol"),
        ({"aggregates": {"x": col("symbol").sum()}}, "only numbers add up"),
        ({"latest": ["symbl"]}, "symbl"),
    ],
)
async def test_what_is_unknown_or_does_not_fit(
    store: CountingStore, lake: LakeStorage, options: dict[str, Any], shown: str
) -> None:
    store.reset()
    with pytest.raises(InvalidQueryError, match=shown):
        await lake.retrieve_data(DataQuery("market_data", **options))
    with pytest.raises(InvalidQueryError, match=shown):
        await anext(lake.scan(DataQuery("market_data", **options)))
    assert store.bytes_in == 0, "no data file was read to find out"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"limit": -1}, "limit=-1"),
        ({"offset": -1}, "offset=-1"),
        ({"limit": "10"}, "limit='10'"),
        ({"offset": 1.0}, r"offset=1\.0"),
        ({"date_range": {"start": "01/02/2024"}}, "not ISO 8601"),
        ({"date_range": {"start": "2024-01-01 09:30"}}, "no time zone"),
        ({"date_range": {"start": "2024-13-01"}}, "not ISO 8601"),
        ({"date_range": {"start": "2024-01-01"}, "tz": "EST5EDT4"}, "not a time zone"),
        ({"date_range": {"start": 1704067200}}, "is a int"),
        ({"date_range": "2024"}, "is not"),
        ({"filters": {"price": {"between": 5}}}, "not a pair"),
        ({"filters": {"price": {"between": (1, 2, 3)}}}, "not a pair"),
        ({"filters": {"symbol": {"like": 5}}}, "is no text"),
        ({"filters": {"symbol": {"in": "AAPL"}}}, "not a list"),
        ({"filters": col("price")}, "is a value, not a test"),
        ({"filters": "price > 5"}, "is a str, not a dict"),
    ],
)
def test_what_can_be_seen_without_a_table(options: dict[str, Any], shown: str) -> None:
    with pytest.raises(InvalidQueryError, match=shown):
        DataQuery("market_data", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": 0, "order_by": "-price"},
        {"limit": 0, "latest": True},
        {"filters": {"price": {"gt": 5, "lt": 3}}},
        {"filters": {"price": {"gt": 5, "lte": Decimal(5)}}},
        {"filters": {"price": {"between": (5, 4)}}},
        {"filters": {"symbol": {"gt": "B", "lt": "A"}}},
        {"filters": {"symbol": []}},
        {"filters": (col("symbol") == "A") & (col("symbol") == "B")},
        {"filters": col("price").is_null() & (col("price") > 1)},
        {"filters": {"volume": 0.5}},  # no whole number is
        {"filters": {"volume": 2**70}},
        {"filters": Or(())},
        {"filters": Or(((col("price") > 2) & (col("price") < 1), (col("volume") > 2) & (col("volume") < 1)))},
        {"filters": Not(Not((col("price") > 2) & (col("price") < 1)))},
        {"date_range": {"start": datetime(2024, 1, 2, tzinfo=UTC), "end": datetime(2024, 1, 2, tzinfo=UTC)}},
        {
            "date_range": {"start": "2024-01-02", "end": "2024-01-02"},
            "filters": {"timestamp": {"gt": datetime(2024, 1, 3, tzinfo=UTC)}},
        },
    ],
)
async def test_what_nothing_can_answer_reads_nothing(
    store: CountingStore, lake: LakeStorage, options: dict[str, Any]
) -> None:
    store.reset()
    query = DataQuery("market_data", **options)
    answer = await lake.retrieve_data(query)
    assert (answer.rows, answer.files_scanned, answer.bytes_read, answer.requests) == (0, 0, 0, 0)
    assert [part.num_rows async for part in lake.scan(query)] in ([], [0])
    # What the table holds is known; only whether it has a newer version is asked.
    assert (store.requests["get_ranges"], store.bytes_in) == (0, 0)
    everything = await lake.retrieve_data(DataQuery("market_data", limit=1))
    assert answer.table.schema == everything.table.schema


async def test_an_empty_answer_of_groups_and_of_all(store: CountingStore, lake: LakeStorage) -> None:
    store.reset()
    nothing: dict[str, Any] = {"filters": {"price": {"gt": 5, "lt": 3}}}
    made = {"n": count(), "high": col("price").max(), "mean": col("price").mean()}
    (row,) = (await lake.retrieve_data(DataQuery("market_data", aggregates=made, **nothing))).to_pylist()
    assert row == {"n": 0, "high": None, "mean": None}
    groups = await lake.retrieve_data(DataQuery("market_data", group_by="symbol", aggregates=made, **nothing))
    assert groups.rows == 0
    assert groups.table.column_names == ["symbol", "n", "high", "mean"]
    assert store.bytes_in == 0


@pytest.mark.parametrize("options", [{"offset": 100}, {"offset": 10, "limit": 5}, {"offset": 100, "order_by": "price"}])
async def test_a_part_beyond_the_end(lake: LakeStorage, options: dict[str, Any]) -> None:
    assert (await lake.retrieve_data(DataQuery("market_data", **options))).rows == 0
    assert sum([part.num_rows async for part in lake.scan(DataQuery("market_data", **options))]) == 0


@pytest.mark.parametrize(
    ("edges", "tz", "found"),
    [
        (("2024-01-02", "2024-01-03"), None, [2, 3]),
        ((date(2024, 1, 2), "2024-01-03"), None, [2, 3]),
        (("20240102", "2024-W01-3"), None, [2, 3]),  # ISO 8601 as well
        # A bar at midnight UTC belongs to the day before in New York, and to its own in Tokyo.
        (("2024-01-02", "2024-01-03"), "America/New_York", [3, 4]),
        (("2024-01-02", "2024-01-03"), "Asia/Tokyo", [2, 3]),
        (("2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z"), None, [2]),
        (("2024-01-01T19:00:00-05:00", "2024-01-03T09:00:00.000001+09:00"), None, [2, 3]),
        ((datetime(2024, 1, 1, 19, tzinfo=NEW_YORK), datetime(2024, 1, 2, 19, tzinfo=NEW_YORK)), None, [2]),
        # A moment has its own zone, whatever the days' zone is.
        ((datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, 9, tzinfo=TOKYO)), "Asia/Tokyo", [2]),
        ((datetime(2024, 1, 2, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2024-01-02"), None, [2]),
        ((None, "2024-01-02"), None, [1, 2]),
        (("2024-01-05", None), None, [5]),
        ((None, None), None, [1, 2, 3, 4, 5]),
    ],
)
async def test_dates_in_other_zones_and_formats(
    lake: LakeStorage, edges: Any, tz: str | None, found: list[int]
) -> None:
    query = DataQuery("market_data", date_range={"start": edges[0], "end": edges[1]}, tz=tz)
    assert days((await lake.retrieve_data(query)).to_pylist()) == found


async def test_pandas_and_numpy_moments_are_moments(lake: LakeStorage) -> None:
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    edges = {"start": pandas.Timestamp("2024-01-02", tz="UTC"), "end": pandas.Timestamp("2024-01-03", tz="UTC")}
    assert days((await lake.retrieve_data(DataQuery("market_data", date_range=edges))).to_pylist()) == [2]
    chosen = DataQuery("market_data", {"symbol": numpy.array(["AAPL"]), "volume": {"gte": numpy.int64(0)}})
    assert (await lake.retrieve_data(chosen)).rows == 5
