"""What pydantic sees to in a class, for contracts that are read from a document: that their parts fit each other."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field, TypeAdapter
from pydantic_core import SchemaError

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import columns_of, mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract, Rule

BOUNDS = frozenset({"gt", "ge", "lt", "le"})
LENGTHS = frozenset({"min_length", "max_length"})
_EVERY_RECORD = {"created_at": pa.timestamp("us", "UTC"), "available_at": pa.timestamp("us", "UTC")}


class UnfitDocumentError(ValueError):
    """A part of a document contradicts the others; the text says which and why."""


def fitted(name: str, value: Any, kind: pa.DataType) -> Any:
    """Return the value of a constraint, if a column of this type can have it.

    Raises
    ------
    UnfitDocumentError
        There is no such constraint, or it is not for this type.
    """
    if name in BOUNDS:
        return _bound(name, value, kind)
    if name == "multiple_of" and not pa.types.is_temporal(kind):
        if _bound(name, value, kind) > 0:
            return value
        raise UnfitDocumentError(f"multiple_of {value!r} is not above 0")
    if name in LENGTHS and (pa.types.is_string(kind) or pa.types.is_list(kind)):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise UnfitDocumentError(f"{name} {value!r} is no length")
    if name == "pattern" and pa.types.is_string(kind):
        if isinstance(value, str):
            try:
                TypeAdapter(Annotated[str, Field(pattern=value)])
            except SchemaError as error:
                raise UnfitDocumentError(f"pattern {value!r} is no regular expression") from error
            return value
        raise UnfitDocumentError(f"pattern {value!r} is not text")
    raise UnfitDocumentError(f"constraint {name!r} is not for {kind}")


def _bound(name: str, value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        fits = isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value)
    elif pa.types.is_timestamp(kind):
        fits = isinstance(value, datetime)
    else:
        fits = pa.types.is_date(kind) and isinstance(value, date) and not isinstance(value, datetime)
    if not fits:
        raise UnfitDocumentError(f"{name} {value!r} is no bound of {kind}")
    return value


def check_contract(contract: Contract) -> None:
    """Refuse what no class could declare.

    Raises
    ------
    UnfitDocumentError
        The text says which part does not fit.
    """
    _check_names(contract.fields, "the contract")
    for name, kind in _EVERY_RECORD.items():
        if name not in contract.schema.names or contract.schema.field(name).type != kind:
            raise UnfitDocumentError(f"has no field {name!r} of type timestamp, which every record has")
    if "version" not in contract.schema.names or not pa.types.is_string(contract.schema.field("version").type):
        raise UnfitDocumentError("has no field 'version' of type string, which every record has")
    names = [rule.name for rule in contract.rules]
    for rule in contract.rules:
        if names.count(rule.name) > 1:
            raise UnfitDocumentError(f"has two rules named {rule.name!r}")
        _check_rule(rule, contract)
    for fill in contract.fills:
        for name in fill.same or ():
            if name not in contract.schema.names:
                raise UnfitDocumentError(f"fill {fill.name!r} names {name!r}, which is no field")
    _check_default_choices(contract.fields)


def _check_names(fields: tuple[FieldSpec, ...], place: str) -> None:
    seen: set[str] = set()
    for spec in fields:
        if spec.name in seen:
            raise UnfitDocumentError(f"{place} has two fields named {spec.name!r}")
        seen.add(spec.name)
        _check_field(spec)
        inner = spec
        while pa.types.is_list(inner.type):
            inner = inner.children[0]
            _check_field(inner)
        if inner.children:
            _check_names(inner.children, f"field {spec.name!r}")


def _check_field(spec: FieldSpec) -> None:
    if spec.choices is not None and not (spec.choices and pa.types.is_string(spec.type)):
        raise UnfitDocumentError(
            f"field {spec.name!r} is {spec.type} with the choices {spec.choices}: give a string some"
        )
    if spec.filled and spec.nullable:
        raise UnfitDocumentError(f"field {spec.name!r} is filled by the store, and so is not nullable")


def _check_default_choices(fields: tuple[FieldSpec, ...]) -> None:
    for spec in fields:
        if spec.choices is not None and spec.default is not None and spec.default not in spec.choices:
            raise UnfitDocumentError(f"default {spec.default!r} of field {spec.name!r} is none of {spec.choices}")


def _check_rule(rule: Rule, contract: Contract) -> None:
    try:
        mask(contract.schema.empty_table(), rule.holds)
    except (InvalidQueryError, pa.ArrowException) as error:
        raise UnfitDocumentError(f"rule {rule.name!r}: {error}") from error
    known = {rule.field, *columns_of(rule.holds)}
    try:
        places = list(_places(rule.message))
        rule.message.format_map(dict.fromkeys(known, "x"))
    except (ValueError, LookupError, AttributeError) as error:
        raise UnfitDocumentError(f"rule {rule.name!r}: message {rule.message!r}: {error!r}") from error
    strange = [place for place in places if place not in known]
    if strange:
        raise UnfitDocumentError(
            f"rule {rule.name!r}: message {rule.message!r} names {strange[0]!r}, not {', '.join(sorted(known))}"
        )


def _places(message: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(message) if name is not None)
