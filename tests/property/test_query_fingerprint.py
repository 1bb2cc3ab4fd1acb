"""Equal questions have one fingerprint, however they are written; different ones have different fingerprints."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.expressions import And, bucket, col, count
from buffetstore.query import DataQuery, QueryOptimizer, ohlc
from buffetstore.query.fingerprint import query_fingerprint

MOMENT = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
NUMBERS = st.one_of(
    st.integers(-(10**6), 10**6),
    st.decimals(-1000, 1000, places=3),
    st.floats(-1000, 1000).map(lambda number: round(number, 3)),
)
TEXTS = st.sampled_from(["A", "B", "BRK.B", "é", "4:A", "A,1:B", "", "'"])
FILTERS = st.dictionaries(
    st.sampled_from(["symbol", "exchange", "currency"]), st.lists(TEXTS, min_size=1, max_size=4), max_size=3
).flatmap(
    lambda texts: st.dictionaries(
        st.sampled_from(["price", "volume"]),
        st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte", "ne"]), NUMBERS, min_size=1, max_size=3),
        max_size=2,
    ).map(lambda numbers: texts | numbers)
)


def written_otherwise(value: Any, chance: random.Random) -> Any:
    """Return what means the same."""
    if isinstance(value, dict):
        items = [(name, written_otherwise(each, chance)) for name, each in value.items()]
        chance.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        members = [*value, chance.choice(value)]
        chance.shuffle(members)
        return chance.choice([list, tuple, set])(members)
    if isinstance(value, int):
        return chance.choice([value, float(value), Decimal(value), Decimal(value).quantize(Decimal("1.00"))])
    return value.quantize(Decimal("1.000000")) if isinstance(value, Decimal) else value


@given(FILTERS, st.integers(0, 2**32))
def test_equal_questions_have_one_fingerprint(filters: dict[str, Any], seed: int) -> None:
    chance = random.Random(seed)
    one = DataQuery("market_data", filters, columns=["symbol", "price"])
    other = DataQuery("market_data", written_otherwise(filters, chance), columns=("symbol", "price"), offset=0)
    nested = DataQuery("market_data", And((And((other.predicate(),)), other.predicate())), columns=["symbol", "price"])
    assert query_fingerprint(one) is not None
    assert query_fingerprint(one) == query_fingerprint(other) == query_fingerprint(nested)
    assert query_fingerprint(one) == query_fingerprint(QueryOptimizer().optimize(other))


@given(FILTERS, FILTERS)
def test_different_filters_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = DataQuery("market_data", one), DataQuery("market_data", other)
    if query_fingerprint(first) == query_fingerprint(second):
        # What they mean is the same: every row that decides between them is tried.
        plans = [QueryOptimizer().optimize(query) for query in (first, second)]
        assert meaning(plans[0].predicate) == meaning(plans[1].predicate)
    else:
        assert one != other


def meaning(expression: Any) -> Any:
    """Return an expression as values that Python compares: sets for what has no order."""
    if hasattr(expression, "parts"):
        return (type(expression), frozenset(map(meaning, expression.parts)))
    if hasattr(expression, "values"):
        return (type(expression), expression.column, frozenset(expression.values))
    return meaning(expression.part) if hasattr(expression, "part") else expression


price = col("price")
DIFFERENT: list[dict[str, Any]] = [
    {},
    {"filters": {"symbol": "1"}},
    {"filters": {"symbol": 1}},
    {"filters": {"symbol": True}},
    {"filters": {"symbol": None}},
    {"filters": {"symbol": ["1", None]}},
    {"filters": {"symbol": {"ne": None}}},
    {"filters": {"symbol": {"like": "1"}}},
    {"filters": {"price": 0.1}},
    {"filters": {"price": Decimal("0.1")}},  # a float is rounded to the column's scale, a decimal is not
    {"filters": {"price": 9007199254740993}},
    {"filters": {"price": 9007199254740992}},
    {"filters": {"price": {"gt": 1}}},
    {"filters": {"price": {"gte": 1}}},
    {"filters": {"volume": {"gte": 1}}},
    {"filters": price > col("open")},
    {"filters": price > col("close")},
    {"filters": price / 2 > 1},
    {"filters": price / 2.0 > 1},
    {"filters": ~(price > 1)},
    {"filters": (price > 1) | (col("volume") > 1)},
    {"filters": (price > 1) & (col("volume") > 1)},
    {"filters": {"timestamp": MOMENT}},
    {"filters": {"timestamp": MOMENT.isoformat()}},
    {"filters": {"timestamp": MOMENT.date()}},
    {"filters": {"timestamp": pd.Timestamp(MOMENT) + pd.Timedelta(1, "ns")}},
    {"date_range": {"start": "2024-01-02"}},
    {"date_range": {"start": "2024-01-02"}, "tz": "America/New_York"},
    {"date_range": {"end": "2024-01-02"}},
    {"columns": ["symbol", "price"]},
    {"columns": ["price", "symbol"]},
    {"columns": ["price", (price * 2).alias("twice")]},
    {"columns": ["price", (price * 2.0).alias("twice")]},
    {"columns": ["symbol"], "distinct": True},
    {"columns": ["symbol"]},
    {"limit": 0},
    {"limit": 1},
    {"offset": 1},
    {"order_by": ["price"]},
    {"order_by": ["-price"]},
    {"order_by": ["price", "symbol"]},
    {"group_by": ["symbol"]},
    {"group_by": []},
    {"group_by": [bucket("timestamp", "1h")], "aggregates": {"n": count()}},
    {"group_by": [bucket("timestamp", "1d")], "aggregates": {"n": count()}},
    {"aggregates": {"n": count()}},
    {"aggregates": {"m": count()}},
    {"aggregates": {"n": price.max()}},
    {"aggregates": {"n": price.max(), "m": count()}},
    {"aggregates": {"m": count(), "n": price.max()}},
    ohlc("1h"),
    ohlc("1h", by=["symbol", "exchange"]),
    {"latest": True},
    {"latest": ["symbol"]},
    {"version": "1.0.0"},
    {"revisions": "all"},
    {"known_at": MOMENT},
    {"known_at": MOMENT + timedelta(microseconds=1)},
]


def test_no_two_different_questions_share_one() -> None:
    found = [query_fingerprint(DataQuery("market_data", **each)) for each in DIFFERENT]
    found.append(query_fingerprint(DataQuery("forecasts")))
    assert None not in found
    assert len(set(found)) == len(found)


EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"filters": {"timestamp": MOMENT}}, {"filters": {"timestamp": MOMENT.astimezone(timezone(timedelta(hours=5)))}}),
    ({"filters": {"timestamp": MOMENT}}, {"filters": {"timestamp": pd.Timestamp(MOMENT)}}),
    ({"known_at": MOMENT}, {"known_at": "2024-01-02T15:30:00+01:00"}),
    ({"date_range": {"start": "2024-01-02"}}, {"date_range": {"start": date(2024, 1, 2)}, "tz": "UTC"}),
    ({"filters": {"volume": 1}}, {"filters": col("volume") == 1.0}),
    ({"filters": {"price": 0}}, {"filters": {"price": Decimal("-0.00")}}),
    ({"group_by": "symbol"}, {"group_by": ["symbol"]}),
    ({"order_by": "-price"}, {"order_by": ("-price",)}),
    ({"latest": "symbol"}, {"latest": ["symbol"]}),
    ({}, {"filters": {}, "offset": 0}),
    # Which state is asked is known when it is read, and no part of the question.
    ({}, {"freshness": timedelta(seconds=5)}),
    ({}, {"table_version": 3}),
    ({}, {"as_of": MOMENT}),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_what_means_the_same_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    fingerprints = {query_fingerprint(DataQuery("market_data", **each)) for each in (one, other)}
    assert len(fingerprints) == 1
    assert None not in fingerprints


def test_lists_longer_than_a_chunk_have_no_order_either() -> None:
    symbols = [f"S{number}" for number in range(7_001)]
    one = query_fingerprint(DataQuery("market_data", {"symbol": symbols}))
    assert one == query_fingerprint(DataQuery("market_data", {"symbol": set(symbols)}))
    assert one != query_fingerprint(DataQuery("market_data", {"symbol": symbols[1:]}))


def test_a_constant_of_a_kind_that_nobody_knows_has_none() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "'A'"

    assert query_fingerprint(DataQuery("market_data", {"symbol": Odd()})) is None
    assert query_fingerprint(DataQuery("market_data", {"symbol": ["A", Odd()]})) is None
