"""What Arrow's own casts do, where they can be trusted, and what stands in where they cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def python_values(array: pa.Array) -> list[Any]:
    """Return the values as Python has them, nanoseconds cut off."""
    if pa.types.is_timestamp(array.type):  # nanoseconds have no Python value without pandas
        array = array.cast(pa.timestamp("us", array.type.tz), safe=False)
    return list(array.to_pylist())


def cast(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the values in another type; None where one does not fit."""
    try:
        return array.cast(kind)
    except (pa.ArrowException, ValueError):
        return None


def doubles(array: pa.Array) -> pa.Array:
    """Return floats as doubles; a float32 is the number that it prints as."""
    if pa.types.is_float64(array.type):
        return array
    if pa.types.is_float16(array.type):
        distinct, places = np.unique(array.to_numpy(zero_copy_only=False), return_inverse=True)
        found = np.array([float(str(number)) for number in distinct])
        return pa.array(found[places], mask=array.is_null().to_numpy(zero_copy_only=False))
    return array.cast(pa.float32()).cast(pa.string()).cast(pa.float64())


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of the type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_short(texts: pa.Array) -> bool:
    """Tell whether the numbers fit 38 digits: of longer ones, and of exponents, Arrow loses digits without a word."""
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    return longest <= 38 and not pc.any(pc.match_substring(texts, "e", ignore_case=True)).as_py()
