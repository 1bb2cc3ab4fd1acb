from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from buffetstore.schemas.availability import availability, length_of
from buffetstore.schemas.forecasts import Forecast
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.market_data import MarketData
from buffetstore.schemas.options_data import OptionsData
from buffetstore.schemas.record import contract_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MARKET, FORECASTS, OPTIONS = contract_of(MarketData), contract_of(Forecast), contract_of(OptionsData)
PARTS = {
    "underlying_symbol": "AAPL",
    "expiration_date": date(2024, 1, 19),
    "option_type": "call",
    "strike_price": Decimal(150),
}
SYMBOL = "AAPL  240119C00150000"


def take(rows, contract):
    found = take_in(rows, contract, now=NOW)
    assert found.error_count == 0
    return found


def test_price_and_close_fill_each_other():
    table = take([{"price": 1.0}, {"close": 2.0}, {"price": 3.0, "close": 4.0}, {"symbol": "A"}], MARKET).table
    assert table["price"].to_pylist() == [1, 2, 3, None]
    assert table["close"].to_pylist() == [1, 2, 4, None]


def test_target_date_is_the_utc_day_plus_the_horizon():
    rows = [
        {"timestamp": datetime.fromisoformat("2024-02-28T23:00:00-05:00"), "forecast_horizon_days": 1},
        {"timestamp": NOW, "forecast_horizon_days": 1, "target_date": date(2030, 1, 1)},
        {"timestamp": NOW},
        {"timestamp": NOW, "forecast_horizon_days": 10**15},
        {"timestamp": datetime(9999, 12, 30, tzinfo=UTC), "forecast_horizon_days": 1},
        {"timestamp": datetime(9999, 12, 30, tzinfo=UTC), "forecast_horizon_days": 2},
        {"timestamp": datetime(1, 1, 2, tzinfo=UTC), "forecast_horizon_days": -2},
    ]
    found = take(rows, FORECASTS).table["target_date"].to_pylist()
    assert found == [date(2024, 3, 1), date(2030, 1, 1), None, None, date(9999, 12, 31), None, None]


@pytest.mark.parametrize("spelling", ["C", "c", "CALL", "Call"])
def test_option_symbols_are_built_from_the_parts(spelling):
    found = take([{**PARTS, "option_type": spelling}] * 3, OPTIONS)
    assert found.table["contract_symbol"].to_pylist() == [SYMBOL] * 3
    assert found.table["option_type"].to_pylist() == ["call"] * 3


def test_parts_are_read_from_the_symbol():
    found = take([{"contract_symbol": "O:AAPL240119C00150000"}, {"contract_symbol": None}], OPTIONS)
    first = found.table.slice(0, 1).to_pylist()[0]
    assert {name: first[name] for name in PARTS} == PARTS
    assert first["contract_symbol"] == SYMBOL
    assert found.warning_count == 0


def test_disagreement_is_a_warning_and_keeps_what_was_given():
    found = take([{"contract_symbol": SYMBOL, **PARTS, "strike_price": 151, "underlying_symbol": "MSFT"}], OPTIONS)
    assert {(w.field, w.error_type) for w in found.warnings} == {
        ("strike_price", "contract_symbol_disagrees"),
        ("underlying_symbol", "contract_symbol_disagrees"),
    }
    assert found.table["strike_price"].to_pylist() == [151]
    assert found.table["contract_symbol"].to_pylist() == [SYMBOL]


def test_a_weekly_root_is_its_underlyings():
    found = take([{**PARTS, "contract_symbol": "SPXW240119C150", "underlying_symbol": "^SPX"}], OPTIONS)
    assert found.warning_count == 0


def test_a_symbol_that_cannot_be_built_stays_open():
    found = take([{**PARTS, "underlying_symbol": "TOOLONG"}, PARTS], OPTIONS)
    assert found.table["contract_symbol"].to_pylist() == [None, SYMBOL]
    assert [(w.error_type, w.record_index) for w in found.warnings] == [("contract_symbol_not_built", 0)]


def test_foreign_symbols_are_kept():
    found = take([{**PARTS, "contract_symbol": "BTC-27DEC24-50000-C"}], OPTIONS)
    assert found.table["contract_symbol"].to_pylist() == ["BTC-27DEC24-50000-C"]
    assert found.warning_count == 0


def test_zero_volatility_with_zero_greeks_means_none():
    zero = dict.fromkeys(("implied_volatility", "delta", "gamma", "theta", "vega", "rho"), 0)
    found = take([zero, {**zero, "delta": 0.5}, {**zero, "vega": None}], OPTIONS)
    assert [(w.error_type, w.record_index) for w in found.warnings] == [("greeks_missing", 0)]
    assert found.table["implied_volatility"].to_pylist() == [None, 0, 0]
    assert found.table["delta"].to_pylist() == [None, 0.5, 0]


@pytest.mark.parametrize(
    ("interval", "end"),
    [
        ("tick", "2024-01-15T14:30:00"),
        ("1m", "2024-01-15T14:31:00"),
        ("4h", "2024-01-15T18:30:00"),
        ("1d", "2024-01-16T00:00:00"),
        ("1w", "2024-01-22T00:00:00"),
        ("1mo", "2024-02-01T00:00:00"),
        ("1q", "2024-04-01T00:00:00"),
        ("1y", "2025-01-01T00:00:00"),
        ("renko", "2026-01-01T00:00:00"),
        ("99999999999d", "2026-01-01T00:00:00"),
    ],
)
def test_availability_is_derived_from_the_bar(interval, end):
    row = {"timestamp": datetime(2024, 1, 15, 14, 30, tzinfo=UTC), "interval": interval}
    stated = datetime(2024, 5, 1, tzinfo=UTC)
    table = take([row, {**row, "available_at": stated}, {"interval": interval}], MARKET).table
    expected = datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert availability(table, MARKET).to_pylist() == [expected, stated, NOW]
    pieces = pa.concat_tables([table, table])
    assert availability(pieces, MARKET).to_pylist() == [expected, stated, NOW] * 2


def test_availability_without_bars_is_the_load_time():
    assert availability(take([PARTS], OPTIONS).table, OPTIONS).to_pylist() == [NOW]


def test_lengths():
    assert [length_of(text) for text in ("1M", "m", "", "-1d")] == [None] * 4
