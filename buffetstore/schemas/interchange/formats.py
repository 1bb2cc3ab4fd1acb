"""The formats that contracts are exported to and drafted from, each module loaded when it is asked for."""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.interchange.source import Draft

_EXPORTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "avro": ("avro", "to_avro", {}),
    "json-schema": ("json_schema", "to_json_schema", {}),
    "markdown": ("markdown", "to_markdown", {}),
    "odcs": ("odcs", "to_odcs", {}),
    "spark": ("sql", "to_sql", {"dialect": "spark"}),
    "sql": ("sql", "to_sql", {"dialect": "ansi"}),
}
_IMPORTS = {"avro": ("avro", "fields_from_avro"), "json-schema": ("json_schema", "fields_from_json_schema")}
EXPORTS = tuple(sorted(_EXPORTS))
"""What `export_contract` can write."""
IMPORTS = (*sorted(_IMPORTS), "parquet")
"""What drafts can be made from."""


def export_contract(contract: Contract, form: str) -> str:
    """Return the contract as text in one of `EXPORTS`.

    Raises
    ------
    InvalidInputError
        There is no such format, or it cannot say what the contract does.
    """
    if form not in _EXPORTS:
        raise InvalidInputError(f"format {form!r} is none of {', '.join(EXPORTS)}")
    module, name, options = _EXPORTS[form]
    found = _loaded(module, name)(contract, **options)
    return found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def draft_from_document(text: str | bytes, form: str, data_type: str) -> Draft:
    """Return the draft of a record class from a JSON Schema or an Avro schema.

    Raises
    ------
    InvalidInputError
        There is no such format, or the document is none of it; the message says where.
    """
    if form not in _IMPORTS:
        raise InvalidInputError(f"format {form!r} is none of {', '.join(_IMPORTS)}; files have draft_from_parquet")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"the {form} document is no JSON: {error}") from error
    fields = _loaded(*_IMPORTS[form])(document)
    prefix = "x-" if form == "json-schema" else ""
    return _loaded("draft", "draft_of")(  # type: ignore[no-any-return]
        data_type,
        fields,
        key=document.get(f"{prefix}key", ()),
        event_time=document.get(f"{prefix}event-time"),
        version=document.get(f"{prefix}version", "1.0.0"),
        description=document.get("doc" if form == "avro" else "description", ""),
    )


def _loaded(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(f"buffetstore.schemas.interchange.{module}"), name)
    return found
