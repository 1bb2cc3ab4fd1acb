"""A `Mapping` as a document of plain values, to be kept in a file beside the data that it reads."""

from __future__ import annotations

import re
from datetime import date as Day  # noqa: N812 `date` is a key
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from buffetstore.errors import MappingError
from buffetstore.schemas.mapping import Mapping, nearest

_ALTERNATIVE = re.compile(r"(dict|tuple)\[.*|decimal|str|int|float|bool|date|datetime")
"""How pydantic names the alternatives of a key in an error's place."""


class _Document(BaseModel):
    """What a document may say."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, str] = Field(default_factory=dict)
    constants: dict[str, str | int | float | bool | Decimal | datetime | Day | None] = Field(default_factory=dict)
    symbol: str | None = None
    tz: str | None = None
    scale: Decimal | dict[str, Decimal] | None = None
    header: tuple[str, ...] = ()
    file_pattern: str | None = None
    upper: tuple[str, ...] = ()
    index: str | tuple[str, ...] | None = None
    milliseconds: str | None = None
    date: Day | None = None


def mapping_document(mapping: Mapping) -> dict[str, Any]:
    """Return the mapping as plain values (text, numbers, lists, dicts), without what it leaves open.

    Decimals and times become text, which is what they are read from. What `for_file` found is left out: the file's
    name says it again.
    """
    scale = mapping.scale
    told = {
        "columns": dict(mapping.columns),
        "constants": {name: _plain(value) for name, value in mapping.constants.items()},
        "symbol": mapping.symbol,
        "tz": mapping.tz,
        "scale": {name: str(each) for name, each in scale.items()} if isinstance(scale, dict) else _plain(scale),
        "header": list(mapping.header),
        "file_pattern": mapping.file_pattern,
        "upper": list(mapping.upper),
        "index": list(mapping.index) if isinstance(mapping.index, tuple) else mapping.index,
        "milliseconds": mapping.milliseconds,
        "date": _plain(mapping.date),
    }
    return {name: value for name, value in told.items() if value is not None and value not in ([], {})}


def load_mapping(document: Any) -> Mapping:
    """Return the mapping that a document states.

    Raises
    ------
    MappingError
        It states something else; the message names the key.
    """
    if not isinstance(document, dict):
        raise MappingError(f"a mapping is keys and values such as columns: {{price: Close}}, not {document!r}")
    try:
        stated = _Document.model_validate(document)
    except ValidationError as error:
        raise MappingError(_said(error)) from error
    return Mapping(**dict(stated))


def _said(error: ValidationError) -> str:
    found = max(error.errors(), key=lambda each: len(each["loc"]))
    where = [str(part) for part in found["loc"]]
    if found["type"] == "extra_forbidden":
        known = list(_Document.model_fields)
        return f"mapping has no key {where[0]!r}{nearest(where[0], known)}; keys are {', '.join(known)}"
    key = ".".join([where[0], *(part for part in where[1:] if not _ALTERNATIVE.fullmatch(part))])
    return f"mapping key {key}: {found['msg'].lower()}, not {found['input']!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | Day):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
