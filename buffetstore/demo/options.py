"""An option chain computed by the Black-Scholes formula. Its prices are theoretical: nobody quoted them."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from buffetstore.demo.bars import Closes

SOURCE: Final = "black-scholes"
_RATE = 0.01  # a year; the demo's assumption, as is the absence of dividends
_DAYS_TO_EXPIRY = (14, 42, 105)
_erf = np.vectorize(math.erf, otypes=[float])


def normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal distribution function."""
    return np.asarray(0.5 * (1 + _erf(x / math.sqrt(2))))


def black_scholes(
    spot: float, strikes: NDArray[np.float64], years: float, rate: float, sigma: float, *, call: bool
) -> dict[str, NDArray[np.float64]]:
    """Return price and Greeks of European options without dividends.

    `theta` is per calendar day, `vega` and `rho` per percentage point. Source: F. Black and M. Scholes, The Pricing
    of Options and Corporate Liabilities, Journal of Political Economy 81 (1973).
    """
    root = sigma * math.sqrt(years)
    d1 = (np.log(spot / strikes) + (rate + sigma**2 / 2) * years) / root
    d2 = d1 - root
    side = 1.0 if call else -1.0
    discounted = strikes * math.exp(-rate * years)
    density = np.exp(-(d1**2) / 2) / math.sqrt(2 * math.pi)
    decay = -spot * density * sigma / (2 * math.sqrt(years))
    return {
        "price": side * (spot * normal_cdf(side * d1) - discounted * normal_cdf(side * d2)),
        "delta": side * normal_cdf(side * d1),
        "gamma": density / (spot * root),
        "vega": spot * density * math.sqrt(years) / 100,
        "theta": (decay - side * rate * discounted * normal_cdf(side * d2)) / 365,
        "rho": side * years * discounted * normal_cdf(side * d2) / 100,
    }


def chain_of(own: Closes, sigma: float) -> Iterator[dict[str, Any]]:
    """Yield calls and puts on the last close of `own`, as rows of the data type `options_data`."""
    spot, day = float(own.closes[-1]), own.days[-1].item()
    step = 10.0 ** math.floor(math.log10(spot * 0.1)) * (5 if spot * 0.1 >= 50 else 1)
    nearest = round(spot / step) * step
    around: NDArray[np.float64] = nearest + step * np.arange(-8.0, 9.0)
    strikes = around[around > 0]
    for days in _DAYS_TO_EXPIRY:
        expiry = _friday_from(day + timedelta(days=days))
        for kind in ("call", "put"):
            years = (expiry - day).days / 365
            values = black_scholes(spot, strikes, years, _RATE, sigma, call=kind == "call")
            for number, strike in enumerate(strikes):
                row = {name: float(column[number]) for name, column in values.items()}
                yield _row(own.symbol, day, expiry, kind, spot, float(strike), sigma, row)


def _row(
    symbol: str, day: date, expiry: date, kind: str, spot: float, strike: float, sigma: float, values: dict[str, float]
) -> dict[str, Any]:
    intrinsic = max(spot - strike, 0.0) if kind == "call" else max(strike - spot, 0.0)
    mark = values.pop("price")
    return {
        "underlying_symbol": symbol,
        "expiration_date": expiry,
        "strike_price": strike,
        "option_type": kind,
        "timestamp": f"{day.isoformat()}T21:00:00+00:00",
        "mark_price": mark,
        "underlying_price": spot,
        "intrinsic_value": intrinsic,
        "time_value": mark - intrinsic,
        "implied_volatility": sigma,
        "exercise_style": "european",
        "currency": "USD",
        "data_source": SOURCE,
        **values,
    }


def _friday_from(day: date) -> date:
    return day + timedelta(days=(4 - day.weekday()) % 7)
