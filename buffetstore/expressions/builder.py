"""Filters, computed columns and aggregates as people write them: ``col("price") * col("volume") > 1_000_000``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions.nodes import (
    MIRRORED,
    And,
    Comparison,
    ComputedComparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
)
from buffetstore.expressions.values import Arithmetic, Column, Constant, Function, Value, render_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from buffetstore.expressions.nodes import Operator
    from buffetstore.expressions.values import ArithmeticOperator, FunctionName

AggregateName: TypeAlias = Literal["count", "count_distinct", "first", "last", "max", "mean", "min", "sum"]
BucketUnit: TypeAlias = Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]

_UNITS: dict[str, BucketUnit] = {
    "s": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "q": "quarter",
    "y": "year",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A computed column: a value, and the name that it has in the answer."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A function of the rows of a group.

    `first` and `last` go by event time, then key. Nulls are left out; `count` without a value counts rows.
    """

    function: AggregateName
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Spans of time that rows are grouped by; the group's value is the moment at which its span begins.

    Parameters
    ----------
    column:
        The time that is looked at.
    count, unit:
        How long a span is: weeks begin on Monday, quarters in January.
    tz:
        The zone whose days and hours they are; None is UTC.
    name:
        The name in the answer; the column's by default.
    """

    column: str
    count: int
    unit: BucketUnit
    tz: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.column)


class Term:
    """A value to compute with, to compare and to aggregate; made by `col`."""

    __slots__ = ("value",)
    __hash__ = None  # type: ignore[assignment]  # == makes a filter

    def __init__(self, value: Value) -> None:
        self.value = value

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return IsNull(self._name("== None")) if other is None else _compared(self.value, "==", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return Not(IsNull(self._name("!= None"))) if other is None else _compared(self.value, "!=", other)

    def __lt__(self, other: object) -> Expression:
        return _compared(self.value, "<", other)

    def __le__(self, other: object) -> Expression:
        return _compared(self.value, "<=", other)

    def __gt__(self, other: object) -> Expression:
        return _compared(self.value, ">", other)

    def __ge__(self, other: object) -> Expression:
        return _compared(self.value, ">=", other)

    def __add__(self, other: Any) -> Term:
        return _joined("+", self, other)

    def __radd__(self, other: Any) -> Term:
        return _joined("+", other, self)

    def __sub__(self, other: Any) -> Term:
        return _joined("-", self, other)

    def __rsub__(self, other: Any) -> Term:
        return _joined("-", other, self)

    def __mul__(self, other: Any) -> Term:
        return _joined("*", self, other)

    def __rmul__(self, other: Any) -> Term:
        return _joined("*", other, self)

    def __truediv__(self, other: Any) -> Term:
        return _joined("/", self, other)

    def __rtruediv__(self, other: Any) -> Term:
        return _joined("/", other, self)

    def __neg__(self) -> Term:
        return _joined("-", 0, self)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth of its own, it has a value for each row: join filters by & | ~")

    def __repr__(self) -> str:
        return f"<{render_value(self.value)}>"

    def is_in(self, values: Collection[Any]) -> Expression:
        """Return that it is one of the values; None among them finds rows without one."""
        known = tuple(value for value in values if value is not None)
        name = self._name("is_in")
        return IsIn(name, known) if len(known) == len(values) else Or((IsIn(name, known), IsNull(name)))

    def is_null(self) -> Expression:
        """Return that there is no value."""
        return IsNull(self._name("is_null"))

    def between(self, low: Any, high: Any) -> Expression:
        """Return that it is neither below `low` nor above `high`."""
        return And((self >= low, self <= high))

    def like(self, pattern: Any) -> Expression:
        """Return that the text matches: ``%`` is any text, ``_`` a character; a backslash before one escapes it."""
        if not isinstance(pattern, str):
            raise InvalidQueryError(f"like({pattern!r}): a pattern is text, 'BRK.%' say")
        return Like(self._name("like"), pattern)

    def starts_with(self, prefix: Any) -> Expression:
        """Return that the text begins so; no character of it has another meaning."""
        if not isinstance(prefix, str):
            raise InvalidQueryError(f"starts_with({prefix!r}): give a text")
        return Like(self._name("starts_with"), escaped(prefix) + "%")

    def abs(self) -> Term:
        """Return it without its sign."""
        return self._of("abs")

    def ceil(self) -> Term:
        """Return the least whole number that is not below it."""
        return self._of("ceil")

    def exp(self) -> Term:
        """Return e to its power, a float."""
        return self._of("exp")

    def floor(self) -> Term:
        """Return the greatest whole number that is not above it."""
        return self._of("floor")

    def log(self) -> Term:
        """Return its natural logarithm, a float."""
        return self._of("log")

    def round(self) -> Term:
        """Return the nearest whole number, the even one of two."""
        return self._of("round")

    def sqrt(self) -> Term:
        """Return its square root, a float."""
        return self._of("sqrt")

    def alias(self, name: Any) -> Named:
        """Return a column of the answer: the value under this name."""
        if not isinstance(name, str) or not name:
            raise InvalidQueryError(f"alias({name!r}) is no name of a column")
        return Named(name, self.value)

    def count(self) -> Aggregate:
        """Count the rows that have a value."""
        return Aggregate("count", self.value)

    def count_distinct(self) -> Aggregate:
        """Count the different values."""
        return Aggregate("count_distinct", self.value)

    def sum(self) -> Aggregate:
        """Add up; decimals and whole numbers exactly. No value at all adds up to null."""
        return Aggregate("sum", self.value)

    def mean(self) -> Aggregate:
        """Return the mean, a float."""
        return Aggregate("mean", self.value)

    def min(self) -> Aggregate:
        """Return the least."""
        return Aggregate("min", self.value)

    def max(self) -> Aggregate:
        """Return the greatest."""
        return Aggregate("max", self.value)

    def first(self) -> Aggregate:
        """Return the value of the earliest row that has one."""
        return Aggregate("first", self.value)

    def last(self) -> Aggregate:
        """Return the value of the latest row that has one."""
        return Aggregate("last", self.value)

    def _of(self, name: FunctionName) -> Term:
        return Term(Function(name, self.value))

    def _name(self, what: str) -> str:
        if isinstance(self.value, Column):
            return self.value.name
        raise InvalidQueryError(f"{what} is asked of columns, not of {render_value(self.value)}: give it a column")


def col(name: Any) -> Term:
    """Return a column to filter by, to compute with and to aggregate.

    >>> (col("price") > 100) & col("symbol").is_in(["AAPL", "MSFT"])
    And(parts=(Comparison(column='price', op='>', value=100), IsIn(column='symbol', values=('AAPL', 'MSFT'))))
    """
    if not isinstance(name, str) or not name:
        raise InvalidQueryError(f"col({name!r}) is no name of a column")
    return Term(Column(name))


def count() -> Aggregate:
    """Count the rows of a group."""
    return Aggregate("count")


def bucket(column: str, every: Any, *, tz: str | None = None, name: str = "") -> Bucket:
    """Return spans of time to group by: ``bucket("timestamp", "15m", tz="America/New_York")``.

    Parameters
    ----------
    every:
        A number and ``s``, ``m`` (or ``min``), ``h``, ``d``, ``w``, ``mo``, ``q`` or ``y``.

    Raises
    ------
    InvalidQueryError
        It is no span.
    """
    number = every.rstrip("abcdefghijklmnopqrstuvwxyz") if isinstance(every, str) else ""
    unit = _UNITS.get(every[len(number) :]) if isinstance(every, str) else None
    if unit is None or (number and not (number.isascii() and number.isdigit() and int(number))):
        raise InvalidQueryError(
            f"bucket(every={every!r}) is no span: write '15m', '1h', '1d', '1w', '1mo', '1q' or '1y'"
        )
    return Bucket(column, int(number or 1), unit, tz, name)


def escaped(text: str) -> str:
    r"""Return the pattern that matches this text alone.

    >>> print(escaped("100%"))
    100\%
    """
    return "".join(f"\\{letter}" if letter in "%_\\" else letter for letter in text)


def _value(given: Any) -> Value:
    return given.value if isinstance(given, Term) else Constant(given)


def _joined(op: ArithmeticOperator, left: Any, right: Any) -> Term:
    for each in (left, right):
        if each is None or isinstance(each, str | bytes | bool | Named | Aggregate):
            raise InvalidQueryError(f"{each!r} cannot be computed with: give a number or a column")
    return Term(Arithmetic(op, _value(left), _value(right)))


def _compared(left: Value, op: Operator, other: Any) -> Expression:
    right = _value(other)
    if isinstance(left, Column):
        if isinstance(right, Column):
            return Comparison(left.name, op, right)
        if isinstance(right, Constant):
            return Comparison(left.name, op, right.value)
    if isinstance(right, Column) and isinstance(left, Constant):
        return Comparison(right.name, MIRRORED[op], left.value)
    return ComputedComparison(left, op, right)
