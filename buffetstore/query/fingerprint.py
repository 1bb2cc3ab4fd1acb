"""What makes two questions one: a text that equal queries share, and different ones do not."""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from buffetstore.expressions import And, Column, Comparison, Expression, IsIn, Not, Or
from buffetstore.query.optimizer import QueryOptimizer
from buffetstore.query.shape import checked_groups, checked_order
from buffetstore.resilience.threads import give_way

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from buffetstore.query.model import DataQuery
    from buffetstore.query.plan import QueryPlan

_CHUNK = 2_000  # texts between two moments at which other threads are let in
_EXACT_IN_FLOAT = 2**53
_PLAIN = (str, bytes, bool, int, float, Decimal, datetime, date, time, timedelta, UUID, type(None))


class _UnknownKindError(Exception):
    """A constant is of a kind whose text may not say all of it."""


def query_fingerprint(query: DataQuery | QueryPlan) -> str | None:
    """Return what equal questions to one state of a table share; None where a constant is of an unknown kind.

    Equal are filters in any order and nesting, lists and tuples and sets of the same members, numbers of one value
    whatever their type, one moment in several zones, days and the moments that they mean. Which state is asked
    (`table_version`, `as_of`, `freshness`) is no part of it: the state's own version is known when it is read.

    >>> from buffetstore.query import DataQuery
    >>> one = DataQuery("market_data", {"symbol": ["A", "B"], "price": {"gte": 1}})
    >>> other = DataQuery("market_data", {"price": {"gte": 1.0}, "symbol": ("B", "A", "A")})
    >>> query_fingerprint(one) == query_fingerprint(other)
    True
    """
    plan = QueryOptimizer().optimize(query)
    asked = plan.query
    try:
        parts = {
            "data_type": asked.data_type,
            "filters": _expression(plan.predicate),
            "time": _exactly(tuple(plan.time_range)),
            "columns": _exactly(plan.columns),
            "limit": asked.limit,
            "offset": asked.offset or 0,
            "order_by": _exactly(tuple(map(tuple, checked_order(asked.order_by or ())))),
            "distinct": asked.distinct,
            "group_by": _exactly(None if asked.group_by is None else checked_groups(asked.group_by)),
            "aggregates": _exactly(None if asked.aggregates is None else tuple(asked.aggregates.items())),
            "latest": _exactly(asked.latest if isinstance(asked.latest, bool) else tuple(asked.latest)),
            "version": asked.version,
            "revisions": asked.revisions,
            "known_at": _exactly(asked.known_at),
        }
    except _UnknownKindError:
        return None
    return _digest(f"{name}={value!r}" for name, value in parts.items())


def _expression(expression: Expression) -> str:
    """Return the text of a filter, the same for every order of what has none."""
    match expression:
        case And(parts) | Or(parts):
            texts = sorted(set(map(_expression, parts)))
            return _node(type(expression).__name__, texts)
        case Not(part):
            return _node("Not", [_expression(part)])
        case IsIn(column, values):
            return _node("IsIn", [repr(column), _digest(_sorted(map(_constant, values)))])
        case Comparison(column, op, value) if not isinstance(value, Column):
            return _node("Comparison", [repr(column), op, _constant(value)])
        case _:
            return _exactly(expression)


def _exactly(value: Any) -> str:
    """Return the text of a value in which kinds and order count: 1 / 2 and 1.0 / 2 are other columns."""
    if isinstance(value, tuple | list):
        return _node("", map(_exactly, value))
    if is_dataclass(value) and not isinstance(value, type):
        held = (_exactly(getattr(value, field.name)) for field in fields(value))
        return _node(type(value).__name__, held)
    return f"{_kind(value)} {_moment(value)!r}"


def _constant(value: Any) -> str:
    """Return the text of a constant that a column is compared with: what means the same there is the same."""
    if type(value) is str:  # before all else: there may be many
        return f"str {value!r}"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_IN_FLOAT:
        value = int(value)
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"number {_digits(Decimal(value))}"
    return f"{_kind(value)} {_moment(value)!r}"


def _digits(number: Decimal) -> str:
    """Return a number without the zeros that its value does not need."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):  # NaN, or infinite
        return str(number)
    text = "".join(map(str, digits))
    short = text.rstrip("0")
    return f"{'-' * sign}{short.lstrip('0')}e{exponent + len(text) - len(short)}" if short else "0"


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, datetime | date | time) else value


def _kind(value: Any) -> str:
    # The first that it is: a pandas Timestamp is a datetime here, and its nanoseconds are in its text.
    for kind in _PLAIN:
        if isinstance(value, kind) and (kind in {datetime, date} or type(value) is kind):
            return kind.__name__
    raise _UnknownKindError


def _node(name: str, texts: Iterable[str]) -> str:
    # With their lengths, no text of a caller's can look like the border between two.
    return f"{name}({','.join(f'{len(text)}:{text}' for text in texts)})"


def _sorted(texts: Iterable[str]) -> Iterator[str]:
    """Yield distinct texts in their order; a list may have a hundred thousand, and the event loop waits for no sort."""
    runs: list[Sequence[str]] = []
    run: list[str] = []
    for text in texts:
        run.append(text)
        if len(run) == _CHUNK:
            runs.append(sorted(run))
            run = []
            give_way()
    last = None
    for text in heapq.merge(*runs, sorted(run)):
        if text != last:
            yield text
        last = text


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for number, text in enumerate(texts, 1):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
        if number % _CHUNK == 0:
            give_way()
    return digest.hexdigest()
