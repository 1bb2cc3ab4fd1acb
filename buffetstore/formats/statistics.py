"""Per-file statistics as the Delta protocol writes them: numRecords, minValues, maxValues, nullCount.

Source: Delta protocol, "Per-file Statistics". A reader may rely on min <= every value <= max, so whatever is cut (long
strings, nanoseconds) is cut downwards in the minimum and upwards in the maximum, and left out where that is impossible.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_CHARACTERS = 32
MAX_COLUMNS = 32  # the default of delta.dataSkippingNumIndexedCols
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Not as escapes: deltalake, Polars and DuckDB read those of the last plane wrongly.
_PLAIN = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_UNITS_PER_MICROSECOND = {"s": 1_000_000, "ms": 1_000, "us": 1}


def statistics_json(table: pa.Table, *, columns: int | Collection[str] = MAX_COLUMNS) -> str:
    """Return the statistics of the first `columns` columns, or of those named, as Delta's JSON.

    Lists, maps and structs have none; text is cut to 32 characters; a float column with NaN has no bounds, because
    readers do not agree whether NaN is above or below numbers. (deltalake 1.6's `to_pyarrow_table(filters=)` finds no
    row of a file whose bounds are missing, so they are missing only where there is nothing right to write.)

    >>> statistics_json(pa.table({"x": [1, None, 3]}))
    '{"numRecords":3,"minValues":{"x":1},"maxValues":{"x":3},"nullCount":{"x":1}}'
    """
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    told = table.column_names[:columns] if isinstance(columns, int) else columns
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name not in told or pa.types.is_nested(column.type):
            continue
        nulls[name] = column.null_count
        low, high = _bounds(column)
        if low is not None:
            lowest[name] = low
        if high is not None:
            highest[name] = high
    return _to_json({"numRecords": table.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls})


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _bounds(pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type))
    if column.null_count == len(column):
        return None, None
    if pa.types.is_floating(kind):
        return (None, None) if pc.any(pc.is_nan(column)).as_py() else _float_bounds(column)
    if pa.types.is_timestamp(kind):
        return _timestamp_bounds(column)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        low, high = _python_bounds(column, str)
        return low[:MAX_CHARACTERS], _raised(high)
    if pa.types.is_date(kind):
        return _python_bounds(column.cast(pa.int32()).cast(pa.int64()), _day)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return _python_bounds(column, lambda value: value)
    return None, None


def _python_bounds(column: pa.ChunkedArray, convert: Any) -> tuple[Any, Any]:
    found = pc.min_max(column)
    return convert(found["min"].as_py()), convert(found["max"].as_py())


def _float_bounds(column: pa.ChunkedArray) -> tuple[float, float]:
    low, high = _python_bounds(column, float)
    # Some readers put -0.0 below 0.0, so a zero is bounded by the one that is outside for them.
    return (-0.0 if low == 0 else low), (0.0 if high == 0 else high)


def _day(days: int) -> str | None:
    try:
        return (_EPOCH.date() + timedelta(days=days)).isoformat()
    except OverflowError:  # before the year 1, or beyond 9999
        return None


def _timestamp_bounds(column: pa.ChunkedArray) -> tuple[str | None, str | None]:
    low, high = _python_bounds(column.cast(pa.int64()), int)
    if column.type.unit == "ns":
        return _instant(low // 1000), _instant(-(-high // 1000))
    factor = _UNITS_PER_MICROSECOND[column.type.unit]
    return _instant(low * factor), _instant(high * factor)


def _instant(microseconds: int) -> str | None:
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:  # beyond the year 9999
        return None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _raised(text: str) -> str:
    """Return the text, or the shortest prefix-like text above everything that starts as it does."""
    if len(text) <= MAX_CHARACTERS:
        return text
    prefix = text[:MAX_CHARACTERS]
    while prefix:
        following = ord(prefix[-1]) + 1
        if following == 0xD800:  # surrogates are no characters
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return text  # whole, since nothing shorter is above it; readers lose rows where a bound is missing


def _to_json(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{_PLAIN.encode(name)}:{_to_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"  # JSON has no infinity; readers round to it what is too great
    # A decimal is a JSON number with all its digits, which the json module would only write as a float.
    if isinstance(value, Decimal):
        return format(value, "f")
    return _PLAIN.encode(value)
