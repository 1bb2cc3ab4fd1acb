"""Columns of text, as a CSV file has them, made numbers where their field is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

# What files write for "no number"; in a column of text `NA` is a ticker.
_NOTHING = pa.array(["nan", "na", "n/a", "null", "none", "-", ""])
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def typed_parts(table: pa.Table, kinds: Mapping[str, pa.DataType]) -> list[tuple[pa.Table, np.ndarray[Any, Any]]]:
    """Return the table with its number columns as numbers, and the positions of its rows.

    Parameters
    ----------
    table:
        All columns text.
    kinds:
        Column -> the Arrow type of the field that it becomes. Columns that are no numbers stay text, which keeps
        the leading zeros of a symbol.

    Returns
    -------
    list
        One part; or two, where some rows hold text that is no number: those rows come last, with their text, so that
        the contract's own message names it.
    """
    numeric = [name for name in table.column_names if name in kinds and _is_number(kinds[name])]
    cleaned = {name: _cleaned(table[name]) for name in numeric}
    odd = np.zeros(len(table), bool)
    for column in cleaned.values():
        odd |= _no_number(column)
    every = np.arange(len(table))
    parts = [every] if not odd.any() else [every[~odd], every[odd]]
    return [(_typed(table, cleaned, kinds, rows), rows) for rows in parts if len(rows)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _cleaned(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column)
    nothing = pc.is_in(pc.utf8_lower(trimmed), value_set=_NOTHING)
    return pc.if_else(nothing, pa.scalar(None, pa.string()), trimmed)


def _no_number(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    matches = pc.fill_null(pc.match_substring_regex(column, _NUMBER), True)
    return ~np.asarray(matches.to_numpy(zero_copy_only=False), dtype=bool)


def _typed(
    table: pa.Table,
    cleaned: Mapping[str, pa.ChunkedArray],
    kinds: Mapping[str, pa.DataType],
    rows: np.ndarray[Any, Any],
) -> pa.Table:
    whole = len(rows) == len(table)
    found = table if whole else table.take(rows)
    for name, column in cleaned.items():
        values = column if whole else column.take(pa.array(rows))
        found = found.set_column(found.column_names.index(name), name, _numbers(values, kinds[name]))
    return found


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    # Many a source writes whole numbers as 100.0: the second choice for them.
    choices = [pa.int64(), pa.float64()] if pa.types.is_integer(kind) else [pa.float64()]
    for choice in choices:
        try:
            return column.cast(choice)
        except pa.ArrowInvalid:
            continue
    return column
