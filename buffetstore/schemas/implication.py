"""What is known of a predicate when only some of its columns are."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

from buffetstore.expressions import (
    And,
    Column,
    Comparison,
    ComputedComparison,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    columns_of,
    evaluate,
    renamed_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from buffetstore.expressions import Expression

Truth: TypeAlias = bool | None
_ANY: frozenset[Truth] = frozenset({True, False, None})


def never_false(holds: Expression, constants: Mapping[str, Any]) -> bool:
    """Tell whether no row can make the predicate false, whatever its other columns hold.

    Parameters
    ----------
    constants:
        The columns that have one value in every row (None is null).
    """
    return False not in _possible(holds, constants)


def renamed_columns(expression: Expression, names: Mapping[str, str]) -> Expression:
    """Return the predicate with columns under other names."""
    match expression:
        case Comparison(column, _, value):
            other = Column(names.get(value.name, value.name)) if isinstance(value, Column) else value
            return replace(expression, column=names.get(column, column), value=other)
        case ComputedComparison(left, _, right):
            return replace(expression, left=renamed_value(left, names), right=renamed_value(right, names))
        case IsIn(column, _) | IsNull(column) | Like(column, _):
            return replace(expression, column=names.get(column, column))
        case And(parts) | Or(parts):
            return replace(expression, parts=tuple(renamed_columns(part, names) for part in parts))
        case Not(part):
            return Not(renamed_columns(part, names))


def _possible(expression: Expression, constants: Mapping[str, Any]) -> frozenset[Truth]:
    match expression:
        case Comparison() | ComputedComparison() | Like():
            read = columns_of(expression)
            if all(name in constants for name in read):
                return frozenset({evaluate(expression, constants)})
            unknown = any(name in constants and constants[name] is None for name in read)
            return frozenset({None}) if unknown else _ANY
        case IsIn(column, _):
            return frozenset({evaluate(expression, constants)}) if column in constants else _ANY
        case IsNull(column):
            return frozenset({constants[column] is None}) if column in constants else frozenset({True, False})
        case And(parts):
            return _combined((_possible(part, constants) for part in parts), _both)
        case Or(parts):
            return _negated(_combined((_negated(_possible(part, constants)) for part in parts), _both))
        case Not(part):
            return _negated(_possible(part, constants))


def _combined(truths: Iterable[frozenset[Truth]], combine: Callable[[Truth, Truth], Truth]) -> frozenset[Truth]:
    start: frozenset[Truth] = frozenset({True})
    return reduce(lambda left, right: frozenset(combine(a, b) for a, b in product(left, right)), truths, start)


def _both(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _negated(truths: frozenset[Truth]) -> frozenset[Truth]:
    return frozenset(None if truth is None else not truth for truth in truths)
