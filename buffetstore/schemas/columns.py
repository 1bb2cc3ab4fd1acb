"""A batch's columns in the forms that the kernels want, each made once: integers, and codes of distinct strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

INT64_DIGITS = 18  # a decimal of so many digits is one 64-bit word and its sign


@dataclass(frozen=True, slots=True)
class Encoded:
    """A column as codes into its distinct values; -1 is null."""

    codes: NDArray[np.integer[Any]]
    values: pa.Array


class Columns:
    """The columns of a table, by name."""

    def __init__(self, table: pa.Table) -> None:
        self.rows = table.num_rows
        self.table = table
        self._arrays: dict[str, pa.Array] = {}
        self._integers: dict[str, pa.Array] = {}
        self._encoded: dict[str, Encoded] = {}

    def array(self, name: str) -> pa.Array:
        """Return the column in one piece."""
        if name not in self._arrays:
            self._arrays[name] = in_one_piece(self.table[name])
        return self._arrays[name]

    def integers(self, name: str) -> pa.Array | None:
        """Return a column of numbers or times as int64 (decimals unscaled); None where it does not fit."""
        if name not in self._integers:
            found = as_integers(self.array(name))
            if found is None:
                return None
            self._integers[name] = found
        return self._integers[name]

    def encoded(self, name: str) -> Encoded:
        """Return a column of strings as codes."""
        if name not in self._encoded:
            self._encoded[name] = encode(self.array(name))
        return self._encoded[name]


def in_one_piece(column: Any) -> pa.Array:
    """Return a chunked array as one array, without a copy where it is one."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def as_integers(array: pa.Array) -> pa.Array | None:
    """Return numbers or times as int64; None where they do not fit."""
    kind = array.type
    if pa.types.is_int64(kind):
        return array
    if pa.types.is_decimal128(kind):
        return _low_words(array) if kind.precision <= INT64_DIGITS else None
    if pa.types.is_timestamp(kind):
        return array.view(pa.int64())
    if pa.types.is_date32(kind):
        return array.view(pa.int32()).cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return array.cast(pa.int64())
    return None


def _low_words(array: pa.Array) -> pa.Array:
    words = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    # The words under a null are undefined, but never looked at.
    mask = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    return pa.array(np.ascontiguousarray(words[::2]), mask=mask)


def numbers(array: pa.Array) -> NDArray[Any]:
    """Return the buffer of an int64 or float64 array as it is: what lies under a null is undefined."""
    kind = np.float64 if pa.types.is_float64(array.type) else np.int64
    return np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]


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


def byte_lengths(array: pa.Array) -> NDArray[np.int32]:
    """Return the length in bytes of every string."""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return np.diff(offsets)


def is_constant(array: pa.Array) -> bool:
    """Tell whether every string is the same, from the bytes alone."""
    if not pa.types.is_string(array.type) or array.null_count or len(array) == 0:
        return False
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    length = int(offsets[1] - offsets[0])
    if int(offsets[-1] - offsets[0]) != length * len(array) or not (np.diff(offsets) == length).all():
        return False
    if length == 0:
        return True
    data = np.frombuffer(array.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    return bool((data[length:] == data[:-length]).all())
