"""A contract as an immutable document, and back: canonical JSON that judges data without the class."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import ValidationError

from buffetstore.errors import ConfigurationError, CorruptFileError, UnsupportedFeatureError
from buffetstore.schemas.contract import Contract, Custom, Rule, ServiceLevels
from buffetstore.schemas.document import FORMAT_VERSION, ContractDocument
from buffetstore.schemas.fill import BUILT_IN, Fill, same_value
from buffetstore.schemas.json_values import NotJSONError, decode_expression, encode_expression
from buffetstore.schemas.record import check_declaration
from buffetstore.schemas.stored_checks import UnfitDocumentError, check_contract
from buffetstore.schemas.stored_fields import field_document, field_of
from buffetstore.schemas.stored_quality import check_document, check_of

if TYPE_CHECKING:
    from buffetstore.schemas.document import FillDocument, RuleDocument

_FILLS = {fill.name: fill for fill in BUILT_IN}


def contract_document(contract: Contract) -> dict[str, Any]:
    """Return the contract as plain JSON values; what is as by default is left out.

    Raises
    ------
    ConfigurationError
        A default, a bound or a value of a rule has no form in JSON; the message names it.
    """
    try:
        made = ContractDocument.model_validate(_document(contract))
    except (NotJSONError, ValidationError) as error:
        raise ConfigurationError(
            f"the contract of {contract.data_type} {contract.version} cannot be stored: {error}"
        ) from error
    return made.model_dump(exclude_defaults=True)


def document_bytes(contract: Contract) -> bytes:
    """Return the contract as canonical JSON: keys sorted, no spaces, UTF-8. Equal contracts are equal bytes."""
    return canonical_json(contract_document(contract))


def canonical_json(document: Any) -> bytes:
    """Return JSON values as the one text that stands for them."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def fingerprint(contract: Contract) -> str:
    """Return the SHA-256 (hex) of what the contract demands.

    Words are left out (descriptions, rules' messages, the owner), how older versions are read by code (up-casts), and
    quality checks, which refuse no row: all may be mended without a new version. Everything else counts, the names of
    the class's validators too; what a validator does is not seen.
    """
    document = contract_document(contract)
    for word in ("description", "owner", "quality"):
        document.pop(word, None)
    document["rules"] = [
        {name: value for name, value in rule.items() if name != "message"} for rule in document.get("rules", [])
    ]
    document["custom"] = [custom for custom in document.get("custom", []) if custom["kind"] != "upcast"]
    document["fields"] = [_without_words(field) for field in document["fields"]]
    return sha256(canonical_json(document)).hexdigest()


def _without_words(field: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in field.items() if name != "description"}
    if "element" in found:
        found["element"] = _without_words(found["element"])
    if "fields" in found:
        found["fields"] = [_without_words(inner) for inner in found["fields"]]
    return found


def load_contract(stored: bytes | str | dict[str, Any], *, origin: str = "contract document") -> Contract:
    """Return the contract that the document holds. It judges data as the class did, but for `unenforced`.

    Parameters
    ----------
    stored:
        What `document_bytes` or `contract_document` gave.
    origin:
        Where the document is from, for messages.

    Raises
    ------
    CorruptFileError
        It is no contract: not JSON, a word missing or unknown, a rule that names no column; the message says where.
    UnsupportedFeatureError
        It is of a newer format.
    """
    try:
        given = stored if isinstance(stored, dict) else parse_json(stored)
        known = given.get("format_version") if isinstance(given, dict) else None
        if isinstance(known, int) and known > FORMAT_VERSION:
            raise UnsupportedFeatureError(
                f"{origin} has format_version {known}, newer than {FORMAT_VERSION}: update buffetstore", key=origin
            )
        contract = _contract(ContractDocument.model_validate(given))
        check_declaration(contract, origin)
        check_contract(contract)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
        shown = repr(detail["input"])[:80]
        raise CorruptFileError(f"{origin}: ${place} {shown}: {detail['msg']}", key=origin) from error
    except (NotJSONError, UnfitDocumentError, ConfigurationError, RecursionError, pa.ArrowException) as error:
        problem = str(error).removeprefix(f"class {origin}: ")
        raise CorruptFileError(f"{origin}: {problem}", key=origin) from error
    return contract


def parse_json(text: bytes | str) -> Any:
    """Return JSON text's values; a key that is there twice is refused.

    Raises
    ------
    NotJSONError
        It is not JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotJSONError(f"is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise NotJSONError(f"has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _no_constant(word: str) -> Any:
    raise NotJSONError(f"{word} is not JSON: write {{'float': 'inf'}}")


def _document(contract: Contract) -> dict[str, Any]:
    levels = contract.service_levels
    return {
        "format_version": FORMAT_VERSION,
        "data_type": contract.data_type,
        "version": contract.version,
        "key": list(contract.key),
        "event_time": contract.event_time,
        "load_time": "created_at",
        "knowledge_time": "available_at",
        "availability": contract.availability,
        "revisions": contract.revisions,
        "symbol": contract.symbol,
        "category": contract.category,
        "partition_by": list(contract.partition_by),
        "sort_by": list(contract.sort_by),
        "fields": [field_document(spec) for spec in contract.fields],
        "rules": [_rule_document(rule) for rule in contract.rules],
        "fills": [
            {"same": list(fill.same)} if fill.same else {"built_in": fill.name}
            for fill in contract.fills
            if fill.same or fill in BUILT_IN
        ],
        "custom": [{"kind": one.kind, "name": one.name, "field": one.field} for one in contract.custom],
        "owner": contract.owner,
        "freshness_seconds": levels.freshness.total_seconds() if levels.freshness is not None else None,
        "completeness": levels.completeness,
        "quality": [check_document(check) for check in contract.quality],
        "description": contract.description,
    }


def _rule_document(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "field": rule.field,
        "holds": encode_expression(rule.holds),
        "message": rule.message,
        "severity": rule.severity,
    }


def _contract(document: ContractDocument) -> Contract:
    fields = tuple(field_of(part, f"fields[{number}]") for number, part in enumerate(document.fields))
    seconds = document.freshness_seconds
    return Contract(
        data_type=document.data_type,
        version=document.version,
        model=None,
        schema=pa.schema([pa.field(spec.name, spec.type, spec.nullable) for spec in fields]),
        fields=fields,
        key=tuple(document.key),
        revisions=document.revisions,
        event_time=document.event_time,
        availability=document.availability,
        symbol=document.symbol,
        category=document.category,
        partition_by=tuple(document.partition_by),
        sort_by=tuple(document.sort_by),
        rules=tuple(map(_rule, document.rules)),
        fills=tuple(map(_fill, document.fills)),
        custom=tuple(Custom(part.kind, part.name, part.field) for part in document.custom),
        owner=document.owner,
        service_levels=ServiceLevels(
            timedelta(seconds=seconds) if seconds is not None else None, document.completeness
        ),
        quality=tuple(map(check_of, document.quality)),
        description=document.description,
    )


def _rule(document: RuleDocument) -> Rule:
    try:
        holds = decode_expression(document.holds)
    except NotJSONError as error:
        raise UnfitDocumentError(f"rule {document.name!r}: {error}") from error
    return Rule(document.name, document.field, holds, document.message, document.severity)


def _fill(document: FillDocument) -> Fill:
    if document.same is not None:
        first, second = document.same
        return same_value(first, second)
    if document.built_in not in _FILLS:
        raise UnfitDocumentError(f"fill {document.built_in!r} is none of {', '.join(_FILLS)}")
    return _FILLS[document.built_in]
