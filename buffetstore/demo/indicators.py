"""Technical indicators over one symbol's closing prices; NaN until the window is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRADING_DAYS = 252


def moving_average(prices: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """Return the mean of the last `days` prices.

    >>> moving_average(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    array([nan, 1.5, 2.5, 3.5])
    """
    found = np.full(len(prices), np.nan)
    if len(prices) >= days:
        found[days - 1 :] = np.lib.stride_tricks.sliding_window_view(prices, days).mean(axis=1)
    return found


def relative_strength_index(prices: NDArray[np.float64], days: int = 14) -> NDArray[np.float64]:
    """Return Wilder's index, 0 (only losses) to 100 (only gains).

    Source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978): averages of gains and of losses, in
    which each day counts 1/`days` less than the next.
    """
    found = np.full(len(prices), np.nan)
    changes = np.diff(prices)
    if len(changes) < days:
        return found
    weights = (1 - 1 / days) ** np.arange(len(changes))
    total = np.cumsum(weights)
    gains = np.convolve(np.maximum(changes, 0), weights)[: len(changes)] / total
    losses = np.convolve(np.maximum(-changes, 0), weights)[: len(changes)] / total
    moved = gains + losses
    index = np.divide(100 * gains, moved, out=np.full(len(changes), 50.0), where=moved > 0)
    found[days:] = np.clip(index[days - 1 :], 0, 100)
    return found


def volatility(prices: NDArray[np.float64], days: int = 20) -> NDArray[np.float64]:
    """Return the standard deviation of the last `days` daily log returns, annualised (0.25 is 25 % a year)."""
    found = np.full(len(prices), np.nan)
    returns = np.diff(np.log(prices))
    if len(returns) >= days:
        windows = np.lib.stride_tricks.sliding_window_view(returns, days)
        found[days:] = windows.std(axis=1, ddof=1) * np.sqrt(TRADING_DAYS)
    return found
