"""Predicates as values: small nodes, what they read, and what they mean of one row.

Rules of a contract and filters of a query are both written in these nodes. They mean the same in every pass: three
valued as in SQL (a comparison with null is null), and NaN compares false with everything.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

from buffetstore.expressions.values import Column, Value, evaluate_value, names_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "ALWAYS",
    "MIRRORED",
    "NEGATED",
    "And",
    "Column",
    "Comparison",
    "ComputedComparison",
    "Expression",
    "IsIn",
    "IsNull",
    "Like",
    "Not",
    "Operator",
    "Or",
    "columns_of",
    "evaluate",
]

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

_OPERATORS: dict[Operator, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NEGATED: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
"""What holds where a comparison does not, of values that have an order."""
MIRRORED: dict[Operator, Operator] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What holds of the sides the other way round."""


class Logic:
    """What every node can be joined with: ``&``, ``|`` and ``~``."""

    __slots__ = ()

    def __and__(self, other: Expression) -> And:
        return And((_node(self), _node(other)))

    def __or__(self, other: Expression) -> Or:
        return Or((_node(self), _node(other)))

    def __invert__(self) -> Not:
        return Not(_node(self))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a filter has no truth of its own, it has one for each row: join filters by & | ~, each in parentheses, "
            "not by and, or, not, nor as 1 < column < 5"
        )


@dataclass(frozen=True, slots=True)
class Comparison(Logic):
    """`column op value`, where the value is a constant or another column."""

    column: str
    op: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class IsIn(Logic):
    """The column's value is one of `values` (none of them null)."""

    column: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Like(Logic):
    """The column's text matches: ``%`` stands for any text, ``_`` for one character, a backslash before one for itself.

    Case counts.
    """

    column: str
    pattern: str


@dataclass(frozen=True, slots=True)
class ComputedComparison(Logic):
    """`left op right`, of which one at least is computed from columns."""

    left: Value
    op: Operator
    right: Value


@dataclass(frozen=True, slots=True)
class IsNull(Logic):
    """The column has no value."""

    column: str


@dataclass(frozen=True, slots=True)
class And(Logic):
    """All hold. `And(())` is always true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or(Logic):
    """One holds at least. `Or(())` is never true."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not(Logic):
    """It does not hold."""

    part: Expression


Expression: TypeAlias = Comparison | ComputedComparison | IsIn | IsNull | Like | And | Or | Not

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
        case IsIn(column, _) | IsNull(column) | Like(column, _):
            yield column
        case ComputedComparison(left, _, right):
            yield from names_in(left)
            yield from names_in(right)
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
        case Like(column, pattern):
            return (
                None if row[column] is None else re.fullmatch(like_regex(pattern), row[column], re.DOTALL) is not None
            )
        case ComputedComparison(left_value, op, right_value):
            left, right = _alike(evaluate_value(left_value, row), evaluate_value(right_value, row))
            return None if left is None or right is None else bool(_OPERATORS[op](left, right))
        case And(parts):
            return _all(evaluate(part, row) for part in parts)
        case Or(parts):
            found = _all(_negated(evaluate(part, row)) for part in parts)
            return _negated(found)
        case Not(part):
            return _negated(evaluate(part, row))


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Return a decimal beside a float as a float, as kernels compare them."""
    if isinstance(left, float) and isinstance(right, Decimal):
        return left, float(right)
    return (float(left), right) if isinstance(left, Decimal) and isinstance(right, float) else (left, right)


def like_regex(pattern: str) -> str:
    """Return the regular expression that matches what a pattern does."""
    return "".join(_LIKE.get(token) or re.escape(token[-1]) for token in like_tokens(pattern))


_LIKE = {"%": ".*", "_": "."}


def like_tokens(pattern: str) -> list[str]:
    r"""Return the pattern's characters, wildcards as they are and others that stand for themselves with a backslash.

    >>> print(*like_tokens("B_%"))
    \B _ %
    """
    tokens = re.findall(r"\\.|[%_]|.", pattern, re.DOTALL)
    return [token if token in _LIKE or len(token) == 2 else f"\\{token}" for token in tokens]


def like_prefix(pattern: str) -> tuple[str, str | None]:
    """Return the text that every match begins with, and the least text after all that begin with it.

    The second is None where there is none, or none that every engine's order agrees on.

    >>> like_prefix("BRK.%")
    ('BRK.', 'BRK/')
    """
    tokens = like_tokens(pattern)
    fixed = next((at for at, token in enumerate(tokens) if token in _LIKE), len(tokens))
    prefix = "".join(token[-1] for token in tokens[:fixed])
    stem = prefix.rstrip(chr(0x10FFFF))
    last = ord(stem[-1]) + 1 if stem else 0
    # Between these are halves of characters, which are no text.
    after = stem[:-1] + chr(0xE000 if last == 0xD800 else last) if stem else None
    return prefix, after


def _node(given: Any) -> Expression:
    if isinstance(given, Logic):
        return given  # type: ignore[return-value]  # every node is one
    raise TypeError(f"{given!r} is no filter: it cannot be joined with one")


def _negated(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _all(truths: Iterator[bool | None]) -> bool | None:
    unknown = False
    for truth in truths:
        if truth is False:
            return False
        unknown = unknown or truth is None
    return None if unknown else True
