"""As-of joins of stored data types: what was known then, and nothing else."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import col
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.storage.asof import joined, sides_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2024, 1, 2, tzinfo=UTC)


class Signal(Record, data_type="signals", version="1.0.0", key=("symbol", "timestamp", "n")):
    symbol: str
    timestamp: Timestamp
    n: int


class Estimate(Record, data_type="estimates", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    value: Price


def bar(symbol: str, stamp: str, price: float, interval: str = "1d") -> dict[str, Any]:
    return {
        "symbol": symbol,
        "timestamp": stamp,
        "price": price,
        "volume": 1,
        "data_source": "test",
        "interval": interval,
    }


def signal(symbol: str, stamp: str, n: int = 0) -> dict[str, Any]:
    return {"symbol": symbol, "timestamp": stamp, "n": n}


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Signal, Estimate])) as storage:
        yield storage


SIGNALS = DataQuery("signals", columns=["symbol", "timestamp"])
PRICES = DataQuery("market_data", columns=["timestamp", "price"])


async def test_a_daily_bar_is_found_after_its_close(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("A", "2024-01-02T00:00:00Z", 10), bar("A", "2024-01-03T00:00:00Z", 11)])
    stamps = ["2024-01-02T15:00:00Z", "2024-01-03T15:00:00Z", "2024-01-04T00:00:00Z"]
    await lake.store_data("signals", [signal("A", stamp) for stamp in stamps])
    answer = await lake.join_asof(SIGNALS, PRICES)
    assert answer.table.column_names == ["symbol", "timestamp", "timestamp_right", "price"]
    found = [(row["timestamp_right"], row["price"]) for row in answer.to_pylist()]
    assert [(None if at is None else at.day, price) for at, price in found] == [(None, None), (2, 10), (3, 11)]


async def test_options_find_the_last_price_of_what_they_are_on(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("A", f"2024-01-02T15:0{n}:00Z", 10 + n, "1m") for n in range(3)])
    option = {
        "underlying_symbol": "A",
        "timestamp": "2024-01-02T15:02:30Z",
        "expiration_date": "2024-03-15",
        "strike_price": 10,
        "option_type": "call",
        "data_source": "test",
    }
    await lake.store_data("options_data", [option, option | {"underlying_symbol": "B"}])
    answer = await lake.join_asof(
        DataQuery("options_data", columns=["underlying_symbol", "strike_price"]),
        PRICES,
        by={"underlying_symbol": "symbol"},
        tolerance=timedelta(minutes=5),
        suffix="_u",
    )
    assert [(row["underlying_symbol"], row["price"]) for row in answer.to_pylist()] == [("A", 11), ("B", None)]
    too_old = await lake.join_asof(
        DataQuery("options_data"), PRICES, by={"underlying_symbol": "symbol"}, tolerance=timedelta(seconds=30)
    )
    assert too_old.table["price"].null_count == 2


async def test_revisions_are_those_known_then(lake: LakeStorage) -> None:
    base = {"symbol": "A", "timestamp": "2024-01-01T00:00:00Z"}
    await lake.store_data("estimates", [base | {"value": 1}], available_at="2024-01-02T00:00:00Z")
    await lake.store_data("estimates", [base | {"value": 2}], available_at="2024-01-05T00:00:00Z")
    await lake.store_data("signals", [signal("A", f"2024-01-0{day}T12:00:00Z") for day in (1, 3, 6)])
    answer = await lake.join_asof(SIGNALS, DataQuery("estimates", columns=["value"]))
    assert answer.table["value"].to_pylist() == [None, 1, 2]


async def test_filters_of_each_side_are_its_own(lake: LakeStorage) -> None:
    bars = [bar("A", "2024-01-02T15:00:00Z", 10, "1m"), bar("A", "2024-01-02T15:01:00Z", 99, "1m")]
    await lake.store_data("market_data", bars)
    await lake.store_data("signals", [signal("A", "2024-01-02T16:00:00Z"), signal("B", "2024-01-02T16:00:00Z")])
    answer = await lake.join_asof(
        DataQuery("signals", {"symbol": "A"}), DataQuery("market_data", col("price") < 50, columns=["price"])
    )
    assert [row["price"] for row in answer.to_pylist()] == [10]


async def test_nothing_to_join_is_an_empty_answer_with_columns(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("A", "2024-01-02T15:00:00Z", 10)])
    await lake.store_data("signals", [signal("A", "2024-01-02T16:00:00Z")])
    answer = await lake.join_asof(DataQuery("signals", {"symbol": "ZZZ"}, columns=["symbol"]), PRICES)
    assert (answer.rows, answer.table.column_names) == (0, ["symbol", "timestamp_right", "price"])


async def test_a_scan_may_be_left_early(lake: LakeStorage) -> None:
    await lake.store_data("market_data", [bar("A", "2024-01-02T15:00:00Z", 10)])
    await lake.store_data("signals", [signal("A", "2024-01-04T16:00:00Z", n) for n in range(5)])
    async with aclosing(lake.scan_asof(SIGNALS, PRICES)) as batches:
        async for batch in batches:
            assert batch.num_rows == 5
            break


@pytest.mark.parametrize(
    ("left", "right", "options", "message"),
    [
        (DataQuery("signals", limit=1), PRICES, {}, "limit in a side"),
        (SIGNALS, DataQuery("market_data", order_by="price"), {}, "order_by in a side"),
        (DataQuery("signals", latest=True), PRICES, {}, "rows and columns alone"),
        (SIGNALS, DataQuery("market_data", columns=[(col("price") * 2).alias("x")]), {}, "rows and columns alone"),
        (SIGNALS, PRICES, {"by": "symbl"}, "did you mean 'symbol'"),
        (SIGNALS, PRICES, {"by": {"symbol": "ticker"}}, "no column 'ticker'"),
        (SIGNALS, PRICES, {"on": "symbol"}, "joined on a timestamp"),
        (SIGNALS, PRICES, {"tolerance": timedelta(-1)}, "negative"),
    ],
)
async def test_joins_that_make_no_sense(lake: LakeStorage, left: Any, right: Any, options: Any, message: str) -> None:
    await lake.store_data("market_data", [bar("A", "2024-01-02T15:00:00Z", 10)])
    await lake.store_data("signals", [signal("A", "2024-01-04T16:00:00Z")])
    with pytest.raises(InvalidQueryError, match=message):
        await lake.join_asof(left, right, **options)


HOURS = st.integers(0, 200)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("AB"), HOURS), min_size=1, max_size=12, unique=True),
    st.lists(
        st.tuples(st.sampled_from("AB"), HOURS, st.sampled_from(["1h", "1d"])), min_size=1, max_size=12, unique=True
    ),
    st.none() | st.integers(1, 60),
    st.integers(1, 8),
)
async def test_it_finds_what_a_loop_finds(lefts: Any, rights: Any, tolerance: int | None, window: int) -> None:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Signal])) as lake:
        for n, (symbol, hour) in enumerate(lefts):
            await lake.store_data("signals", [signal(symbol, (START + timedelta(hours=hour)).isoformat(), n)])
        rows = [
            bar(symbol, (START + timedelta(hours=hour)).isoformat(), 1 + n, interval)
            for n, (symbol, hour, interval) in enumerate(rights)
        ]
        await lake.store_data("market_data", rows)
        span = None if tolerance is None else timedelta(hours=tolerance)
        contracts = (await lake.contract("signals"), await lake.contract("market_data"))
        columns = DataQuery("market_data", columns=["price"])
        sides = sides_of(DataQuery("signals"), columns, contracts, on=None, by="symbol", tolerance=span, suffix="_r")
        found = {}
        async for table in joined(lake, sides, window_rows=window):
            found |= {row["n"]: row["price"] for row in table.to_pylist()}
    assert found == {n: known(left, rights, tolerance) for n, left in enumerate(lefts)}


def known(left: Any, rights: Any, tolerance: int | None) -> int | None:
    symbol, hour = left
    best: Any = None
    for n, (ticker, at, interval) in enumerate(rights):
        end = at + 1 if interval == "1h" else (at // 24 + 1) * 24
        if ticker == symbol and end <= hour and (tolerance is None or at >= hour - tolerance):
            best = max(best or (at, end, n), (at, end, n))
    return None if best is None else best[2] + 1
