"""What an answer looks like: its columns, groups, order. Checked as far as it can be without looking at the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import Aggregate, Bucket, Named, Term, bucket, col, count
from buffetstore.query.times import zone


class Order(NamedTuple):
    """A column to put rows in order by; rows without a value come last either way."""

    column: str
    descending: bool = False


def ohlc(
    every: str,
    *,
    by: str | Sequence[str] = "symbol",
    price: str = "price",
    volume: str | None = "volume",
    timestamp: str = "timestamp",
    tz: str | None = None,
) -> dict[str, Any]:
    """Return what makes bars of rows: ``DataQuery("trades", {"symbol": "AAPL"}, **ohlc("5m"))``.

    The bars have `open`, `high`, `low`, `close`, the sum of `volume` (None leaves it out) and `n`, how many rows they
    are made of; spans without rows have no bar.

    Parameters
    ----------
    every, tz:
        The span of a bar, and the zone whose days and hours are meant (see `bucket`).
    by:
        What has bars of its own.
    price, volume, timestamp:
        The columns of the rows.
    """
    groups = [by] if isinstance(by, str) else list(by)
    value = col(price)
    bars = {"open": value.first(), "high": value.max(), "low": value.min(), "close": value.last()}
    if volume is not None:
        bars["volume"] = col(volume).sum()
    return {"group_by": [*groups, bucket(timestamp, every, tz=tz)], "aggregates": {**bars, "n": count()}}


def checked_columns(columns: Any) -> tuple[str | Named, ...]:
    """Return the columns of an answer, each once, computed ones too."""
    if isinstance(columns, str) or not isinstance(columns, Sequence):
        raise InvalidQueryError(f"columns={columns!r} is not a list of column names")
    chosen = tuple(dict.fromkeys(_column(each) for each in columns))
    if not chosen:
        raise InvalidQueryError("columns=[] names none: leave it out for all")
    check_distinct(list(map(name_of, chosen)), "columns")
    return chosen


def checked_order(order_by: Any) -> tuple[Order, ...]:
    """Return the order of an answer: ``["symbol", "-price"]`` is the highest price of each symbol first."""
    names = [order_by] if isinstance(order_by, str) else order_by
    if isinstance(names, Sequence) and names and all(isinstance(each, Order) for each in names):
        return tuple(names)
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name.removeprefix("-") for name in names):
        raise InvalidQueryError(f"order_by={order_by!r} is not a list of column names: ['symbol', '-price'], say")
    found = tuple(Order(name.removeprefix("-"), name.startswith("-")) for name in names)
    check_distinct([order.column for order in found], "order_by")
    return found


def checked_groups(group_by: Any) -> tuple[str | Bucket, ...]:
    """Return what rows are grouped by."""
    groups = [group_by] if isinstance(group_by, str | Bucket) else group_by
    if not isinstance(groups, Sequence) or not all(isinstance(each, Bucket) or _is_name(each) for each in groups):
        raise InvalidQueryError(
            f"group_by={group_by!r} is not a list of column names and spans: ['symbol', bucket('timestamp', '1h')], say"
        )
    for each in groups:
        if isinstance(each, Bucket):
            zone(each.tz)
    check_distinct(list(map(name_of, groups)), "group_by")
    return tuple(groups)


def checked_aggregates(aggregates: Any) -> dict[str, Aggregate]:
    """Return the aggregates by their names in the answer."""
    if not isinstance(aggregates, Mapping) or not all(_is_name(name) for name in aggregates):
        raise InvalidQueryError(f"aggregates={aggregates!r} are not by name: {{'high': col('price').max()}}, say")
    for name, each in aggregates.items():
        if not isinstance(each, Aggregate):
            raise InvalidQueryError(
                f"aggregates[{name!r}]={each!r} is no aggregate: col('price').max(), say, or count()"
            )
    return dict(aggregates)


def checked_latest(latest: Any) -> bool | tuple[str, ...]:
    """Return of what the latest row is wanted."""
    if isinstance(latest, bool):
        return latest
    names = [latest] if isinstance(latest, str) else latest
    if not isinstance(names, Sequence) or not names or not all(_is_name(name) for name in names):
        raise InvalidQueryError(f"latest={latest!r} is neither True nor a list of column names: ['symbol'], say")
    return tuple(dict.fromkeys(names))


def _column(given: Any) -> str | Named:
    if isinstance(given, Named) or _is_name(given):
        return given  # type: ignore[no-any-return]  # one of the two
    if isinstance(given, Term):
        raise InvalidQueryError(f"columns has {given!r} without a name: give it one by .alias('name')")
    raise InvalidQueryError(f"columns has {given!r}: give column names, and computed columns by .alias('name')")


def name_of(column: str | Named | Bucket) -> str:
    """Return the name of a column in the answer."""
    return column if isinstance(column, str) else column.name


def check_distinct(names: Sequence[str], where: str) -> None:
    """Raise `InvalidQueryError` where a name stands twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidQueryError(f"{where} names {', '.join(map(repr, twice))} twice")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
