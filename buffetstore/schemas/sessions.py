"""When exchanges open and close, from the package exchange_calendars (extra `calendars`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from buffetstore.errors import ConfigurationError, MissingDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Moments = NDArray[np.datetime64]

_FIRST = "1990-01-01"
_LONGEST_BREAK = np.timedelta64(14, "D")  # longer than any row of holidays: beyond it the calendar ends, or has a hole


@dataclass(frozen=True, slots=True)
class Sessions:
    """Every session of an exchange, ascending; moments are microseconds, UTC.

    Parameters
    ----------
    days:
        The dates that the sessions go by (`datetime64[D]`).
    break_starts, break_ends:
        The pause at noon; NaT where there is none.
    tz:
        The zone of the exchange.
    """

    days: Moments
    opens: Moments
    closes: Moments
    break_starts: Moments
    break_ends: Moments
    tz: str


@cache
def sessions_of(mic: str) -> Sessions:
    """Return the sessions of an exchange, read once: that takes a second.

    Parameters
    ----------
    mic:
        The exchange (ISO 10383): 'XNAS'; '24/7' is always open.

    Raises
    ------
    MissingDependencyError
        The package exchange_calendars is not installed.
    ConfigurationError
        It knows no such exchange.
    """
    if find_spec("exchange_calendars") is None:
        raise MissingDependencyError("exchange_calendars", "calendars")
    calendars: Any = import_module("exchange_calendars")
    try:
        calendar = _calendar(calendars, mic)
    except calendars.errors.CalendarError as error:
        raise ConfigurationError(
            f"no calendar for the exchange {mic!r}: use a MIC (ISO 10383) such as 'XNAS'"
        ) from error
    return Sessions(
        days=np.asarray(calendar.sessions.to_numpy(), "datetime64[D]"),
        opens=_moments(calendar.opens),
        closes=_moments(calendar.closes),
        break_starts=_moments(calendar.break_starts),
        break_ends=_moments(calendar.break_ends),
        tz=str(calendar.tz),
    )


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
        calendar = _calendar(calendars, mic)
    except calendars.errors.CalendarError:
        return None
    return _moments(calendar.closes)


def _calendar(calendars: Any, mic: str) -> Any:
    try:
        return calendars.get_calendar(mic, start=_FIRST)
    except calendars.errors.CalendarError:
        raise
    except ValueError:  # it begins later
        return calendars.get_calendar(mic)


def _moments(times: Any) -> Moments:
    return np.asarray(times.dt.tz_convert(None).to_numpy(), "datetime64[us]")
