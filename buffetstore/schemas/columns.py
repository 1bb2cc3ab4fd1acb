"""A batch's columns in the forms that the kernels want, each made once: integers, and codes of distinct strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

WORD_DIGITS = 18  # a decimal of so many digits is one 64-bit word and its sign
_INFINITY = np.array(np.inf).view(np.uint64)
_BLOCK = 65_536  # rows that stay in the CPU's cache


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column as codes into its distinct values; -1 is null."""

    codes: NDArray[np.integer[Any]]
    values: pa.Array


@dataclass(frozen=True, slots=True)
class Range:
    """What no value of an array is below and none above, found when it was taken in; what is under a null may count."""

    array: pa.Array
    low: Any
    high: Any

    def is_of(self, array: pa.Array) -> bool:
        """Tell whether this is the array, or another view of the same memory."""
        return array is self.array or (len(array) == len(self.array) and _places(array) == _places(self.array))


class Columns:
    """The columns of a table, by name.

    Parameters
    ----------
    ranges:
        What is known of columns; of those that have changed since it is forgotten.
    """

    def __init__(self, table: pa.Table, ranges: Mapping[str, Range] | None = None) -> None:
        self.rows = table.num_rows
        self.table = table
        self._ranges = ranges or {}
        self._arrays: dict[str, pa.Array] = {}
        self._encoded: dict[str, Encoded] = {}

    def representative(self, name: str) -> pa.Array:
        """Return a piece of the column that has all of its values: of one that repeats a block, the block."""
        column = self.table[name]
        return column.chunk(0) if repeats_block(column) else self.array(name)

    def range(self, name: str) -> Range | None:
        """Return the column's extremes where they are known."""
        known = self._ranges.get(name)
        return known if known is not None and known.is_of(self.array(name)) else None

    def plain(self, names: Iterable[str]) -> pa.Table:
        """Return these columns, codes of strings as the strings."""
        return decoded(self.table.select(sorted(names)))

    def array(self, name: str) -> pa.Array:
        """Return the column in one piece."""
        if name not in self._arrays:
            self._arrays[name] = in_one_piece(self.table[name])
        return self._arrays[name]

    def encoded(self, name: str) -> Encoded:
        """Return a column of strings as codes."""
        if name not in self._encoded:
            self._encoded[name] = encode(self.array(name))
        return self._encoded[name]


def decoded(table: pa.Table, names: Iterable[str] | None = None) -> pa.Table:
    """Return the table with strings in the place of codes: in these columns, by default in all."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and (names is None or field.name in names):
            kind = field.type.value_type
            table = table.set_column(at, pa.field(field.name, kind, field.nullable), table.column(at).cast(kind))
    return table


def constant(value: pa.Scalar, rows: int) -> pa.ChunkedArray:
    """Return a column of one value, as one block over and over: it costs nothing, however many rows there are."""
    block = pa.repeat(value, min(rows, _BLOCK))
    rest = [block.slice(0, rows % _BLOCK)] if rows % _BLOCK and rows > _BLOCK else []
    return pa.chunked_array([block] * max(rows // _BLOCK, 1) + rest, value.type)


def repeats_block(column: pa.ChunkedArray) -> bool:
    """Tell whether every chunk is the first one over again, or its beginning."""
    if column.num_chunks < 2:
        return False
    first = column.chunk(0)
    return not pa.types.is_nested(first.type) and all(
        len(chunk) <= len(first) and _places(chunk) == _places(first) for chunk in column.iterchunks()
    )


def _places(array: pa.Array) -> tuple[int, ...]:
    """Return where in memory the array is."""
    return (array.offset, *(0 if buffer is None else buffer.address for buffer in array.buffers()))


def in_one_piece(column: Any) -> pa.Array:
    """Return a chunked array as one array, without a copy where it is one."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def whole_numbers(array: pa.Array) -> NDArray[Any] | None:
    """Return numbers or times as integers (decimals unscaled), without a copy; None where a word cannot hold them.

    What lies under a null is undefined.
    """
    kind = array.type
    if pa.types.is_decimal128(kind):
        return _words(array, np.int64, 2)[::2] if kind.precision <= WORD_DIGITS else None
    if pa.types.is_int64(kind) or pa.types.is_timestamp(kind):
        return _words(array, np.int64)
    if pa.types.is_date32(kind):
        return _words(array, np.int32)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return whole_numbers(array.cast(pa.int64()))
    return None


def floats(array: pa.Array) -> NDArray[Any]:
    """Return a float64 array's values, without a copy; what lies under a null is undefined."""
    return _words(array, np.float64)


def extremes(x: NDArray[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest value; NaN propagates. One pass over memory: a block stays in the cache."""
    blocks = [x[start : start + _BLOCK] for start in range(0, len(x), _BLOCK)]
    found = np.array([(block.min(), block.max()) for block in blocks])
    return found[:, 0].min(), found[:, 1].max()


def bounds(x: NDArray[np.float64]) -> tuple[float, float]:
    """Return what no value is below and none above, NaN where there is one.

    Of numbers that are not negative the bits are in the numbers' order, and one pass over memory tells that they are
    and what the greatest is; what is least is then not known, but that it is not below 0.
    """
    greatest = x.view(np.uint64).max()
    if greatest < _INFINITY:
        return 0.0, float(greatest.view(np.float64))
    low, high = extremes(x)
    return float(low), float(high)


def _words(array: pa.Array, kind: type[np.generic], per_value: int = 1) -> NDArray[Any]:
    first = array.offset * per_value
    return np.frombuffer(array.buffers()[1], kind)[first : first + len(array) * per_value]


def valid(array: pa.Array) -> NDArray[np.bool_]:
    """Return where the array is not null."""
    found: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return found


def encode(array: pa.Array) -> Encoded:
    """Return strings as codes into their distinct values."""
    if pa.types.is_dictionary(array.type):
        if len(array.dictionary.unique()) == len(array.dictionary) and not array.dictionary.null_count:
            return Encoded(_codes(array.indices), array.dictionary)
        array = array.dictionary_decode()
    if is_constant(array):
        return Encoded(np.zeros(len(array), np.int32), array.slice(0, 1))
    found = pc.dictionary_encode(array)
    return Encoded(_codes(found.indices), found.dictionary)


def _codes(indices: pa.Array) -> NDArray[np.integer[Any]]:
    found: NDArray[np.integer[Any]] = (pc.fill_null(indices, -1) if indices.null_count else indices).to_numpy()
    return found


def byte_lengths(array: pa.Array) -> tuple[int, int]:
    """Return the length in bytes of the shortest and of the longest string; a null may count as any length."""
    offsets = _offsets(array)
    shortest, longest = [], []
    for start in range(0, len(array), _BLOCK):
        lengths = np.diff(offsets[start : start + _BLOCK + 1])
        shortest.append(int(lengths.min()))
        longest.append(int(lengths.max()))
    return min(shortest), max(longest)


def _offsets(array: pa.Array) -> NDArray[np.int32]:
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]


def is_constant(array: pa.Array) -> bool:
    """Tell whether every string is the same, from the bytes alone."""
    if not pa.types.is_string(array.type) or array.null_count or len(array) == 0:
        return False
    offsets = _offsets(array)
    length = int(offsets[1] - offsets[0])
    if int(offsets[-1] - offsets[0]) != length * len(array) or array[0] != array[len(array) // 2]:
        return False
    if byte_lengths(array) != (length, length):
        return False
    if length == 0:
        return True
    data = np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    # Every string equals the one before it.
    return all(
        np.array_equal(data[at + length : at + length + _BLOCK], data[at : at + _BLOCK][: len(data) - at - length])
        for at in range(0, len(data) - length, _BLOCK)
    )
