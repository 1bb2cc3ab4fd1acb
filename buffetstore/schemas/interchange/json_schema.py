"""Contracts as JSON Schema (draft 2020-12), and fields from it.

What JSON Schema has no word for is said in words that start with ``x-``, which validators pass over. A decimal is a
number or its digits as text: JSON's own numbers lose digits in most readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import render
from buffetstore.schemas.interchange.limits import Limits, field, limits_from, list_field, plain, struct_field
from buffetstore.schemas.markers import Sensitivity
from buffetstore.schemas.nanoseconds import REMAINDER
from buffetstore.schemas.timestamps import MICROSECONDS
from buffetstore.schemas.values import UnfitValueError, converter

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NUMBERS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
}
_LENGTHS = {"min_length": "minLength", "max_length": "maxLength", "pattern": "pattern"}
_SIZES = {"min_length": "minItems", "max_length": "maxItems"}
_FORMATS = {"date-time": MICROSECONDS, "date": pa.date32()}
_PLAIN = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}


def to_json_schema(contract: Contract) -> dict[str, Any]:
    """Return a row of the contract as a JSON Schema document."""
    found = {
        "$schema": DIALECT,
        "$id": f"urn:buffetstore:{contract.data_type}:{contract.version}",
        "title": contract.data_type,
        **({"description": contract.description} if contract.description else {}),
        **_object(contract.fields),
        "x-version": contract.version,
        "x-key": list(contract.key),
        "x-event-time": contract.event_time,
    }
    if contract.rules:
        found["x-rules"] = [
            {"name": rule.name, "holds": render(rule.holds), "message": rule.message, "severity": rule.severity}
            for rule in contract.rules
        ]
    return found


def _object(specs: tuple[FieldSpec, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {spec.name: _schema(spec) for spec in specs},
        "required": [spec.name for spec in specs if not (spec.nullable or spec.filled or spec.default is not None)],
        "additionalProperties": False,
    }


def _schema(spec: FieldSpec) -> dict[str, Any]:
    found = _of_type(spec)
    if spec.nullable or spec.filled:
        found["type"] = [*([found["type"]] if isinstance(found["type"], str) else found["type"]), "null"]
        if "enum" in found:
            found["enum"] = [*found["enum"], None]
    if spec.default is not None:
        found["default"] = plain(spec.default)
    said: dict[str, Any] = {"description": spec.description, "x-unit": spec.unit, "x-aliases": list(spec.aliases)}
    said |= {"x-sensitivity": spec.sensitivity and spec.sensitivity.value, "x-filled": spec.filled}
    return found | {name: value for name, value in said.items() if value}


def _of_type(spec: FieldSpec) -> dict[str, Any]:
    kind, limits = spec.type, Limits.of(spec).stated()
    if spec.choices is not None:
        return {"type": "string", "enum": list(spec.choices), **_words(limits, _LENGTHS)}
    if pa.types.is_string(kind):
        return {"type": "string", **_words(limits, _LENGTHS)}
    if pa.types.is_list(kind):
        return {"type": "array", "items": _schema(spec.children[0]), **_words(limits, _SIZES)}
    if pa.types.is_struct(kind):
        return _object(spec.children)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        bounds = {name: plain(bound) for name, bound in limits.items()}
        word = "date-time" if pa.types.is_timestamp(kind) else "date"
        return {"type": "string", "format": word, **({"x-bounds": bounds} if bounds else {})}
    if pa.types.is_decimal(kind):
        digits = {"pattern": _digits(kind), "x-precision": kind.precision, "x-scale": kind.scale}
        return {"type": ["number", "string"], **digits, **_words(limits, _NUMBERS)}
    if kind == REMAINDER:
        return {"type": "integer", "x-bits": kind.bit_width, **_words(limits, _NUMBERS)}
    word = next(word for word, plain_kind in _PLAIN.items() if plain_kind == kind)
    return {"type": word, **_words(limits, _NUMBERS)}


def _words(limits: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    return {words[name]: plain(value) for name, value in limits.items() if name in words}


def _digits(kind: pa.DataType) -> str:
    """Return the pattern of a decimal as text."""
    whole = kind.precision - kind.scale
    return rf"^-?[0-9]{{0,{whole}}}" + (rf"(\.[0-9]{{1,{kind.scale}}})?$" if kind.scale else "$")


def fields_from_json_schema(document: Any) -> tuple[FieldSpec, ...]:
    """Return the fields that a JSON Schema of an object describes.

    Raises
    ------
    InvalidInputError
        It is no schema of an object, or a part of it means what no column can hold; the message says where.
    """
    if not isinstance(document, dict):
        raise InvalidInputError(f"a JSON Schema is an object with properties, not {type(document).__name__}")
    return _Reader(document).fields(document, "#")


class _Reader:
    """Reads one document, whose parts may refer to each other."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._open: tuple[str, ...] = ()

    def fields(self, schema: dict[str, Any], place: str) -> tuple[FieldSpec, ...]:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            raise InvalidInputError(f"{place} has no properties: columns are the properties of an object")
        required = set(schema.get("required", ()))
        return tuple(
            self._field(name, part, name in required, f"{place}/properties/{name}") for name, part in properties.items()
        )

    def _field(self, name: str, schema: Any, required: bool, place: str) -> FieldSpec:
        if not isinstance(schema, dict):
            raise InvalidInputError(f"{place} is {schema!r}, which takes anything; say its type")
        reference = schema.get("$ref")
        schema, nullable = self._single(schema, place)
        if reference in self._open:
            raise InvalidInputError(f"{place} holds {reference} inside itself; a column has a fixed depth")
        before = self._open
        self._open = (*before, reference) if reference else before
        try:
            return self._typed(name, schema, nullable=nullable, required=required, place=place)
        finally:
            self._open = before

    def _single(self, schema: dict[str, Any], place: str) -> tuple[dict[str, Any], bool]:
        """Follow references, and take null out of alternatives."""
        if "$ref" in schema:
            rest = {name: value for name, value in schema.items() if name != "$ref"}
            found, nullable = self._single(self._followed(schema["$ref"], place), place)
            return {**found, **rest}, nullable
        for word in ("anyOf", "oneOf", "allOf"):
            if word not in schema:
                continue
            parts = [part for part in schema[word] if part != {"type": "null"}]
            if len(parts) != 1:
                raise InvalidInputError(f"{place} has {len(parts)} alternatives ({word}); a column has one type")
            rest = {name: value for name, value in schema.items() if name != word}
            found, nullable = self._single(parts[0], place)
            return {**found, **rest}, nullable or len(parts) < len(schema[word])
        words = schema.get("type")
        nullable = words == "null" or (isinstance(words, list) and "null" in words)
        if None in schema.get("enum", ()):
            schema, nullable = {**schema, "enum": [value for value in schema["enum"] if value is not None]}, True
        return schema, nullable

    def _followed(self, reference: str, place: str) -> dict[str, Any]:
        found: Any = self._document
        if not reference.startswith("#"):
            raise InvalidInputError(
                f"{place} refers to {reference!r}; only references inside the document are followed"
            )
        for part in filter(None, reference[1:].split("/")):
            found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise InvalidInputError(f"{place} refers to {reference!r}, which is not there")
        return found

    def _typed(self, name: str, schema: dict[str, Any], *, nullable: bool, required: bool, place: str) -> FieldSpec:
        word = _type_word(schema, place)
        facts: dict[str, Any] = {
            "description": schema.get("description", ""),
            "unit": schema.get("x-unit"),
            "aliases": schema.get("x-aliases", ()),
            "sensitivity": Sensitivity(schema["x-sensitivity"]) if schema.get("x-sensitivity") else None,
        }
        default = schema.get("default")
        facts["nullable"] = nullable or not (required or default is not None)
        if word == "object":
            return struct_field(name, self.fields(schema, place), **facts)
        if word == "array":
            element = self._field(name, schema.get("items", True), True, f"{place}/items")
            return list_field(name, element, limits=Limits(**_read(schema, _SIZES)), **facts)
        kind = _kind(schema, word)
        choices = schema.get("enum") if word == "string" else None
        return field(
            name, kind, limits=_limits(schema, kind), choices=choices, default=_default(default, kind, place), **facts
        )


def _type_word(schema: dict[str, Any], place: str) -> str:
    words = schema.get("type")
    given = [word for word in (words if isinstance(words, list) else [words]) if word not in {"null", None}]
    if "const" in schema:
        schema["enum"] = [schema["const"]]
    choices = schema.get("enum")
    if choices is not None and not all(isinstance(choice, str) for choice in choices):
        raise InvalidInputError(f"{place} has the choices {choices!r}; only choices of text become a Literal")
    if not given and choices:
        return "string"
    if sorted(given) == ["number", "string"] and "x-precision" in schema:
        return "number"
    if len(given) != 1 or given[0] not in {*_PLAIN, "object", "array"}:
        raise InvalidInputError(f"{place} has type {words!r}; a column has one of {', '.join(_PLAIN)}, object, array")
    return str(given[0])


def _kind(schema: dict[str, Any], word: str) -> pa.DataType:
    if word == "number" and "x-precision" in schema:
        return pa.decimal128(schema["x-precision"], schema["x-scale"])
    if word == "string" and schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if word == "integer" and schema.get("x-bits") == REMAINDER.bit_width:
        return REMAINDER
    return _PLAIN[word]


def _limits(schema: dict[str, Any], kind: pa.DataType) -> Limits:
    if pa.types.is_string(kind):
        return Limits(**_read(schema, _LENGTHS))
    if pa.types.is_temporal(kind):
        return limits_from(schema.get("x-bounds", {}), kind)
    return limits_from(_read(schema, _NUMBERS), kind)


def _read(schema: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    return {name: schema[word] for name, word in words.items() if schema.get(word) is not None}


def _default(value: Any, kind: pa.DataType, place: str) -> Any:
    try:
        return converter(kind)(value)
    except UnfitValueError as error:
        raise InvalidInputError(f"{place}: its default {error}") from error
