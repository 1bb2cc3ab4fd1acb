"""The gate of a table: which versions of its contract have been adopted, and whether one more may be.

The table's own metadata says it (`buffetstore.schemaVersions`, `buffetstore.compatibility`), so that it is decided
where commits are: an adoption is judged against what is in the log when it is made, and again whenever another commit
came first. One that is refused leaves nothing behind. A write in an adopted version looks at one text.

A table keeps the columns of all its adopted versions side by side. Columns are added or become nullable; whatever else
a new version asks of stored files needs a migration (`storage.registry.migrate`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from buffetstore.errors import CommitConflictError, IncompatibleSchemaError
from buffetstore.schemas import Mode, fingerprint
from buffetstore.schemas.change import Kind, counterparts
from buffetstore.schemas.changes import diff, is_upcast
from buffetstore.schemas.compatibility import check, mode_of
from buffetstore.schemas.widening import numbers_of
from buffetstore.tables.declaring import declaration
from buffetstore.tables.properties import SCHEMA_VERSIONS
from buffetstore.tables.schema import schema_to_json

if TYPE_CHECKING:
    from buffetstore.schemas import Contract
    from buffetstore.tables import DeltaTable, Snapshot
    from buffetstore.tables.conflicts import Proposal

COMPATIBILITY = "buffetstore.compatibility"
DEFAULT_MODE = Mode.BACKWARD

History: TypeAlias = Callable[[Mapping[str, str]], Awaitable[Sequence["Contract"]]]
"""Gives the contracts of versions, by version and fingerprint."""


class Fingerprints:
    """The fingerprints of the contracts in use, each computed once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Contract, str]] = {}

    def known(self, contract: Contract) -> str | None:
        """Return the contract's fingerprint if it was computed before."""
        # By identity, for which the contract is held: it holds functions, by which nothing can be looked up.
        found = self._known.get(id(contract))
        return None if found is None else found[1]

    def of(self, contract: Contract) -> str:
        """Return the contract's fingerprint; what it takes to compute it is a thread's work."""
        found = self.known(contract)
        if found is None:
            found = fingerprint(contract)
            self._known[id(contract)] = (contract, found)
        return found


def adopted_versions(configuration: Mapping[str, str]) -> dict[str, str]:
    """Return the fingerprint of each version that the table has adopted; a table that is older than gates has none.

    >>> adopted_versions({"buffetstore.schemaVersions": "1.0.0:ab,1.1.0:cd"})
    {'1.0.0': 'ab', '1.1.0': 'cd'}
    """
    parts = (part.partition(":") for part in configuration.get(SCHEMA_VERSIONS, "").split(",") if part)
    return {version: mark for version, _, mark in parts}


def mode_in(configuration: Mapping[str, str]) -> Mode:
    """Return the compatibility mode that the table's next version is held to."""
    return mode_of(configuration.get(COMPATIBILITY, DEFAULT_MODE))


def is_adopted(configuration: Mapping[str, str], version: str, mark: str) -> bool:
    """Tell whether rows of the version, as this fingerprint demands it, are let in."""
    return f"{version}:{mark}" in configuration.get(SCHEMA_VERSIONS, "").split(",")


def first_adoption(contract: Contract, mark: str, mode: Mode | None = None) -> dict[str, str]:
    """Return what a new table's configuration says of the version that it is made for."""
    return _noted({}, {contract.version: mark}, mode or DEFAULT_MODE)


def _noted(configuration: Mapping[str, str], versions: Mapping[str, str], mode: Mode) -> dict[str, str]:
    text = ",".join(f"{version}:{versions[version]}" for version in sorted(versions, key=numbers_of))
    return {**configuration, SCHEMA_VERSIONS: text, COMPATIBILITY: mode.value}


def check_follows(contract: Contract, history: Sequence[Contract], mode: Mode) -> None:
    """Refuse a contract that may not stand beside those of the history, which may be older and newer ones.

    Raises
    ------
    IncompatibleSchemaError
        The message lists why, and so does `reasons`.
    """
    own = numbers_of(contract.version)
    older = [each for each in history if numbers_of(each.version) < own]
    newer = sorted((each for each in history if numbers_of(each.version) > own), key=lambda c: numbers_of(c.version))
    reasons = list(check(older, contract, mode).reasons) if older else []
    for each in newer if mode.is_transitive else newer[:1]:
        reasons += [f"{each.version} could not follow it: {reason}" for reason in check([contract], each, mode).reasons]
    if reasons:
        names = ", ".join(sorted((each.version for each in history), key=numbers_of))
        raise IncompatibleSchemaError(
            f"{contract.data_type} {contract.version} may not stand beside {names} ({mode}): {'; '.join(reasons)}. "
            "Mend it or give it the version that it says; registry.set_mode changes what is asked",
            reasons=tuple(reasons),
            key=contract.data_type,
        )


def rewrites(contract: Contract, history: Sequence[Contract]) -> list[str]:
    """Return why rows of the contract and rows of the others cannot lie in one table."""
    found: dict[str, None] = {}
    for other in history:
        old, new = sorted((other, contract), key=lambda each: numbers_of(each.version))
        found.update(dict.fromkeys(_rewrites(old, new)))
    return list(found)


def _rewrites(old: Contract, new: Contract) -> list[str]:
    changes = diff(old, new)
    reasons = [str(change) for change in changes if change.rewrites]
    sources = counterparts(old.fields, new.fields)
    places = {*new.key, new.event_time, *new.partition_by}
    for spec in new.fields:
        source = sources.get(spec.name)
        if source is None:
            if spec.name in places and not reasons:
                reasons.append(f"{spec.name} is new, and stored files are laid out without it")
        elif source.name != spec.name:
            if spec.name in places:
                reasons.append(f"{spec.name} was {source.name!r}, by which stored files are laid out")
        elif source.type != spec.type:
            reasons.append(f"{spec.name} is {spec.type}, stored is {source.type}")
        elif is_upcast(spec.name, old, new):
            reasons.append(f"{spec.name} of {old.version} is read by an up-cast: one column would mean two things")
    reasons += [str(change) for change in changes if change.kind is Kind.UNIT_CHANGED and change.breaks]
    return list(dict.fromkeys(reasons))


def check_fits(contract: Contract, history: Sequence[Contract], schema: pa.Schema) -> None:
    """Refuse a contract whose rows cannot lie in the table beside those that are there.

    Raises
    ------
    IncompatibleSchemaError
        The message names `migrate`, which makes room.
    """
    stored = {field.name: field.type for field in schema}
    reasons = rewrites(contract, history)
    if not history:  # a table that is older than gates: its columns are all that is known
        reasons += [
            f"{field.name} is {field.type}, stored is {stored[field.name]}"
            for field in contract.schema
            if field.name in stored and stored[field.name] != field.type
        ]
        reasons += [f"key column {name} is not stored" for name in contract.key if name not in stored]
    if reasons:
        raise IncompatibleSchemaError(
            f"rows of {contract.data_type} {contract.version} and stored rows cannot lie in one table: "
            f"{'; '.join(reasons)}. `await storage.registry.migrate({contract.data_type!r}, {contract.version!r})` "
            "writes the table anew in that version",
            reasons=tuple(reasons),
            key=contract.data_type,
        )


def united(schema: pa.Schema, contract: Contract) -> pa.Schema:
    """Return the schema of a table that takes rows of the contract besides: columns added, or nullable from now on.

    The columns' types are those of `schema`.
    """
    fields = []
    for field in schema:
        own = contract.schema.field(field.name) if field.name in contract.schema.names else None
        fields.append(field.with_nullable(field.nullable or own is None or own.nullable))
    added = [field.with_nullable(True) for field in contract.schema if field.name not in schema.names]
    return pa.schema([*fields, *added], schema.metadata)


def check_same(contract: Contract, mark: str, held: Contract | None, held_mark: str) -> None:
    """Refuse a contract of a version that means something else already.

    Raises
    ------
    IncompatibleSchemaError
        The message names what differs.
    """
    if mark == held_mark:
        return
    differing = [str(change) for change in diff(held, contract)] if held is not None else []
    reasons = tuple(differing) or ("their fields come in another order",)
    raise IncompatibleSchemaError(
        f"{contract.data_type} {contract.version} was adopted with other demands: {'; '.join(reasons[:5])}. A version "
        "never changes: give this one a version of its own",
        reasons=reasons,
        key=contract.data_type,
    )


async def adoption(
    snapshot: Snapshot, contract: Contract, mark: str, history: History, mode: Mode | None = None
) -> Proposal | None:
    """Return the commit by which the table adopts the version; None where it has.

    Parameters
    ----------
    mode:
        What is asked of the new version; None is what the table says.

    Raises
    ------
    IncompatibleSchemaError
        It may not stand beside those that are there.
    """
    configuration = snapshot.metadata.configuration
    if is_adopted(configuration, contract.version, mark):
        return None
    versions = adopted_versions(configuration)
    others = await history(versions)
    if contract.version in versions:
        held = next((each for each in others if each.version == contract.version), None)
        check_same(contract, mark, held, versions[contract.version])
    wanted = mode or mode_in(configuration)
    check_follows(contract, others, wanted)
    check_fits(contract, others, snapshot.schema)
    schema = united(snapshot.schema, contract)
    # A schema that is as it was stays as it was written: a foreign engine may say more in it than we do.
    text = snapshot.metadata.schema_string if schema == snapshot.schema else schema_to_json(schema)
    noted = _noted(configuration, {**versions, contract.version: mark}, wanted)
    metadata = replace(snapshot.metadata, schema_string=text, configuration=noted)
    told = json.dumps({"schemaVersion": contract.version, "schemaFingerprint": mark})
    operation = "SET TBLPROPERTIES" if schema == snapshot.schema else "ADD COLUMNS"
    return declaration(operation, snapshot, metadata, user_metadata=told)


async def admit(
    table: DeltaTable,
    contract: Contract,
    mark: str,
    history: History,
    *,
    mode: Mode | None = None,
    register: Callable[[], Awaitable[None]],
) -> None:
    """Let the table take rows of the contract: it adopts the version first where it has not.

    Parameters
    ----------
    register:
        Puts the version into the registry: before the table names it, and after it was found to be compatible.

    Raises
    ------
    IncompatibleSchemaError
        It may not be adopted; the table is as it was.
    CommitConflictError, CommitUnknownError
        As the table's commit raises them.
    """
    if is_adopted(table.snapshot.metadata.configuration, contract.version, mark):
        return

    async def attempt(snapshot: Snapshot) -> Proposal | None:
        proposal = await adoption(snapshot, contract, mark, history, mode)
        if proposal is not None:
            await register()
        return proposal

    await table.declare(attempt)


def still_adopted(contract: Contract, mark: str) -> Callable[[Snapshot], None]:
    """Return what refuses to write rows of the contract to a version of the table that has not adopted it."""

    def condition(snapshot: Snapshot) -> None:
        if not is_adopted(snapshot.metadata.configuration, contract.version, mark):
            raise CommitConflictError(
                f"table {snapshot.path!r} does not take {contract.data_type} {contract.version} any more: it was "
                "written anew in another version meanwhile",
                key=snapshot.path,
            )

    return condition
