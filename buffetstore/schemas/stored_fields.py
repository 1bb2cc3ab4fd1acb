"""The fields of a contract as parts of its document, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import annotated_types as at
import pyarrow as pa
from pydantic import Field

from buffetstore.schemas.arrow import MAX_DIGITS, FieldSpec
from buffetstore.schemas.json_values import NotJSONError, decode, encode
from buffetstore.schemas.markers import Sensitivity
from buffetstore.schemas.stored_checks import UnfitDocumentError, fitted
from buffetstore.schemas.types import SPELLINGS, Canonical
from buffetstore.schemas.values import UnfitValueError, converter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from buffetstore.schemas.document import FieldDocument

TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "int16": pa.int16(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
}
_WORDS = {kind: word for word, kind in TYPES.items()}
_DECIMAL = re.compile(r"decimal\((\d{1,2}),(\d{1,2})\)")
_MADE: dict[str, Callable[[Any], Any]] = {
    "gt": at.Gt,
    "ge": at.Ge,
    "lt": at.Lt,
    "le": at.Le,
    "min_length": at.MinLen,
    "max_length": at.MaxLen,
    "multiple_of": at.MultipleOf,
}
_NAMES = {made: name for name, made in _MADE.items()}
_SPELLED = {function: name for name, function in SPELLINGS.items()}


def field_document(spec: FieldSpec) -> dict[str, Any]:
    """Return a field as JSON values.

    Raises
    ------
    NotJSONError
        Its default or a bound has no form in JSON.
    """
    found: dict[str, Any] = {
        "name": spec.name,
        "type": _word(spec.type),
        "nullable": spec.nullable,
        "filled": spec.filled,
        "default": _default_document(spec),
        "constraints": list(_constraint_documents(spec)),
        "choices": None if spec.choices is None else list(spec.choices),
        "spellings": [_SPELLED[mark.spell] for mark in spec.spellings if mark.spell in _SPELLED],
        "unit": spec.unit,
        "sensitivity": None if spec.sensitivity is None else spec.sensitivity.value,
        "aliases": list(spec.aliases),
        "description": spec.description,
    }
    if pa.types.is_list(spec.type):
        found["element"] = field_document(spec.children[0])
    elif pa.types.is_struct(spec.type):
        found["fields"] = [field_document(child) for child in spec.children]
    return found


def field_of(document: FieldDocument, place: str) -> FieldSpec:
    """Return the field that the document describes.

    Raises
    ------
    UnfitDocumentError
        Its words contradict each other; the text says where.
    """
    place = f"{place} ({document.name!r})"
    children: tuple[FieldSpec, ...] = ()
    if document.type == "list":
        children = (_element(document, place),)
        kind = pa.list_(pa.field("element", children[0].type, children[0].nullable))
    elif document.type == "struct":
        children = tuple(field_of(part, f"{place}.fields[{at_}]") for at_, part in enumerate(document.fields or ()))
        kind = pa.struct([pa.field(child.name, child.type, child.nullable) for child in children])
    else:
        kind = _kind(document.type, place)
    if (document.element is not None) != (document.type == "list") or (
        (document.fields is not None) != (document.type == "struct")
    ):
        raise UnfitDocumentError(f"{place} is a {document.type}: lists have an element, structs have fields")
    unknown = [name for name in document.spellings if name not in SPELLINGS]
    if unknown:
        raise UnfitDocumentError(f"{place}: spelling {unknown[0]!r} is none of {', '.join(SPELLINGS)}")
    return FieldSpec(
        name=document.name,
        type=kind,
        nullable=document.nullable,
        filled=document.filled,
        default=_default(document, kind, place),
        constraints=tuple(_constraints(document, kind, place)),
        choices=None if document.choices is None else tuple(document.choices),
        custom=False,
        children=children,
        description=document.description,
        unit=document.unit,
        sensitivity=None if document.sensitivity is None else Sensitivity(document.sensitivity),
        aliases=tuple(document.aliases),
        spellings=tuple(Canonical(SPELLINGS[name]) for name in document.spellings),
    )


def _element(document: FieldDocument, place: str) -> FieldSpec:
    if document.element is None:
        raise UnfitDocumentError(f"{place} is a list without an element")
    return field_of(document.element, f"{place}.element")


def _word(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return "list"
    if pa.types.is_struct(kind):
        return "struct"
    if kind not in _WORDS:
        raise NotJSONError(f"type {kind} has no name: known are {', '.join(TYPES)}")
    return _WORDS[kind]


def _kind(word: str, place: str) -> pa.DataType:
    if word in TYPES:
        return TYPES[word]
    found = _DECIMAL.fullmatch(word)
    if found is None or not 0 <= int(found[2]) <= int(found[1]) <= MAX_DIGITS or not int(found[1]):
        known = ", ".join([*TYPES, "decimal(18,8)", "list", "struct"])
        raise UnfitDocumentError(f"{place}: type {word!r} is none of {known}, with {MAX_DIGITS} digits at most")
    return pa.decimal128(int(found[1]), int(found[2]))


def _default_document(spec: FieldSpec) -> Any:
    try:
        return encode(converter(spec.type)(spec.default))
    except UnfitValueError as error:
        raise NotJSONError(f"default of {spec.name!r}: {error}") from error


def _default(document: FieldDocument, kind: pa.DataType, place: str) -> Any:
    try:
        return converter(kind)(decode(document.default))
    except (NotJSONError, UnfitValueError) as error:
        raise UnfitDocumentError(f"{place}: default: {error}") from error


def _constraint_documents(spec: FieldSpec) -> Iterator[dict[str, Any]]:
    for constraint in spec.constraints:
        name = _NAMES.get(type(constraint))
        if name is not None:
            yield {name: encode(getattr(constraint, name))}
        elif getattr(constraint, "pattern", None):
            yield {"pattern": getattr(constraint.pattern, "pattern", constraint.pattern)}


def _constraints(document: FieldDocument, kind: pa.DataType, place: str) -> Iterator[Any]:
    for part in document.constraints:
        if len(part) != 1:
            raise UnfitDocumentError(f"{place}: constraint {part!r} is not one: write {{'ge': 0}}")
        [(name, given)] = part.items()
        try:
            value = fitted(name, decode(given), kind)
        except NotJSONError as error:
            raise UnfitDocumentError(f"{place}: {name}: {error}") from error
        except UnfitDocumentError as error:
            raise UnfitDocumentError(f"{place}: {error}") from error
        if name == "pattern":
            yield from Field(pattern=value).metadata
        else:
            yield _MADE[name](value)
