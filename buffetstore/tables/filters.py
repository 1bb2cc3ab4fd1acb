"""Which rows are meant: a predicate, or the lists of tuples that pyarrow and deltalake take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, Expression, IsIn, IsNull, Not, Or

Triple: TypeAlias = tuple[str, str, Any]
Filters: TypeAlias = Expression | Sequence[Triple] | Sequence[Sequence[Triple]]

_NODES = (And, Comparison, IsIn, IsNull, Not, Or)
_SAME = {"=": "==", "<>": "!="}


def predicate_of(filters: Filters | None) -> Expression | None:
    """Return the predicate; triples in one list are joined by and, lists by or. None and an empty list are all rows.

    Raises
    ------
    InvalidQueryError
        An operator is unknown, or something is no triple of column, operator and value.

    >>> predicate_of([("symbol", "in", ["AAPL"]), ("price", ">", 100)])
    And(parts=(IsIn(column='symbol', values=('AAPL',)), Comparison(column='price', op='>', value=100)))
    """
    if filters is None or isinstance(filters, _NODES):
        return filters
    given: Any = filters
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InvalidQueryError(f"filters {given!r}: give a predicate, or a list such as [('price', '>', 100)]")
    if not filters:
        return None
    if all(isinstance(part, list) for part in filters):
        return Or(tuple(_all(part) for part in filters))
    return _all(filters)


def _all(triples: Sequence[Any]) -> Expression:
    parts = tuple(_one(triple) for triple in triples)
    return parts[0] if len(parts) == 1 else And(parts)


def _one(triple: Any) -> Expression:
    if not (isinstance(triple, tuple) and len(triple) == 3 and isinstance(triple[0], str)):
        raise InvalidQueryError(f"{triple!r} is no triple of column, operator and value, such as ('price', '>', 100)")
    column, operator, value = triple
    operator = _SAME.get(operator, operator)
    match operator:
        case "in" | "not in":
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise InvalidQueryError(f"({column!r}, {operator!r}, ...) takes several values, not {value!r}")
            found: Expression = IsIn(column, tuple(value))
            return found if operator == "in" else Not(found)
        case "==" | "!=" if value is None:
            return IsNull(column) if operator == "==" else Not(IsNull(column))
        case "==" | "!=" | "<" | "<=" | ">" | ">=":
            return Comparison(column, operator, value)
        case _:
            raise InvalidQueryError(f"operator {operator!r} is unknown: known are = == != < <= > >= in and not in")
