"""Forecasts of a simple model that has a name: the random walk with drift, each made from the past alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.demo.bars import Closes

MODEL: Final = "random_walk_drift"
LEVEL: Final = 0.95  # of the interval
_QUANTILE = 1.959964  # of the normal distribution, for that level
_WINDOW, _HORIZON_DAYS, _HORIZON_TRADING_DAYS = 250, 30, 21


def forecasts_of(own: Closes) -> Iterator[dict[str, Any]]:
    """Yield one forecast a month, 30 days ahead, as rows of the data type `forecasts`.

    Drift and spread are those of the last 250 daily log returns. Prices are in the dollars of the forecast's day.
    """
    returns = np.diff(np.log(own.adjusted))
    months = own.days.astype("datetime64[M]")
    last_of_month = np.flatnonzero(months[1:] != months[:-1])
    for day in last_of_month[last_of_month >= _WINDOW]:
        past = returns[day - _WINDOW : day]
        middle = past.mean() * _HORIZON_TRADING_DAYS
        spread = _QUANTILE * past.std(ddof=1) * np.sqrt(_HORIZON_TRADING_DAYS)
        price = own.closes[day]
        yield {
            "symbol": own.symbol,
            "model_name": MODEL,
            "model_version": "1.0",
            "timestamp": own.days[day].item().isoformat() + "T21:00:00+00:00",
            "forecast_horizon_days": _HORIZON_DAYS,
            "predicted_price": float(price * np.exp(middle)),
            "confidence_lower": float(price * np.exp(middle - spread)),
            "confidence_upper": float(price * np.exp(middle + spread)),
            "confidence_score": LEVEL,
        }


def held(own: Closes, forecasts: list[dict[str, Any]]) -> tuple[int, int]:
    """Return in how many of the forecasts the price came out inside the interval, and how many can be judged."""
    made = np.array([forecast["timestamp"][:10] for forecast in forecasts], dtype="datetime64[D]")
    at = np.searchsorted(own.days, made)
    due = np.searchsorted(own.days, made + np.timedelta64(_HORIZON_DAYS, "D"))
    known = due < len(own.days)
    at, due = at[known], due[known]
    came_out = own.adjusted[due] * own.closes[at] / own.adjusted[at]
    lower, upper = (
        np.array([forecast[name] for forecast in forecasts])[known] for name in ("confidence_lower", "confidence_upper")
    )
    return int(((lower <= came_out) & (came_out <= upper)).sum()), int(known.sum())
