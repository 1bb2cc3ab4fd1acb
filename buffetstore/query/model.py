"""What a caller asks for, checked as far as it can be without looking at the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal, get_args

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import (
    Aggregate,
    And,
    Bucket,
    Column,
    Comparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Named,
    Not,
    Operator,
    Or,
    Term,
    escaped,
)
from buffetstore.query.shape import (
    Order,
    check_distinct,
    checked_aggregates,
    checked_columns,
    checked_groups,
    checked_latest,
    checked_order,
    name_of,
)
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
        any of ``gte``, ``gt``, ``lte``, ``lt``, ``ne``, ``in``, ``between`` (both ends included), ``like``,
        ``starts_with`` together. As in SQL, a row without a value satisfies none but None (``{"ne": None}``: it has
        one). Or an expression: ``(col("price") > col("open")) | col("rsi").is_null()``.
    date_range:
        ``{"start": ..., "end": ...}`` of event time, either may be missing. Dates (or ``"2024-01-31"``) are whole days,
        both included; datetimes must be aware and mean the moments from start up to, and without, end.
    columns:
        The columns of the answer, in this order; None is all. Computed ones have a name:
        ``(col("price") * col("volume")).alias("notional")``.
    limit, offset:
        At most so many rows, after that many. Without `order_by` the first by time bucket, then by key.
    order_by:
        Columns of the answer or of the table, ``"-price"`` for the highest first; no value comes last, and the key
        decides between equals. None is by key.
    distinct:
        Each combination of the columns once.
    group_by, aggregates:
        One row for each group of rows: the groups (columns, and spans of time by `bucket`), and aggregates by their
        names, ``{"high": col("price").max(), "n": count()}``. Aggregates alone give one row.
    latest:
        True: of the filtered rows, the last by event time for each key without event time (each symbol, interval and
        source); or the columns to take the last row for: ``["symbol"]``.
    table_version:
        The table as it was at this version; None is now.
    as_of:
        The table as it was at this moment.
    freshness:
        The newest state that is at most so old may answer, without asking the store for a newer one; None always asks.
    version:
        The schema version that rows are read as (`columns` may name others still); None is the newest that all of them
        can be read as, with columns that no version knows. Rows of other versions are brought to it: by aliases,
        defaults and up-casts, and those of newer ones where old readers were promised that they can be read. Each
        row's own `version` stays that under which it was stored.
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
    filters: Mapping[str, Any] | Expression | None = None
    date_range: Mapping[str, Any] | None = None
    columns: Sequence[str | Named] | None = None
    limit: int | None = None
    table_version: int | None = None
    version: str | None = None
    revisions: Literal["all"] | None = None
    known_at: datetime | str | None = None
    tz: str | None = None
    offset: int | None = None
    order_by: Sequence[str | Order] | str | None = None
    distinct: bool = False
    group_by: Sequence[str | Bucket] | str | Bucket | None = None
    aggregates: Mapping[str, Aggregate] | None = None
    latest: bool | Sequence[str] | str = False
    as_of: datetime | str | None = None
    freshness: timedelta | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.data_type):
            raise InvalidQueryError(f"data_type={self.data_type!r} is not the name of a data type")
        for name in ("limit", "table_version", "offset"):
            _check_count(name, getattr(self, name))
        if self.revisions not in {None, "all"}:
            raise InvalidQueryError(f"revisions={self.revisions!r} is neither None (the latest) nor 'all'")
        if self.filters is not None:
            object.__setattr__(self, "filters", _copied(self.filters))
        for name, checked in _CHECKED.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, checked(getattr(self, name)))
        _check_together(self)
        self.predicate()
        self.time_range()

    def predicate(self) -> Expression:
        """Return `filters` as one expression, its values as they were given."""
        if self.filters is not None and not isinstance(self.filters, Mapping):
            return self.filters
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
    if name in _OTHERS:
        return _OTHERS[name](column, value)
    if name not in _OPERATORS:
        known = [*_OPERATORS, *_OTHERS]
        close = get_close_matches(str(name), known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise InvalidQueryError(f"filters[{column!r}]: {name!r} is not one of {', '.join(known)}{hint}")
    if value is None:
        if name == "ne":
            return Not(IsNull(column))
        raise InvalidQueryError(f"filters[{column!r}][{name!r}] is None: nothing is greater or less than no value")
    return Comparison(column, _OPERATORS[name], _checked(column, _plain(value)))


def _in(column: str, value: Any) -> Expression:
    if isinstance(_plain(value), Mapping | str | bytes) or not isinstance(_plain(value), Sequence | AbstractSet):
        raise InvalidQueryError(f"filters[{column!r}]['in']={value!r} is not a list of values")
    return filter_expression(column, value)


def _between(column: str, value: Any) -> Expression:
    ends = _plain(value)
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise InvalidQueryError(f"filters[{column!r}]['between']={value!r} is not a pair: (low, high), say")
    return And((_compared(column, "gte", ends[0]), _compared(column, "lte", ends[1])))


def _like(column: str, value: Any) -> Expression:
    if not isinstance(value, str):
        raise InvalidQueryError(f"filters[{column!r}]['like']={value!r} is no text: 'BRK.%', say")
    return Like(column, value)


def _starts_with(column: str, value: Any) -> Expression:
    if not isinstance(value, str):
        raise InvalidQueryError(f"filters[{column!r}]['starts_with']={value!r} is no text")
    return Like(column, escaped(value) + "%")


_OTHERS = {"in": _in, "between": _between, "like": _like, "starts_with": _starts_with}


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


def _copied(filters: Any) -> dict[str, Any] | Expression:
    # A caller who goes on using the dict must not change a query that was checked.
    if isinstance(filters, get_args(Expression)):
        return _checked_constants(filters)
    if isinstance(filters, Term):
        raise InvalidQueryError(f"filters={filters!r} is a value, not a test: compare it with something")
    if not isinstance(filters, Mapping):
        raise InvalidQueryError(
            f"filters={filters!r} is a {type(filters).__name__}, not a dict by column, nor an expression: "
            "col('price') > 100, say"
        )
    return {column: dict(value) if isinstance(value, Mapping) else _frozen(value) for column, value in filters.items()}


def _frozen(value: Any) -> Any:
    value = _plain(value)
    return tuple(value) if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str | bytes) else value


def _checked_constants(expression: Expression) -> Expression:
    """Return the expression as it is; raise where it compares with something that nothing compares with."""
    match expression:
        case Comparison(column, op, value) if not isinstance(value, Column):
            if value is None:
                raise InvalidQueryError(f"{column} {op} None: nothing is greater or less than no value; use is_null()")
            return replace(expression, value=_checked(column, _plain(value)))
        case IsIn(column, values):
            return IsIn(column, tuple(_checked(column, value) for value in map(_plain, values)))
        case And(parts) | Or(parts):
            return replace(expression, parts=tuple(map(_checked_constants, parts)))
        case Not(part):
            return Not(_checked_constants(part))
        case _:
            return expression


def _moment(name: str, value: Any) -> datetime:
    moment = day_or_moment(value, name)
    if not isinstance(moment, datetime):
        raise InvalidQueryError(f"{name}={value!r} is a day: say the moment, such as '{moment}T21:00:00Z'")
    return moment


def _freshness(value: Any) -> timedelta:
    if not isinstance(value, timedelta) or value < timedelta(0):
        raise InvalidQueryError(f"freshness={value!r} is no span of time: timedelta(seconds=5), say")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidQueryError(f"distinct={value!r} is neither True nor False")
    return value


def _check_together(query: DataQuery) -> None:
    """Raise `InvalidQueryError` where parts of a query exclude each other."""
    grouped = query.group_by is not None or query.aggregates is not None
    if grouped and query.columns is not None:
        raise InvalidQueryError(
            "columns and group_by or aggregates were given: the answer has the groups and the aggregates alone"
        )
    if grouped and query.distinct:
        raise InvalidQueryError("distinct and group_by or aggregates were given: groups are distinct")
    if query.distinct and query.columns is None:
        raise InvalidQueryError("distinct needs columns: rows have keys, and are distinct without it")
    groups = checked_groups(query.group_by or ())
    names = list(map(name_of, groups))
    check_distinct([*names, *(query.aggregates or ())], "group_by and aggregates")
    if grouped or query.distinct:
        shown = [*names, *(query.aggregates or ())] if grouped else list(map(name_of, checked_columns(query.columns)))
        for order in checked_order(query.order_by or ()):
            if order.column not in shown:
                raise InvalidQueryError(
                    f"order_by names {order.column!r}, which the answer does not have: it has {', '.join(shown)}"
                )
    if query.table_version is not None and query.as_of is not None:
        raise InvalidQueryError("table_version and as_of were given: one of them says which state is read")
    if query.freshness is not None and (query.table_version is not None or query.as_of is not None):
        raise InvalidQueryError("freshness is about the newest state: table_version and as_of say another")


_CHECKED: dict[str, Callable[[Any], Any]] = {
    "columns": checked_columns,
    "order_by": checked_order,
    "distinct": _flag,
    "group_by": checked_groups,
    "aggregates": checked_aggregates,
    "latest": checked_latest,
    "known_at": partial(_moment, "known_at"),
    "as_of": partial(_moment, "as_of"),
    "freshness": _freshness,
}
