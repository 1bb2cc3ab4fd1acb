"""Columns of text, as a CSV file has them, made numbers and times where their field is one: exactly, by kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.resilience.threads import give_way

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# What files write for "no number"; in a column of text `NA` is a ticker.
_NOTHING = pa.array(["nan", "na", "n/a", "null", "none", "-", ""])
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_GROUPS = r"^[+-]?\d{{1,3}}({0}\d{{3}})+({1}\d*)?$"
_COMPACT = r"^(\d{4})(\d\d)(\d\d)( |T|$)"
_WIDE = pa.decimal256(76, 38)
_SHORT = 38  # digits that are exact in `_WIDE`, wherever the point is
_EXACT, _LAST = Context(prec=400), Decimal(1).scaleb(-38)
_FEW = 2_000


@dataclass(frozen=True, slots=True)
class Typed:
    """A table of text, typed.

    Parameters
    ----------
    parts:
        Rows, and their positions: all of them; or two parts, where some rows hold text that is no number. Those come
        last, with their text, so that the contract's own message names it.
    rounded:
        Numbers that were rounded half-even to their field's scale.
    """

    parts: Sequence[tuple[pa.Table, NDArray[np.int64]]]
    rounded: int = 0


@dataclass(frozen=True, slots=True)
class _Numbers:
    values: pa.ChunkedArray
    odd: NDArray[np.bool_]
    rounded: int = 0


def typed(
    table: pa.Table, kinds: Mapping[str, pa.DataType], *, decimal: str = ".", thousands: str | None = None
) -> Typed:
    """Return the table with its columns of numbers as numbers, and its times spelled as ISO 8601 does.

    Parameters
    ----------
    table:
        All columns text.
    kinds:
        Column -> the Arrow type of the field that it becomes. Columns that are no numbers stay text, which keeps
        the leading zeros of a symbol.
    decimal, thousands:
        What stands before the decimals and between the thousands.
    """
    odd, rounded = np.zeros(len(table), bool), 0
    numbers: dict[str, pa.ChunkedArray] = {}
    texts = table
    for position, name in enumerate(table.column_names):
        kind = kinds.get(name)
        if kind is None:
            continue
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            texts = texts.set_column(position, name, _spelled(table[name]))
        elif (plain := _plain(table[name], kind, decimal)) is not None:
            numbers[name] = plain
        elif _is_number(kind):
            cleaned = _cleaned(table[name], decimal, thousands)
            texts = texts.set_column(position, name, cleaned)
            found = _numbers(cleaned, kind)
            numbers[name], rounded = found.values, rounded + found.rounded
            odd |= found.odd
    whole = texts
    for name, column in numbers.items():
        whole = whole.set_column(whole.column_names.index(name), name, column)
    every = np.arange(len(table))
    if not odd.any():
        return Typed([(whole, every)] if len(table) else [], rounded)
    parts = [(whole.filter(pa.array(~odd)), every[~odd]), (texts.filter(pa.array(odd)), every[odd])]
    return Typed([part for part in parts if len(part[1])], rounded)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _plain(column: pa.ChunkedArray, kind: pa.DataType, decimal: str) -> pa.ChunkedArray | None:
    """Return the numbers of a column in which every one is spelled as kernels read it exactly; None of another."""
    if pa.types.is_decimal(kind):
        longest = pc.max(pc.binary_length(column)).as_py() or 0
        fits = decimal == "." and longest <= _SHORT and not _has_letter(column, "e")
        return _cast(column, kind) if fits else None
    if pa.types.is_integer(kind):
        return None if _has_letter(column, "x") else _cast(column, pa.int64())  # 0x10 is 16 for the kernel alone
    return None


def _has_letter(column: pa.ChunkedArray, letter: str) -> bool:
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        if data is None or not len(chunk):
            continue
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        letters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
        if (letters | 32 == ord(letter)).any():  # also the capital
            return True
    return False


def _cleaned(column: pa.ChunkedArray, decimal: str, thousands: str | None) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    nothing = pc.is_in(pc.utf8_lower(trimmed), value_set=_NOTHING)
    found = pc.if_else(nothing, pa.scalar(None, pa.string()), trimmed)
    if thousands is not None:
        # Only between groups of three: 1,5 is not 15.
        grouped = pc.match_substring_regex(found, _GROUPS.format(re.escape(thousands), re.escape(decimal)))
        found = pc.if_else(grouped, pc.replace_substring(found, thousands, ""), found)
    if decimal != ".":
        # A point that parts nothing is no decimal point: the text stays, and the contract's message tells why.
        pointed = pc.binary_join_element_wise(found, f"(decimals follow {decimal!r})", " ")
        plain = pc.replace_substring(found, decimal, ".", max_replacements=1)
        found = pc.if_else(pc.match_substring(found, "."), pointed, plain)
    return found


def _spelled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put the hyphens into dates like 20240131, which kernels do not read without."""
    first = next((text for text in column.slice(0, _FEW).to_pylist() if text), "")
    if not re.match(_COMPACT, first):
        return column
    return pc.replace_substring_regex(column, pattern=_COMPACT, replacement=r"\1-\2-\3\4")


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> _Numbers:
    if pa.types.is_floating(kind):
        odd = _unlike(column, _NUMBER)
        return _Numbers(_without(column, odd).cast(pa.float64()), odd)
    if pa.types.is_integer(kind):
        return _wholes(column)
    return _rounded(column, _unlike(column, _NUMBER), kind)


def _rounded(column: pa.ChunkedArray, odd: NDArray[np.bool_], kind: pa.DataType) -> _Numbers:
    exact, odd = _exact(column, odd)
    values = pc.round(exact, kind.scale, "half_to_even")
    limit = pa.scalar(Decimal(10) ** (kind.precision - kind.scale), _WIDE)
    large = _true(pc.or_(pc.greater_equal(values, limit), pc.less_equal(values, pc.negate(limit))))
    odd |= large
    rounded = int(np.count_nonzero(_true(pc.not_equal(values, exact)) & ~odd))
    return _Numbers(_without(values, odd).cast(kind), odd, rounded)


def _wholes(column: pa.ChunkedArray) -> _Numbers:
    """Take what is a whole number, however it is spelled: many a source writes 100.0 and 1e5."""
    exact, odd = _exact(column, _unlike(column, _NUMBER))
    low, high = (pa.scalar(Decimal(bound), _WIDE) for bound in (-(1 << 63), (1 << 63) - 1))
    bad = pc.or_(pc.less(exact, low), pc.greater(exact, high))
    odd |= _true(pc.or_(bad, pc.not_equal(pc.round(exact, 0), exact)))
    return _Numbers(_without(exact, odd).cast(pa.int64()), odd)


def _exact(column: pa.ChunkedArray, odd: NDArray[np.bool_]) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Return the numbers as they are spelled, and the rows that hold none, or one that is too large."""
    long = _long(column) & ~odd
    exact = _without(column, odd | long).cast(_WIDE)
    if not long.any():
        return exact, odd
    values: list[Decimal | None] = []
    texts = column.filter(pa.array(long))
    for start in range(0, len(texts), _FEW):
        values += [_decimal(text) for text in texts.slice(start, _FEW).to_pylist()]
        give_way()
    placed = pc.replace_with_mask(exact.combine_chunks(), pa.array(long), pa.array(values, _WIDE))
    return placed, odd | (long & ~_present(placed))


def _decimal(text: str) -> Decimal | None:
    """Return the number to 38 decimal places; None where it has more digits before the point than any field.

    Where digits are cut off, the last one that stays says that there were some, so that rounding is right.
    """
    try:
        number = Decimal(text)
        cut = number.quantize(_LAST, ROUND_DOWN, _EXACT) if number.adjusted() < _SHORT else None
    except InvalidOperation:
        return None
    return cut if cut is None or cut == number else _EXACT.add(cut, _LAST.copy_sign(number))


def _long(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return the numbers that Arrow does not read exactly: long ones, and exponents."""
    long = pc.greater(pc.binary_length(column), _SHORT)
    return _true(pc.or_(long, pc.match_substring_regex(column, "[eE]")))


def _unlike(column: pa.ChunkedArray, pattern: str) -> NDArray[np.bool_]:
    return _true(pc.invert(pc.match_substring_regex(column, pattern)))


def _without(column: Any, rows: NDArray[np.bool_]) -> Any:
    return pc.if_else(pa.array(rows), pa.scalar(None, column.type), column) if rows.any() else column


def _true(mask: Any) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(mask, False).to_numpy(zero_copy_only=False), bool)


def _present(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), bool)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | None:
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None
