"""Fields that were read from elsewhere become the draft of a record class."""

from __future__ import annotations

import re
from dataclasses import replace
from keyword import iskeyword
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import BaseModel

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.interchange import limits
from buffetstore.schemas.interchange.source import Draft
from buffetstore.schemas.record import Record
from buffetstore.schemas.timestamps import MICROSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Rule

_TAKEN = frozenset(dir(BaseModel)) | {"rules", "fills", "upcasts", "contract_facts"}


def draft_of(
    data_type: str,
    fields: Iterable[FieldSpec],
    *,
    key: Iterable[str] = (),
    event_time: str | None = None,
    version: str = "1.0.0",
    description: str = "",
    rules: Iterable[Rule] = (),
    notes: Mapping[str, str] | None = None,
) -> Draft:
    """Return the draft of fields that were read from another format: named as Python allows, with an event time.

    Raises
    ------
    InvalidInputError
        The data type's name is no word, or two fields would have one name.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", data_type):
        raise InvalidInputError(f"data type {data_type!r} is no name: small letters, digits and _, such as 'trades'")
    said = dict(notes or {})
    named = [_named(spec) for spec in fields if spec.name not in Record.model_fields]
    names = [spec.name for spec in named]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"two fields would be called {twice!r} in Python; rename one")
    when = _event_time(named, event_time and identifier(event_time), said)
    found = {spec.name: spec for spec in named}
    chosen = tuple(name for name in map(identifier, key) if name in found) or _key(found, when)
    for name in {*chosen, when}:
        if found[name].nullable:
            found[name] = replace(found[name], nullable=False)
            said[name] = "may be null where it comes from; a key and an event time may not"
    return Draft(data_type, tuple(found.values()), chosen, when, version, description, tuple(rules), said)


def identifier(name: str) -> str:
    """Return the nearest name that a field can have."""
    if name.isidentifier() and not iskeyword(name) and not name.startswith("_") and name not in _TAKEN:
        return name
    found = re.sub(r"\W+", "_", name).strip("_").lower() or "column"
    found = f"c_{found}" if found[0].isdigit() else found
    return f"{found}_" if iskeyword(found) or found in _TAKEN else found


def _named(spec: FieldSpec) -> FieldSpec:
    """Return the field with names that Python allows, the old one as an alias."""
    name = identifier(spec.name)
    if name != spec.name:
        spec = replace(spec, name=name, aliases=(*spec.aliases, spec.name))
    if not spec.children:
        return spec
    if pa.types.is_list(spec.type):
        element = _named(replace(spec.children[0], name="element"))
        kind = pa.list_(pa.field("element", element.type, element.nullable))
        return replace(spec, type=kind, children=(replace(element, name=name),))
    children = tuple(map(_named, spec.children))
    kind = pa.struct([pa.field(child.name, child.type, child.nullable) for child in children])
    return replace(spec, type=kind, children=children)


def _event_time(specs: list[FieldSpec], wanted: str | None, notes: dict[str, str]) -> str:
    times = [spec.name for spec in specs if pa.types.is_timestamp(spec.type)]
    if wanted in times:
        return str(wanted)
    if times:
        return "timestamp" if "timestamp" in times else times[0]
    if any(spec.name == "timestamp" for spec in specs):
        raise InvalidInputError("field 'timestamp' is no time; rename it: every record has an event time")
    specs.append(limits.field("timestamp", MICROSECONDS))
    notes["timestamp"] = "not in the source: every record has an event time"
    return "timestamp"


def _key(specs: dict[str, FieldSpec], event_time: str) -> tuple[str, ...]:
    """Guess: the event time behind the first required column of text."""
    texts = [
        spec.name for spec in specs.values() if pa.types.is_string(spec.type) and not spec.nullable and not spec.choices
    ]
    return (*texts[:1], event_time)
