"""When exchanges close, from the package exchange_calendars (extra `calendars`)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Moments = NDArray[np.datetime64]

_FIRST = "1990-01-01"
_LONGEST_BREAK = np.timedelta64(14, "D")  # longer than any row of holidays: beyond it the calendar ends, or has a hole


def next_close(mic: str, moments: Moments) -> Moments | None:
    """Return the session's close at or after each moment, in UTC; NaT where the calendar does not reach.

    A daily bar may be stamped at midnight UTC, at midnight where the exchange is, at the open or at the close: of all
    these the next close is the one that ends its session.

    Parameters
    ----------
    mic:
        The exchange (ISO 10383): 'XNAS'.
    moments:
        Microseconds, UTC.

    Returns
    -------
    None where the exchange is unknown or the package is not installed.
    """
    closes = _closes(mic)
    if closes is None or not len(closes):
        return None
    at = np.searchsorted(closes, moments)
    found = closes[np.minimum(at, len(closes) - 1)]
    reached = (at < len(closes)) & (found - moments <= _LONGEST_BREAK)
    return np.where(reached, found, np.datetime64("NaT", "us"))


@cache
def _closes(mic: str) -> Moments | None:
    """Return every close of the exchange, ascending; read once, because making a calendar takes a second."""
    if find_spec("exchange_calendars") is None:
        return None
    calendars: Any = import_module("exchange_calendars")
    try:
        calendar = calendars.get_calendar(mic, start=_FIRST)
    except calendars.errors.CalendarError:
        return None
    except ValueError:  # it begins later
        calendar = calendars.get_calendar(mic)
    return np.asarray(calendar.closes.dt.tz_convert(None).to_numpy(), "datetime64[us]")
