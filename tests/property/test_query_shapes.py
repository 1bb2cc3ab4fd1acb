"""Answers of shaped queries are those of a loop over the rows: order, groups, the latest, computed columns, parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffetstore.expressions import bucket, col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

START = datetime(2024, 1, 30, tzinfo=UTC)


class Replaced(Record, data_type="replaced", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    volume: int | None = None


class Kept(Record, data_type="kept", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    volume: int | None = None


ROW = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["A", "B", "BRK.B", "é"]),
        "timestamp": st.integers(0, 60).map(lambda hours: START + timedelta(hours=hours)),
        "price": st.none() | st.integers(1, 8).map(lambda n: Decimal(n) / 4),
        "volume": st.none() | st.integers(0, 3),
    }
)
WRITES = st.lists(st.lists(ROW, max_size=8, unique_by=lambda row: (row["symbol"], row["timestamp"])), max_size=4)
FILTERS = st.sampled_from(
    [
        (None, lambda _row: True),
        (col("price") > 1, lambda row: row["price"] is not None and row["price"] > 1),
        (col("symbol").like("B%"), lambda row: row["symbol"].startswith("B")),
        (
            (col("price") * col("volume") >= 2) | col("volume").is_null(),
            lambda row: row["volume"] is None or (row["price"] is not None and row["price"] * row["volume"] >= 2),
        ),
        ({"volume": {"between": (1, 2)}}, lambda row: row["volume"] is not None and 1 <= row["volume"] <= 2),
        ({"symbol": {"starts_with": "BRK."}}, lambda row: row["symbol"] == "BRK.B"),
    ]
)


def state(writes: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the latest row of each key, by key."""
    rows = {(row["symbol"], row["timestamp"]): row for write in writes for row in write}
    return [rows[key] for key in sorted(rows)]


async def answers(data_type: str, writes: list[list[dict[str, Any]]], query: DataQuery) -> list[dict[str, Any]]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Replaced, Kept])) as lake:
        await lake.store_data(data_type, [START_ROW])
        for write in writes:
            if write:
                await lake.store_data(data_type, write)
        answer = await lake.retrieve_data(query)
        scanned = [row async for batch in lake.scan(query) for row in batch.to_pylist()]
        found = answer.to_pylist()
        assert sorted(map(repr, scanned)) == sorted(map(repr, found)) or query.limit is not None
        return found


START_ROW = {"symbol": "A", "timestamp": START - timedelta(days=1), "price": Decimal(1), "volume": 1}
COMMON = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)


@pytest.mark.parametrize("data_type", ["replaced", "kept"])
class TestShapes:
    @COMMON
    @given(
        writes=WRITES,
        chosen=FILTERS,
        down=st.booleans(),
        part=st.tuples(st.integers(0, 3), st.none() | st.integers(0, 4)),
    )
    async def test_order_and_part(self, data_type: str, writes: Any, chosen: Any, down: bool, part: Any) -> None:
        filters, holds = chosen
        offset, limit = part
        query = DataQuery(
            data_type,
            filters,
            columns=["symbol", (col("price") * 2).alias("double")],
            order_by=["-double" if down else "double"],
            offset=offset,
            limit=limit,
        )
        rows = [row for row in state([[START_ROW], *writes]) if holds(row)]
        known = [row for row in rows if row["price"] is not None]
        known.sort(key=lambda row: row["price"], reverse=down)
        wanted = (known + [row for row in rows if row["price"] is None])[offset:][:limit]
        found = await answers(data_type, writes, query)
        assert found == [
            {"symbol": row["symbol"], "double": None if row["price"] is None else row["price"] * 2} for row in wanted
        ]

    @COMMON
    @given(writes=WRITES, chosen=FILTERS)
    async def test_groups(self, data_type: str, writes: Any, chosen: Any) -> None:
        filters, holds = chosen
        query = DataQuery(
            data_type,
            filters,
            group_by=["symbol", bucket("timestamp", "1mo", name="month")],
            aggregates={"n": count(), "total": col("volume").sum(), "close": col("price").last()},
        )
        groups: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
        for row in state([[START_ROW], *writes]):
            if holds(row):
                month = row["timestamp"].replace(day=1, hour=0)
                groups.setdefault((row["symbol"], month), []).append(row)
        found = await answers(data_type, writes, query)
        assert [(row["symbol"], row["month"]) for row in found] == sorted(groups)
        for row in found:
            members = groups[row["symbol"], row["month"]]
            volumes = [each["volume"] for each in members if each["volume"] is not None]
            prices = [each["price"] for each in members if each["price"] is not None]
            assert row["n"] == len(members)
            assert row["total"] == (sum(volumes) if volumes else None)
            assert row["close"] == (prices[-1] if prices else None)

    @COMMON
    @given(writes=WRITES, chosen=FILTERS)
    async def test_the_latest_of_each_symbol_among_the_rows_that_are_found(
        self, data_type: str, writes: Any, chosen: Any
    ) -> None:
        filters, holds = chosen
        latest = {row["symbol"]: row for row in state([[START_ROW], *writes]) if holds(row)}
        query = DataQuery(data_type, filters, latest=True, columns=["symbol", "timestamp", "volume"])
        found = await answers(data_type, writes, query)
        assert [(row["symbol"], row["timestamp"], row["volume"]) for row in found] == [
            (symbol, row["timestamp"], row["volume"]) for symbol, row in sorted(latest.items())
        ]

    @COMMON
    @given(writes=WRITES, chosen=FILTERS)
    async def test_distinct_values(self, data_type: str, writes: Any, chosen: Any) -> None:
        filters, holds = chosen
        wanted = {row["volume"] for row in state([[START_ROW], *writes]) if holds(row)}
        found = await answers(data_type, writes, DataQuery(data_type, filters, columns=["volume"], distinct=True))
        assert [row["volume"] for row in found] == sorted(wanted - {None}) + [None] * (None in wanted)

    @COMMON
    @given(writes=WRITES, size=st.integers(1, 5))
    async def test_pages_have_every_row_once(self, data_type: str, writes: Any, size: int) -> None:
        rows = state([[START_ROW], *writes])
        async with MemoryStore() as store, LakeStorage(store, SchemaManager([Replaced, Kept])) as lake:
            for write in [[START_ROW], *filter(None, writes)]:
                await lake.store_data(data_type, write)
            found = []
            for offset in range(0, len(rows) + 1, size):
                page = await lake.retrieve_data(DataQuery(data_type, offset=offset, limit=size))
                found += [(row["symbol"], row["timestamp"]) for row in page.to_pylist()]
        assert sorted(found) == [(row["symbol"], row["timestamp"]) for row in rows]
