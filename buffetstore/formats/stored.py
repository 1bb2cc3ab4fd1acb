"""Columns as a file stores them to columns as a table shows them: other names, fewer fields, narrower types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

FIELD_ID = b"PARQUET:field_id"  # where Arrow keeps the ids of Parquet's columns


def find(fields: Iterable[pa.Field], wanted: pa.Field) -> pa.Field | None:
    """Return the stored field that `wanted` describes: by its id where it has one that is found, else by its name."""
    held = list(fields)
    identifier = (wanted.metadata or {}).get(FIELD_ID)
    if identifier is not None:
        named = next((field for field in held if (field.metadata or {}).get(FIELD_ID) == identifier), None)
        if named is not None:
            return named
    return next((field for field in held if field.name == wanted.name), None)


def align(column: Any, stored: pa.Field, kind: pa.DataType) -> Any:
    """Return `column`, whose names are those of `stored`, with the names and types of `kind`.

    Parameters
    ----------
    stored:
        The same shape as `kind`, with the names and ids that files have. Fields that the column lacks become null.
    """
    if column.type == kind:
        return column
    if not pa.types.is_nested(kind) or not pa.types.is_nested(column.type):
        return column.cast(kind)
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_align(chunk, stored.type, kind) for chunk in column.chunks], kind)
    return _align(column, stored.type, kind)


def _align(array: Any, stored: Any, kind: Any) -> Any:
    if pa.types.is_struct(kind):
        return _struct(array, stored, kind)
    if pa.types.is_map(kind):
        keys = align(array.keys, stored.key_field, kind.key_type)
        items = align(array.items, stored.item_field, kind.item_type)
        return pa.MapArray.from_arrays(_offsets(array), keys, items, kind)
    if pa.types.is_list(kind):
        if pa.types.is_large_list(array.type):
            array = array.cast(pa.list_(array.type.value_field))
        return pa.ListArray.from_arrays(_offsets(array), align(array.values, stored.value_field, kind.value_type), kind)
    return array.cast(kind)


def _struct(array: Any, stored: Any, kind: Any) -> Any:
    held = [array.type.field(index) for index in range(array.type.num_fields)]
    children = []
    for index in range(kind.num_fields):
        wanted, target = stored.field(index), kind.field(index)
        found = find(held, wanted)
        if found is None:
            children.append(pa.nulls(len(array), target.type))
        else:
            children.append(align(array.field(held.index(found)), wanted, target.type))
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


def _offsets(array: Any) -> Any:
    """Return the offsets with a null for each null list, as `from_arrays` reads them."""
    if not array.null_count:
        return array.offsets
    present = pa.concat_arrays([array.is_valid(), pa.array([True])])
    return pa.compute.if_else(present, array.offsets, pa.scalar(None, array.offsets.type))
