"""Arrow schemas to and from Delta's JSON. Source: Delta protocol, "Schema Serialization Format"."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import CorruptLogError, InvalidInputError, UnsupportedFeatureError
from buffetstore.formats.stored import FIELD_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buffetstore.tables.actions import Metadata

_PRIMITIVES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "long": pa.int64(),
    "integer": pa.int32(),
    "short": pa.int16(),
    "byte": pa.int8(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamp_ntz": pa.timestamp("us"),
    "void": pa.null(),
}
_NAMES = {kind: name for name, kind in _PRIMITIVES.items() if name not in {"timestamp_ntz", "void"}} | {
    pa.large_string(): "string",
    pa.large_binary(): "binary",
    pa.string_view(): "string",
    pa.binary_view(): "binary",
}
_DECIMAL = re.compile(r"decimal\((\d+), *(-?\d+)\)")
_PHYSICAL_NAME, _ID = "delta.columnMapping.physicalName", "delta.columnMapping.id"
_METADATA = b"delta"  # a field's Delta metadata travels in the Arrow field under this name
MAX_DECIMAL_DIGITS = 38


def schema_to_json(schema: pa.Schema) -> str:
    """Return the schema as the log holds it.

    Raises
    ------
    UnsupportedFeatureError
        A type that Delta does not have, or that needs a table feature (naive timestamps).
    InvalidInputError
        No columns, or two whose names differ by case only.
    """
    if not schema.names:
        raise InvalidInputError("a table needs at least one column")
    _distinct(schema.names)
    fields = [_field_to_json(field, field.name) for field in schema]
    return json.dumps({"type": "struct", "fields": fields}, separators=(",", ":"), ensure_ascii=False)


def schema_of(metadata: Metadata) -> pa.Schema:
    """Return the Arrow schema of a table: names as its users know them, with the stored ones where they differ."""
    found = schema_from_json(metadata.schema_string)
    if mapping_of(metadata) != "none":
        return found
    return pa.schema([_unmapped(field) for field in found]) if _PHYSICAL_NAME in metadata.schema_string else found


def mapping_of(metadata: Metadata) -> str:
    """Return how columns are found in files: by their own names (`none`), by stored ones (`name`), or by `id`."""
    return metadata.configuration.get("delta.columnMapping.mode", "none")


def stored_name(field: pa.Field) -> str:
    """Return the name under which files, statistics and partition values have the column."""
    return str(field_metadata(field).get(_PHYSICAL_NAME, field.name)) if field.metadata else str(field.name)


def stored_schema(schema: pa.Schema, metadata: Metadata) -> pa.Schema:
    """Return the schema as files have it: stored names, and their ids where columns are found by those."""
    mapping = mapping_of(metadata)
    return schema if mapping == "none" else pa.schema([_stored(field, by_id=mapping == "id") for field in schema])


def schema_from_json(text: str) -> pa.Schema:
    """Return the Arrow schema of a table. `void` columns are left out, as Spark does."""
    if not text:
        raise CorruptLogError("the table's metadata has no schemaString")
    try:
        fields = json.loads(text)["fields"]
        found = [_field_from_json(field) for field in fields]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptLogError(f"the table's schema cannot be read: {text[:200]!r}") from error
    return pa.schema([field for field in found if not pa.types.is_null(field.type)])


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that a table made of `schema` has: the types that come back from the log."""
    return schema_from_json(schema_to_json(schema))


def field_metadata(field: pa.Field) -> dict[str, Any]:
    """Return the column metadata that the log holds for the field."""
    held = (field.metadata or {}).get(_METADATA)
    found: dict[str, Any] = json.loads(held) if held else {}
    return found


def _stored(field: pa.Field, *, by_id: bool) -> pa.Field:
    identifier = field_metadata(field).get(_ID)
    metadata = {FIELD_ID: str(identifier)} if by_id and identifier is not None else None
    return pa.field(stored_name(field), _stored_children(field.type, by_id=by_id), field.nullable, metadata)


def _stored_children(kind: Any, *, by_id: bool) -> Any:
    if pa.types.is_struct(kind):
        return pa.struct([_stored(kind.field(index), by_id=by_id) for index in range(kind.num_fields)])
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _stored_children(kind.value_type, by_id=by_id), kind.value_field.nullable))
    if pa.types.is_map(kind):
        items = pa.field("value", _stored_children(kind.item_type, by_id=by_id), kind.item_field.nullable)
        return pa.map_(_stored_children(kind.key_type, by_id=by_id), items)
    return kind


def _unmapped(field: pa.Field) -> pa.Field:
    # Left from a mapping that was turned off; files use the columns' own names again.
    held = {name: value for name, value in field_metadata(field).items() if not name.startswith("delta.columnMapping.")}
    return field.with_metadata({_METADATA: json.dumps(held)} if held else {})


def _distinct(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise InvalidInputError("a column's name is empty")
        other = seen.setdefault(name.casefold(), name)
        if other is not name or names.count(name) > 1:
            raise InvalidInputError(f"columns {other!r} and {name!r} differ by case only, which Delta does not allow")


def _field_to_json(field: pa.Field, path: str) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": _type_to_json(field.type, path),
        "nullable": field.nullable,
        "metadata": field_metadata(field),
    }


def _type_to_json(kind: Any, path: str) -> Any:
    if pa.types.is_dictionary(kind):
        return _type_to_json(kind.value_type, path)
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise UnsupportedFeatureError(
                f"column {path!r} is {kind}: a timestamp without time zone needs the table feature timestampNtz, which "
                "is not written; give it a zone, e.g. pa.timestamp('us', tz='UTC')"
            )
        return "timestamp"
    if pa.types.is_decimal(kind) and kind.precision <= MAX_DECIMAL_DIGITS and 0 <= kind.scale <= kind.precision:
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_struct(kind):
        children = [kind.field(index) for index in range(kind.num_fields)]
        _distinct([child.name for child in children])
        return {"type": "struct", "fields": [_field_to_json(child, f"{path}.{child.name}") for child in children]}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return {
            "type": "array",
            "elementType": _type_to_json(kind.value_type, f"{path}[]"),
            "containsNull": kind.value_field.nullable,
        }
    if pa.types.is_map(kind):
        return {
            "type": "map",
            "keyType": _type_to_json(kind.key_type, f"{path}{{key}}"),
            "valueType": _type_to_json(kind.item_type, f"{path}{{value}}"),
            "valueContainsNull": kind.item_field.nullable,
        }
    name = _NAMES.get(kind)
    if name is None:
        known = ", ".join(sorted({*_NAMES.values(), "decimal", "list", "struct", "map"}))
        raise UnsupportedFeatureError(f"column {path!r} is {kind}, which Delta does not have; use one of {known}")
    return name


def _field_from_json(body: Mapping[str, Any]) -> pa.Field:
    metadata = body.get("metadata") or {}
    return pa.field(
        body["name"],
        _type_from_json(body["type"], body["name"]),
        body["nullable"],
        {_METADATA: json.dumps(metadata)} if metadata else None,
    )


def _type_from_json(kind: Any, path: str) -> pa.DataType:
    if isinstance(kind, str):
        if kind in _PRIMITIVES:
            return _PRIMITIVES[kind]
        if kind == "decimal":
            return pa.decimal128(10, 0)
        if (found := _DECIMAL.fullmatch(kind)) is not None:
            return pa.decimal128(int(found[1]), int(found[2]))
        raise UnsupportedFeatureError(f"column {path!r} has the type {kind!r}, which is not supported")
    match kind["type"]:
        case "struct":
            return pa.struct([_field_from_json(field) for field in kind["fields"]])
        case "array":
            element = _type_from_json(kind["elementType"], f"{path}[]")
            return pa.list_(pa.field("element", element, kind["containsNull"]))
        case "map":
            key = _type_from_json(kind["keyType"], f"{path}{{key}}")
            value = pa.field("value", _type_from_json(kind["valueType"], f"{path}{{value}}"), kind["valueContainsNull"])
            return pa.map_(key, value)
        case other:
            raise UnsupportedFeatureError(f"column {path!r} has the type {other!r}, which is not supported")
