"""The part of a contract's rules that other engines can hold rows to, as CHECK constraints of its table.

Comparisons, bounds and lists of choices are exported so that null passes, as it does here. What is not exported stays
ours: patterns, lengths, rules about NaN and infinity, rules inside nested values, validator functions and warnings.

A table with constraints needs writer version 3, which DuckDB does not write, and refuses rows that
`store_data(level='warning')` would store; so they are declared where that is wanted, not by default:
``await table.add_constraints((await in_thread(portable_rules, contract)).checks)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import annotated_types as at
import pyarrow as pa

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import Comparison, IsIn
from buffetstore.tables.constraints import compiled_check, null_safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.expressions import Expression, Operator
    from buffetstore.schemas import Contract
    from buffetstore.schemas.arrow import FieldSpec

_BOUNDS: tuple[tuple[type[Any], str, Operator], ...] = (
    (at.Gt, "gt", ">"),
    (at.Ge, "ge", ">="),
    (at.Lt, "lt", "<"),
    (at.Le, "le", "<="),
)


@dataclass(frozen=True, slots=True)
class PortableRules:
    """What of a contract's rules is exported, and what is not.

    Parameters
    ----------
    checks:
        By name, the SQL of each constraint.
    kept:
        By name, why a rule is not exported.
    """

    checks: Mapping[str, str]
    kept: Mapping[str, str]


def portable_rules(contract: Contract) -> PortableRules:
    """Return the contract's rules as constraints of its table; call it in a thread."""
    checks: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, predicate in _rules(contract, kept):
        try:
            checks[name] = compiled_check(name, null_safe(predicate), contract.schema).sql
        except InvalidInputError as error:
            kept[name] = str(error)
    return PortableRules(checks, kept)


def _rules(contract: Contract, kept: dict[str, str]) -> Iterator[tuple[str, Expression]]:
    for spec in contract.fields:
        yield from _of_field(spec, kept)
    for rule in contract.rules:
        if rule.severity == "warning":
            kept[rule.name] = "it is a warning: such rows are stored"
        else:
            yield rule.name, rule.holds


def _of_field(spec: FieldSpec, kept: dict[str, str]) -> Iterator[tuple[str, Expression]]:
    if spec.choices is not None:
        yield f"{spec.name}_choices", IsIn(spec.name, tuple(sorted(spec.choices)))
    for constraint in spec.constraints:
        found = [(getattr(constraint, name), name, op) for kind, name, op in _BOUNDS if isinstance(constraint, kind)]
        if found and not pa.types.is_nested(spec.type):
            yield from ((f"{spec.name}_{name}", Comparison(spec.name, op, bound)) for bound, name, op in found)
        else:
            kept[f"{spec.name}_{type(constraint).__name__.lower()}"] = "engines have no common text for it"
    if pa.types.is_floating(spec.type):
        kept[f"{spec.name}_finite"] = "engines do not agree on NaN"
    if spec.custom:
        kept[f"{spec.name}_validator"] = "it is a function"
    if spec.children:
        kept[f"{spec.name}_nested"] = "engines do not look into nested values alike"
