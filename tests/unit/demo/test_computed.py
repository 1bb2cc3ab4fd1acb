"""What the demo computes is right, not only plausible."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from buffetstore.demo.bars import by_symbol, load_bars, with_indicators
from buffetstore.demo.forecasts import forecasts_of, held
from buffetstore.demo.indicators import moving_average, relative_strength_index, volatility
from buffetstore.demo.options import black_scholes, chain_of


def wilder(prices: list[float], days: int) -> float:
    """The last value of Wilder's index, as he describes it, one day at a time, from a start long ago."""
    gain = loss = 0.0
    for before, after in pairwise(prices):
        gain += (max(after - before, 0) - gain) / days
        loss += (max(before - after, 0) - loss) / days
    return 100 - 100 / (1 + gain / loss)


def test_the_strength_index_is_wilders() -> None:
    prices = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.02, 600)))
    assert relative_strength_index(prices)[-1] == pytest.approx(wilder(prices.tolist(), 14), abs=1e-6)


def test_the_strength_index_knows_its_ends() -> None:
    up = np.arange(1.0, 40.0)
    assert np.isnan(relative_strength_index(up)[:14]).all()
    assert (relative_strength_index(up)[14:] == 100).all()
    assert (relative_strength_index(up[::-1])[14:] == 0).all()
    assert (relative_strength_index(np.full(40, 5.0))[14:] == 50).all()


def test_windows_that_never_fill_have_no_value() -> None:
    short = np.array([1.0, 2.0, 3.0])
    for found in (moving_average(short, 20), relative_strength_index(short), volatility(short)):
        assert np.isnan(found).all()


def test_volatility_of_a_steady_growth_is_nothing() -> None:
    assert volatility(1.01 ** np.arange(50.0))[-1] == pytest.approx(0, abs=1e-9)


def test_black_scholes_keeps_put_call_parity_and_the_textbook_value() -> None:
    strikes = np.array([35.0, 40.0, 45.0])
    call = black_scholes(42, strikes, 0.5, 0.1, 0.2, call=True)
    put = black_scholes(42, strikes, 0.5, 0.1, 0.2, call=False)
    assert call["price"] - put["price"] == pytest.approx(42 - strikes * math.exp(-0.05))
    # J. C. Hull, Options, Futures and Other Derivatives, the chapter on the Black-Scholes-Merton model.
    assert (call["price"][1], put["price"][1]) == (pytest.approx(4.76, abs=0.005), pytest.approx(0.81, abs=0.005))
    assert call["delta"] - put["delta"] == pytest.approx(1.0)


@pytest.mark.parametrize("greek", ["delta", "rho", "vega", "theta"])
def test_greeks_are_slopes_of_the_price(greek: str) -> None:
    strike = np.array([100.0])

    def price(spot: float = 103, years: float = 0.4, rate: float = 0.02, sigma: float = 0.3) -> float:
        return float(black_scholes(spot, strike, years, rate, sigma, call=True)["price"][0])

    step = 1e-4
    slopes = {
        "delta": (price(spot=103 + step) - price(spot=103 - step)) / (2 * step),
        "rho": (price(rate=0.02 + step) - price(rate=0.02 - step)) / (2 * step) / 100,
        "vega": (price(sigma=0.3 + step) - price(sigma=0.3 - step)) / (2 * step) / 100,
        "theta": -(price(years=0.4 + step) - price(years=0.4 - step)) / (2 * step) / 365,
    }
    found = black_scholes(103, strike, 0.4, 0.02, 0.3, call=True)[greek][0]
    assert found == pytest.approx(slopes[greek], rel=1e-5)


def test_the_bars_are_the_real_ones() -> None:
    bars = load_bars()
    assert bars.num_rows == 12154
    assert set(bars["Ticker"].to_pylist()) == {"AAPL", "FB", "GOOG", "IBM", "MSFT"}
    enriched = with_indicators(bars)
    assert enriched.num_rows == bars.num_rows
    assert enriched["sma_200"].null_count == 5 * 199 - max(0, 199 - 196), "FB has 196 days, too few for the average"
    assert enriched["rsi"].null_count == 5 * 14
    assert not any(math.isnan(value) for value in enriched["volatility"].drop_null().to_pylist())


def test_a_split_is_no_crash() -> None:
    """Apple split 2:1 on 2005-02-28: the index from traded prices would fall to nearly nothing."""
    rows = with_indicators(load_bars()).to_pylist()
    rsi = {row["Date"].isoformat(): row["rsi"] for row in rows if row["Ticker"] == "AAPL"}
    assert rsi["2005-02-28"] > 50


def test_forecasts_see_only_the_past() -> None:
    own = next(closes for _, closes in by_symbol(load_bars()))
    all_of_them = list(forecasts_of(own))
    cut = 2000
    earlier = list(forecasts_of(type(own)(own.symbol, own.days[:cut], own.closes[:cut], own.adjusted[:cut])))
    assert len(earlier) > 80
    assert earlier == all_of_them[: len(earlier)]


def test_intervals_hold_about_as_often_as_they_say() -> None:
    for _, own in by_symbol(load_bars()):
        forecasts = list(forecasts_of(own))
        if forecasts:
            inside, judged = held(own, forecasts)
            assert 0.85 < inside / judged < 1


def test_a_chain_is_around_the_money_and_expires_on_fridays() -> None:
    for _, own in by_symbol(load_bars()):
        chain = list(chain_of(own, 0.3))
        assert len(chain) == 2 * 3 * len({row["strike_price"] for row in chain})
        assert {row["expiration_date"].weekday() for row in chain} == {4}
        assert min(row["strike_price"] for row in chain) < own.closes[-1] < max(row["strike_price"] for row in chain)
