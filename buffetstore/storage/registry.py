"""The versions of every data type, stored with the data: who registered what, when and why, and what may come next."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from buffetstore.errors import ConflictError, TableNotFoundError, UnknownDataTypeError
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.compatibility import check, mode_of
from buffetstore.schemas.evolving import check_states, contract_from
from buffetstore.schemas.widening import numbers_of
from buffetstore.storage.gate import (
    COMPATIBILITY,
    DEFAULT_MODE,
    adopted_versions,
    check_follows,
    check_same,
    mode_in,
)
from buffetstore.storage.migrating import migrated
from buffetstore.storage.schema_store import ModeChange
from buffetstore.tables.declaring import declaration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.base import ObjectStore
    from buffetstore.schemas import CompatibilityReport, Contract, Mode, SchemaEntry
    from buffetstore.schemas.evolving import Schema
    from buffetstore.storage.known_schemas import KnownSchemas
    from buffetstore.storage.migration import MigrationResult
    from buffetstore.tables import DeltaTable, Snapshot
    from buffetstore.tables.conflicts import Proposal


class SchemaHome(Protocol):
    """What a registry needs of the storage that it is of."""

    known: KnownSchemas

    @property
    def store(self) -> ObjectStore:
        """Where the tables are."""

    async def table(self, data_type: str) -> DeltaTable:
        """Return the table of a data type."""


class StoredSchemas:
    """The registry that lies with the data: ``storage.registry``.

    A version is registered once and never changes. The first write of a version registers it by itself; to `register`
    or `evolve` is to do so beforehand, by name and with a reason. What may follow what is the data type's compatibility
    mode, and is judged in the table's own commit.

    Parameters
    ----------
    reach:
        Gives the started storage.
    """

    def __init__(self, reach: Callable[[], Awaitable[SchemaHome]]) -> None:
        self._reach = reach

    async def data_types(self) -> list[str]:
        """Return the names of the data types that have versions in this store, sorted."""
        return await (await self._reach()).known.stored.data_types()

    async def entries(self, data_type: str) -> list[SchemaEntry]:
        """Return the versions of a data type that this store holds, oldest first: who registered each, when and why.

        Raises
        ------
        CorruptFileError
            An entry was changed since it was registered; the message names it.
        """
        return await (await self._reach()).known.stored.entries(data_type)

    async def load(self, data_type: str) -> list[str]:
        """Make versions known to the `SchemaManager` that this program has no class for; return those that are new.

        Reading does so by itself. Rows are written in such a version only where it is asked for by ``version=``, or
        where the program has none of its own.

        Raises
        ------
        ConfigurationError
            The program has another contract under that data type and version.
        CorruptFileError
            As `entries`.
        """
        return await (await self._reach()).known.load(data_type)

    async def register(self, schema: Schema, *, reason: str = "", by: str | None = None) -> SchemaEntry:
        """Register a version, and let the data type's table take its rows, if there is one already.

        Registered again with the same demands it is the entry that is there.

        Parameters
        ----------
        schema:
            A record class, a `Contract`, or a contract's document.
        by:
            Who does it; by default the storage's own ``user@host``.

        Raises
        ------
        IncompatibleSchemaError
            It may not stand beside the versions that are there; `reasons` lists why. Nothing was changed.
        ConflictError
            The version is registered with other demands; the message says by whom and when, and what differs.
        InvalidInputError, CorruptFileError
            It is no schema; the document is no contract.
        """
        lake = await self._reach()
        contract = await in_thread(contract_from, schema)
        table = await self._table(lake, contract.data_type)
        if table is not None:
            await lake.known.admit(table, contract, reason=reason, by=by)
        else:
            mode = await self._stored_mode(lake, contract.data_type)
            held = await lake.known.stored.entries(contract.data_type)
            others = [entry.contract for entry in held if entry.contract.version != contract.version]
            await in_thread(check_follows, contract, others, mode)
        entry = await lake.known.register(contract, reason=reason, by=by)
        await lake.known.choose(contract)
        return entry

    async def evolve(
        self,
        *,
        data_type: str,
        current_version: str,
        new_schema: Schema,
        new_version: str,
        reason: str = "",
        by: str | None = None,
    ) -> SchemaEntry:
        """Register the next version of a data type: `SchemaManager.evolve_schema`, kept with the data.

        Parameters
        ----------
        current_version:
            The newest version of this store, which the new one was made from.

        Raises
        ------
        ConflictError
            There is a newer version by now, or the new one is registered with other demands.
        IncompatibleSchemaError
            As `register`.
        InvalidInputError
            The schema states another data type or version.
        UnknownDataTypeError
            Nothing of the data type is stored.
        """
        lake = await self._reach()
        contract = await in_thread(contract_from, new_schema)
        check_states(contract, data_type, new_version)
        newest = (await self._history(lake, data_type))[-1]
        if numbers_of(newest.version) > numbers_of(current_version.removeprefix("v")) and newest.version != (
            contract.version
        ):
            raise ConflictError(
                f"{data_type} is at {newest.version} by now, not at {current_version}: compare with it, and evolve "
                "from there",
                key=data_type,
            )
        return await self.register(contract, reason=reason, by=by)

    async def check(self, schema: Schema, mode: Mode | str | None = None) -> CompatibilityReport:
        """Return whether a schema may follow the versions of this store, and what stands against it; writes nothing.

        Parameters
        ----------
        mode:
            What is asked; None is the data type's own mode.

        Raises
        ------
        IncompatibleSchemaError
            Its version is there already and demands something else.
        InvalidInputError, CorruptFileError
            There is no such mode; it is no schema.
        """
        lake = await self._reach()
        contract = await in_thread(contract_from, schema)
        wanted = await self.mode(contract.data_type) if mode is None else mode_of(mode)
        try:
            history = await self._history(lake, contract.data_type)
        except UnknownDataTypeError:
            history = []
        same = next((each for each in history if each.version == contract.version), None)
        if same is not None:
            check_same(contract, await lake.known.mark(contract), same, await lake.known.mark(same))
        before = [each for each in history if numbers_of(each.version) < numbers_of(contract.version)]
        others = before if same is not None else history
        return await in_thread(check, others, contract, wanted)

    async def migrate(
        self,
        data_type: str,
        to_version: str,
        *,
        reason: str = "",
        by: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MigrationResult:
        """Write a table anew in one version of its contract, in one commit that others may write beside.

        It is the way where rows of both versions cannot lie in one table (a column of another type, another key), and
        makes real for every engine what reads as the newest version here: renamed columns, defaults, up-casts. Run
        again after it broke off, it goes on where it was. Earlier table versions stay until they are vacuumed.

        Parameters
        ----------
        to_version:
            A version that is not older than any that the table has.
        progress:
            Told how many data files are done, of how many.

        Raises
        ------
        IncompatibleSchemaError
            The compatibility mode forbids the version: `set_mode` changes what is asked.
        UnsupportedOperationError, InvalidInputError
            Stored rows cannot be read as that version; the message names the column.
        CorruptFileError
            What was written is not what was read; the table is as it was.
        UnknownDataTypeError, UnknownSchemaVersionError, TableNotFoundError, CommitConflictError, CommitUnknownError
        """
        lake = await self._reach()
        contract = await lake.known.contract(data_type, to_version)
        return await migrated(
            lake.known, await lake.table(data_type), contract, reason=reason, by=by, progress=progress
        )

    async def mode(self, data_type: str) -> Mode:
        """Return what the next version of a data type is held to."""
        lake = await self._reach()
        table = await self._table(lake, data_type)
        if table is None:
            return await self._stored_mode(lake, data_type)
        return mode_in((await table.refresh()).metadata.configuration)

    async def modes(self, data_type: str) -> list[ModeChange]:
        """Return who set the mode of a data type, to what, when and why, oldest first."""
        return await (await self._reach()).known.stored.modes(data_type)

    async def set_mode(self, data_type: str, mode: Mode | str, *, reason: str = "", by: str | None = None) -> None:
        """Set what the next versions of a data type are held to; those that are there stay.

        Where there is a table it says so itself from now on; else the first write takes it.

        Raises
        ------
        InvalidInputError
            There is no such mode.
        CommitConflictError, CommitUnknownError
            As the table's commit raises them.
        """
        lake = await self._reach()
        change = ModeChange(mode_of(mode), by or lake.known.by, datetime.now(UTC), reason)
        table = await self._table(lake, data_type)
        if table is not None:
            await table.declare(_setting(change))
        await lake.known.stored.put_mode(data_type, change)
        # One that was made meanwhile may have been made without looking.
        if table is None and (table := await self._table(lake, data_type)) is not None:
            await table.declare(_setting(change))

    async def _history(self, lake: SchemaHome, data_type: str) -> list[Contract]:
        """Return the versions that a next one has to follow, oldest first: the table's, else the registered ones."""
        table = await self._table(lake, data_type)
        adopted = {} if table is None else adopted_versions((await table.refresh()).metadata.configuration)
        if adopted:
            found = await lake.known.history(data_type, adopted)
        else:
            found = [entry.contract for entry in await lake.known.stored.entries(data_type)]
        if not found:
            raise UnknownDataTypeError(f"nothing of {data_type!r} is registered in {lake.store.url}: register it first")
        return sorted(found, key=lambda contract: numbers_of(contract.version))

    @staticmethod
    async def _table(lake: SchemaHome, data_type: str) -> DeltaTable | None:
        try:
            return await lake.table(data_type)
        except (TableNotFoundError, UnknownDataTypeError):
            return None

    @staticmethod
    async def _stored_mode(lake: SchemaHome, data_type: str) -> Mode:
        number = (await lake.known.stored.listed(data_type)).modes
        return (await lake.known.stored.mode(data_type, number)).mode if number else DEFAULT_MODE


def _setting(change: ModeChange) -> Callable[[Snapshot], Awaitable[Proposal | None]]:
    told = json.dumps({"compatibility": change.mode, "setBy": change.set_by, "reason": change.reason})

    async def attempt(snapshot: Snapshot) -> Proposal | None:
        held = snapshot.metadata.configuration
        if held.get(COMPATIBILITY) == change.mode:
            return None
        metadata = replace(snapshot.metadata, configuration={**held, COMPATIBILITY: change.mode.value})
        return declaration("SET TBLPROPERTIES", snapshot, metadata, user_metadata=told)

    return attempt
