"""Columns of any type to a contract's types: by kernels where they fit, value by value where they do not.

Both ways give the same verdict; `buffetstore.schemas.values` is the oracle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way
from buffetstore.schemas import values as one
from buffetstore.schemas.casts import cast, doubles, is_short, is_text, python_values
from buffetstore.schemas.columns import Range, bounds, floats, in_one_piece
from buffetstore.schemas.nanoseconds import split_texts, split_times, split_value
from buffetstore.schemas.natural import natural
from buffetstore.schemas.rounding import relabelled, round_floats
from buffetstore.schemas.timestamps import (
    LOCAL,
    MICROSECONDS,
    beyond_years,
    knows_rules,
    localise,
    microseconds,
    nulled,
    rows_where,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.findings import Findings

CHUNK = 2_000  # rows taken in at a time: they stay in the CPU's cache, and other threads run in between
_DAY = 86_400_000  # milliseconds


@dataclass(frozen=True, slots=True)
class Target:
    """The column to be made: its name in findings, its type, and how to read what is given.

    Parameters
    ----------
    tz:
        The zone of times that do not say theirs.
    shift:
        The number given is to be multiplied by ``10**shift``; for decimals only.
    day:
        The number given counts milliseconds since this day's midnight in `tz`; for timestamps only.
    splits:
        Nanoseconds are kept, in a column of their own; for timestamps only.
    """

    name: str
    type: pa.DataType
    tz: str | None = None
    shift: int = 0
    day: date | None = None
    splits: bool = False

    @property
    def read_as(self) -> pa.DataType:
        """The type of what is given: a count of milliseconds; before a shift the same digits, the point elsewhere."""
        if self.day is not None:
            return pa.int64()
        return pa.decimal128(self.type.precision, self.type.scale + self.shift) if self.shift else self.type


def _without_views(array: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Return codes of views of text as codes of text, for which there are kernels."""
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    parts = [pa.DictionaryArray.from_arrays(part.indices, part.dictionary.cast(pa.large_string())) for part in chunks]
    return pa.chunked_array(parts, pa.dictionary(array.type.index_type, pa.large_string()))


class Column:
    """A column in the making: pieces are added in the order of the rows, then coerced together."""

    def __init__(self, target: Target, errors: Findings) -> None:
        self.target = target
        self.rounded = 0
        self.range: Range | None = None
        self._errors = errors
        self._pieces: list[tuple[pa.Array, int, bool]] = []
        self._extra: list[tuple[int, NDArray[np.int16]]] = []
        self._rows = 0

    def add_values(self, values: Sequence[Any]) -> None:
        """Add Python values, a chunk at most."""
        found = natural(values, self.target.read_as)
        if found is None:
            self._add(self._by_value(values, self._rows), done=True)
        else:
            self._add(found)

    def add_array(self, array: pa.Array | pa.ChunkedArray) -> None:
        """Add Arrow values."""
        if pa.types.is_dictionary(array.type):
            array = self._codes(array)
        for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
            # Few kernels know views, which are what polars gives.
            self._add(chunk.cast(pa.large_string()) if pa.types.is_string_view(chunk.type) else chunk)

    def _codes(self, array: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return a column of codes as it is where it is to be one of strings, else the values that they stand for."""
        if pa.types.is_string_view(array.type.value_type):
            array = _without_views(array)
        if isinstance(array, pa.ChunkedArray):
            array = in_one_piece(array if array.num_chunks == 1 else array.unify_dictionaries())
        words = cast(array.dictionary, self.target.type) if is_text(array.type.value_type) else None
        if words is None or words.null_count or not pa.types.is_string(self.target.type):
            return array.dictionary_decode()
        if array.type == pa.dictionary(pa.int32(), pa.string()):
            return array
        codes = cast(array.indices, pa.int32())
        return array.dictionary_decode() if codes is None else pa.DictionaryArray.from_arrays(codes, words)

    def add_nulls(self, rows: int) -> None:
        """Add rows without a value."""
        self._add(pa.nulls(rows, self.target.read_as), done=True)

    def _add(self, array: pa.Array, *, done: bool = False) -> None:
        self._pieces.append((array, self._rows, done))
        self._rows += len(array)

    def finish(self) -> pa.ChunkedArray:
        """Return the column in its type; values that do not fit are null, and findings say so."""
        target = self.target
        coerced: list[pa.Array] = []
        for (kind, done), group in groupby(self._pieces, key=lambda piece: (piece[0].type, piece[2])):
            pieces = list(group)
            arrays = [array for array, _, _ in pieces]
            are_codes = pa.types.is_dictionary(kind) and len(self._pieces) == 1
            if done or are_codes or (kind == target.read_as and not pa.types.is_floating(kind)):
                coerced += arrays
            else:
                whole = arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)
                coerced.append(self._coerce(whole, pieces[0][1]))
        self._pieces.clear()  # or what was given is held twice until the last column is made
        if target.shift:
            coerced = [relabelled(array, target.type) for array in coerced]
        if len(coerced) > 1:
            coerced = [pa.concat_arrays(coerced)]
        if target.day is not None:
            coerced = [self._since_midnight(coerced[0], target.day)]
        if pa.types.is_timestamp(target.type) or pa.types.is_date(target.type):
            coerced = [self._within_years(array) for array in coerced]
        if coerced and pa.types.is_dictionary(coerced[0].type):
            return pa.chunked_array(coerced)
        return pa.chunked_array(coerced, target.type)

    def _within_years(self, times: pa.Array) -> pa.Array:
        """Return the times but those that Python, and the tools that read the table, do not know."""
        rows = beyond_years(times)
        if len(rows):
            kind = "datetime_range" if pa.types.is_timestamp(times.type) else "date_range"
            count = times.cast(pa.int64() if pa.types.is_timestamp(times.type) else pa.int32())
            unit = "microseconds" if pa.types.is_timestamp(times.type) else "days"
            self._errors.add_rows(
                self.target.name,
                kind,
                rows,
                lambda row: f"{count[row]} {unit} since 1970 are outside the years 1 to 9999",
            )
        return nulled(times, rows)

    def nanoseconds(self) -> NDArray[np.int16] | None:
        """Return what the rows' times have beyond microseconds; None where none of them has."""
        if not any(extra.any() for _, extra in self._extra):
            return None
        found = np.zeros(self._rows, np.int16)
        for offset, extra in self._extra:
            found[offset : offset + len(extra)] = extra
        return found

    def keep_nanoseconds(self, extra: NDArray[np.int16], offset: int) -> None:
        """Keep what times have beyond microseconds."""
        self._extra.append((offset, extra))

    def _since_midnight(self, counts: pa.Array, day: date) -> pa.Array:
        beyond = rows_where(pc.or_(pc.less(counts, 0), pc.greater_equal(counts, _DAY)))
        if len(beyond):
            self._errors.add_rows(
                self.target.name, "milliseconds", beyond, lambda row: f"{counts[row]} is no millisecond of a day"
            )
        elapsed = nulled(counts, beyond).cast(pa.duration("ms")).cast(pa.duration("us"))
        local = pc.add(pa.scalar(datetime.combine(day, datetime.min.time()), LOCAL), elapsed)
        return _from_local(self, local, local, 0)

    def _coerce(self, array: pa.Array, offset: int) -> pa.Array:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_null(array.type):
            return pa.nulls(len(array), self.target.read_as)
        kernel = next((kernel for fits, kernel in _KERNELS if fits(self.target.read_as)), None)
        found = kernel(self, array, offset) if kernel else None
        return self._each(array, offset) if found is None else found

    def note(self, array: pa.Array, rows: Any, offset: int) -> None:
        """Note rows that the kernels refused; the converter says what is wrong with each."""
        if not len(rows):
            return
        convert = one.converter(
            self.target.type if pa.types.is_timestamp(array.type) else self.target.read_as, self.target.tz
        )

        def problem(row: int) -> one.UnfitValueError:
            try:
                convert(python_values(array.slice(row, 1))[0])
            except one.UnfitValueError as error:
                return error
            return one.UnfitValueError("type_error", array[row], f"is not {self.target.type}")

        kind = problem(int(rows[0])).error_type
        self._errors.add_rows(self.target.name, kind, rows, lambda row: str(problem(row)), offset=offset)

    def note_precision(self, array: pa.Array, rows: Any, offset: int) -> None:
        """Note times that are finer than a column can hold, or further away."""
        coarse = array.type.unit in {"s", "ms"}

        def message(row: int) -> str:
            if coarse:
                return f"{array[row].value} {array.type.unit} since 1970 are outside the years 1 to 9999"
            text = array.slice(row, 1).cast(pa.string())[0]
            return f"{text} has nanoseconds, which do not fit microseconds; round it first"

        kind = "datetime_range" if coarse else "datetime_precision"
        self._errors.add_rows(self.target.name, kind, rows, message, offset=offset)

    def _each(self, array: pa.Array, offset: int) -> pa.Array:
        """Convert Arrow values one by one; of a type that can never fit only the first is looked at."""
        present = np.flatnonzero(~array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
        if not len(present):
            return pa.nulls(len(array), self.target.read_as)
        try:
            one.converter(self.target.read_as, self.target.tz)(python_values(array.slice(int(present[0]), 1))[0])
        except one.UnfitValueError as error:
            if error.error_type.endswith("_type") and not pa.types.is_nested(array.type):
                self.note(array, present, offset)
                return pa.nulls(len(array), self.target.read_as)
        pieces = []
        for start in range(0, len(array), CHUNK):
            pieces.append(self._by_value(python_values(array.slice(start, CHUNK)), offset + start))
            give_way()
        return pa.concat_arrays(pieces)

    def _by_value(self, values: Sequence[Any], offset: int) -> pa.Array:
        target = self.target
        convert = one.converter(target.read_as, target.tz)
        rounds = pa.types.is_decimal(target.read_as)
        fitted: list[Any] = []
        if target.splits:
            pairs = [split_value(value) for value in values]
            values = [value for value, _ in pairs]
            self.keep_nanoseconds(np.array([extra for _, extra in pairs], np.int16), offset)
        for row, value in enumerate(values, offset):
            try:
                made = convert(value)
            except one.UnfitValueError as error:
                self._errors.add(target.name, error.error_type, str(error), row)
                made = None
            else:
                self.rounded += rounds and one.was_rounded(value, made)
            fitted.append(made)
        return pa.array(fitted, target.read_as)


def _to_decimal(column: Column, array: pa.Array, offset: int) -> pa.Array | None:
    kind = column.target.read_as
    if pa.types.is_floating(array.type):
        found = round_floats(doubles(array), kind)
        column.rounded += found.rounded
        column.note(array, found.infinite, offset)
        column.note(array, found.too_large, offset)
        return found.values
    if pa.types.is_integer(array.type):
        wide = cast(array, pa.decimal128(38, kind.scale))
        return None if wide is None else cast(wide, kind)
    if pa.types.is_decimal(array.type) or (is_text(array.type) and is_short(array)):
        return cast(array, kind)
    return None


def _to_int(column: Column, array: pa.Array, offset: int) -> pa.Array | None:
    kind = column.target.read_as
    if not pa.types.is_floating(array.type):
        fits = pa.types.is_integer(array.type) or pa.types.is_decimal(array.type) or is_text(array.type)
        return cast(array, kind) if fits else None
    x = array.to_numpy(zero_copy_only=False)
    missing = np.isnan(x)
    limit = 2.0 ** (kind.bit_width - 1)
    endless, broken = np.isinf(x), x != np.rint(x)
    bad = ~missing & (endless | broken | (x < -limit) | (x >= limit))
    if bad.any():
        for rows in (endless, broken & bad, bad & ~endless & ~broken):  # each is another error
            column.note(array, np.flatnonzero(rows), offset)
    absent = missing | bad
    return pa.array(np.where(absent, 0, x).astype(np.int64), mask=absent if absent.any() else None).cast(kind)


def _to_float(column: Column, array: pa.Array, offset: int) -> pa.Array | None:
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.string())  # Arrow's own conversion is not correctly rounded
    if not pa.types.is_floating(array.type):
        fits = pa.types.is_integer(array.type) or is_text(array.type)
        found = cast(array, pa.float64()) if fits else None
        if found is None:
            return None
        array = found
    given = array.cast(pa.float64())
    if len(given) > given.null_count:
        low, high = bounds(floats(given))
        if math.isfinite(low) and math.isfinite(high):
            found = cast(given, column.target.type)
            column.range = None if found is None else Range(found, low, high)
            return found
    x = given.to_numpy(zero_copy_only=False)
    if np.count_nonzero(~np.isfinite(x)) == given.null_count:  # only nulls are not finite
        return cast(given, column.target.type)
    column.note(array, np.flatnonzero(np.isinf(x)), offset)
    return pa.array(x, mask=~np.isfinite(x)).cast(column.target.type)


def _to_timestamp(column: Column, array: pa.Array, offset: int) -> pa.Array | None:
    if pa.types.is_date(array.type):
        return _from_local(column, array.cast(LOCAL), array, offset)
    if is_text(array.type):
        aware = cast(array, MICROSECONDS)
        local = cast(array, LOCAL) if aware is None else None
        if aware is None and local is None and column.target.splits:
            cut, extra = split_texts(array.cast(pa.string()))
            aware = cast(cut, MICROSECONDS)
            local = cast(cut, LOCAL) if aware is None else None
            if aware is not None or local is not None:
                column.keep_nanoseconds(extra, offset)
        return aware if local is None else _from_local(column, local, array, offset)
    if not pa.types.is_timestamp(array.type):
        return None
    if column.target.splits and array.type.unit == "ns":
        times, extra = split_times(array)
        column.keep_nanoseconds(extra, offset)
    else:
        times, lossy = microseconds(array)
        column.note_precision(array, lossy, offset)
    return times.cast(MICROSECONDS) if array.type.tz else _from_local(column, times, array, offset)


def _from_local(column: Column, local: pa.Array, given: pa.Array, offset: int) -> pa.Array:
    if column.target.tz is None:
        column.note(given, rows_where(local.is_valid()), offset)
        return pa.nulls(len(local), MICROSECONDS)
    found = localise(local, column.target.tz)
    column.note(given, found.ambiguous, offset)
    column.note(given, found.nonexistent, offset)
    return found.values


def _to_date(column: Column, array: pa.Array, offset: int) -> pa.Array | None:
    if pa.types.is_timestamp(array.type):
        if array.type.tz and not knows_rules(array.cast(pa.timestamp("us", array.type.tz), safe=False)):
            return None
        local = pc.local_timestamp(array) if array.type.tz else array
        days = local.cast(pa.date32())
        inexact = rows_where(pc.not_equal(days.cast(local.type), local))
        column.note(array, inexact, offset)
        return nulled(days, inexact)
    return cast(array, pa.date32()) if pa.types.is_date(array.type) or is_text(array.type) else None


def _to_string(column: Column, array: pa.Array, _: int) -> pa.Array | None:
    return cast(array, column.target.type) if is_text(array.type) else None


_KERNELS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Column, pa.Array, int], pa.Array | None]], ...] = (
    (pa.types.is_decimal, _to_decimal),
    (pa.types.is_integer, _to_int),
    (pa.types.is_floating, _to_float),
    (pa.types.is_timestamp, _to_timestamp),
    (pa.types.is_date, _to_date),
    (is_text, _to_string),
)
