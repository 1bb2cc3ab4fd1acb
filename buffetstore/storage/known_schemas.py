"""The contracts that a storage goes by: those of this program, and those that lie with the data."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from buffetstore.errors import TableNotFoundError, UnknownDataTypeError, UnknownSchemaVersionError
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import SchemaEntry
from buffetstore.schemas.widening import numbers_of
from buffetstore.storage.gate import (
    DEFAULT_MODE,
    Fingerprints,
    admit,
    adopted_versions,
    check_follows,
    first_adoption,
    is_adopted,
)
from buffetstore.storage.reading import Reading, reading_of
from buffetstore.storage.schema_store import Listed, SchemaStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.schemas import Contract, Mode, SchemaManager
    from buffetstore.tables import DeltaTable, Snapshot

FIRST_WRITE = "first write of this version"


class KnownSchemas:
    """Contracts by data type and version, from the program or else from the store; and the way of one into a table.

    Parameters
    ----------
    by:
        In whose name versions are registered.
    """

    def __init__(self, store: ObjectStore, schemas: SchemaManager, by: str) -> None:
        self.schemas = schemas
        self.stored = SchemaStore(store)
        self.by = by
        self._fingerprints = Fingerprints()
        self._entries: dict[tuple[str, str], Contract] = {}
        self._readings: dict[tuple[Any, ...], tuple[Reading, Contract, Contract | None]] = {}

    async def mark(self, contract: Contract) -> str:
        """Return the contract's fingerprint."""
        known = self._fingerprints.known(contract)
        return known if known is not None else await in_thread(self._fingerprints.of, contract)

    async def contract(self, data_type: str, version: str | None = None) -> Contract:
        """Return a contract: of this program, else of the store.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            Neither has it.
        CorruptFileError
            The store's entry was changed since it was registered.
        """
        try:
            return self.schemas.contract(data_type, version)
        except (UnknownDataTypeError, UnknownSchemaVersionError):
            if not await self.load(data_type):
                raise
            return self.schemas.contract(data_type, version)

    async def reader(self, data_type: str, snapshot: Snapshot) -> Contract:
        """Return the contract that the table's rows are read as by default: see `reading`."""
        return (await self.reading(data_type, snapshot)).contract

    async def reading(self, data_type: str, snapshot: Snapshot, version: str | None = None) -> Reading:
        """Return how the table's rows are read, by default as the newest version that all of them can be read as.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            Neither program nor store has one.
        NotFoundError, CorruptFileError
            The table names a version that the store's registry does not hold any more.
        """
        adopted = adopted_versions(snapshot.metadata.configuration)
        known = self._own_versions(data_type)
        missing = [each for each in adopted if each not in known]
        if missing:
            await self.load(data_type, missing)
        projection = None if version is None else await self.contract(data_type, version)
        newest = await self.contract(data_type)
        key = (data_type, version, id(newest), id(projection), *adopted.items())
        found = self._readings.get(key)
        if found is None:
            stored = await self.history(data_type, adopted) if adopted else self.earlier(newest)
            made = await in_thread(reading_of, newest, stored, projection, snapshot.schema)
            # With the contracts that it is known by: another one must not come to their identity. Of those made at one
            # time the first stays, so that all who ask have the same.
            found = self._readings.setdefault(key, (made, newest, projection))
        return found[0]

    def earlier(self, newest: Contract) -> list[Contract]:
        """Return the versions that rows of a table may have that is older than gates."""
        found = (self.schemas.contract(newest.data_type, each) for each in self._own_versions(newest.data_type))
        return [each for each in found if numbers_of(each.version) <= numbers_of(newest.version)]

    async def load(self, data_type: str, versions: Sequence[str] | None = None) -> list[str]:
        """Make versions of the store known that this program has no class for; return those that are new."""
        wanted = (await self.stored.listed(data_type)).versions if versions is None else versions
        known = self._own_versions(data_type)
        missing = [version for version in wanted if version not in known]
        for entry in await self.stored.entries(data_type, missing):
            self.schemas.register_stored(entry.contract, found=True)
        return missing

    async def choose(self, contract: Contract) -> None:
        """Let the program write in the version from now on; it may hold it already, by another class of its demands.

        Raises
        ------
        ConfigurationError
            The program holds the version with other demands.
        """
        model = contract.model
        held = contract.version in self._own_versions(contract.data_type)
        own = self.schemas.contract(contract.data_type, contract.version) if held else None
        if own is not None and own.model is not None and await self.mark(own) == await self.mark(contract):
            return
        if model is None:
            self.schemas.register_stored(contract)
        else:
            self.schemas.register(model)

    def _own_versions(self, data_type: str) -> list[str]:
        try:
            return self.schemas.versions(data_type)
        except UnknownDataTypeError:
            return []

    async def history(self, data_type: str, versions: Mapping[str, str]) -> list[Contract]:
        """Return the contracts that a table has adopted, as it has: those of the store where the program's differ.

        Raises
        ------
        NotFoundError
            A version is known to neither; the message names the object that ought to hold it.
        """
        return await gather([partial(self._adopted, data_type, *each) for each in versions.items()])

    async def _adopted(self, data_type: str, version: str, mark: str) -> Contract:
        if version in self._own_versions(data_type):
            own = self.schemas.contract(data_type, version)
            if await self.mark(own) == mark:
                return own
        held = self._entries.get((data_type, version))
        if held is None:
            held = (await self.stored.read(data_type, version)).contract
            self._entries[data_type, version] = held
        return held

    async def register(self, contract: Contract, *, reason: str = FIRST_WRITE, by: str | None = None) -> SchemaEntry:
        """Put the version into the store's registry if it is not there.

        Raises
        ------
        ConflictError
            It is there with other demands.
        """
        return await self.stored.put(SchemaEntry(contract, by or self.by, datetime.now(UTC), reason))

    async def admit(
        self,
        table: DeltaTable,
        contract: Contract,
        *,
        mode: Mode | None = None,
        reason: str = FIRST_WRITE,
        by: str | None = None,
    ) -> None:
        """Let the table take rows of the contract; see `gate.admit`. It costs nothing where the table does already."""

        async def register() -> None:
            await self.register(contract, reason=reason, by=by)

        await admit(
            table,
            contract,
            await self.mark(contract),
            partial(self.history, contract.data_type),
            mode=mode,
            register=register,
        )

    async def is_adopted(self, table: DeltaTable, contract: Contract) -> bool:
        """Tell whether the table, as far as it is known here, takes rows of the contract."""
        return is_adopted(table.snapshot.metadata.configuration, contract.version, await self.mark(contract))

    async def opened(
        self, open_table: Callable[[], Awaitable[DeltaTable]], data_type: str
    ) -> tuple[DeltaTable | None, Listed]:
        """Return the table, None where there is none, and what the registry holds; asked for side by side."""

        async def found() -> DeltaTable | None:
            try:
                return await open_table()
            except TableNotFoundError:
                return None

        calls: list[Callable[[], Awaitable[Any]]] = [found, partial(self.stored.listed, data_type)]
        table, listed = await gather(calls)
        return table, listed

    async def first_configuration(self, contract: Contract, listed: Listed) -> dict[str, str]:
        """Register the version that a table is made for, and return what the new table says of it.

        Raises
        ------
        IncompatibleSchemaError
            It may not stand beside what is registered.
        ConflictError
            It is registered with other demands.
        """
        own = contract.data_type
        mode = (await self.stored.mode(own, listed.modes)).mode if listed.modes else DEFAULT_MODE
        others = [version for version in listed.versions if version != contract.version]
        if others:
            history = [entry.contract for entry in await self.stored.entries(own, others)]
            check_follows(contract, history, mode)
        await self.register(contract)
        return first_adoption(contract, await self.mark(contract), mode)
