"""Predicates over Arrow data: which rows satisfy one, and which groups of rows may hold a row that does.

Both passes mean what `buffetstore.expressions.evaluate` means: three-valued logic, and NaN compares false with
everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Column, Comparison, Expression, IsIn, IsNull, Not, Operator, Or

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LONG_LIST = 32
_KERNELS: dict[Operator, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_NEGATED: dict[Operator, Operator] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def filter_rows(table: pa.Table, predicate: Expression) -> pa.Table:
    """Return the rows for which the predicate is true.

    Raises
    ------
    InvalidQueryError
        A column is not in the table, or cannot be compared with its value.
    """
    keep = mask(table, predicate)
    return table if pc.all(keep, skip_nulls=False).as_py() is True else table.filter(keep)


def mask(table: pa.Table, predicate: Expression) -> Any:
    """Return for each row whether the predicate holds; null is SQL's unknown."""
    match predicate:
        case Comparison(name, op, value):
            left = _column(table, name)
            if isinstance(value, Column):
                return _compare(name, op, left, _column(table, value.name))
            return _compare(name, op, left, literal(value, left.type))
        case IsIn(name, values):
            return _is_in(name, _column(table, name), values)
        case IsNull(name):
            return pc.is_null(_column(table, name))
        case And(parts):
            return reduce(pc.and_kleene, (mask(table, part) for part in parts), _constant(table.num_rows, truth=True))
        case Or(parts):
            return reduce(pc.or_kleene, (mask(table, part) for part in parts), _constant(table.num_rows, truth=False))
        case Not(part):
            return pc.invert(mask(table, part))


def literal(value: Any, kind: pa.DataType) -> pa.Scalar:
    """Return `value` as a scalar of `kind` where it fits exactly, else as what it is."""
    plain = pa.scalar(value) if not isinstance(value, pa.Scalar) else value
    target = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        exact = pa.scalar(value, target) if not isinstance(value, pa.Scalar) else value.cast(target)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError, TypeError):
        return plain
    # An integer column must not cut 1.5 to 1, nor a decimal a digit that it has no place for.
    return exact if exact.as_py() == plain.as_py() else plain


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise InvalidQueryError(f"there is no column {name!r}: there are {', '.join(table.column_names)}")
    column = table[name]
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _compare(name: str, op: Operator, left: Any, right: Any) -> Any:
    try:
        return _KERNELS[op](left, right)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise InvalidQueryError(f"column {name!r} is {left.type} and cannot be compared with {right.type}") from error


def _is_in(name: str, column: pa.ChunkedArray, values: tuple[Any, ...]) -> Any:
    unknown = pa.scalar(None, pa.bool_())
    wanted = _members(values, column.type)
    scalars = (
        [] if wanted is not None else [literal(v, column.type) for v in values if v is not None and not _is_nan(v)]
    )
    if wanted is None and all(scalar.type == column.type for scalar in scalars):
        wanted = pa.array([scalar.as_py() for scalar in scalars], column.type)
    if wanted is not None:
        if pa.types.is_floating(column.type):  # the kernel tells -0.0 from 0.0; adding 0.0 makes them one
            zero = pa.scalar(0.0, column.type)
            column, wanted = pc.add(column, zero), pc.add(wanted, zero)
        return pc.if_else(pc.is_null(column), unknown, pc.is_in(column, value_set=wanted))
    found = [_compare(name, "==", column, scalar) for scalar in scalars]
    return reduce(pc.or_kleene, found)


def _members(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array | None:
    """Return the values as one array, where all of them fit exactly: a list may be long."""
    try:
        found = pa.array(values, kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return None
    return found if not found.null_count and found.to_pylist() == list(values) else None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | Decimal) and math.isnan(value)


def _constant(length: int, *, truth: bool) -> pa.Array:
    return pa.repeat(pa.scalar(truth), length)


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
            case IsNull(name):
                known = self.bounds.get(name)
                if known is None:
                    return self._all(truth=True)
                empty = self.rows if negated else pa.scalar(0, pa.int64())
                return pc.fill_null(pc.not_equal(known.null_count, empty), True)

    def _join(self, parts: Iterable[Expression], *, negated: bool, conjunction: bool) -> Any:
        kernel = pc.and_ if conjunction else pc.or_
        return reduce(kernel, (self.visit(part, negated=negated) for part in parts), self._all(truth=conjunction))

    def _comparison(self, name: str, op: Operator, value: Any, *, negated: bool) -> Any:
        known = self.bounds.get(name)
        if value is None:
            return self._all(truth=False)
        if known is None or _is_nan(value):
            return self._all(truth=True)
        if pa.types.is_floating(known.lowest.type) and (negated or op == "!="):
            return self._has_values(known)  # NaN is outside the bounds and satisfies what is not a comparison
        if isinstance(value, Column):
            return self._columns(known, _NEGATED[op] if negated else op, value.name, negated=negated)
        scalar = literal(value, known.lowest.type)
        return self._excluded(known, _outside(_NEGATED[op] if negated else op, known, scalar, scalar))

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
            ordered = sorted(value for value in values if value is not None and not _is_nan(value))
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
        return _constant(len(self.rows), truth=truth)


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
