"""Rules that make an expression simpler and never change which rows satisfy it.

A rule is a function from expression to expression. *Satisfy* means true: a filter drops unknown as it drops false, so
within what must be true ``x > 1 and x > 2`` may become ``x > 2``. Rules that use this stop at a `Not`.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from buffetstore.expressions import ALWAYS, And, Column, Comparison, Expression, IsIn, IsNull, Not, Or
from buffetstore.query.folding import (
    any_text,
    fold_constants,
    negate_comparisons,
    plain_patterns,
    push_not,
    without_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Rule: TypeAlias = "Callable[[Expression], Expression]"
_Kinds: TypeAlias = tuple[tuple[type, ...], ...]

NEVER: Final = Or(())
# Text comes last: until its column is known it may be a number or a time, and has no order.
_KINDS: Final[_Kinds] = ((int, Decimal, float), (datetime,), (date,), (bytes,), (str,))


def flatten(expression: Expression) -> Expression:
    """Lift nested conjunctions and disjunctions, and drop parts that are always true or never."""
    match expression:
        case And(parts):
            return _joined(And, parts, ALWAYS, NEVER)
        case Or(parts):
            return _joined(Or, parts, NEVER, ALWAYS)
        case Not(Not(part)):
            return flatten(part)
        case Not(part):
            return Not(flatten(part))
        case _:
            return expression


def _joined(kind: type[And | Or], parts: Sequence[Expression], neutral: Expression, decisive: Expression) -> Expression:
    found: list[Expression] = []
    for part in map(flatten, parts):
        if part == decisive:
            return decisive
        new = part.parts if isinstance(part, And | Or) and isinstance(part, kind) else (part,)
        found += [each for each in new if each != neutral and each not in found]
    return found[0] if len(found) == 1 else kind(tuple(found))


def distinct_members(expression: Expression) -> Expression:
    """Drop repeated members of lists; a list of one is an equality, an empty one is never true."""
    match expression:
        case IsIn(column, values):
            members = _distinct(values)
            return (
                NEVER
                if not members
                else Comparison(column, "==", members[0])
                if len(members) == 1
                else IsIn(column, members)
            )
        case And(parts):
            return And(tuple(map(distinct_members, parts)))
        case Or(parts):
            return Or(tuple(map(distinct_members, parts)))
        case _:
            return expression


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    # Not a dict of values alone: True == 1, and 1.0 == 1 are members of their own until their column is known.
    return tuple({(type(value), value): value for value in values}.values())


def merge_ranges(expression: Expression) -> Expression:
    """Keep one lower and one upper bound for each column of a conjunction; bounds that cross are never true.

    Constants have the types of their columns.
    """
    return _merge(expression, _KINDS)


def merge_unbound_ranges(expression: Expression) -> Expression:
    """Merge, as `merge_ranges` does, what has an order before the columns' types are known."""
    return _merge(expression, _KINDS[:-1])


def _merge(expression: Expression, kinds: _Kinds) -> Expression:
    match expression:
        case And(parts):
            merged = tuple(_merged(tuple(_merge(part, kinds) for part in parts), kinds))
            return flatten(And(merged))
        case Or(parts):
            return flatten(Or(tuple(_merge(part, kinds) for part in parts)))
        case _:
            return expression


def _merged(parts: tuple[Expression, ...], kinds: _Kinds) -> Iterator[Expression]:
    ranges: dict[tuple[str, int], _Range] = {}
    for part in parts:
        kind = _kind(part, kinds)
        if kind is None:
            yield part
        else:
            ranges.setdefault(kind, _Range(kind[0])).narrow(part)
    nulls = {part.column for part in parts if isinstance(part, IsNull)}
    if any(column in nulls for column, _ in ranges):
        yield NEVER
    for found in ranges.values():
        yield from found.parts()


def _kind(part: Expression, kinds: _Kinds) -> tuple[str, int] | None:
    """Return the column and the kind of constant that it is compared with, where constants have an order."""
    match part:
        case Comparison(column, _, value) if not isinstance(value, Column):
            kind = _kind_of(value, kinds)
            return None if kind is None else (column, kind)
        case IsIn(column, values):
            found = {_kind_of(value, kinds) for value in values}
            kind = found.pop() if len(found) == 1 else None
            return None if kind is None else (column, kind)
        case _:
            return None


def _kind_of(value: Any, kinds: _Kinds) -> int | None:
    if isinstance(value, bool):
        return None
    return next((number for number, types in enumerate(kinds) if isinstance(value, types)), None)


class _Range:
    """What the comparisons of one column with constants of one kind leave over."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.low: tuple[Any, bool] | None = None  # value, included
        self.high: tuple[Any, bool] | None = None
        self.members: tuple[Any, ...] | None = None
        self.others: list[Any] = []

    def narrow(self, part: Expression) -> None:
        match part:
            case IsIn(_, values):
                self._keep(values)
            case Comparison(_, "==", value):
                self._keep((value,))
            case Comparison(_, "!=", value):
                self.others.append(value)
            case Comparison(_, ">" | ">=" as op, value):
                bound = (value, op == ">=")
                if self.low is None or (value, op == ">") > (self.low[0], not self.low[1]):
                    self.low = bound
            case Comparison(_, "<" | "<=" as op, value):
                bound = (value, op == "<=")
                if self.high is None or (value, op == "<=") < (self.high[0], self.high[1]):
                    self.high = bound

    def _keep(self, values: tuple[Any, ...]) -> None:
        self.members = values if self.members is None else tuple(value for value in self.members if value in values)

    def _holds(self, value: Any) -> bool:
        above = self.low is None or value > self.low[0] or (self.low[1] and value == self.low[0])
        below = self.high is None or value < self.high[0] or (self.high[1] and value == self.high[0])
        return above and below and value not in self.others

    def parts(self) -> Iterator[Expression]:
        if self.members is not None:
            yield distinct_members(IsIn(self.column, tuple(filter(self._holds, self.members))))
            return
        if self.low is not None and self.high is not None:
            (low, low_in), (high, high_in) = self.low, self.high
            if low > high or (low == high and not (low_in and high_in)):
                yield NEVER
                return
            if low == high:
                yield NEVER if low in self.others else Comparison(self.column, "==", low)
                return
        if self.low is not None:
            yield Comparison(self.column, ">=" if self.low[1] else ">", self.low[0])
        if self.high is not None:
            yield Comparison(self.column, "<=" if self.high[1] else "<", self.high[0])
        for value in dict.fromkeys(self.others):
            yield Comparison(self.column, "!=", value)


_STRUCTURE: Final[tuple[tuple[str, Rule], ...]] = (
    ("flatten", flatten),
    ("distinct members", distinct_members),
    ("flatten", flatten),
)
_FOLDING: Final[tuple[tuple[str, Rule], ...]] = (("fold constants", fold_constants), ("push not", push_not))
# What has no wildcard is equal only where its column is text, which is known once names are bound.
_TYPED: Final[tuple[tuple[str, Rule], ...]] = (
    ("plain patterns", plain_patterns),
    ("any text", any_text),
    ("negate comparisons", negate_comparisons),
)
_VALUES: Final[tuple[tuple[str, Rule], ...]] = (("without values", without_values), ("flatten", flatten))
UNBOUND_RULES: Final = (*_FOLDING, *_STRUCTURE, *_VALUES, ("merge ranges", merge_unbound_ranges))
RULES: Final = (*_FOLDING, *_TYPED, *_STRUCTURE, *_VALUES, ("merge ranges", merge_ranges))


def simplify(expression: Expression, rules: Sequence[tuple[str, Rule]] = RULES) -> tuple[Expression, tuple[str, ...]]:
    """Apply the rules in order; return the simpler expression and the names of the rules that changed something."""
    applied: list[str] = []
    for name, rule in rules:
        simpler = rule(expression)
        if simpler != expression:
            applied.append(name)
        expression = simpler
    return expression, tuple(dict.fromkeys(applied))
