"""An order-free checksum of rows, by which a rewrite proves that it lost and doubled nothing.

Each value becomes 64 bits (its bytes, mixed; null has a value of its own), the values of a row are mixed in the order
of the columns, and the rows are added up modulo 2**64. A sum, unlike an exclusive or, sees a row that is there twice.
It guards against faults, not against an adversary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

_PIECE = 131_072  # rows at a time: a few arrays of that many words fit in the cache
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_NULL = np.uint64(0xD1B54A32D192ED03)


def row_checksum(table: pa.Table) -> int:
    """Return the checksum of the rows; equal for the same rows in whatever order. Call it in a thread."""
    total = 0
    for batch in table.to_batches(max_chunksize=_PIECE):
        rows = np.ones(batch.num_rows, np.uint64)
        for column in batch.columns:
            rows = _mixed(rows * _PRIME + _hashes(column))
        total += int(rows.sum(dtype=np.uint64))
    return total % 2**64


def _mixed(words: Hashes) -> Hashes:
    # The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the input moves half of the output's.
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _hashes(array: Any) -> Hashes:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _hashes(array.dictionary_decode())
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    found = _of_values(array, kind)
    if array.null_count:
        found = np.where(array.is_valid().to_numpy(zero_copy_only=False), found, _NULL)
    return found


def _of_values(array: Any, kind: Any) -> Hashes:
    if pa.types.is_struct(kind):
        rows = np.ones(len(array), np.uint64)
        for child in array.flatten():
            rows = _mixed(rows * _PRIME + _hashes(child))
        return rows
    if pa.types.is_map(kind):
        return _of_values(array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))), pa.list_(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _of_lists(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _of_bytes(array.cast(pa.binary()), np.int32)
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _of_bytes(array.cast(pa.large_binary()), np.int64)
    if pa.types.is_boolean(kind):
        return _mixed(pc.fill_null(array, False).to_numpy(zero_copy_only=False).astype(np.uint64) + _PRIME)
    return _of_fixed(array, kind.bit_width // 8)


def _of_fixed(array: Any, width: int) -> Hashes:
    rows = np.full(len(array), _PRIME)
    step = min(width, 8)
    words = np.frombuffer(array.buffers()[1], f"<u{step}")
    words = words[array.offset * (width // step) : (array.offset + len(array)) * (width // step)]
    for at in range(width // step):
        rows = _mixed(rows * _PRIME + words[at :: width // step].astype(np.uint64))
    return rows


def _of_lists(array: Any) -> Hashes:
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)
    ends = np.cumsum(lengths)
    children = _hashes(array.flatten())
    places = np.arange(len(children), dtype=np.int64) - np.repeat(ends - lengths, lengths)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(children + places.astype(np.uint64) * _PRIME))])
    return _mixed(sums[ends] - sums[ends - lengths] + lengths.astype(np.uint64) + _PRIME)


def _of_bytes(array: Any, offset: type[np.int32 | np.int64]) -> Hashes:
    coded = pc.dictionary_encode(pc.fill_null(array, b""))
    if len(coded.dictionary) * 2 < len(array):
        found: Hashes = _of_bytes(coded.dictionary, offset)[coded.indices.to_numpy()]
        return found
    _, ends, held = array.buffers()
    offsets = np.frombuffer(ends, offset)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    # Eight bytes are read at any place, so eight more stand behind the last one.
    data = np.concatenate([np.frombuffer(held or b"", np.uint8), np.zeros(8, np.uint8)])
    words = np.ndarray((len(data) - 7,), "<u8", data.data, strides=(1,))
    lengths = np.diff(offsets)
    rows = _mixed(lengths.astype(np.uint64) + _PRIME)
    for at in range(0, int(lengths.max(initial=0)), 8):
        longer = np.flatnonzero(lengths > at)
        left = np.minimum(lengths[longer] - at, 8).astype(np.uint64)
        kept = ~np.uint64(0) >> (np.uint64(64) - np.uint64(8) * left)
        rows[longer] = _mixed(rows[longer] * _PRIME + (words[offsets[longer] + at] & kept))
    return rows
