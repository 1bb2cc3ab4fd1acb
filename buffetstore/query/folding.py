"""Rules that need no more than an expression itself: what is constant, what is another test in disguise.

What `buffetstore.query.rules` says of rules holds here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import (
    ALWAYS,
    NEGATED,
    And,
    Column,
    Comparison,
    ComputedComparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    columns_of,
    mask,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_NEVER: Final = Or(())
_ONE_ROW: Final = pa.table({"": pa.nulls(1)})


def fold_constants(expression: Expression) -> Expression:
    """Compute comparisons that read no column, by the kernels that would compare them for every row."""
    return _leaves(expression, _folded)


def _folded(leaf: Expression) -> Expression:
    if not isinstance(leaf, ComputedComparison) or columns_of(leaf):
        return leaf
    try:
        truth = mask(_ONE_ROW, leaf)[0].as_py()
    except InvalidQueryError:  # whoever executes it says so
        return leaf
    return leaf if truth is None else ALWAYS if truth else _NEVER


def plain_patterns(expression: Expression) -> Expression:
    """Make a pattern without wildcards an equality, which ranges and lists are merged with."""
    return _leaves(expression, _unpatterned)


def _unpatterned(leaf: Expression) -> Expression:
    if isinstance(leaf, Like) and not {"%", "_", "\\"} & set(leaf.pattern):
        return Comparison(leaf.column, "==", leaf.pattern)
    return leaf


def any_text(expression: Expression) -> Expression:
    """Make a pattern that everything matches a test for a value. Not below a `Not`: there unknown is not false."""
    match expression:
        case Like(column, pattern) if pattern and not pattern.strip("%"):
            return Not(IsNull(column))
        case And(parts):
            return And(tuple(map(any_text, parts)))
        case Or(parts):
            return Or(tuple(map(any_text, parts)))
        case _:
            return expression


def push_not(expression: Expression) -> Expression:
    """Negate the parts of what is joined rather than the whole, which means the same where parts are unknown."""
    return _pushed(expression, _kept, negated=False)


def negate_comparisons(expression: Expression) -> Expression:
    """Negate operators rather than comparisons, but of floats: NaN satisfies what is not less, and is not greater.

    Constants have the types of their columns.
    """
    return _pushed(expression, _opposite, negated=False)


def _pushed(expression: Expression, negation: Callable[[Expression], Expression], *, negated: bool) -> Expression:
    match expression:
        case Not(part):
            return _pushed(part, negation, negated=not negated)
        case And(parts) | Or(parts):
            kind = And if isinstance(expression, And) != negated else Or
            return kind(tuple(_pushed(part, negation, negated=negated) for part in parts))
        case _:
            return negation(expression) if negated else expression


def _kept(leaf: Expression) -> Expression:
    return Not(leaf)


def _opposite(leaf: Expression) -> Expression:
    match leaf:
        case Comparison(column, op, value) if value is not None and not isinstance(value, Column | float):
            return Comparison(column, NEGATED[op], value)
        case _:
            return Not(leaf)


def without_values(expression: Expression) -> Expression:
    """Drop tests for a value beside tests that need one; beside a test for none, neither is ever true."""
    match expression:
        case And(parts):
            return _with_values(tuple(map(without_values, parts)))
        case Or(parts):
            return Or(tuple(map(without_values, parts)))
        case _:
            return expression


def _with_values(parts: tuple[Expression, ...]) -> Expression:
    compared = {name for part in parts for name in _needed(part)}
    filled = {part.part.column for part in parts if isinstance(part, Not) and isinstance(part.part, IsNull)}
    if any(isinstance(part, IsNull) and part.column in compared | filled for part in parts):
        return _NEVER
    return And(tuple(part for part in parts if not _is_told(part, compared)))


def _needed(part: Expression) -> frozenset[str]:
    """Return the columns that need a value for the part to be true."""
    leaf = part.part if isinstance(part, Not) else part
    return columns_of(leaf) if isinstance(leaf, Comparison | ComputedComparison | IsIn | Like) else frozenset()


def _is_told(part: Expression, compared: set[str]) -> bool:
    return isinstance(part, Not) and isinstance(part.part, IsNull) and part.part.column in compared


def _leaves(expression: Expression, leaf: Callable[[Expression], Expression]) -> Expression:
    match expression:
        case And(parts):
            return And(tuple(_leaves(part, leaf) for part in parts))
        case Or(parts):
            return Or(tuple(_leaves(part, leaf) for part in parts))
        case Not(part):
            return Not(_leaves(part, leaf))
        case _:
            return leaf(expression)
