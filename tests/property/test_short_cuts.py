"""Answers that statistics spare the reading of files for are those of all the rows."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import bucket, col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery, selection
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Date, Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

START = datetime(2023, 12, 30, tzinfo=UTC)


class Thing(Record, data_type="things", version="1.0.0", key=("symbol", "timestamp"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    price: Price | None = None
    number: int | None = None
    share: float | None = None
    day: Date | None = None
    live: bool | None = None


VALUES: dict[str, Any] = {
    "price": st.decimals(-5, 5, places=2) | st.just(Decimal("9999999999.99999999")),
    "number": st.integers(-3, 3) | st.sampled_from([2**60, -(2**60)]),
    "share": st.sampled_from([-1.5, -0.0, 0.0, 0.25, math.inf, math.nan]),
    "day": st.integers(0, 2).map(lambda days: date(2024, 1, 1) + timedelta(days=days)),
    "live": st.booleans(),
}
SYMBOLS = st.sampled_from(["A", "é", "z" * 40, "z" * 33 + "\U0010ffff"])
TIMES = st.integers(0, 5000).map(lambda n: START + timedelta(milliseconds=n % 50, microseconds=n, days=n % 3))
ROWS = st.fixed_dictionaries(
    {"symbol": SYMBOLS, "timestamp": TIMES, **{name: st.none() | each for name, each in VALUES.items()}}
)
# A governed write takes neither NaN nor infinity; one beside it, whose files have no marks, does.
WRITES = st.lists(st.tuples(st.booleans(), st.lists(ROWS, min_size=1, max_size=4)), min_size=1, max_size=4)
FILTERS = st.sampled_from(
    [
        None,
        {"symbol": "A"},
        {"number": {"gte": -3}},
        {"number": {"ne": None}},
        {"day": None},
        col("number").is_null() | (col("number") > -4),
        ~(col("day") == date(2024, 1, 2)),
        {"timestamp": {"gte": START + timedelta(days=1)}},
        {"share": {"gte": 0.0}},
        {"live": True},
        col("number") * 2 > 1,
    ]
)
COLUMNS = ["symbol", "timestamp", *VALUES]
AGGREGATES = st.dictionaries(
    st.sampled_from("abcd"),
    st.just(count())
    | st.tuples(st.sampled_from(COLUMNS), st.sampled_from(["count", "min", "max"])).map(
        lambda pair: getattr(col(pair[0]), pair[1])()
    ),
    min_size=1,
)
GROUPS = st.lists(
    st.sampled_from([*COLUMNS, bucket("timestamp", "1d", name="days"), bucket("day", "1mo", name="months")]),
    max_size=2,
    unique_by=repr,
)
FEWER = settings(max_examples=settings.default.max_examples // 2)


async def filled(storage: LakeStorage, writes: list[tuple[bool, list[dict[str, Any]]]]) -> None:
    first = {"symbol": "A", "timestamp": START, "number": 0}
    await storage.store_data("things", [first])
    table = await storage.table("things")
    for governed, rows in writes:
        if governed:
            await storage.store_data("things", [row | {"share": finite(row["share"])} for row in rows])
        else:
            stored = [row | {"created_at": START, "version": "1.0.0"} for row in rows]
            await table.append(pa.Table.from_pylist(stored, schema=table.schema))


def finite(share: float | None) -> float | None:
    return None if share is None or not math.isfinite(share) else share


def shown(table: pa.Table) -> list[str]:
    return [repr([0.0 if value == 0 else value for value in row.values()]) for row in table.to_pylist()]


@FEWER
@given(WRITES, FILTERS, AGGREGATES, GROUPS, st.booleans())
async def test_counts_and_extremes(writes: Any, filters: Any, aggregates: Any, groups: Any, deletes: bool) -> None:
    query = DataQuery("things", filters, group_by=groups or None, aggregates=aggregates)
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Thing])) as storage:
        await filled(storage, writes)
        if deletes:
            await storage.delete_data("things", filters={"number": {"lt": 0}})
        found = await storage.retrieve_data(query)
        with patch.object(selection, "from_statistics", lambda *_arguments, **_options: None):
            plain = await storage.retrieve_data(query)
    assert found.table.schema == plain.table.schema
    assert shown(found.table) == shown(plain.table)
    assert plain.short_cut is None
    assert found.files_scanned <= plain.files_scanned


ORDERS = st.lists(
    st.tuples(st.booleans(), st.sampled_from(COLUMNS)).map(lambda pair: "-" * pair[0] + pair[1]),
    min_size=1,
    max_size=2,
    unique_by=lambda name: name.removeprefix("-"),
)


@FEWER
@given(WRITES, FILTERS, ORDERS, st.integers(0, 2), st.integers(1, 3))
async def test_the_first_rows_in_an_order(writes: Any, filters: Any, order: Any, offset: int, limit: int) -> None:
    query = DataQuery("things", filters, columns=COLUMNS, order_by=order, offset=offset, limit=limit)
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Thing])) as storage:
        await filled(storage, writes)
        found = await storage.retrieve_data(query)
        with patch.object(selection, "top_rows", lambda _bound: None):
            plain = await storage.retrieve_data(query)
        # Rows that are equal in the order and in the key, which appending allows, come in any order.
        ordered = [name.removeprefix("-") for name in (*order, "symbol", "timestamp")]
        assert shown(found.table.select(list(dict.fromkeys(ordered)))) == shown(
            plain.table.select(list(dict.fromkeys(ordered)))
        )
    assert plain.short_cut is None
    assert found.files_scanned <= plain.files_scanned
