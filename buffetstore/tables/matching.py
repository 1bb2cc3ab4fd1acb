"""Matching rows by key, whole columns at a time; nulls equal nulls and NaN equals NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


_WIDEST = 2**62


def row_codes(tables: Sequence[pa.Table], columns: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return for each table one number a row: equal numbers are equal values in `columns`, across all tables.

    The numbers are 0 to n - 1 without gaps, so they can index an array.
    """
    total = sum(table.num_rows for table in tables)
    codes, width = np.zeros(total, np.int64), 1
    for name in columns:
        column = pa.chunked_array([chunk for table in tables for chunk in table[name].chunks], tables[0][name].type)
        # In one piece, as dictionaries with nulls in them cannot be joined afterwards.
        values = pc.dictionary_encode(_whole(column), null_encoding="encode")
        distinct = max(len(values.dictionary), 1)
        if distinct == 1:
            continue  # one value throughout tells no rows apart
        if width * distinct > _WIDEST:
            codes = _dense(codes)
            width = total  # below 2**31 in any table that fits in memory, so the product cannot overflow
        codes = codes * distinct + values.indices.to_numpy().astype(np.int64)
        width *= distinct
    if width > 1 and len(columns) > 1:
        codes = _dense(codes)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    return np.split(codes, ends)


def first_rows(codes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the first row of each code below `size`; -1 where there is none."""
    found = np.full(size, -1, np.int64)
    found[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return found


def same_values(left: Any, right: Any) -> NDArray[np.bool_]:
    """Return for each row whether two columns of one type hold the same value."""
    left, right = _whole(left), _whole(right)
    if pa.types.is_nested(left.type):
        same = np.zeros(len(left), np.bool_)
        _compare_nested(left, right, same, 0)
        return same
    both_null = pc.and_(pc.is_null(left), pc.is_null(right))
    equal = pc.fill_null(pc.equal(left, right), False)
    if pa.types.is_floating(left.type):
        equal = pc.or_(equal, pc.fill_null(pc.and_(pc.is_nan(left), pc.is_nan(right)), False))
    found: NDArray[np.bool_] = pc.or_(equal, both_null).to_numpy(zero_copy_only=False)
    return found


def _dense(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    coded = pa.array(codes).dictionary_encode()
    found: NDArray[np.int64] = coded.indices.to_numpy().astype(np.int64)
    return found


def _whole(column: Any) -> Any:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column


def _compare_nested(left: Any, right: Any, same: NDArray[np.bool_], start: int) -> None:
    # No kernel compares lists by row; halving finds the few rows that differ in few whole comparisons.
    if left.equals(right):
        same[start : start + len(left)] = True
    elif len(left) > 1:
        middle = len(left) // 2
        _compare_nested(left.slice(0, middle), right.slice(0, middle), same, start)
        _compare_nested(left.slice(middle), right.slice(middle), same, start + middle)
