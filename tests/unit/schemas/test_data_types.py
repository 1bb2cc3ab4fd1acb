"""Every error and every warning that the data model names, for each built-in type."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from buffetstore.schemas import (
    MarketData,
    MarketDataV100,
    Price,
    Record,
    SchemaManager,
    ValidationResult,
    contract_of,
)
from buffetstore.schemas.registry import BUILT_IN

DAY = datetime(2024, 1, 2, tzinfo=UTC)
ROWS: dict[str, dict[str, Any]] = {
    "market_data": {"symbol": "AAPL", "timestamp": DAY, "price": 187.2, "volume": 10, "data_source": "x"},
    "forecasts": {
        "symbol": "AAPL",
        "model_name": "naive",
        "model_version": "1",
        "timestamp": DAY,
        "forecast_horizon_days": 5,
        "data_source": "x",
        "predicted_price": 190,
    },
    "options_data": {
        "underlying_symbol": "AAPL",
        "contract_symbol": "AAPL  240119C00190000",
        "expiration_date": date(2024, 1, 19),
        "strike_price": 190,
        "option_type": "call",
        "timestamp": DAY,
        "data_source": "x",
    },
    "trades": {"symbol": "AAPL", "timestamp": DAY, "sequence": 1, "data_source": "x", "price": 187.2, "size": 100},
    "quotes": {"symbol": "AAPL", "timestamp": DAY, "sequence": 1, "data_source": "x", "bid": 187.1},
}


def check(data_type: str, *, manager: SchemaManager | None = None, **values: Any) -> ValidationResult:
    return (manager or SchemaManager()).validate_data([ROWS[data_type] | values], data_type, now=DAY.replace(year=2025))


def found(result: ValidationResult) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    return (
        {(finding.field, finding.error_type) for finding in result.errors},
        {(finding.field, finding.error_type) for finding in result.warnings},
    )


@pytest.mark.parametrize("data_type", ROWS)
def test_a_plain_row_is_valid(data_type: str) -> None:
    result = check(data_type)
    assert found(result) == (set(), set())
    assert result.accepted.num_rows == 1


ERRORS = [
    ("market_data", {"price": 0}, "price", "greater_than"),
    ("market_data", {"price": -37.63}, "price", "greater_than"),
    ("market_data", {"price": float("nan")}, "price", "missing"),
    ("market_data", {"price": float("inf")}, "price", "finite_number"),
    ("market_data", {"price": None}, "price", "missing"),
    ("market_data", {"price": "1.123456789"}, "price", "decimal_max_places"),
    ("market_data", {"volume": -1}, "volume", "greater_than_equal"),
    ("market_data", {"volume": 0.5}, "volume", "int_from_float"),
    ("market_data", {"low": 200, "open": 190}, "low", "low_above_open"),
    ("market_data", {"low": 200}, "low", "low_above_close"),
    ("market_data", {"low": 200, "high": 195}, "low", "low_above_high"),
    ("market_data", {"high": 190, "open": 195}, "high", "open_above_high"),
    ("market_data", {"high": 100}, "high", "close_above_high"),
    ("market_data", {"rsi": 100.5}, "rsi", "less_than_equal"),
    ("market_data", {"rsi": -1}, "rsi", "greater_than_equal"),
    ("market_data", {"volatility": -0.1}, "volatility", "greater_than_equal"),
    ("market_data", {"beta": float("inf")}, "beta", "finite_number"),
    ("market_data", {"timestamp": datetime(2024, 1, 2)}, "timestamp", "timezone_aware"),  # noqa: DTZ001
    ("market_data", {"symbol": None}, "symbol", "missing"),
    ("market_data", {"symbol": ""}, "symbol", "string_too_short"),
    ("market_data", {"pric": 5}, "pric", "extra_forbidden"),
    ("forecasts", {"predicted_price": 0}, "predicted_price", "greater_than"),
    ("forecasts", {"forecast_horizon_days": -1}, "forecast_horizon_days", "greater_than_equal"),
    ("forecasts", {"confidence_lower": 9, "confidence_upper": 8}, "confidence_lower", "confidence_bounds_swapped"),
    ("forecasts", {"confidence_score": 1.01}, "confidence_score", "less_than_equal"),
    ("forecasts", {"confidence_score": -0.01}, "confidence_score", "greater_than_equal"),
    (
        "forecasts",
        {"ensemble_predictions": [{"model_name": "a", "weight": 1, "predicted_price": -1}]},
        "ensemble_predictions[].predicted_price",
        "greater_than",
    ),
    (
        "forecasts",
        {"ensemble_predictions": [{"model_name": "a", "predicted_price": 1}]},
        "ensemble_predictions[].weight",
        "missing",
    ),
    ("options_data", {"strike_price": 0}, "strike_price", "greater_than"),
    ("options_data", {"option_type": "straddle"}, "option_type", "literal_error"),
    ("options_data", {"delta": 1.2}, "delta", "less_than_equal"),
    ("options_data", {"delta": -1.2}, "delta", "greater_than_equal"),
    ("options_data", {"gamma": -0.1}, "gamma", "greater_than_equal"),
    ("options_data", {"vega": -0.1}, "vega", "greater_than_equal"),
    ("options_data", {"implied_volatility": -0.1}, "implied_volatility", "greater_than_equal"),
    ("trades", {"price": 0}, "price", "greater_than"),
    ("trades", {"size": -1}, "size", "greater_than_equal"),
    ("trades", {"sequence": None}, "sequence", "missing"),
    ("quotes", {"bid_size": Decimal("-0.5")}, "bid_size", "greater_than_equal"),
]


@pytest.mark.parametrize(("data_type", "values", "field", "error_type"), ERRORS)
def test_an_impossible_value_is_an_error(data_type: str, values: dict[str, Any], field: str, error_type: str) -> None:
    result = check(data_type, **values)
    assert (field, error_type) in found(result)[0]
    assert result.rejected == [0]
    assert result.accepted.num_rows == 0


WARNINGS = [
    ("market_data", {"close": 190}, "close", "close_not_price"),
    ("forecasts", {"confidence_lower": 191}, "predicted_price", "below_confidence"),
    ("forecasts", {"confidence_upper": 189}, "predicted_price", "above_confidence"),
    ("forecasts", {"forecast_horizon_days": 0}, "horizon_seconds", "no_horizon"),
    ("options_data", {"bid": 2, "ask": 1}, "bid", "crossed_quote"),
    ("options_data", {"strike_price": 195}, "strike_price", "contract_symbol_disagrees"),
    (
        "options_data",
        {"implied_volatility": 0, "delta": 0, "gamma": 0, "theta": 0, "vega": 0, "rho": 0},
        "implied_volatility",
        "greeks_missing",
    ),
    ("quotes", {"ask": 187}, "bid", "crossed_quote"),
]


@pytest.mark.parametrize(("data_type", "values", "field", "warning"), WARNINGS)
def test_an_odd_value_is_stored_with_a_warning(
    data_type: str, values: dict[str, Any], field: str, warning: str
) -> None:
    result = check(data_type, **values)
    assert found(result) == (set(), {(field, warning)})
    assert (result.accepted.num_rows, result.warning_count) == (1, 1)


FINE = [
    ("market_data", {"volume": 0}),
    ("market_data", {"low": 187.2, "high": 187.2, "open": 187.2}),
    ("market_data", {"adjusted_close": 1, "low": 187, "high": 188}),
    ("market_data", {"rsi": 0}),
    ("market_data", {"rsi": 100, "volatility": 0, "pe_ratio": -4, "beta": -1}),
    ("market_data", {"symbol": "BTC/USD"}),
    ("market_data", {"symbol": "^GSPC"}),
    ("market_data", {"symbol": "ES=F"}),
    ("market_data", {"symbol": ".."}),
    ("market_data", {"symbol": "株式"}),
    ("forecasts", {"forecast_horizon_days": 0, "horizon_seconds": 3600}),
    ("forecasts", {"confidence_lower": 180, "confidence_upper": 200, "confidence_score": 1, "r2": -3}),
    ("options_data", {"option_type": "C"}),
    ("options_data", {"option_type": "CALL"}),
    ("options_data", {"delta": -1, "gamma": 0, "ask": 3}),
    ("options_data", {"implied_volatility": 0, "delta": 1, "gamma": 0, "theta": 0, "vega": 0, "rho": 0}),
    ("quotes", {"bid": None}),
    ("quotes", {"ask": 187.1}),
]


@pytest.mark.parametrize(("data_type", "values"), FINE)
def test_what_really_happens_passes(data_type: str, values: dict[str, Any]) -> None:
    assert found(check(data_type, **values)) == (set(), set())


def test_price_and_close_fill_each_other() -> None:
    [filled] = check("market_data", price=None, close=5).accepted.to_pylist()
    assert (filled["price"], filled["close"]) == (5, 5)
    [filled] = check("market_data").accepted.to_pylist()
    assert filled["close"] == Decimal("187.2")


def test_the_target_date_is_the_utc_date_plus_the_horizon() -> None:
    assert check("forecasts").accepted["target_date"].to_pylist() == [date(2024, 1, 7)]
    given = check("forecasts", target_date=date(2024, 2, 1))
    assert given.accepted["target_date"].to_pylist() == [date(2024, 2, 1)]


def test_greeks_that_are_all_zero_are_stored_as_null() -> None:
    zero = dict.fromkeys(["implied_volatility", "delta", "gamma", "theta", "vega", "rho"], 0)
    [stored] = check("options_data", **zero).accepted.to_pylist()
    assert {stored[name] for name in zero} == {None}


def test_an_option_without_a_symbol_gets_one() -> None:
    [stored] = check("options_data", contract_symbol=None).accepted.to_pylist()
    assert stored["contract_symbol"] == "AAPL  240119C00190000"
    assert stored["multiplier"] == 100


def test_oil_may_trade_below_zero_in_a_subclass() -> None:
    class Oil(MarketData):
        price: Price

    relaxed = SchemaManager([Oil])
    assert check("market_data", manager=relaxed, price=-37.63).is_valid
    assert not check("market_data", manager=relaxed, price=-37.63, volume=-1).is_valid
    assert not check("market_data", price=-37.63).is_valid, "the built-in type is as it was"


def test_floats_are_rounded_half_even_and_counted() -> None:
    result = check("market_data", price=0.123456785, market_cap=1e12 + 0.125)
    [stored] = result.accepted.to_pylist()
    assert (stored["price"], stored["market_cap"]) == (Decimal("0.12345678"), Decimal("1000000000000.12"))
    assert result.rounded == 2


@pytest.mark.parametrize("model", BUILT_IN, ids=lambda model: f"{model.__name__}")
def test_every_version_is_kept_and_every_field_of_it_stays(model: type[Record]) -> None:
    contract = contract_of(model)
    held = SchemaManager().contract(contract.data_type, contract.version)
    assert held is contract
    newest = SchemaManager().contract(contract.data_type)
    assert set(contract.schema.names) <= set(newest.schema.names)
    assert held.key == newest.key


def test_an_old_version_refuses_later_fields() -> None:
    rows = [ROWS["market_data"] | {"rsi": 5}]
    result = SchemaManager().validate_data(rows, "market_data", "v1.0.0")
    assert result.schema_version == "1.0.0"
    assert {finding.field for finding in result.errors} == {"rsi"}
    assert (
        SchemaManager().validate_data([MarketDataV100(**ROWS["market_data"])], "market_data").schema_version == "1.0.0"
    )
