"""Stages over a stream of tables give what a loop over all rows gives, however the rows are cut."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import bucket, col, count
from buffetstore.query.shape import Order
from buffetstore.query.stages import Aggregation, Distinct, Latest, Ordered, Part, bucket_starts

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("price", pa.decimal128(18, 8)),
        ("rsi", pa.float64()),
        ("volume", pa.int64()),
        ("up", pa.bool_()),
    ]
)
START = datetime(2024, 3, 9, 12, tzinfo=ZoneInfo("UTC"))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": st.sampled_from(["A", "B", "é", None]),
            "timestamp": st.integers(0, 40).map(lambda hours: START + timedelta(hours=hours)),
            "price": st.none() | st.integers(-4, 4).map(lambda n: Decimal(n) / 4),
            "rsi": st.none() | st.sampled_from([-0.0, 0.0, 1.5, -1.5, math.nan]),
            "volume": st.none() | st.integers(-3, 3),
            "up": st.none() | st.booleans(),
        }
    ),
    max_size=12,
).map(lambda rows: pa.Table.from_pylist(rows, SCHEMA).to_pylist())
CUTS = st.lists(st.integers(0, 12), max_size=4)


def pieces(rows: list[dict[str, Any]], cuts: list[int]) -> list[pa.Table]:
    table = pa.Table.from_pylist(rows, SCHEMA)
    ends = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    return [table.slice(0, 0), *(table.slice(at, end - at) for at, end in pairwise(ends))]


def run(stage: Any, rows: list[dict[str, Any]], cuts: list[int]) -> list[dict[str, Any]]:
    for piece in pieces(rows, cuts):
        stage.add(piece)
    return stage.finish().to_pylist()


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True
    return left == right


def key_of(row: dict[str, Any], names: list[str]) -> tuple[Any, ...]:
    return tuple("NaN" if isinstance(row[n], float) and math.isnan(row[n]) else row[n] for n in names)


def known(rows: list[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows if row[name] is not None]


def least(values: list[Any], choose: Any) -> Any:
    numbers = [value for value in values if not (isinstance(value, float) and math.isnan(value))]
    return choose(numbers) if numbers else math.nan if values else None


def expected(rows: list[dict[str, Any]]) -> dict[str, Any]:
    by_time = sorted(range(len(rows)), key=lambda at: (rows[at]["timestamp"], rows[at]["symbol"] or "\U0010ffff", at))
    prices, ratios = known(rows, "price"), known(rows, "rsi")
    ordered = [rows[at]["price"] for at in by_time if rows[at]["price"] is not None]
    return {
        "n": len(rows),
        "prices": len(prices),
        "total": sum(prices) if prices else None,
        "low": least(prices, min),
        "high": least(ratios, max),
        "mean": float(sum(prices)) / len(prices) if prices else None,
        "ratio": sum(ratios) if ratios else None,
        "shares": sum(known(rows, "volume")) if known(rows, "volume") else None,
        "open": ordered[0] if ordered else None,
        "close": ordered[-1] if ordered else None,
        "kinds": len({key_of(row, ["rsi"]) for row in rows if row["rsi"] is not None}),
        "any": max(known(rows, "up"), default=None),
    }


PRICE, RSI = col("price"), col("rsi")
AGGREGATES = {
    "n": count(),
    "prices": PRICE.count(),
    "total": PRICE.sum(),
    "low": PRICE.min(),
    "high": RSI.max(),
    "mean": PRICE.mean(),
    "ratio": RSI.sum(),
    "shares": col("volume").sum(),
    "open": PRICE.first(),
    "close": PRICE.last(),
    "kinds": RSI.count_distinct(),
    "any": col("up").max(),
}


@given(ROWS, CUTS, st.sampled_from([1, 3, 1000]))
def test_groups_are_those_of_a_loop(rows: list[dict[str, Any]], cuts: list[int], held: int) -> None:
    stage = Aggregation(
        ["symbol", bucket("timestamp", "1d", name="day")], AGGREGATES, ["timestamp", "symbol"], held_rows=held
    )
    groups = defaultdict(list)
    for row in rows:
        groups[row["symbol"], row["timestamp"].replace(hour=0)].append(row)
    found = {(row["symbol"], row["day"]): row for row in run(stage, rows, cuts)}
    assert found.keys() == groups.keys()
    for group, members in groups.items():
        for name, value in expected(members).items():
            assert same(found[group][name], value), (group, name)


@given(ROWS, CUTS)
def test_without_groups_there_is_one_row(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    (found,) = run(Aggregation([], AGGREGATES, ["timestamp", "symbol"], held_rows=2), rows, cuts)
    for name, value in expected(rows).items():
        assert same(found[name], value), name


@given(ROWS, CUTS, st.sampled_from([["symbol"], ["symbol", "rsi"], ["rsi", "up"]]), st.sampled_from([1, 1000]))
def test_distinct_rows(rows: list[dict[str, Any]], cuts: list[int], names: list[str], held: int) -> None:
    stage = Distinct(held_rows=held)
    for piece in pieces(rows, cuts):
        stage.add(piece.select(names))
    found = [key_of(row, names) for row in stage.finish().to_pylist()]
    assert found == list(dict.fromkeys(key_of(row, names) for row in rows))


@given(ROWS, CUTS, st.sampled_from([1, 1000]))
def test_the_latest_of_each(rows: list[dict[str, Any]], cuts: list[int], held: int) -> None:
    latest: dict[Any, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["timestamp"]):
        latest[row["symbol"]] = row
    found = run(Latest(["symbol"], ["timestamp"], held_rows=held), rows, cuts)
    assert {row["symbol"]: repr(row) for row in found} == {symbol: repr(row) for symbol, row in latest.items()}


@given(
    ROWS,
    CUTS,
    st.lists(st.sampled_from(["symbol", "price", "rsi", "up"]), min_size=1, max_size=3, unique=True),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.none() | st.integers(0, 5),
)
def test_order(
    rows: list[dict[str, Any]], cuts: list[int], names: list[str], down: list[bool], limit: int | None
) -> None:
    order = [Order(name, descending) for name, descending in zip(names, down, strict=False)]
    found = run(Ordered(order, ["timestamp"], limit, held_rows=1), rows, cuts)
    wanted = sorted(rows, key=lambda row: row["timestamp"])
    for each in reversed(order):
        there = [row for row in wanted if row[each.column] is not None]
        there.sort(key=lambda row, name=each.column: rank(row[name]), reverse=each.descending)
        wanted = there + [row for row in wanted if row[each.column] is None]
    assert repr(found) == repr(wanted[:limit])


def rank(value: Any) -> Any:
    return (math.isnan(value), 0.0 if math.isnan(value) else value + 0.0) if isinstance(value, float) else value


def test_a_part_is_taken_as_rows_come() -> None:
    part, table = Part(3, 4), pa.table({"n": range(5)})
    found = [part.take(table)["n"].to_pylist() for _ in range(3)]
    assert found == [[3, 4], [0, 1], []]
    assert part.is_full
    assert Part().take(table).num_rows == 5


@given(
    st.datetimes(datetime(1960, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001 - of any zone
    st.sampled_from(["1h", "4h", "7h", "15m", "90m", "1s", "1d", "1w", "1mo", "1q", "1y"]),
    st.sampled_from([None, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_spans_begin_at_or_before_their_moments(moment: datetime, every: str, tz: str | None) -> None:
    times = pa.chunked_array([pa.array([moment.replace(tzinfo=UTC)], pa.timestamp("us", tz="UTC"))])
    span = bucket("timestamp", every, tz=tz)
    start = bucket_starts(times, span)
    assert start.type == times.type
    assert bucket_starts(start, span).equals(start)
    local, first = (each[0].as_py().astimezone(ZoneInfo(tz or "UTC")) for each in (times, start))
    assert first <= local
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if every[-1] in "hms" and every[-2:] != "mo":
        assert first.astimezone(UTC) >= midnight.astimezone(UTC)
    else:
        assert (first.hour, first.minute, first.second) == (0, 0, 0) or first.dst() != local.dst()


def test_bars_of_a_day_when_clocks_change() -> None:
    hours = [datetime(2024, 11, 3, 4, 30, tzinfo=UTC) + timedelta(hours=n) for n in range(25)]
    times = pa.chunked_array([pa.array(hours, pa.timestamp("us", tz="UTC"))])
    starts = bucket_starts(times, bucket("timestamp", "1h", tz="America/New_York")).to_pylist()
    assert [start.minute for start in starts] == [0] * 25
    assert len(set(starts)) == 25


def test_dates_have_days_but_no_hours() -> None:
    days = pa.chunked_array([pa.array([date(2024, 5, 17)])])
    assert bucket_starts(days, bucket("day", "1mo")).to_pylist() == [date(2024, 5, 1)]
    with pytest.raises(InvalidQueryError, match="no hours"):
        bucket_starts(days, bucket("day", "1h"))
    with pytest.raises(InvalidQueryError, match="spans are of timestamps"):
        bucket_starts(pa.chunked_array([["a"]]), bucket("day", "1h"))


@pytest.mark.parametrize(
    ("groups", "aggregates", "message"),
    [
        (["nothing"], {}, "no column 'nothing'"),
        ([], {"s": col("symbol").sum()}, "only numbers add up"),
        ([], {"s": col("nothing").sum()}, "no column 'nothing'"),
        ([bucket("price", "1d")], {}, "spans are of timestamps"),
    ],
)
def test_aggregates_that_make_no_sense(groups: Any, aggregates: Any, message: str) -> None:
    with pytest.raises(InvalidQueryError, match=message):
        Aggregation(groups, aggregates, []).add(SCHEMA.empty_table())


def test_sums_that_run_over_are_refused() -> None:
    whole = Aggregation([], {"s": col("volume").sum()}, [])
    whole.add(pa.table({"volume": [2**62] * 2}))
    with pytest.raises(InvalidQueryError, match="does not fit int64"):
        whole.finish()
    exact = Aggregation([], {"s": col("p").sum()}, [])
    exact.add(pa.table({"p": pa.array([Decimal(10) ** 37 * 9] * 2, pa.decimal128(38, 0))}))
    with pytest.raises(InvalidQueryError, match="does not fit decimal"):
        exact.finish()


def test_groups_and_nothing_else() -> None:
    stage = Aggregation(["symbol"], {}, [])
    stage.add(pa.table({"symbol": ["A", None, "A"]}))
    assert sorted(map(str, stage.finish()["symbol"].to_pylist())) == ["A", "None"]
