"""Defaults, also of fields inside nested models and lists of them: of Arrow columns, and of one value.

A default stands for an absent value and for null alike, for a column cannot tell them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.columns import in_one_piece
from buffetstore.schemas.values import converter

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec


def default_of(spec: FieldSpec) -> Any:
    """Return the field's default as its column has it: a nested model as a dict."""
    return converter(spec.type)(spec.default)


def has_inner(spec: FieldSpec) -> bool:
    """Tell whether a field has defaults inside."""
    return any(child.default is not None or has_inner(child) for child in spec.children)


def fill_value(value: Any, spec: FieldSpec) -> Any:
    """Return a field's value (dicts and lists) with the defaults inside it."""
    if value is None or not has_inner(spec):
        return value
    if pa.types.is_list(spec.type):
        return [fill_value(element, spec.children[0]) for element in value]
    found = {
        child.name: default_of(child) if value[child.name] is None else value[child.name] for child in spec.children
    }
    return {child.name: fill_value(found[child.name], child) for child in spec.children}


def fill_nulls(array: pa.Array, value: Any) -> pa.Array:
    """Return the array, of any type, with the value in the place of null."""
    if not array.null_count:
        return array
    places = np.arange(len(array))
    places[array.is_null().to_numpy(zero_copy_only=False)] = len(array)
    return pa.concat_arrays([array, pa.array([value], array.type)]).take(pa.array(places))


def fill_inside(array: pa.Array, spec: FieldSpec) -> pa.Array:
    """Return a field's values with the defaults inside them."""
    if not has_inner(spec) or len(array) == array.null_count:
        return array
    absent = array.is_null()
    if pa.types.is_list(spec.type):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
        elements = fill_inside(array.flatten(), spec.children[0])
        return pa.ListArray.from_arrays(pa.array(offsets), elements, type=array.type, mask=absent)
    columns = []
    for child in spec.children:
        column = in_one_piece(pc.struct_field(array, child.name))
        if child.default is not None:
            column = fill_nulls(column, default_of(child))
        columns.append(fill_inside(column, child))
    return pa.StructArray.from_arrays(columns, fields=list(array.type), mask=absent)
