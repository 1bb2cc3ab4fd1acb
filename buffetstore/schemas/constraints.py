"""The constraints of single fields as kernels: a reduction tells whether any row fails, and only then which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import annotated_types as at
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, TypeAdapter, ValidationError

from buffetstore.schemas.columns import byte_lengths, encode, extremes, floats, valid, whole_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.columns import Encoded, Range

    Rows = NDArray[np.int64]

_BOUNDS: tuple[tuple[str, type[Any], str, str], ...] = (
    ("gt", at.Gt, "greater_than", "must be greater than"),
    ("ge", at.Ge, "greater_than_equal", "must be at least"),
    ("lt", at.Lt, "less_than", "must be less than"),
    ("le", at.Le, "less_than_equal", "must be at most"),
)
_INT64 = 2**63 - 1
_BYTES_PER_CHARACTER = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """The elements of a column that break one constraint, and what is wrong with them."""

    error_type: str
    rows: Rows
    problem: str


class Values:
    """A column's values in the forms that its constraints want."""

    def __init__(
        self,
        array: pa.Array,
        *,
        encoded: Callable[[], Encoded] | None = None,
        known: Callable[[], Range | None] | None = None,
    ) -> None:
        self.array = array
        self._encode = encoded or (lambda: encode(array))
        self._known = known or (lambda: None)

    @cached_property
    def known(self) -> Range | None:
        """The extremes of the values, where they were found before."""
        return self._known()

    @property
    def encoded(self) -> Encoded:
        """The strings as codes."""
        return self._encode()

    def where(self, bad: NDArray[np.bool_]) -> Rows:
        """Return the rows that are bad and not null."""
        return np.flatnonzero(bad & valid(self.array) if self.array.null_count else bad)


def failures(spec: FieldSpec, values: Values) -> Iterator[Failure]:
    """Yield what breaks the field's own constraints; nulls break none."""
    kind = values.array.type
    if len(values.array) == values.array.null_count:
        return
    if pa.types.is_list(kind):
        yield from _list_lengths(spec, values)
    elif pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        yield from _strings(spec, values)
    elif pa.types.is_float64(kind):
        yield from _floats(spec, values)
    elif not pa.types.is_nested(kind):
        yield from _exact(spec, values)


def _bounds(spec: FieldSpec) -> Iterator[tuple[str, Any, str, str]]:
    for constraint in spec.constraints:
        for attribute, mark, error_type, words in _BOUNDS:
            if isinstance(constraint, mark):
                bound = getattr(constraint, attribute)
                yield attribute, bound, error_type, f"{words} {bound}"


def _floats(spec: FieldSpec, values: Values) -> Iterator[Failure]:
    x = floats(values.array)
    low, high = extremes(x) if values.known is None else (values.known.low, values.known.high)
    finite = None
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = np.isfinite(x)
        rows = values.where(~finite)
        if len(rows):
            yield Failure("finite_number", rows, "is not a finite number")
    for attribute, bound, error_type, words in _bounds(spec):
        limit = float(bound)
        if _keeps(attribute, low if attribute in {"gt", "ge"} else high, limit):
            continue
        if values.known is not None and _keeps(attribute, x.min() if attribute in {"gt", "ge"} else x.max(), limit):
            continue
        bad = ~_keeps(attribute, x, limit)
        rows = values.where(bad if finite is None else bad & finite)
        if len(rows):
            yield Failure(error_type, rows, words)
    for constraint in spec.constraints:
        if isinstance(constraint, at.MultipleOf):
            bad = _no_multiple(x, constraint.multiple_of)
            rows = values.where(bad if finite is None else bad & finite)
            if len(rows):
                yield Failure("multiple_of", rows, f"must be a multiple of {constraint.multiple_of}")


def _no_multiple(x: NDArray[Any], step: Any) -> NDArray[np.bool_]:
    """Tell which floats are no multiple of the step; of those that are none exactly, pydantic's tolerance decides."""
    with np.errstate(invalid="ignore"):  # what is not finite is left out by the caller
        inexact: NDArray[np.bool_] = np.fmod(x, float(str(step))) != 0
    distinct, places = np.unique(x[inexact], return_inverse=True)
    oracle = TypeAdapter(Annotated[float, Field(multiple_of=step)])
    bad = np.array([not _accepted(oracle, number) for number in distinct.tolist()], bool)
    inexact[inexact] = bad[places]
    return inexact


def _keeps(attribute: str, x: Any, limit: float) -> Any:
    match attribute:
        case "gt":
            return x > limit
        case "ge":
            return x >= limit
        case "lt":
            return x < limit
        case _:
            return x <= limit


def _exact(spec: FieldSpec, values: Values) -> Iterator[Failure]:
    for attribute, bound, error_type, words in _bounds(spec):
        lower = attribute in {"gt", "ge"}
        limit = _whole_limit(attribute, _scaled(bound, values.array.type))
        x = whole_numbers(values.array)
        rows = _wide_outside(values, limit, lower=lower) if x is None else _outside(values, x, limit, lower=lower)
        if len(rows):
            yield Failure(error_type, rows, words)

    for constraint in spec.constraints:
        if isinstance(constraint, at.MultipleOf):
            rows = _uneven(values, _scaled(constraint.multiple_of, values.array.type))
            if len(rows):
                yield Failure("multiple_of", rows, f"must be a multiple of {constraint.multiple_of}")


def _uneven(values: Values, step: Fraction) -> Rows:
    """Return the rows that are no multiple of the step, which is in the units of the column's integers."""
    x = whole_numbers(values.array)
    if x is None:
        scale = 10**values.array.type.scale
        exact = [0 if number is None else Fraction(number) * scale for number in values.array.to_pylist()]
        return values.where(np.array([number % step != 0 for number in exact]))
    if step.denominator == 1 and step.numerator <= _INT64:
        return values.where(x % step.numerator != 0)
    return values.where(np.array([(number * step.denominator) % step.numerator != 0 for number in x.tolist()]))


def _outside(values: Values, x: NDArray[Any], limit: int, *, lower: bool) -> Rows:
    limit = max(-_INT64 - 1, min(_INT64, limit))
    known = values.known
    if known is not None and (known.low >= limit if lower else known.high <= limit):
        return np.empty(0, np.int64)
    if (x.min() >= limit) if lower else (x.max() <= limit):
        return np.empty(0, np.int64)
    return values.where(x < limit if lower else x > limit)


def _wide_outside(values: Values, limit: int, *, lower: bool) -> Rows:
    """Compare decimals of more digits than a word has."""
    kind = values.array.type
    digits = 10**kind.precision - 1
    limit = max(-digits, min(digits, limit))
    words = (limit & (2**128 - 1)).to_bytes(16, "little")
    bound = pa.Array.from_buffers(kind, 1, [None, pa.py_buffer(words)])[0]
    found = pc.less(values.array, bound) if lower else pc.greater(values.array, bound)
    return np.flatnonzero(pc.fill_null(found, False).to_numpy(zero_copy_only=False))


def _scaled(bound: Any, kind: pa.DataType) -> Fraction:
    """Return the bound in the units in which the column's integers count."""
    if isinstance(bound, date | datetime):
        whole = whole_numbers(pa.array([bound], kind))
        assert whole is not None, "times are integers"
        return Fraction(int(whole[0]))
    exact = Fraction(str(bound))
    return exact * 10**kind.scale if pa.types.is_decimal(kind) else exact


def _whole_limit(attribute: str, bound: Fraction) -> int:
    """Return the smallest (for gt, ge) or largest whole number that the bound lets pass."""
    match attribute:
        case "gt":
            return math.floor(bound) + 1
        case "ge":
            return math.ceil(bound)
        case "lt":
            return math.ceil(bound) - 1
        case _:
            return math.floor(bound)


def _strings(spec: FieldSpec, values: Values) -> Iterator[Failure]:
    for constraint in spec.constraints:
        if isinstance(constraint, at.MinLen):
            rows = _of_length(values, constraint.min_length, shortest=True)
            if len(rows):
                yield Failure("string_too_short", rows, f"must have at least {constraint.min_length} characters")
        elif isinstance(constraint, at.MaxLen):
            rows = _of_length(values, constraint.max_length, shortest=False)
            if len(rows):
                yield Failure("string_too_long", rows, f"must have at most {constraint.max_length} characters")
        elif getattr(constraint, "pattern", None):
            pattern = getattr(constraint.pattern, "pattern", constraint.pattern)
            rows = _among(values, ~_matches(values.encoded.values, pattern))
            if len(rows):
                yield Failure("string_pattern_mismatch", rows, f"must match {pattern}")
    if spec.choices is not None:
        known = pc.is_in(values.encoded.values, value_set=pa.array(spec.choices, values.encoded.values.type))
        rows = _among(values, ~known.to_numpy(zero_copy_only=False))
        if len(rows):
            yield Failure("literal_error", rows, f"must be one of {', '.join(map(repr, spec.choices))}")


def _of_length(values: Values, limit: int, *, shortest: bool) -> Rows:
    if pa.types.is_string(values.array.type):
        fewest, most = byte_lengths(values.array)
        # Bytes prove most cases: a character has one to four.
        needed = limit if limit <= 1 else limit * _BYTES_PER_CHARACTER
        if (fewest >= needed) if shortest else (most <= limit):
            return np.empty(0, np.int64)
        characters = pc.fill_null(pc.utf8_length(values.array), limit).to_numpy()
        return values.where(characters < limit if shortest else characters > limit)
    characters = pc.utf8_length(values.encoded.values).to_numpy()
    return _among(values, characters < limit if shortest else characters > limit)


def _among(values: Values, bad: NDArray[np.bool_]) -> Rows:
    """Return the rows whose distinct value is bad."""
    if not bad.any():
        return np.empty(0, np.int64)
    return np.flatnonzero(np.append(bad, False)[values.encoded.codes])  # the code of null, -1, is never bad


def _matches(distinct: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """Tell which strings the pattern finds; pydantic decides where RE2 and its own engine may differ."""
    found: NDArray[np.bool_]
    try:
        found = pc.match_substring_regex(distinct, pattern).to_numpy(zero_copy_only=False)
        doubtful = np.flatnonzero(~pc.string_is_ascii(distinct).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        found, doubtful = np.zeros(len(distinct), bool), np.arange(len(distinct))
    if len(doubtful):
        oracle = TypeAdapter(Annotated[str, Field(pattern=pattern)])
        found = found.copy()
        for position in doubtful.tolist():
            found[position] = _accepted(oracle, distinct[position].as_py())
    return found


def _accepted(oracle: TypeAdapter[Any], value: Any) -> bool:
    try:
        oracle.validate_python(value)
    except ValidationError:
        return False
    return True


def _list_lengths(spec: FieldSpec, values: Values) -> Iterator[Failure]:
    for constraint in spec.constraints:
        if not isinstance(constraint, at.MinLen | at.MaxLen):
            continue
        lengths = pc.fill_null(pc.list_value_length(values.array), 0).to_numpy()
        if isinstance(constraint, at.MinLen):
            rows = values.where(lengths < constraint.min_length)
            problem = ("too_short", f"must have at least {constraint.min_length} elements")
        else:
            rows = values.where(lengths > constraint.max_length)
            problem = ("too_long", f"must have at most {constraint.max_length} elements")
        if len(rows):
            yield Failure(problem[0], rows, problem[1])
