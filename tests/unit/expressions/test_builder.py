"""Filters, computed columns and aggregates as people write them."""

from __future__ import annotations

import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import (
    Aggregate,
    And,
    Bucket,
    Column,
    Comparison,
    ComputedComparison,
    IsIn,
    IsNull,
    Like,
    Named,
    Not,
    Or,
    bucket,
    col,
    columns_of,
    compute,
    count,
    escaped,
    evaluate,
    mask,
    render,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PRICE, OPEN, SYMBOL = col("price"), col("open"), col("symbol")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (PRICE > 1, Comparison("price", ">", 1)),
        (operator.gt(1, PRICE), Comparison("price", "<", 1)),
        (operator.eq(PRICE, OPEN), Comparison("price", "==", Column("open"))),
        (PRICE == None, IsNull("price")),  # noqa: E711
        (PRICE != None, Not(IsNull("price"))),  # noqa: E711
        (~PRICE.is_null(), Not(IsNull("price"))),
        (SYMBOL.is_in(["A", None]), Or((IsIn("symbol", ("A",)), IsNull("symbol")))),
        (PRICE.between(1, 2), And((Comparison("price", ">=", 1), Comparison("price", "<=", 2)))),
        (SYMBOL.like("B_%"), Like("symbol", "B_%")),
        (SYMBOL.starts_with("100%"), Like("symbol", r"100\%%")),
        ((PRICE > 1) & (PRICE < 2), And((Comparison("price", ">", 1), Comparison("price", "<", 2)))),
        ((PRICE > 1) | (PRICE < 0), Or((Comparison("price", ">", 1), Comparison("price", "<", 0)))),
    ],
)
def test_what_is_written_is_what_is_meant(written: Any, meant: Any) -> None:
    assert written == meant


def test_computed_values_are_compared_and_named() -> None:
    found = PRICE * col("volume") / 2 > 1_000_000
    assert isinstance(found, ComputedComparison)
    assert columns_of(found) == {"price", "volume"}
    assert render(found) == "((price * volume) / 2) > 1000000"
    named = (-PRICE).abs().alias("size")
    assert isinstance(named, Named)
    assert named.name == "size"
    assert render(2 * OPEN >= 1 - PRICE) == "(2 * open) >= (1 - price)"
    assert render(col("a") + 1 <= 1 / PRICE) == "(a + 1) <= (1 / price)"


def test_aggregates_and_spans() -> None:
    assert count() == Aggregate("count")
    assert PRICE.max() == Aggregate("max", Column("price"))
    assert (PRICE * 2).sum().function == "sum"
    assert bucket("timestamp", "15m") == Bucket("timestamp", 15, "minute", None, "timestamp")
    assert bucket("timestamp", "mo", name="month") == Bucket("timestamp", 1, "month", None, "month")


@pytest.mark.parametrize("wrong", ["", "0d", "-1d", "1x", "1.5h", "d1", "\uff11d", 5, None])
def test_what_is_no_span(wrong: Any) -> None:
    with pytest.raises(InvalidQueryError, match="is no span"):
        bucket("timestamp", wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: col(""),
        lambda: col(3),
        lambda: PRICE + "a",
        lambda: PRICE + None,
        lambda: PRICE * True,
        lambda: PRICE.alias(""),
        (PRICE + 1).is_null,
        lambda: (PRICE + 1).like("a"),
        lambda: SYMBOL.like(3),
        lambda: SYMBOL.starts_with(None),
    ],
)
def test_mistakes_are_told_at_once(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidQueryError):
        wrong()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: PRICE > 1 and PRICE < 2,
        lambda: not PRICE > 1,
        lambda: 1 < PRICE < 2,
        lambda: bool(PRICE),
        lambda: (PRICE > 1) & 3,
    ],
)
def test_pythons_own_and_or_not_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="join"):
        wrong()


@pytest.mark.parametrize("text", ["100%", "a_b", "back\\slash", "%_\\", "", "é\n"])
def test_an_escaped_text_matches_itself_alone(text: str) -> None:
    pattern = Like("s", escaped(text))
    rows = pa.table({"s": [text, text + "x", "x" + text, None]})
    assert mask(rows, pattern).to_pylist() == [True, False, False, None]
    assert [evaluate(pattern, row) for row in rows.to_pylist()] == [True, False, False, None]


def values(expression: Any, **columns: Any) -> list[Any]:
    return compute(pa.table(columns), expression.value).to_pylist()


def test_sums_of_decimals_and_whole_numbers_are_exact() -> None:
    prices = pa.array([Decimal("0.10000000"), None], pa.decimal128(18, 8))
    assert values(PRICE * 3, price=prices) == [Decimal("0.30000000"), None]
    assert values(PRICE * PRICE, price=prices) == [Decimal("0.0100000000000000"), None]
    assert values(PRICE * PRICE * PRICE, price=prices) == [pytest.approx(0.001), None]
    assert values(PRICE / 3, price=prices) == [pytest.approx(0.1 / 3), None]
    assert values(PRICE * 0.5, price=prices) == [pytest.approx(0.05), None]
    assert values(col("n") + col("n"), n=pa.array([2**62 - 1, None])) == [2**63 - 2, None]
    assert values(col("n") / 2, n=pa.array([2**62 + 1])) == [float(2**61)]
    assert values(col("u") + 0, u=pa.array([2**64 - 1], pa.uint64())) == [Decimal(2**64 - 1)]


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(InvalidQueryError, match="does not fit 64 bits"):
        values(col("n") + col("n"), n=pa.array([2**63 - 1]))
    with pytest.raises(InvalidQueryError, match="only numbers"):
        values(SYMBOL * 2, symbol=["A"])
    with pytest.raises(InvalidQueryError, match="no column 'other'"):
        values(col("other") * 2, symbol=["A"])
