"""Which groups of rows (files, row groups) may hold a row that satisfies a predicate, by bounds of their columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions.kernels import constant, is_nan, literal
from buffetstore.expressions.nodes import (
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
    Operator,
    Or,
    columns_of,
    like_prefix,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_LONG_LIST = 32


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of one column in each of n groups of rows (files, row groups); null where nothing is known.

    Every value that is neither null nor NaN lies in [lowest, highest].
    """

    lowest: Any
    highest: Any
    null_count: Any


def may_match(predicate: Expression, bounds: Mapping[str, Bounds], rows: Any) -> pa.Array:
    """Return for each group whether it may hold a row that satisfies the predicate; false is certain.

    Parameters
    ----------
    bounds:
        By column; a column that is absent is unknown, so nothing is excluded by it.
    rows:
        The number of rows in each group, null where unknown.
    """
    found = _Pruning(bounds, rows).visit(predicate, negated=False)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def must_match(predicate: Expression, bounds: Mapping[str, Bounds], rows: Any) -> pa.Array:
    """Return for each group whether all of its rows satisfy the predicate; true is certain.

    A row does not where its negation holds, or where the predicate is unknown because a column has no value.

    Parameters
    ----------
    bounds, rows:
        As of `may_match`.
    """
    certain = pc.invert(may_match(Not(predicate), bounds, rows))
    for name in _compared(predicate):
        known = None if name is None else bounds.get(name)
        if known is None:
            return constant(len(rows), truth=False)
        filled = pc.fill_null(pc.equal(known.null_count, pa.scalar(0, pa.int64())), False)
        certain = pc.and_(certain, filled)
    return certain.combine_chunks() if isinstance(certain, pa.ChunkedArray) else certain


def _compared(predicate: Expression) -> Iterator[str | None]:
    """Yield the columns that make the predicate unknown where they have no value; None where a constant has none."""
    match predicate:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _compared(part)
        case Not(part):
            yield from _compared(part)
        case IsNull():
            return
        case Comparison(_, _, None):
            yield None
        case IsIn(name, values):
            yield None if None in values else name
        case _:
            yield from columns_of(predicate)


@dataclass(frozen=True, slots=True)
class _Pruning:
    bounds: Mapping[str, Bounds]
    rows: Any

    def visit(self, predicate: Expression, *, negated: bool) -> Any:
        match predicate:
            case Not(part):
                return self.visit(part, negated=not negated)
            case And(parts):
                return self._join(parts, negated=negated, conjunction=not negated)
            case Or(parts):
                return self._join(parts, negated=negated, conjunction=negated)
            case Comparison(name, op, value):
                return self._comparison(name, op, value, negated=negated)
            case IsIn(name, values):
                return self._is_in(name, values, negated=negated)
            case Like(name, pattern):
                return self._like(name, pattern, negated=negated)
            case ComputedComparison():
                return self._computed(predicate)
            case IsNull(name):
                known = self.bounds.get(name)
                if known is None:
                    return self._all(truth=True)
                empty = self.rows if negated else pa.scalar(0, pa.int64())
                return pc.fill_null(pc.not_equal(known.null_count, empty), True)

    def _like(self, name: str, pattern: str, *, negated: bool) -> Any:
        known = self.bounds.get(name)
        if known is None:
            return self._all(truth=True)
        prefix, after = like_prefix(pattern)
        if negated or not prefix:
            return self._has_values(known)
        low = self._comparison(name, ">=", prefix, negated=False)
        return low if after is None else pc.and_(low, self._comparison(name, "<", after, negated=False))

    def _computed(self, predicate: ComputedComparison) -> Any:
        """Rule out groups where a column that is read has no value at all: then the comparison is unknown."""
        known = [self._has_values(self.bounds[name]) for name in columns_of(predicate) if name in self.bounds]
        return reduce(pc.and_, known, self._all(truth=True))

    def _join(self, parts: Iterable[Expression], *, negated: bool, conjunction: bool) -> Any:
        kernel = pc.and_ if conjunction else pc.or_
        return reduce(kernel, (self.visit(part, negated=negated) for part in parts), self._all(truth=conjunction))

    def _comparison(self, name: str, op: Operator, value: Any, *, negated: bool) -> Any:
        known = self.bounds.get(name)
        if value is None:
            return self._all(truth=False)
        if known is None or is_nan(value):
            return self._all(truth=True)
        if pa.types.is_floating(known.lowest.type) and (negated or op == "!="):
            return self._has_values(known)  # NaN is outside the bounds and satisfies what is not a comparison
        if isinstance(value, Column):
            return self._columns(known, NEGATED[op] if negated else op, value.name, negated=negated)
        scalar = literal(value, known.lowest.type)
        return self._excluded(known, _outside(NEGATED[op] if negated else op, known, scalar, scalar))

    def _columns(self, left: Bounds, op: Operator, other: str, *, negated: bool) -> Any:
        right = self.bounds.get(other)
        if right is None:
            return self._has_values(left)
        if pa.types.is_floating(right.lowest.type) and (negated or op == "!="):
            return pc.and_(self._has_values(left), self._has_values(right))
        outside = _outside(op, left, right.lowest, right.highest)
        return pc.and_(self._excluded(left, outside), self._has_values(right))

    def _is_in(self, name: str, values: tuple[Any, ...], *, negated: bool) -> Any:
        if len(values) > _LONG_LIST:
            return self._is_in_long(name, values, negated=negated)
        if not negated:
            return self._join([Comparison(name, "==", value) for value in values], negated=False, conjunction=False)
        return self._join([Comparison(name, "==", value) for value in values], negated=True, conjunction=True)

    def _is_in_long(self, name: str, values: tuple[Any, ...], *, negated: bool) -> Any:
        """Test a few ranges that hold all the values, not each value; a long list leaves out hardly any group."""
        known = self.bounds.get(name)
        if known is None or negated:
            return self._all(truth=True) if known is None else self._has_values(known)
        try:
            ordered = sorted(value for value in values if value is not None and not is_nan(value))
        except TypeError:
            return self._has_values(known)
        step = -(-len(ordered) // _LONG_LIST) or 1
        pieces = [ordered[start : start + step] for start in range(0, len(ordered), step)]
        ranges = [And((Comparison(name, ">=", piece[0]), Comparison(name, "<=", piece[-1]))) for piece in pieces]
        return self._join(ranges, negated=False, conjunction=False)

    def _excluded(self, known: Bounds, outside: Callable[[], Any]) -> Any:
        try:
            certain = pc.fill_null(outside(), False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            return self._has_values(known)  # not comparable: reading a row will say so
        return pc.and_(pc.invert(certain), self._has_values(known))

    def _has_values(self, known: Bounds) -> Any:
        return pc.fill_null(pc.not_equal(known.null_count, self.rows), True)

    def _all(self, *, truth: bool) -> pa.Array:
        return constant(len(self.rows), truth=truth)


def _outside(op: Operator, left: Bounds, lowest: Any, highest: Any) -> Callable[[], Any]:
    """Return when no value of `left` can be `op` a value in [lowest, highest]."""
    match op:
        case "==":
            return lambda: pc.or_kleene(pc.greater(left.lowest, highest), pc.less(left.highest, lowest))
        case "!=":
            return lambda: pc.and_kleene(pc.equal(left.lowest, highest), pc.equal(left.highest, lowest))
        case "<":
            return lambda: pc.greater_equal(left.lowest, highest)
        case "<=":
            return lambda: pc.greater(left.lowest, highest)
        case ">":
            return lambda: pc.less_equal(left.highest, lowest)
        case ">=":
            return lambda: pc.less(left.highest, lowest)
