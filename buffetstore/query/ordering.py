"""Rows in order of their key, and the latest of each key: a few passes over columns, no loop over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BITS = 62


def sort_indices(table: pa.Table, columns: Sequence[str]) -> NDArray[np.int64] | None:
    """Return the stable order of the rows by `columns`, nulls last; None where they are in it already."""
    packed = _packed([_codes(table[name]) for name in columns])
    if len(packed) == 1:
        if bool(np.all(packed[0][1:] >= packed[0][:-1])):
            return None
        return np.argsort(packed[0], kind="stable")
    order = np.lexsort(packed[::-1])
    return None if bool(np.all(order[1:] > order[:-1])) else order


def sort_rows(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Return the rows in stable order of `columns`; the table itself where they are in it already."""
    if table.num_rows < 2 or not columns:
        return table
    order = sort_indices(table, columns)
    return table if order is None else table.take(pa.array(order))


def last_of_each(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """Return, of the rows of each key, the one that comes last, in order of key."""
    if table.num_rows < 2:
        return table
    table = sort_rows(table, key)
    changes = np.zeros(table.num_rows, dtype=bool)
    changes[-1] = True
    for name in key:
        codes = _codes(table[name])
        changes[:-1] |= codes[1:] != codes[:-1]
    return table.filter(pa.array(changes))


def _packed(codes: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Pack columns into one integer where their ranges fit, for one pass instead of one for each."""
    packed: list[NDArray[np.int64]] = []
    used = _BITS + 1
    for column in codes:
        low = int(column.min())
        width = (int(column.max()) - low).bit_length()
        if width == 0 and packed:
            continue  # one value throughout orders nothing
        if used + width <= _BITS:
            packed[-1] = (packed[-1] << width) | (column - low)
            used += width
        elif width <= _BITS:
            packed.append(column - low)
            used = width
        else:
            packed.append(column)
            used = _BITS + 1
    return packed


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return whole numbers that have the order, and the equality, of the column's values."""
    kind: Any = column.type
    if column.null_count == 0:
        if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
            return _numbers(column.cast(pa.int64()))
        if pa.types.is_date32(kind):
            return _numbers(column.cast(pa.int32()))
    encoded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
    chunk = encoded.unify_dictionaries().combine_chunks()
    if isinstance(chunk, pa.ChunkedArray):  # no chunk at all
        return np.zeros(0, dtype=np.int64)
    values = chunk.dictionary
    ranks = np.empty(len(values) + 1, dtype=np.int64)
    ranks[np.asarray(pc.sort_indices(values))] = np.arange(len(values))
    ranks[-1] = len(values)  # null comes last
    indices = chunk.indices
    return ranks[_numbers(pc.fill_null(indices, len(values)))]


def _numbers(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(), dtype=np.int64)
