"""Values computed from the columns of a row: as nodes, and as passes over a row and over Arrow data.

Sums, differences and products of whole numbers and decimals are exact; where the digits of a result do not fit 38, or a
float takes part, and in every quotient, they are float64. Null in, null out; floats divide by zero as IEEE 754 says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ArithmeticOperator: TypeAlias = Literal["+", "-", "*", "/"]
FunctionName: TypeAlias = Literal["abs", "ceil", "exp", "floor", "log", "round", "sqrt"]

_CHECKED: dict[str, Callable[[Any, Any], Any]] = {
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
}
_FLOATING: dict[str, Callable[[Any, Any], Any]] = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}
_EXACT_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "abs": pc.abs_checked,
    "ceil": pc.ceil,
    "floor": pc.floor,
    "round": lambda column: pc.round(column, round_mode="half_to_even"),
}
_FLOAT_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"exp": pc.exp, "log": pc.ln, "sqrt": pc.sqrt}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the row."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value in every row."""

    value: Any


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left op right`."""

    op: ArithmeticOperator
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Function:
    """A function of one value."""

    name: FunctionName
    argument: Value


Value: TypeAlias = Column | Constant | Arithmetic | Function


def names_in(value: Value) -> Iterator[str]:
    """Yield the names of the columns that the value reads."""
    match value:
        case Column(name):
            yield name
        case Arithmetic(_, left, right):
            yield from names_in(left)
            yield from names_in(right)
        case Function(_, argument):
            yield from names_in(argument)
        case Constant():
            return


def renamed_value(value: Value, names: Mapping[str, str]) -> Value:
    """Return the value with columns under other names."""
    match value:
        case Column(name):
            return Column(names.get(name, name))
        case Arithmetic(op, left, right):
            return Arithmetic(op, renamed_value(left, names), renamed_value(right, names))
        case Function(name, argument):
            return Function(name, renamed_value(argument, names))
        case Constant():
            return value


def render_value(value: Value) -> str:
    """Return the value as people write it."""
    match value:
        case Column(name):
            return name
        case Constant(known):
            return repr(known)
        case Arithmetic(op, left, right):
            return f"({render_value(left)} {op} {render_value(right)})"
        case Function(name, argument):
            return f"{name}({render_value(argument)})"


def compute(table: pa.Table, value: Value) -> pa.ChunkedArray:
    """Return the value of every row.

    Raises
    ------
    InvalidQueryError
        A column is not in the table, is no number, or a whole number overflows.
    """
    found = _computed(table, value)
    if isinstance(found, pa.Scalar):
        return pa.chunked_array([pa.repeat(found, table.num_rows)], found.type)
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def type_of(value: Value, schema: pa.Schema) -> pa.DataType:
    """Return the type that the value has in a table of this schema.

    Raises
    ------
    InvalidQueryError
        As `compute` does.
    """
    return compute(schema.empty_table(), value).type


def _computed(table: pa.Table, value: Value) -> Any:
    match value:
        case Column(name):
            if name not in table.column_names:
                raise InvalidQueryError(f"there is no column {name!r}: there are {', '.join(table.column_names)}")
            return table[name]
        case Constant(known):
            return pa.scalar(known)
        case Arithmetic(op, left, right):
            return _arithmetic(value, op, _number(table, left), _number(table, right))
        case Function(name, argument):
            return _function(value, name, _number(table, argument))


def _number(table: pa.Table, value: Value) -> Any:
    found = _computed(table, value)
    kind = found.type
    if pa.types.is_integer(kind):
        return found.cast(pa.int64()) if not pa.types.is_uint64(kind) else found.cast(pa.decimal128(20, 0))
    if pa.types.is_floating(kind):
        return found.cast(pa.float64())
    if pa.types.is_decimal(kind):
        return found
    raise InvalidQueryError(f"{render_value(value)} is {kind}: only numbers can be computed with")


def _arithmetic(value: Value, op: ArithmeticOperator, left: Any, right: Any) -> Any:
    if op != "/" and not pa.types.is_floating(left.type) and not pa.types.is_floating(right.type):
        try:
            return _CHECKED[op](left, right)
        except pa.ArrowInvalid as error:
            if not (pa.types.is_decimal(left.type) or pa.types.is_decimal(right.type)):
                raise InvalidQueryError(f"{render_value(value)} does not fit 64 bits: {error}") from error
            # The digits of the result, which follow from the types alone, are more than a decimal has.
    return _FLOATING[op](_floats(left), _floats(right))


def _function(value: Value, name: FunctionName, argument: Any) -> Any:
    if name in _FLOAT_FUNCTIONS:
        return _FLOAT_FUNCTIONS[name](_floats(argument))
    if pa.types.is_integer(argument.type) and name != "abs":
        return argument
    if pa.types.is_decimal(argument.type):
        argument = argument.cast(pa.decimal128(38, argument.type.scale))  # 9.5 rounds to 10, a digit more
    try:
        return _EXACT_FUNCTIONS[name](argument)
    except pa.ArrowInvalid as error:
        raise InvalidQueryError(f"{render_value(value)} does not fit {argument.type}: {error}") from error


def _floats(column: Any) -> Any:
    return column.cast(pa.float64(), safe=False)  # whole numbers beyond 2**53 become the nearest


def evaluate_value(value: Value, row: Mapping[str, Any]) -> Any:
    """Return the value of one row: the oracle for the kernels, which is exact where they are float64."""
    match value:
        case Column(name):
            return row[name]
        case Constant(known):
            return known
        case Arithmetic(op, left, right):
            return _evaluated(op, evaluate_value(left, row), evaluate_value(right, row))
        case Function(name, argument):
            found = evaluate_value(argument, row)
            return None if found is None else _applied(name, found)


def _evaluated(op: ArithmeticOperator, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if op == "/":
        left, right = float(left), float(right)
        if right == 0.0:
            odd = math.isnan(left) or left == 0.0
            return math.nan if odd else math.copysign(math.inf, left) * math.copysign(1.0, right)
        return left / right
    if isinstance(left, float) or isinstance(right, float):
        left, right = float(left), float(right)
    return left + right if op == "+" else left - right if op == "-" else left * right


def _applied(name: FunctionName, value: Any) -> Any:
    match name:
        case "abs":
            return abs(value)
        case "exp":
            return _exp(float(value))
        case "log":
            number = float(value)
            return -math.inf if number == 0 else math.nan if number < 0 or math.isnan(number) else math.log(number)
        case "sqrt":
            return math.nan if float(value) < 0 else math.sqrt(float(value))
        case _:
            if isinstance(value, int) or (isinstance(value, float) and not math.isfinite(value)):
                return value
            whole = math.floor(value) if name == "floor" else math.ceil(value) if name == "ceil" else round(value)
            return float(whole) if isinstance(value, float) else Decimal(whole)


def _exp(number: float) -> float:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf
