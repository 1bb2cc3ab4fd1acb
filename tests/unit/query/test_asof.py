"""The as-of join finds what a loop finds, never anything that was not known, however it is cut into windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.query.asof import EVENT, KNOWN, AsofJoin, AsofTerms

START = datetime(2024, 1, 1, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")
LEFT = pa.schema([("symbol", pa.string()), ("timestamp", INSTANT), ("id", pa.int64())])
RIGHT = pa.schema([("ticker", pa.string()), (EVENT, INSTANT), (KNOWN, INSTANT), ("price", pa.int64())])
SYMBOLS = st.sampled_from(["A", "B", None])
LEFTS = st.lists(st.tuples(SYMBOLS, st.none() | st.integers(0, 20)), max_size=10)
RIGHTS = st.lists(st.tuples(SYMBOLS, st.integers(0, 20), st.integers(0, 6)), max_size=14)


def at(hour: int | None) -> datetime | None:
    return None if hour is None else START + timedelta(hours=hour)


def naive(left: Any, rights: list[Any], tolerance: int | None, *, by: bool) -> int | None:
    symbol, hour = left
    best = None
    for number, (ticker, event, delay) in enumerate(rights):
        if hour is None or event + delay > hour or (by and (symbol is None or ticker != symbol)):
            continue
        if best is None or (event, event + delay, number) >= best[0]:
            best = ((event, event + delay, number), number)
    if best is None or (tolerance is not None and best[0][0] < hour - tolerance):
        return None
    return best[1]


@given(
    LEFTS, RIGHTS, st.none() | st.integers(0, 8), st.booleans(), st.sets(st.integers(0, 20), max_size=4), st.booleans()
)
def test_it_finds_what_a_loop_finds(
    lefts: list[Any], rights: list[Any], tolerance: int | None, by: bool, cuts: set[int], ends: bool
) -> None:
    span = None if tolerance is None else timedelta(hours=tolerance)
    join = AsofJoin(AsofTerms("timestamp", {"symbol": "ticker"} if by else {}, {"price": "price"}, span), RIGHT)
    found: dict[int, int | None] = {}
    bounds = [0, *sorted(cuts - {0}), 21]
    for low, high in pairwise(bounds):
        join.add(rows_of([(n, r) for n, r in enumerate(rights) if low <= r[1] < high]))
        window = [(n, left) for n, left in enumerate(lefts) if left[1] is not None and low <= left[1] < high]
        found |= matched(join, window)
        join.forget(
            START + timedelta(hours=high), at(max((left[1] or 0 for left in lefts), default=0)) if ends else None
        )
        if by:
            assert join.held_rows <= 3 + sum(event + delay >= high for _, event, delay in rights)
    found |= matched(join, [(n, left) for n, left in enumerate(lefts) if left[1] is None])
    assert found == {n: naive(left, rights, tolerance, by=by) for n, left in enumerate(lefts)}


def rows_of(rights: list[Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"ticker": ticker, EVENT: at(event), KNOWN: at(event + delay), "price": number}
            for number, (ticker, event, delay) in rights
        ],
        RIGHT,
    )


def matched(join: AsofJoin, lefts: list[Any]) -> dict[int, int | None]:
    rows = [{"symbol": symbol, "timestamp": at(hour), "id": number} for number, (symbol, hour) in lefts]
    return {row["id"]: row["price"] for row in join.match(pa.Table.from_pylist(rows, LEFT)).to_pylist()}
