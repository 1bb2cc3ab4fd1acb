"""Quality checks as JSON values in a contract's document: ``{"check": "gaps", "interval": "1d"}``."""

from __future__ import annotations

from dataclasses import MISSING, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from buffetstore.errors import ConfigurationError
from buffetstore.schemas.quality import CHECKS
from buffetstore.schemas.stored_checks import UnfitDocumentError

if TYPE_CHECKING:
    from buffetstore.schemas.quality_check import QualityCheck


def check_document(check: QualityCheck) -> dict[str, Any]:
    """Return the check as JSON values; parameters that are as by default are left out."""
    given = {field.name: getattr(check, field.name) for field in fields(check)}
    defaults = {field.name: field.default for field in fields(check) if field.default is not MISSING}
    stated = {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}
    return {"check": check.kind} | {name: _plain(value) for name, value in stated.items()}


def check_of(document: dict[str, Any]) -> QualityCheck:
    """Return the check that the document states.

    Raises
    ------
    UnfitDocumentError
        There is no such check, or it does not take these parameters.
    """
    given = dict(document)
    kind = given.pop("check", None)
    if not isinstance(kind, str) or kind not in CHECKS:
        raise UnfitDocumentError(f"quality check {kind!r} is none of {', '.join(CHECKS)}")
    known = {field.name for field in fields(CHECKS[kind])}
    strange = sorted(given.keys() - known)
    if strange:
        raise UnfitDocumentError(f"quality check {kind!r} takes no {strange[0]!r}, only {', '.join(sorted(known))}")
    try:
        return CHECKS[kind](**{name: _value(name, value) for name, value in given.items()})
    except (ConfigurationError, TypeError) as error:
        raise UnfitDocumentError(f"quality check {kind!r}: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return list(value) if isinstance(value, tuple) else value


def _value(name: str, value: Any) -> Any:
    if name == "within" and isinstance(value, int | float):
        return timedelta(seconds=value)
    return tuple(value) if isinstance(value, list) else value
