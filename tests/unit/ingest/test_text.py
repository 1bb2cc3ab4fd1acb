from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffetstore.ingest.text import Typed, typed

PRICE = pa.decimal128(18, 8)
KINDS = {"price": PRICE, "volume": pa.int64(), "symbol": pa.string(), "delta": pa.float64()}
DATED = {"timestamp": pa.timestamp("us", "UTC"), "day": pa.date32()}


def texts(**columns: list[str | None]) -> pa.Table:
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def rows_of(found: Typed) -> list[tuple[dict[str, list[object]], list[int]]]:
    return [(rows.to_pydict(), positions.tolist()) for rows, positions in found.parts]


def test_numbers_become_numbers_and_text_stays_text() -> None:
    found = typed(texts(symbol=["0700", "NA"], price=[" 1.5", "-2e3"], volume=["7", "-8"], other=["1", "2"]), KINDS)
    assert rows_of(found) == [
        (
            {
                "symbol": ["0700", "NA"],
                "price": [Decimal("1.5"), Decimal(-2000)],
                "volume": [7, -8],
                "other": ["1", "2"],
            },
            [0, 1],
        )
    ]
    assert found.parts[0][0].schema.types == [pa.string(), PRICE, pa.int64(), pa.string()]


def test_words_for_no_number_are_null_in_numbers_only() -> None:
    words = ["nan", "NaN", "null", "N/A", "NA", "None", "-", "", None]
    ((rows, _),) = typed(texts(symbol=words, price=words, volume=words, delta=words), KINDS).parts
    for name in ("price", "volume", "delta"):
        assert rows[name].to_pylist() == [None] * len(words)
    assert rows["symbol"].to_pylist() == words


def test_whole_numbers_are_taken_however_they_are_spelled() -> None:
    volumes = ["100.0", "1e5", "+7", "1.5E3", "9007199254740993.0", "-9223372036854775808", None]
    ((rows, _),) = typed(texts(volume=volumes), KINDS).parts
    assert rows["volume"].to_pylist() == [100, 100_000, 7, 1500, 9_007_199_254_740_993, -(2**63), None]


def test_what_is_no_number_of_its_field_is_left_to_the_contract() -> None:
    (whole, _), (odd, positions) = typed(
        texts(volume=["1", "99999999999999999999", "1.5", "many"], price=["1", "2", "3", "12345678901"]), KINDS
    ).parts
    assert whole["volume"].to_pylist() == [1]
    assert positions.tolist() == [1, 2, 3]
    assert odd["volume"].to_pylist() == ["99999999999999999999", "1.5", "many"]
    assert odd["price"].to_pylist() == ["2", "3", "12345678901"]


@pytest.mark.parametrize("spelled", ["0x10", "0X1F", "1_000", "one"])
def test_what_only_a_kernel_or_only_python_takes_for_a_number_is_none(spelled: str) -> None:
    (_, first), (odd, positions) = typed(texts(volume=["1", spelled], price=["1", "2"]), KINDS).parts
    assert (first.tolist(), positions.tolist(), odd["volume"].to_pylist()) == ([0], [1], [spelled])


def test_floats_are_floats_and_words_are_odd() -> None:
    (rows, _), (odd, positions) = typed(texts(delta=["0.5", "1e-3", "high"]), KINDS).parts
    assert rows["delta"].to_pylist() == [0.5, 0.001]
    assert (odd["delta"].to_pylist(), positions.tolist()) == (["high"], [2])


def test_nothing_but_odd_rows_and_nothing_at_all() -> None:
    ((odd, positions),) = typed(texts(price=["x", "y"]), KINDS).parts
    assert positions.tolist() == [0, 1]
    assert odd["price"].to_pylist() == ["x", "y"]
    assert typed(texts(price=[]), KINDS).parts == []


def test_rounding_is_half_even_and_counted() -> None:
    prices = ["0.123456785", "0.123456775", "185.63999938964844", "1.50000000000", "1e-9", "-0.000000015"]
    found = typed(texts(price=prices), KINDS)
    assert found.parts[0][0]["price"].to_pylist() == [
        Decimal("0.12345678"),
        Decimal("0.12345678"),
        Decimal("185.63999939"),
        Decimal("1.5"),
        Decimal(0),
        Decimal("-0.00000002"),
    ]
    assert found.rounded == 5


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**10) + 1, max_value=10**10 - 1))
@example(Decimal("0.000000005") + Decimal(1).scaleb(-40))  # a tie but for the fortieth place
@example(Decimal("1234567890.12345678"))
@example(Decimal("1.5E+9"))
def test_every_decimal_is_read_exactly_or_rounded_once(number: Decimal) -> None:
    expected = number.quantize(Decimal("1e-8"), ROUND_HALF_EVEN)
    if abs(expected) >= 10**10:
        return
    found = typed(texts(price=[str(number), "1.25"]), KINDS)
    assert found.parts[0][0]["price"].to_pylist() == [expected, Decimal("1.25")]
    assert found.rounded == (number != expected)


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        ("1.234.567,25", "1234567.25"),
        ("1,5", "1.5"),
        ("-12.345", "-12345"),
        ("12", "12"),
        ("1e3", "1000"),
    ],
)
def test_the_continental_way(spelled: str, number: str) -> None:
    ((rows, _),) = typed(texts(price=[spelled]), KINDS, decimal=",", thousands=".").parts
    assert rows["price"].to_pylist() == [Decimal(number)]


def test_thousands_are_parted_in_threes_or_not_at_all() -> None:
    (rows, _), (odd, positions) = typed(
        texts(price=["1,234.5", "1,5", "12,34", "1,234,567"], volume=["1,000", "2", "3", "4"]), KINDS, thousands=","
    ).parts
    assert rows.to_pydict() == {"price": [Decimal("1234.5"), Decimal(1234567)], "volume": [1000, 4]}
    assert (odd["price"].to_pylist(), positions.tolist()) == (["1,5", "12,34"], [1, 2])
    (odd,) = (rows for rows, _ in typed(texts(price=["1.5"]), KINDS, decimal=",").parts)
    assert odd["price"].to_pylist() == ["1.5 (decimals follow ',')"]


def test_compact_dates_get_their_hyphens() -> None:
    times = ["19980102 00:00", "20240131", "20240131T09:30:00Z", None]
    ((rows, _),) = typed(texts(timestamp=times, day=["20240131", "", None, "2024"]), DATED).parts
    assert rows["timestamp"].to_pylist() == ["1998-01-02 00:00", "2024-01-31", "2024-01-31T09:30:00Z", None]
    assert rows["day"].to_pylist() == ["2024-01-31", "", None, "2024"]
