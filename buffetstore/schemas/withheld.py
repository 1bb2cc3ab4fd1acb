"""Messages say what is wrong with a confidential value, never what it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.expressions import columns_of
from buffetstore.schemas.checks import DUPLICATE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.findings import Finding


def root_of(field: str) -> str:
    """Return the column of a finding's field: `legs` for `legs[].name`."""
    return field.partition(".")[0].partition("[")[0]


def withheld(contract: Contract, findings: list[Finding]) -> list[Finding]:
    """Return the findings, their messages without values of columns that not everyone may see."""
    secret = {spec.name for spec in contract.fields if _is_secret(spec)}
    if not secret:
        return findings
    across = {rule.name: {rule.field, *columns_of(rule.holds)} for rule in contract.rules}
    across[DUPLICATE_KEY] = set(contract.key)
    return [_without_value(finding, secret, across.get(finding.error_type, ())) for finding in findings]


def _is_secret(spec: FieldSpec) -> bool:
    said = spec.sensitivity is not None and spec.sensitivity.is_withheld
    return said or any(map(_is_secret, spec.children))


def _without_value(finding: Finding, secret: set[str], others: Iterable[str]) -> Finding:
    if secret.isdisjoint({root_of(finding.field), *others}):
        return finding
    return replace(finding, message=f"{finding.field}: {finding.error_type} (the value is confidential)")
