# ruff: noqa: DTZ001 naive times are among what is tested
"""The kernels and the value-by-value oracle give the same columns and refuse the same rows."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Context, Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from buffetstore.schemas.availability import length_of
from buffetstore.schemas.coerce import Column, Target
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.market_data import MarketData
from buffetstore.schemas.osi import build_osi, parse_osi
from buffetstore.schemas.record import contract_of
from buffetstore.schemas.values import UnfitValueError, converter

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW_YORK = "America/New_York"
PRICE, MONEY = pa.decimal128(18, 8), pa.decimal128(22, 2)
MICROSECONDS = pa.timestamp("us", "UTC")
WIDE = Context(prec=400, rounding=ROUND_HALF_EVEN)

cents = st.integers(-(10**9), 10**9).map(lambda n: n / 100)
halves = st.integers(-(10**6), 10**6).map(lambda n: (n + 0.5) / 10**8)
floats = st.one_of(
    st.floats(), cents, halves, st.floats(-1e10, 1e10), st.integers(-(2**60), 2**60).map(float), st.just(0.1 + 0.2)
)


def coerced(column_of, kind, tz=None):
    errors = Findings()
    column = Column(Target("x", kind, tz=tz), errors)
    column_of(column)
    return column.finish().to_pylist(), errors.rows.tolist(), column.rounded


def oracle(values, kind, tz=None):
    made, bad = [], []
    convert = converter(kind, tz)
    for row, value in enumerate(values):
        try:
            made.append(convert(value))
        except UnfitValueError:
            made.append(None)
            bad.append(row)
    return made, bad


@pytest.mark.parametrize("kind", [PRICE, MONEY, pa.decimal128(38, 20), pa.decimal128(9, 4), pa.decimal128(5, 0)])
@given(st.lists(floats, min_size=1, max_size=60))
@example([5e-9, 1.5e-8, 2.5e-8, 0.125, 2.675, 9999999999.5, 99999.99999999999, -0.0, 5e-324, math.inf, math.nan])
def test_floats_become_the_decimal_they_print_as(kind, values):
    made, bad, rounded = coerced(lambda column: column.add_array(pa.array(values, pa.float64())), kind)
    expected, refused, changed = [], [], 0
    for row, value in enumerate(values):
        number = Decimal(repr(value))
        fitted = None
        if number.is_finite():
            fitted = number.quantize(Decimal(1).scaleb(-kind.scale), context=WIDE)
            if abs(fitted) >= Decimal(10) ** (kind.precision - kind.scale):
                fitted = None
            changed += fitted is not None and fitted != number
        if fitted is None and not number.is_nan():
            refused.append(row)
        expected.append(fitted)
    assert made == expected
    assert bad == refused
    assert rounded == changed
    assert (made, bad) == oracle(values, kind)


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    floats,
    floats.map(np.float64),
    st.integers(0, 9).map(np.int32),
    st.booleans().map(np.bool_),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.sampled_from(
        ["1", " 1.5 ", "1e3", "nan", "", "x", "2024-01-02", "20240102", "2024-01-02T03:04:05Z", "true", "é"]
    ),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.sampled_from([UTC, ZoneInfo(NEW_YORK)])),
    st.dates(),
    st.sampled_from([pd.NaT, pd.NA, pd.Timestamp("2024-01-02T03:04:05Z"), pd.Timestamp(1), b"bytes", [1], {"a": 1}]),
    st.just(np.datetime64("2024-01-02T03:04:05.123456789")),
)
float32s = st.floats(width=32).map(np.float32)
KINDS = [PRICE, MONEY, pa.int64(), pa.int32(), pa.float64(), pa.string(), pa.bool_(), pa.date32(), MICROSECONDS]


@pytest.mark.parametrize("tz", [None, NEW_YORK])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(st.data())
def test_python_values_of_any_mix(kind, tz, data):
    family = data.draw(st.sampled_from([anything, *anything.branches, float32s]))
    values = data.draw(st.lists(st.one_of(st.none(), family), min_size=1, max_size=12))
    made, bad, _ = coerced(lambda column: column.add_values(values), kind, tz)
    assert (made, bad) == oracle(values, kind, tz)


texts = st.one_of(
    st.none(),
    st.decimals(allow_nan=False, allow_infinity=False, places=8).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(datetime.isoformat),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30)))).map(datetime.isoformat),
    st.dates().map(date.isoformat),
    st.text(max_size=3),
    st.sampled_from(
        ["2024-01-02T03:04:05.123456700Z", "2024-01-02T03:04:05.1234567Z", "19980102 00:00", "2024-03-10 02:30"]
    ),
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(st.data())
def test_text_columns(kind, data):
    family = data.draw(st.sampled_from([texts, *texts.branches]))
    values = data.draw(st.lists(st.one_of(st.none(), family), min_size=1, max_size=12))
    made, bad, _ = coerced(lambda column: column.add_array(pa.array(values, pa.string())), kind, NEW_YORK)
    assert (made, bad) == oracle(values, kind, NEW_YORK)


@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), min_size=1, max_size=20))
@example([datetime(2024, 3, 10, 2, 30), datetime(2024, 11, 3, 1, 30), datetime(2024, 7, 1)])
def test_local_times_with_a_zone(values):
    made, bad, _ = coerced(
        lambda column: column.add_array(pa.array(values, pa.timestamp("us"))), MICROSECONDS, NEW_YORK
    )
    assert (made, bad) == oracle(values, MICROSECONDS, NEW_YORK)


rows = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["AAPL", "BTC/USD", "^GSPC", "..", "Ünï"]),
        "timestamp": st.datetimes(datetime(1990, 1, 1), datetime(2025, 1, 1), timezones=st.just(UTC)),
        "price": st.floats(0.01, 1e6) | st.integers(1, 10**9).map(lambda n: n / 100),
        "volume": st.integers(0, 2**40),
        "data_source": st.just("exchange"),
        "rsi": st.none() | st.floats(0, 100),
        "market_cap": st.none() | st.floats(1e6, 1e13),
    }
)


@given(st.lists(rows, min_size=1, max_size=30))
def test_every_shape_of_the_same_rows_is_the_same_table(given_rows):
    contract = contract_of(MarketData)
    first = take_in(given_rows, contract, now=NOW)
    assert first.error_count == 0
    arrow = pa.Table.from_pylist(given_rows)
    shapes = [
        arrow,
        arrow.to_reader(),
        arrow.to_batches()[0],
        pl.from_arrow(arrow),
        pd.DataFrame(given_rows),
        {name: [row[name] for row in given_rows] for name in given_rows[0]},
        [MarketData(**row) for row in given_rows],
        first.table,
    ]
    for shape in shapes:
        other = take_in(shape, contract, now=NOW)
        assert other.error_count == 0
        assert other.table.equals(first.table)


@given(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=6),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    st.sampled_from(["call", "put"]),
    st.integers(1, 10**8 - 1).map(lambda n: Decimal(n) / 1000),
)
def test_option_symbols_round_trip(root, expiry, right, strike):
    symbol = build_osi(root, expiry, right, strike)
    assert len(symbol) == 21
    for form in (symbol, symbol.replace(" ", ""), f"O:{symbol.replace(' ', '')}", symbol.lower()):
        parts = parse_osi(form)
        assert (parts.root, parts.expiration_date, parts.option_type, parts.strike_price) == (
            root,
            expiry,
            right,
            strike,
        )


@given(st.integers(1, 99_999), st.sampled_from(["s", "m", "h", "d", "w"]))
def test_intervals_have_a_length(count, unit):
    assert length_of(f"{count}{unit}") == count * length_of(f"1{unit}")
