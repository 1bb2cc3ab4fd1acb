"""The step from one version of a data type to the next, in a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from buffetstore.errors import ConflictError, IncompatibleSchemaError, InvalidInputError
from buffetstore.schemas.compatibility import CompatibilityReport, check
from buffetstore.schemas.contract import Contract
from buffetstore.schemas.record import Record, contract_of
from buffetstore.schemas.stored import load_contract
from buffetstore.schemas.types import canonical_version

if TYPE_CHECKING:
    from buffetstore.schemas.compatibility import Mode
    from buffetstore.schemas.registry import Registry

Schema: TypeAlias = type[Record] | Contract | bytes | str | dict[str, Any]


def contract_from(schema: Schema) -> Contract:
    """Return the contract that a class, a document or itself states.

    Raises
    ------
    InvalidInputError
        It is none of these.
    CorruptFileError
        The document is no contract.
    """
    if isinstance(schema, Contract):
        return schema
    if isinstance(schema, type) and issubclass(schema, Record):
        return contract_of(schema)
    if isinstance(schema, bytes | str | dict):
        return load_contract(schema)
    raise InvalidInputError(f"{schema!r} is no schema: give a record class, a Contract or a contract's document")


def check_states(contract: Contract, data_type: str, version: str) -> None:
    """Raise `InvalidInputError` where a new version is not the one that is asked for."""
    if (contract.data_type, contract.version) != (data_type, canonical_version(version)):
        raise InvalidInputError(
            f"the new schema states {contract.data_type} {contract.version}, asked for is {data_type} "
            f"{canonical_version(version)}: class New(Old, version={canonical_version(version)!r})"
        )


def check_next(registry: Registry, schema: Schema, mode: Mode | str) -> CompatibilityReport:
    """Return whether the schema may follow the versions that are registered."""
    new = contract_from(schema)
    known = registry.versions(new.data_type) if new.data_type in registry.data_types() else []
    # Its own version may be registered already: a class is when it is checked before a deploy.
    return check([registry.get(new.data_type, version) for version in known if version != new.version], new, mode)


def evolve(
    registry: Registry, data_type: str, *, current_version: str, new: Schema, version: str, mode: Mode | str
) -> Contract:
    """Register the next version of a data type, if it is compatible, and return its contract."""
    current = registry.get(data_type, current_version)
    newest = registry.versions(data_type)[-1]
    if current.version != newest:
        raise ConflictError(
            f"{data_type} is at {newest} by now, not at {current.version}: compare with it, and evolve from there",
            key=data_type,
        )
    contract = contract_from(new)
    check_states(contract, data_type, version)
    report = check([registry.get(data_type, known) for known in registry.versions(data_type)], contract, mode)
    if not report.ok:
        raise IncompatibleSchemaError(
            f"{data_type} {contract.version} may not follow {newest} ({report.mode}): {'; '.join(report.reasons)}",
            reasons=tuple(report.reasons),
            key=data_type,
        )
    return registry.add(contract.model) if contract.model is not None else registry.add_stored(contract)
