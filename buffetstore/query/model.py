"""What a caller asks for, checked as far as it can be without looking at the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Literal

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, Expression, IsIn, IsNull, Not, Operator, Or
from buffetstore.query.times import TimeRange, day_or_moment, time_range

_OPERATORS: dict[str, Operator] = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<", "ne": "!="}


@dataclass(frozen=True, slots=True)
class DataQuery:
    """A question to one data type.

    Parameters
    ----------
    data_type:
        `market_data`, say.
    filters:
        Column -> what it must be; all must hold. A value means equal, a list one of them, None no value, and a dict
        any of ``gte``, ``gt``, ``lte``, ``lt``, ``ne`` together. As in SQL, a row without a value satisfies none but
        None (``{"ne": None}``: it has one).
    date_range:
        ``{"start": ..., "end": ...}`` of event time, either may be missing. Dates (or ``"2024-01-31"``) are whole days,
        both included; datetimes must be aware and mean the moments from start up to, and without, end.
    columns:
        The columns of the answer, in this order; None is all.
    limit:
        At most so many rows: the first by time bucket, then by key.
    table_version:
        The table as it was at this version; None is now.
    version:
        The schema version whose columns are given (`columns` may name others still); None is all that are stored.
    revisions:
        ``"all"`` gives every revision of a data type that keeps them; None the latest of each key.
    known_at:
        Only what could be known at this moment (see the contract's availability).
    tz:
        The zone whose days the dates of `date_range` are; None is UTC.

    Raises
    ------
    InvalidQueryError
        Something in it cannot be right; the message shows it.

    >>> DataQuery("market_data", {"symbol": ["AAPL", "MSFT"], "price": {"gte": 100}}, limit=10).limit
    10
    """

    data_type: str
    filters: Mapping[str, Any] | None = None
    date_range: Mapping[str, Any] | None = None
    columns: Sequence[str] | None = None
    limit: int | None = None
    table_version: int | None = None
    version: str | None = None
    revisions: Literal["all"] | None = None
    known_at: datetime | str | None = None
    tz: str | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.data_type):
            raise InvalidQueryError(f"data_type={self.data_type!r} is not the name of a data type")
        for name in ("limit", "table_version"):
            _check_count(name, getattr(self, name))
        if self.revisions not in {None, "all"}:
            raise InvalidQueryError(f"revisions={self.revisions!r} is neither None (the latest) nor 'all'")
        if self.columns is not None:
            object.__setattr__(self, "columns", _checked_columns(self.columns))
        if self.filters is not None:
            object.__setattr__(self, "filters", _copied(self.filters))
        if self.known_at is not None:
            object.__setattr__(self, "known_at", _moment(self.known_at))
        self.predicate()
        self.time_range()

    def predicate(self) -> Expression:
        """Return `filters` as one expression, its values as they were given."""
        return And(tuple(filter_expression(column, value) for column, value in (self.filters or {}).items()))

    def time_range(self) -> TimeRange:
        """Return `date_range` as moments in UTC, the end not included."""
        return time_range(self.date_range, self.tz)


def filter_expression(column: str, value: Any) -> Expression:
    """Return what one entry of `filters` means.

    Raises
    ------
    InvalidQueryError
        An operator is unknown, or a value can be compared with nothing.
    """
    if not _is_name(column):
        raise InvalidQueryError(f"filters name columns by strings, {column!r} is a {type(column).__name__}")
    value = _plain(value)
    if isinstance(value, Mapping):
        if not value:
            raise InvalidQueryError(f"filters[{column!r}] is an empty dict: give one of {', '.join(_OPERATORS)}")
        return And(tuple(_compared(column, name, operand) for name, operand in value.items()))
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str | bytes | bytearray):
        known = tuple(_checked(column, item) for item in value if item is not None)
        member = IsIn(column, known)
        return member if len(known) == len(value) else Or((member, IsNull(column)))
    return IsNull(column) if value is None else Comparison(column, "==", _checked(column, value))


def _compared(column: str, name: Any, value: Any) -> Expression:
    if name not in _OPERATORS:
        close = get_close_matches(str(name), _OPERATORS, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InvalidQueryError(f"filters[{column!r}]: {name!r} is not one of {', '.join(_OPERATORS)}{hint}")
    if value is None:
        if name == "ne":
            return Not(IsNull(column))
        raise InvalidQueryError(f"filters[{column!r}][{name!r}] is None: nothing is greater or less than no value")
    return Comparison(column, _OPERATORS[name], _checked(column, _plain(value)))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _plain(value: Any) -> Any:
    """Return numpy scalars and arrays, pandas Series and Arrow arrays as Python values."""
    return value.tolist() if hasattr(value, "tolist") else value


def _checked(column: str, value: Any) -> Any:
    if isinstance(value, Mapping | Sequence | AbstractSet) and not isinstance(value, str | bytes):
        raise InvalidQueryError(f"filters[{column!r}]: {value!r} is a {type(value).__name__}, not one value")
    if isinstance(value, float) and math.isnan(value):
        raise InvalidQueryError(f"filters[{column!r}] is NaN, which equals nothing: None finds rows without a value")
    return value


def _check_count(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise InvalidQueryError(f"{name}={value!r} is not a whole number >= 0")


def _checked_columns(columns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(columns, str) or not all(isinstance(name, str) for name in columns):
        raise InvalidQueryError(f"columns={columns!r} is not a list of column names")
    chosen = tuple(dict.fromkeys(columns))
    if not chosen:
        raise InvalidQueryError("columns=[] names none: leave it out for all")
    return chosen


def _copied(filters: Mapping[str, Any]) -> dict[str, Any]:
    # A caller who goes on using the dict must not change a query that was checked.
    if not isinstance(filters, Mapping):
        raise InvalidQueryError(f"filters={filters!r} is a {type(filters).__name__}, not a dict by column")
    return {column: dict(value) if isinstance(value, Mapping) else _frozen(value) for column, value in filters.items()}


def _frozen(value: Any) -> Any:
    value = _plain(value)
    return tuple(value) if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str | bytes) else value


def _moment(value: datetime | str) -> datetime:
    moment = day_or_moment(value, "known_at")
    if not isinstance(moment, datetime):
        raise InvalidQueryError(f"known_at={value!r} is a day: say the moment, such as '{moment}T21:00:00Z'")
    return moment
