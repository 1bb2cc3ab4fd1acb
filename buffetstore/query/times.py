"""Moments and days: what a date, a datetime or an ISO string means in a query."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from buffetstore.errors import InvalidQueryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

_EDGES = {"start", "end"}


class TimeRange(NamedTuple):
    """Moments in UTC from `start` up to, and without, `end`; None is open."""

    start: datetime | None = None
    end: datetime | None = None


def zone(name: str | None) -> tzinfo:
    """Return the time zone of an IANA name; None is UTC.

    Raises
    ------
    InvalidQueryError
        There is no such zone.
    """
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise InvalidQueryError(
            f"tz={name!r} is not a time zone: use an IANA name such as 'America/New_York'"
        ) from error


def day_or_moment(value: Any, where: str) -> date | datetime:
    """Return a `date`, or an aware `datetime` in UTC, from either or from an ISO 8601 string.

    Raises
    ------
    InvalidQueryError
        `value` is neither, or is a moment without a time zone.
    """
    if isinstance(value, str):
        value = _parsed(value, where)
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            raise InvalidQueryError(
                f"{where}={value.isoformat()!r} has no time zone: append an offset such as 'Z' or '-05:00', "
                "or pass a date to mean the whole day"
            )
        # Not astimezone: a pandas Timestamp would stay one, with its nanoseconds.
        shifted = value.astimezone(UTC)
        return datetime.combine(shifted.date(), shifted.time(), UTC)
    if isinstance(value, date):
        return value
    raise InvalidQueryError(
        f"{where}={value!r} is a {type(value).__name__}: pass a date, an aware datetime or an ISO 8601 string"
    )


def _parsed(text: str, where: str) -> date | datetime:
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass  # a moment, then
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidQueryError(
            f"{where}={text!r} is not ISO 8601: write '2024-01-31' or '2024-01-31T16:00:00Z'"
        ) from error


def start_of(day: date, where: tzinfo = UTC) -> datetime:
    """Return the moment, in UTC, at which `day` begins in the zone."""
    return datetime.combine(day, time(), where).astimezone(UTC)


def end_of(day: date, where: tzinfo = UTC, *, name: str = "end") -> datetime:
    """Return the moment, in UTC, at which the day after `day` begins.

    Raises
    ------
    InvalidQueryError
        There is no day after it.
    """
    try:
        return start_of(day + timedelta(days=1), where)
    except OverflowError as error:
        raise InvalidQueryError(f"{name}={day} is the last day there is: leave it out for an open end") from error


def time_range(edges: Mapping[str, Any] | None, tz: str | None) -> TimeRange:
    """Return the half-open range of moments that `edges` (``start``, ``end``) means.

    A date is a whole day (of `tz`), included at both ends; a datetime is a moment, the end not included.

    Raises
    ------
    InvalidQueryError
        An edge is malformed or naive, has another name, or the range ends before it starts.
    """
    where = zone(tz)
    if edges is None:
        return TimeRange()
    if not hasattr(edges, "items") or not set(edges) <= _EDGES:
        raise InvalidQueryError(f"date_range={edges!r} is not {{'start': ..., 'end': ...}} (either may be left out)")
    found = {name: day_or_moment(value, f"date_range[{name!r}]") for name, value in edges.items() if value is not None}
    start, end = found.get("start"), found.get("end")
    try:
        first = start if start is None or isinstance(start, datetime) else start_of(start, where)
        last = end if end is None or isinstance(end, datetime) else end_of(end, where, name="date_range['end']")
    except OverflowError as error:
        raise InvalidQueryError(f"date_range={edges!r} is outside the years 1 to 9999 in UTC") from error
    days = not isinstance(start, datetime) and not isinstance(end, datetime)
    if first is not None and last is not None and (first >= last if days else first > last):
        raise InvalidQueryError(f"date_range starts at {start} after it ends at {end}: swap them")
    return TimeRange(first, last)
