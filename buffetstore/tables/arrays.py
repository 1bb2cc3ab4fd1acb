"""Arrow columns as single arrays."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def present(bodies: pa.StructArray) -> pa.StructArray:
    """Return the structs that are not null."""
    return bodies.drop_null() if bodies.null_count else bodies


def whole(column: Any) -> pa.Array:
    """Return a column as one array, without a copy where it is one."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if not column.num_chunks:
        return pa.array([], column.type)
    return pa.concat_arrays(column.chunks) if column.num_chunks > 1 else column.chunk(0)
