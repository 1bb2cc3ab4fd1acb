"""Contracts as Avro schemas, and fields from them.

Limits, units and sensitivity are attributes that Avro has no meaning for: its readers keep or ignore them.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.interchange.limits import Limits, field, limits_from, list_field, plain, struct_field
from buffetstore.schemas.markers import Sensitivity
from buffetstore.schemas.nanoseconds import REMAINDER
from buffetstore.schemas.timestamps import MICROSECONDS

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN: dict[str, pa.DataType] = {
    "string": pa.string(),
    "long": pa.int64(),
    "int": pa.int64(),
    "double": pa.float64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
}
_TIMES = {"timestamp-micros": MICROSECONDS, "timestamp-millis": MICROSECONDS, "timestamp-nanos": MICROSECONDS}


def to_avro(contract: Contract, *, namespace: str = "buffetstore") -> dict[str, Any]:
    """Return a row of the contract as an Avro record.

    Raises
    ------
    InvalidInputError
        A column's name is none that Avro allows.
    """
    name = _checked("".join(part.capitalize() for part in contract.data_type.split("_")), contract.data_type)
    return {
        "type": "record",
        "name": name,
        "namespace": namespace,
        **({"doc": contract.description} if contract.description else {}),
        "fields": [_field(spec, name) for spec in contract.fields],
        "version": contract.version,
        "event-time": contract.event_time,
        "key": list(contract.key),
    }


def _field(spec: FieldSpec, owner: str) -> dict[str, Any]:
    kind = _type(spec, f"{owner}_{_checked(spec.name, spec.name)}")
    limits = {name: plain(value) for name, value in Limits.of(spec).stated().items()}
    found: dict[str, Any] = {"name": spec.name, "type": kind}
    if spec.nullable:
        found |= {"type": ["null", kind], "default": None}
        if spec.default is not None:
            found |= {"type": [kind, "null"]}
    if spec.default is not None:
        found["default"] = _default(spec)
    said = {
        "doc": spec.description,
        "aliases": list(spec.aliases),
        "unit": spec.unit,
        "sensitivity": spec.sensitivity and spec.sensitivity.value,
        "limits": limits,
    }
    return found | {name: value for name, value in said.items() if value}


def _type(spec: FieldSpec, name: str) -> Any:
    kind = spec.type
    if spec.choices is not None:
        if all(map(_NAME.fullmatch, spec.choices)):
            return {"type": "enum", "name": name, "symbols": list(spec.choices)}
        return {"type": "string", "choices": list(spec.choices)}
    if pa.types.is_list(kind):
        element = spec.children[0]
        items = _type(element, f"{name}_item")
        limits = {word: plain(value) for word, value in Limits.of(element).stated().items()}
        if limits and not isinstance(items, dict):
            items = {"type": items}
        if limits:
            items["limits"] = limits
        return {"type": "array", "items": ["null", items] if element.nullable else items}
    if pa.types.is_struct(kind):
        return {"type": "record", "name": name, "fields": [_field(child, name) for child in spec.children]}
    if pa.types.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if pa.types.is_timestamp(kind):
        return {"type": "long", "logicalType": "timestamp-micros"}
    if pa.types.is_date(kind):
        return {"type": "int", "logicalType": "date"}
    if kind == REMAINDER:
        return {"type": "int", "bits": kind.bit_width}
    return next(word for word, plain_kind in _PLAIN.items() if plain_kind == kind)


def _checked(name: str, given: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{given!r} is no name in Avro (letters, digits and _ of ASCII); rename it, or export JSON Schema"
        )
    return name


def _default(spec: FieldSpec) -> Any:
    value, kind = spec.default, spec.type
    if isinstance(value, Decimal):
        whole = int(value.scaleb(kind.scale))
        return whole.to_bytes((whole.bit_length() + 8) // 8, "big", signed=True).decode("latin-1")
    if pa.types.is_temporal(kind):
        return pa.scalar(value, kind).cast(pa.int32() if pa.types.is_date(kind) else pa.int64()).as_py()
    return plain(value)


def fields_from_avro(document: Any) -> tuple[FieldSpec, ...]:
    """Return the fields of an Avro record.

    Raises
    ------
    InvalidInputError
        It is no record, or a part of it means what no column can hold; the message says where.
    """
    if not isinstance(document, dict) or document.get("type") != "record":
        raise InvalidInputError("an Avro schema of rows is a record: {'type': 'record', 'fields': [...]}")
    reader = _Reader()
    return reader.record(reader.resolved(document), document.get("name", "record"))


class _Reader:
    """Reads one schema, whose named types may be used again."""

    def __init__(self) -> None:
        self._named: dict[str, dict[str, Any]] = {}
        self._open: tuple[str, ...] = ()

    def record(self, schema: dict[str, Any], place: str) -> tuple[FieldSpec, ...]:
        name = str(schema.get("name", place))
        if name in self._open:
            raise InvalidInputError(f"{place} holds {name} inside itself; a column has a fixed depth")
        before, self._open = self._open, (*self._open, name)
        found = tuple(self._field(part, f"{place}.{part.get('name')}") for part in schema.get("fields", ()))
        self._open = before
        if not found:
            raise InvalidInputError(f"{place} has no fields")
        return found

    def _field(self, part: dict[str, Any], place: str) -> FieldSpec:
        schema, nullable = _single(part["type"], place)
        facts: dict[str, Any] = {
            "description": part.get("doc", ""),
            "unit": part.get("unit"),
            "sensitivity": Sensitivity(part["sensitivity"]) if part.get("sensitivity") else None,
            "aliases": part.get("aliases", ()),
            "nullable": nullable,
        }
        return self._typed(part["name"], schema, part.get("limits", {}), part.get("default"), place, facts)

    def _typed(
        self, name: str, schema: Any, limits: dict[str, Any], default: Any, place: str, facts: dict[str, Any]
    ) -> FieldSpec:
        schema = self.resolved(schema)
        word = schema["type"]
        if word == "record":
            return struct_field(name, self.record(schema, place), **facts)
        if word == "array":
            items, nullable = _single(schema["items"], place)
            marks = items.get("limits", {}) if isinstance(items, dict) else {}
            element = self._typed(name, items, marks, None, f"{place}[]", {"nullable": nullable})
            return list_field(name, element, limits=Limits(**limits), **facts)
        kind = _kind(schema, place)
        choices = schema.get("symbols") if word == "enum" else schema.get("choices")
        read = limits_from(limits, kind)
        return field(name, kind, limits=read, choices=choices, default=_read_default(default, kind), **facts)

    def resolved(self, schema: Any) -> dict[str, Any]:
        """Return the type as an object; a name stands for the type that has it."""
        if isinstance(schema, str):
            return self._named.get(schema.rpartition(".")[2], {"type": schema})
        if isinstance(schema.get("type"), dict):
            return self.resolved(schema["type"])
        if "name" in schema:
            self._named[str(schema["name"]).rpartition(".")[2]] = schema
        return dict(schema)


def _single(schema: Any, place: str) -> tuple[Any, bool]:
    """Take null out of a union."""
    if not isinstance(schema, list):
        return schema, False
    parts = [part for part in schema if part != "null"]
    if len(parts) != 1:
        raise InvalidInputError(f"{place} is a union of {len(parts)} types; a column has one, and null")
    return parts[0], len(parts) < len(schema)


def _kind(schema: dict[str, Any], place: str) -> pa.DataType:
    word, logical = schema["type"], schema.get("logicalType")
    if word == "enum":
        return pa.string()
    if logical == "decimal":
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    if word == "long" and logical in _TIMES:
        return _TIMES[logical]
    if word == "int" and logical == "date":
        return pa.date32()
    if word == "int" and schema.get("bits") == REMAINDER.bit_width:
        return REMAINDER
    if word in _PLAIN and logical in {None, "uuid"}:
        return _PLAIN[word]
    shown = f"{word} ({logical})" if logical else word
    raise InvalidInputError(
        f"{place} is {shown!r}, which no column can hold; use {', '.join(_PLAIN)}, a decimal, date, timestamp-micros, "
        "enum, array or record"
    )


def _read_default(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_decimal(kind):
        return Decimal(int.from_bytes(value.encode("latin-1"), "big", signed=True)).scaleb(-kind.scale)
    if pa.types.is_temporal(kind):
        return pa.scalar(value, pa.int32() if pa.types.is_date(kind) else pa.int64()).cast(kind).as_py()
    return value
