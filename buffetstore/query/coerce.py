"""A filter's constants as the values of the column that they are compared with, so that every pass agrees."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, Expression, IsIn, IsNull, Not, Operator, Or
from buffetstore.query.rules import NEVER
from buffetstore.query.times import day_or_moment, end_of, start_of

if TYPE_CHECKING:
    from collections.abc import Callable

_BITS = {pa.int8(): 7, pa.int16(): 15, pa.int32(): 31, pa.int64(): 63}

# No column has more than 38 digits; the default context would round to 28.
_CONTEXT = Context(prec=400, Emax=10_000, Emin=-10_000)


def comparison(field: pa.Field, op: Operator, value: Any) -> Expression:
    """Return `field op value` with a constant of the field's own type.

    A constant between two values that the column can hold moves to the neighbour that keeps the meaning
    (``volume > 10.5`` is ``volume > 10``); one that it cannot hold makes the comparison constant.

    Raises
    ------
    InvalidQueryError
        The constant is of another type than the column.
    """
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    for fits, compare in _TYPES:
        if fits(kind):
            return compare(field.name, kind, op, value)
    raise InvalidQueryError(f"column {field.name!r} is {kind}: only None finds something in it")


def membership(field: pa.Field, values: tuple[Any, ...]) -> Expression:
    """Return that the field is one of `values`, each of the field's own type; what it cannot hold is left out."""
    found = [comparison(field, "==", value) for value in values]
    if all(isinstance(part, Comparison) or part == NEVER for part in found):
        return IsIn(field.name, tuple(part.value for part in found if isinstance(part, Comparison)))
    return Or(tuple(found))


def _text(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    if not isinstance(value, str):
        _mismatch(name, kind, value, "give a string")
    return Comparison(name, op, str(value))


def _binary(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    if not isinstance(value, bytes):
        _mismatch(name, kind, value, "give bytes")
    return Comparison(name, op, value)


def _boolean(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    if not isinstance(value, bool):
        _mismatch(name, kind, value, "give True or False")
    return Comparison(name, op, value)


def _floating(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    return Comparison(name, op, float(_number(name, kind, value)))


def _exact(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    """Compare with a decimal or whole number: floats are rounded as they are when stored, others keep their digits."""
    number = _number(name, kind, value)
    integral = pa.types.is_integer(kind)
    scale = 0 if integral else kind.scale
    most = Decimal(2 ** _BITS[kind] - 1 if integral else 10**kind.precision - 1).scaleb(-scale)
    least = -most - 1 if integral else -most
    if not number.is_finite() or not least <= number <= most:
        return _beyond(name, op, above=number > 0)
    if isinstance(value, float) and not integral:
        number = _scaled(number, scale, ROUND_HALF_EVEN)
    floor = _scaled(number, scale, ROUND_FLOOR)
    as_kind: Callable[[Decimal], Any] = int if integral else Decimal
    if floor == number:
        return Comparison(name, op, as_kind(floor))
    match op:
        case "==":
            return NEVER
        case "!=":
            return Not(IsNull(name))
        case ">" | ">=":
            return Comparison(name, ">", as_kind(floor))
        case _:
            return Comparison(name, "<", as_kind(_scaled(number, scale, ROUND_CEILING)))


def _scaled(number: Decimal, scale: int, rounding: str) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-scale), rounding, _CONTEXT)


def _beyond(name: str, op: Operator, *, above: bool) -> Expression:
    """Compare with a number that is greater, or less, than all that the column can hold."""
    always = op == "!=" or op in ({"<", "<="} if above else {">", ">="})
    return Not(IsNull(name)) if always else NEVER


def _number(name: str, kind: pa.DataType, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        _mismatch(name, kind, value, "give a number")
    try:
        # By its shortest digits: 0.1 means 0.1, not 0.1000000000000000055.
        number = Decimal(repr(float(value))) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        _mismatch(name, kind, value, "give a number")
    if number.is_nan() or (math.isinf(number) and pa.types.is_floating(kind)):
        _mismatch(name, kind, value, "give a finite number")
    return number


def _timestamp(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    if not isinstance(value, str | date):
        _mismatch(name, kind, value, "give an aware datetime, a date (the whole UTC day) or an ISO 8601 string")
    found = day_or_moment(value, f"filters[{name!r}]")
    if isinstance(found, datetime):
        return Comparison(name, op, found)
    match op:
        case ">=" | "<":
            return Comparison(name, op, start_of(found))
        case ">":
            return Comparison(name, ">=", end_of(found))
        case "<=":
            return Comparison(name, "<", end_of(found))
        case "==":
            return And((Comparison(name, ">=", start_of(found)), Comparison(name, "<", end_of(found))))
        case _:
            return Or((Comparison(name, "<", start_of(found)), Comparison(name, ">=", end_of(found))))


def _date(name: str, kind: pa.DataType, op: Operator, value: Any) -> Expression:
    if not isinstance(value, str | date):
        _mismatch(name, kind, value, "give a date or '2024-01-31'")
    found = day_or_moment(value, f"filters[{name!r}]")
    if isinstance(found, datetime):
        _mismatch(name, kind, value, f"give the day: '{found.date()}'")
    return Comparison(name, op, found)


def _mismatch(name: str, kind: pa.DataType, value: Any, mend: str) -> NoReturn:
    raise InvalidQueryError(f"column {name!r} is {kind}, {value!r} is a {type(value).__name__}: {mend}")


_TYPES: tuple[tuple[Callable[[pa.DataType], bool], Callable[[str, pa.DataType, Operator, Any], Expression]], ...] = (
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), _text),
    (pa.types.is_boolean, _boolean),
    (pa.types.is_floating, _floating),
    (lambda kind: pa.types.is_decimal(kind) or kind in _BITS, _exact),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_date, _date),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), _binary),
)
