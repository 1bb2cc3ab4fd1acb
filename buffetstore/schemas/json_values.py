"""Values and predicates as JSON that reads back as exactly what was written.

What JSON has itself is written as it is; the rest is tagged: ``{"decimal": "1.50"}``, ``{"date": "2024-01-19"}``,
``{"timestamp": "2024-01-19T14:30:00+00:00"}``, ``{"float": "inf"}``, ``{"list": [...]}``, ``{"struct": {...}}``.
Predicates: ``{"column": "low", "op": "<=", "value": {"column": "open"}}``, ``{"column": "side", "in": [...]}``,
``{"column": "bid", "is_null": true}``, ``{"column": "symbol", "like": "B%"}``, ``{"and": [...]}``, ``{"or": [...]}``,
``{"not": {...}}``; ``{"left": ..., "op": "<=", "right": ...}`` compares what is computed: ``{"column": "high"}``,
``{"constant": 2}``, ``{"arithmetic": "*", "left": ..., "right": ...}``, ``{"function": "abs", "argument": ...}``.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args

from buffetstore.expressions import (
    And,
    Arithmetic,
    Column,
    Comparison,
    ComputedComparison,
    Constant,
    Function,
    IsIn,
    IsNull,
    Like,
    Not,
    Operator,
    Or,
)
from buffetstore.expressions.values import ArithmeticOperator, FunctionName

if TYPE_CHECKING:
    from buffetstore.expressions import Expression, Value

_OPERATORS = frozenset(get_args(Operator))
_ARITHMETIC = frozenset(get_args(ArithmeticOperator))
_FUNCTIONS = frozenset(get_args(FunctionName))


class NotJSONError(ValueError):
    """The value has no form in JSON, or the JSON is of no form that is known; the text says which."""


def encode(value: Any) -> Any:
    """Return the value as JSON.

    Raises
    ------
    NotJSONError
        It is of a kind that no column holds.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise NotJSONError(f"{value!r} has no time zone")
        return {"timestamp": value.astimezone(UTC).isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, list | tuple):
        return {"list": [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"struct": {name: encode(item) for name, item in value.items()}}
    raise NotJSONError(f"{value!r} is a {type(value).__name__}, which no column holds")


def decode(given: Any) -> Any:
    """Return the value that `encode` wrote.

    Raises
    ------
    NotJSONError
        It did not write this.
    """
    if given is None or isinstance(given, bool | str | int | float):
        return given
    if isinstance(given, dict) and len(given) == 1:
        [(tag, inner)] = given.items()
        try:
            return _decode_tagged(tag, inner)
        except NotJSONError:
            raise
        except (ValueError, TypeError, InvalidOperation, AttributeError) as error:
            raise NotJSONError(f"{inner!r} is no {tag}") from error
    raise NotJSONError(f"{given!r} is no value: write 1.5, 'text', {{'decimal': '1.50'}} or {{'date': '2024-01-19'}}")


def _decode_tagged(tag: str, inner: Any) -> Any:
    match tag:
        case "float":
            return float({"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(inner, "not a word"))
        case "decimal":
            return Decimal(inner) if isinstance(inner, str) else Decimal("not text")
        case "timestamp":
            moment = datetime.fromisoformat(inner)
            if moment.tzinfo is None:
                raise NotJSONError(f"timestamp {inner!r} has no time zone")
            return moment
        case "date":
            return date.fromisoformat(inner)
        case "list":
            return [decode(item) for item in inner]
        case "struct":
            return {name: decode(item) for name, item in inner.items()}
    raise NotJSONError(f"{tag!r} is no kind of value: known are float, decimal, timestamp, date, list, struct")


def encode_expression(expression: Expression) -> dict[str, Any]:
    """Return the predicate as JSON.

    Raises
    ------
    NotJSONError
        One of its values has no form in JSON.
    """
    match expression:
        case Comparison(column, op, value):
            return {
                "column": column,
                "op": op,
                "value": {"column": value.name} if isinstance(value, Column) else encode(value),
            }
        case IsIn(column, values):
            return {"column": column, "in": [encode(value) for value in values]}
        case IsNull(column):
            return {"column": column, "is_null": True}
        case Like(column, pattern):
            return {"column": column, "like": pattern}
        case ComputedComparison(left, op, right):
            return {"left": _encode_value(left), "op": op, "right": _encode_value(right)}
        case And(parts):
            return {"and": [encode_expression(part) for part in parts]}
        case Or(parts):
            return {"or": [encode_expression(part) for part in parts]}
        case Not(part):
            return {"not": encode_expression(part)}


def _encode_value(value: Value) -> dict[str, Any]:
    match value:
        case Column(name):
            return {"column": name}
        case Constant(known):
            return {"constant": encode(known)}
        case Arithmetic(op, left, right):
            return {"arithmetic": op, "left": _encode_value(left), "right": _encode_value(right)}
        case Function(name, argument):
            return {"function": name, "argument": _encode_value(argument)}


def _decode_value(given: Any) -> Value:
    match given:
        case {"column": str(name), **rest} if not rest:
            return Column(name)
        case {"constant": value, **rest} if not rest:
            return Constant(decode(value))
        case {"arithmetic": str(op), "left": left, "right": right, **rest} if not rest and op in _ARITHMETIC:
            return Arithmetic(op, _decode_value(left), _decode_value(right))  # type: ignore[arg-type]  # one of them
        case {"function": str(name), "argument": argument, **rest} if not rest and name in _FUNCTIONS:
            return Function(name, _decode_value(argument))  # type: ignore[arg-type]  # one of them
    raise NotJSONError(f"{given!r} is no value: write {{'column': 'low'}}, or {{'constant': 2}}")


def decode_expression(given: Any) -> Expression:
    """Return the predicate that `encode_expression` wrote.

    Raises
    ------
    NotJSONError
        It did not write this; the text shows the part.
    """
    match given:
        case {"and": list(parts), **rest} if not rest:
            return And(tuple(decode_expression(part) for part in parts))
        case {"or": list(parts), **rest} if not rest:
            return Or(tuple(decode_expression(part) for part in parts))
        case {"not": dict(part), **rest} if not rest:
            return Not(decode_expression(part))
        case {"column": str(column), "is_null": True, **rest} if not rest:
            return IsNull(column)
        case {"column": str(column), "like": str(pattern), **rest} if not rest:
            return Like(column, pattern)
        case {"left": left, "op": str(op), "right": right, **rest} if not rest and op in _OPERATORS:
            return ComputedComparison(_decode_value(left), op, _decode_value(right))  # type: ignore[arg-type]
        case {"column": str(column), "in": list(values), **rest} if not rest:
            return IsIn(column, tuple(decode(value) for value in values))
        case {"column": str(column), "op": str(op), "value": value, **rest} if not rest:
            if op not in _OPERATORS:
                raise NotJSONError(f"{op!r} is no comparison: known are {', '.join(sorted(_OPERATORS))}")
            match value:
                case {"column": str(other), **more} if not more:
                    return Comparison(column, op, Column(other))  # type: ignore[arg-type]  # a member of _OPERATORS
            return Comparison(column, op, decode(value))  # type: ignore[arg-type]  # a member of _OPERATORS
    raise NotJSONError(
        f"{given!r} is no predicate: write {{'column': 'low', 'op': '<=', 'value': {{'column': 'open'}}}}"
    )
