"""Which rows of Arrow data satisfy a predicate: by kernels, meaning what `evaluate` means of one row."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions.nodes import (
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
)
from buffetstore.expressions.values import compute, render_value

if TYPE_CHECKING:
    from collections.abc import Callable

_KERNELS: dict[Operator, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


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
        case Like(name, pattern):
            return _matches(name, table, pattern)
        case ComputedComparison(left, op, right):
            return _compare(render_value(left), op, *_alike(compute(table, left), compute(table, right)))
        case And(parts):
            return reduce(pc.and_kleene, (mask(table, part) for part in parts), constant(table.num_rows, truth=True))
        case Or(parts):
            return reduce(pc.or_kleene, (mask(table, part) for part in parts), constant(table.num_rows, truth=False))
        case Not(part):
            return pc.invert(mask(table, part))


def _matches(name: str, table: pa.Table, pattern: str) -> Any:
    column = _column(table, name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise InvalidQueryError(f"column {name!r} is {column.type}: only text is like {pattern!r}")
    return pc.match_like(column, pattern)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Return numbers of two kinds as numbers of one: a decimal beside a float is compared as a float."""
    if pa.types.is_floating(left.type) and pa.types.is_decimal(right.type):
        return left, right.cast(left.type)
    if pa.types.is_decimal(left.type) and pa.types.is_floating(right.type):
        return left.cast(right.type), right
    return left, right


def one_zero(column: Any) -> Any:
    """Return floats with every -0.0 as 0.0, which it equals: kernels that look at bits tell them apart."""
    return pc.add(column, pa.scalar(0.0, column.type))


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
    scalars = [] if wanted is not None else [literal(v, column.type) for v in values if v is not None and not is_nan(v)]
    if wanted is None and all(scalar.type == column.type for scalar in scalars):
        wanted = pa.array([scalar.as_py() for scalar in scalars], column.type)
    if wanted is not None:
        if pa.types.is_floating(column.type):  # the kernel tells -0.0 from 0.0
            column, wanted = one_zero(column), one_zero(wanted)
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


def is_nan(value: Any) -> bool:
    """Return whether the value is a number that is none."""
    return isinstance(value, float | Decimal) and math.isnan(value)


def constant(length: int, *, truth: bool) -> pa.Array:
    """Return one truth for every row."""
    return pa.repeat(pa.scalar(truth), length)
