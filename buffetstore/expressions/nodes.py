"""Predicates as values: small nodes, what they read, and what they mean of one row.

Rules of a contract and filters of a query are both written in these nodes. They mean the same in every pass: three
valued as in SQL (a comparison with null is null), and NaN compares false with everything.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

_OPERATORS: dict[Operator, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the row."""

    name: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column op value`, where the value is a constant or another column."""

    column: str
    op: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class IsIn:
    """The column's value is one of `values` (none of them null)."""

    column: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class IsNull:
    """The column has no value."""

    column: str


@dataclass(frozen=True, slots=True)
class And:
    """All hold. `And(())` is always true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One holds at least. `Or(())` is never true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """It does not hold."""

    part: Expression


Expression: TypeAlias = Comparison | IsIn | IsNull | And | Or | Not

ALWAYS = And(())


def columns_of(expression: Expression) -> frozenset[str]:
    """Return the names of the columns that the expression reads."""
    return frozenset(_columns(expression))


def _columns(expression: Expression) -> Iterator[str]:
    match expression:
        case Comparison(column, _, value):
            yield column
            if isinstance(value, Column):
                yield value.name
        case IsIn(column, _) | IsNull(column):
            yield column
        case And(parts) | Or(parts):
            for part in parts:
                yield from _columns(part)
        case Not(part):
            yield from _columns(part)


def evaluate(expression: Expression, row: Mapping[str, Any]) -> bool | None:
    """Return whether one row satisfies the expression: the oracle for the kernels. None is SQL's unknown."""
    match expression:
        case Comparison(column, op, value):
            left, right = row[column], row[value.name] if isinstance(value, Column) else value
            return None if left is None or right is None else bool(_OPERATORS[op](left, right))
        case IsIn(column, values):
            return None if row[column] is None else row[column] in values
        case IsNull(column):
            return row[column] is None
        case And(parts):
            return _all(evaluate(part, row) for part in parts)
        case Or(parts):
            found = _all(_negated(evaluate(part, row)) for part in parts)
            return _negated(found)
        case Not(part):
            return _negated(evaluate(part, row))


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _all(truths: Iterator[bool | None]) -> bool | None:
    unknown = False
    for truth in truths:
        if truth is False:
            return False
        unknown = unknown or truth is None
    return None if unknown else True
