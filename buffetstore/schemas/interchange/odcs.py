"""Contracts as the Open Data Contract Standard has them, version 3.1.0 (https://bitol-io.github.io)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import pyarrow as pa

from buffetstore.schemas.interchange.limits import Limits, plain
from buffetstore.schemas.interchange.sql import to_condition
from buffetstore.schemas.interchange.yaml import to_yaml

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract, Rule

API_VERSION = "v3.1.0"
_LOGICAL: dict[pa.DataType, str] = {
    pa.string(): "string",
    pa.int64(): "integer",
    pa.int16(): "integer",
    pa.float64(): "number",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", "UTC"): "timestamp",
}
_OPTIONS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "max_length": "maxLength",
    "pattern": "pattern",
}
_SIZES = {"min_length": "minItems", "max_length": "maxItems"}


def to_odcs(contract: Contract) -> str:
    """Return the contract as YAML."""
    return to_yaml(odcs_document(contract))


def odcs_document(contract: Contract) -> dict[str, Any]:
    """Return the contract as the standard's document."""
    found: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": str(uuid5(NAMESPACE_URL, f"urn:buffetstore:{contract.data_type}")),
        "name": contract.data_type,
        "version": contract.version,
        "status": "active",
    }
    if contract.description:
        found["description"] = {"purpose": contract.description}
    found["schema"] = [_table(contract)]
    if contract.owner is not None:
        found["team"] = {"members": [{"username": contract.owner, "role": "owner"}]}
    levels = _service_levels(contract)
    if levels:
        found["slaProperties"] = levels
    found["customProperties"] = [
        {"property": "revisions", "value": contract.revisions},
        {"property": "eventTime", "value": contract.event_time},
        {"property": "availability", "value": contract.availability},
        {"property": "sortBy", "value": list(contract.sort_by)},
    ]
    return found


def _table(contract: Contract) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": contract.data_type,
        "physicalName": contract.data_type,
        "logicalType": "object",
        "physicalType": "table",
        "properties": [_property(spec, contract) for spec in contract.fields],
    }
    if contract.rules:
        table["quality"] = [_rule(rule) for rule in contract.rules]
    return table


def _property(spec: FieldSpec, contract: Contract) -> dict[str, Any]:
    found = {"name": spec.name, **_typed(spec), "required": not spec.nullable}
    if spec.name in contract.key:
        found |= {"primaryKey": True, "primaryKeyPosition": contract.key.index(spec.name) + 1}
    if spec.name in contract.partition_by:
        found |= {"partitioned": True, "partitionKeyPosition": contract.partition_by.index(spec.name) + 1}
    return found


def _typed(spec: FieldSpec) -> dict[str, Any]:
    """Return what a column, a nested field and an element of a list have in common."""
    kind = spec.type
    found: dict[str, Any] = {"logicalType": _logical(kind), "physicalType": _physical(kind)}
    words = _SIZES if pa.types.is_list(kind) else _OPTIONS
    options = {words[name]: plain(value) for name, value in Limits.of(spec).stated().items() if name in words}
    if options:
        found["logicalTypeOptions"] = options
    if pa.types.is_list(kind):
        found["items"] = _typed(spec.children[0])
    elif pa.types.is_struct(kind):
        found["properties"] = [
            {"name": child.name, **_typed(child), "required": not child.nullable} for child in spec.children
        ]
    if spec.choices is not None:
        allowed = {"validValues": list(spec.choices)}
        found["quality"] = [{"type": "library", "metric": "invalidValues", "arguments": allowed, "mustBe": 0}]
    if spec.description:
        found["description"] = spec.description
    if spec.sensitivity is not None:
        found["classification"] = spec.sensitivity.value
    own = {"unit": spec.unit, "aliases": list(spec.aliases), "default": plain(spec.default)}
    said = [{"property": name, "value": value} for name, value in own.items() if value not in (None, [])]
    return found | ({"customProperties": said} if said else {})


def _logical(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_list(kind):
        return "array"
    return "object" if pa.types.is_struct(kind) else _LOGICAL[kind]


def _physical(kind: pa.DataType) -> str:
    return f"decimal({kind.precision},{kind.scale})" if pa.types.is_decimal(kind) else str(kind)


def _rule(rule: Rule) -> dict[str, Any]:
    query = f"SELECT COUNT(*) FROM ${{table}} WHERE NOT ({to_condition(rule.holds)})"  # noqa: S608 text for others to run
    return {
        "name": rule.name,
        "description": rule.message,
        "dimension": "consistency",
        "severity": rule.severity,
        "type": "sql",
        "query": query,
        "mustBe": 0,
    }


def _service_levels(contract: Contract) -> list[dict[str, Any]]:
    levels, found = contract.service_levels, []
    if levels.freshness is not None:
        element = f"{contract.data_type}.{contract.event_time}"
        seconds = levels.freshness.total_seconds()
        found.append({"property": "freshness", "value": seconds, "unit": "s", "element": element})
    if levels.completeness is not None:
        found.append({"property": "completeness", "value": levels.completeness * 100, "unit": "percent"})
    return found
