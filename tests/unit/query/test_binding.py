from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, IsIn, IsNull, Not, Or, evaluate
from buffetstore.query.binding import bind_expression, only_columns
from buffetstore.query.model import filter_expression
from buffetstore.query.rules import NEVER

SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("price", pa.decimal128(18, 8)),
        pa.field("volume", pa.int64()),
        pa.field("rsi", pa.float64()),
        pa.field("expiration_date", pa.date32()),
        pa.field("live", pa.bool_()),
        pa.field("parts", pa.list_(pa.string())),
    ]
)
KNOWN = Not(IsNull("price"))


def bound(column: str, value: Any) -> Any:
    return bind_expression(filter_expression(column, value), SCHEMA, "market_data")


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("price", 185.5, Comparison("price", "==", Decimal("185.50000000"))),
        ("price", 0.1 + 0.2, Comparison("price", "==", Decimal("0.30000000"))),  # rounded as it was when stored
        ("price", "185.5", Comparison("price", "==", Decimal("185.5"))),
        ("price", Decimal("0.123456789"), NEVER),  # nine digits: no such price can be stored
        ("price", {"ne": Decimal("0.123456789")}, KNOWN),
        ("price", {"gt": Decimal("0.123456789")}, Comparison("price", ">", Decimal("0.12345678"))),
        ("price", {"gte": Decimal("-0.123456789")}, Comparison("price", ">", Decimal("-0.12345679"))),
        ("price", {"lte": Decimal("0.123456789")}, Comparison("price", "<", Decimal("0.12345679"))),
        ("price", {"lt": 10**30}, KNOWN),
        ("price", {"gt": 10**30}, NEVER),
        ("price", {"gt": float("-inf")}, KNOWN),
        (
            "price",
            {"gte": "9", "lte": "10"},
            And((Comparison("price", ">=", Decimal(9)), Comparison("price", "<=", 10))),
        ),
        ("volume", {"gt": 10.5}, Comparison("volume", ">", 10)),
        ("volume", {"lt": 10.5}, Comparison("volume", "<", 11)),
        ("volume", [1, 1.5, 2.0], IsIn("volume", (1, 2))),
        ("volume", 2**70, NEVER),
        ("rsi", {"gt": Decimal("70.5")}, Comparison("rsi", ">", 70.5)),
        (
            "timestamp",
            "2024-01-15T12:00:00+01:00",
            Comparison("timestamp", "==", datetime(2024, 1, 15, 11, tzinfo=UTC)),
        ),
        ("timestamp", {"lte": date(2024, 1, 15)}, Comparison("timestamp", "<", datetime(2024, 1, 16, tzinfo=UTC))),
        ("timestamp", {"gt": "2024-01-15"}, Comparison("timestamp", ">=", datetime(2024, 1, 16, tzinfo=UTC))),
        ("expiration_date", "2024-02-16", Comparison("expiration_date", "==", date(2024, 2, 16))),
        ("live", True, Comparison("live", "==", True)),
        ("parts", None, IsNull("parts")),
    ],
)
def test_constants_take_the_type_of_their_column(column: str, value: Any, expected: Any) -> None:
    assert bound(column, value) == expected


def test_a_day_is_all_its_moments() -> None:
    day = And(
        (
            Comparison("timestamp", ">=", datetime(2024, 1, 15, tzinfo=UTC)),
            Comparison("timestamp", "<", datetime(2024, 1, 16, tzinfo=UTC)),
        )
    )
    assert bound("timestamp", date(2024, 1, 15)) == day
    assert isinstance(bound("timestamp", [date(2024, 1, 15), date(2024, 1, 17)]), Or)


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("symbol", 5, "'symbol' is string, 5 is a int: give a string"),
        ("price", "cheap", "'price' is decimal.*'cheap' is a str: give a number"),
        ("price", True, "True is a bool"),
        ("rsi", float("inf"), "finite"),
        ("volume", b"1", "give a number"),
        ("timestamp", 20240115, "give an aware datetime"),
        ("timestamp", datetime(2024, 1, 15), "time zone"),  # noqa: DTZ001
        ("timestamp", "soon", "ISO 8601"),
        ("expiration_date", datetime(2024, 1, 15, tzinfo=UTC), "give the day: '2024-01-15'"),
        ("live", 1, "True or False"),
        ("parts", "x", "only None"),
        ("prise", 1, "no column 'prise': did you mean 'price'"),
        ("zzzz", 1, "no column 'zzzz': it has symbol, timestamp"),
    ],
)
def test_what_does_not_fit_is_shown(column: str, value: Any, shown: str) -> None:
    with pytest.raises(InvalidQueryError, match=shown):
        bound(column, value)


@given(
    st.decimals(-(10**9), 10**9, places=11),
    st.sampled_from(["gte", "gt", "lte", "lt", "ne"]),
    st.decimals(-10, 10, places=8),
)
def test_exact_constants_keep_their_meaning(constant: Decimal, operator: str, offset: Decimal) -> None:
    stored = constant.quantize(Decimal("1e-8")) + offset.quantize(Decimal("1e-8")) * (abs(offset) < 1)
    asked = filter_expression("price", {operator: constant})
    assert evaluate(bind_expression(asked, SCHEMA, "t"), {"price": stored}) == evaluate(asked, {"price": stored})


def test_only_key_predicates_go_below_a_merge() -> None:
    key = Comparison("symbol", "==", "A")
    other = Comparison("price", ">", 1)
    assert only_columns(And((key, other)), ["symbol", "timestamp"]) == key
    assert only_columns(Or((key, other)), ["symbol"]) == And(())
