"""Contracts as documentation in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.expressions import render
from buffetstore.schemas.interchange.limits import Limits, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

_SIGNS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}", "multiple_of": "multiple of {}", "pattern": "`{}`"}
_LENGTHS = {"min_length": "length ≥ {}", "max_length": "length ≤ {}"}


def to_markdown(contract: Contract) -> str:
    """Return a page that tells people what the data type is."""
    parts = [f"# {contract.data_type} {contract.version}"]
    if contract.description:
        parts.append(contract.description)
    parts.append("\n".join(f"- {name}: {value}" for name, value in _facts(contract)))
    rows = [row for spec in contract.fields for row in _rows(spec, spec.name)]
    parts.append(_table(["Column", "Type", "Null", "Rules", "Unit", "Sensitivity", "Meaning"], rows))
    if contract.rules:
        rules: list[tuple[str, ...]] = [
            (f"`{rule.name}`", f"`{_cell(render(rule.holds))}`", rule.severity, _cell(rule.message))
            for rule in contract.rules
        ]
        parts += ["## Rules across columns", _table(["Rule", "Holds", "Broken is", "Message"], rules)]
    return "\n\n".join(parts) + "\n"


def _facts(contract: Contract) -> Iterator[tuple[str, str]]:
    yield "Key", ", ".join(f"`{name}`" for name in contract.key)
    yield "Event time", f"`{contract.event_time}`"
    yield "Revisions", contract.revisions
    yield "Availability", contract.availability
    yield "Sorted by", ", ".join(f"`{name}`" for name in contract.sort_by)
    if contract.partition_by:
        yield "Partitioned by", ", ".join(f"`{name}`" for name in contract.partition_by)
    if contract.owner is not None:
        yield "Owner", contract.owner
    if contract.service_levels.freshness is not None:
        yield "Freshness", f"within {contract.service_levels.freshness}"
    if contract.service_levels.completeness is not None:
        yield "Completeness", f"{contract.service_levels.completeness:.4%}"


def _rows(spec: FieldSpec, path: str) -> Iterator[tuple[str, ...]]:
    sensitivity = "" if spec.sensitivity is None else spec.sensitivity.value
    meaning = _cell(spec.description)
    if spec.aliases:
        meaning += f"{' ' if meaning else ''}(was {', '.join(spec.aliases)})"
    null = "yes" if spec.nullable else "filled by the store" if spec.filled else "no"
    yield f"`{path}`", _type(spec.type), null, _rules(spec), _cell(spec.unit or ""), sensitivity, meaning
    if pa.types.is_list(spec.type):
        element = spec.children[0]
        if element.children:
            yield from (row for child in element.children for row in _rows(child, f"{path}[].{child.name}"))
        else:
            yield from _rows(element, f"{path}[]")
    elif pa.types.is_struct(spec.type):
        yield from (row for child in spec.children for row in _rows(child, f"{path}.{child.name}"))


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "object"
    if pa.types.is_list(kind):
        return f"list of {_type(kind.value_type)}"
    return f"decimal({kind.precision},{kind.scale})" if pa.types.is_decimal(kind) else str(kind)


def _rules(spec: FieldSpec) -> str:
    words = _SIGNS | _LENGTHS
    found = [_cell(words[name].format(plain(value))) for name, value in Limits.of(spec).stated().items()]
    if spec.choices is not None:
        found.append("one of " + ", ".join(f"`{_cell(choice)}`" for choice in spec.choices))
    if spec.default is not None:
        found.append(f"default `{_cell(str(plain(spec.default)))}`")
    return ", ".join(found)


def _table(head: list[str], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
