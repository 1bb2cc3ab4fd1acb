"""The quarantine of one data type: its stored rows, and changes to them that see what they change."""

# ruff: noqa: D102 - the protocol's docstrings are those of the storage

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from buffetstore.errors import ConfigurationError, ConflictError, InvalidInputError, TableNotFoundError
from buffetstore.query import DataQuery
from buffetstore.query.ordering import sort_rows
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.quarantined import OPEN, SUFFIX, Quarantined, quarantine_of
from buffetstore.storage.layout import time_bucket_layout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from buffetstore.query import QueryAnswer
    from buffetstore.schemas import Contract, SchemaManager, ValidationResult
    from buffetstore.storage.base import DeleteResult, StoreResult
    from buffetstore.tables import DeltaTable, Snapshot

MAX_ATTEMPTS = 16


class Lake(Protocol):
    """What is asked of the storage that the quarantine is in."""

    schemas: SchemaManager

    async def contract(self, data_type: str, version: str | None = None) -> Contract: ...
    async def table_for(self, contract: Contract) -> DeltaTable: ...
    async def table(self, data_type: str) -> DeltaTable: ...
    async def list_data_types(self) -> list[str]: ...
    async def retrieve_data(self, query: DataQuery) -> QueryAnswer: ...
    async def store_data(self, data_type: str, data: Any, **options: Any) -> StoreResult: ...
    async def validate(
        self, data: Any, data_type: str, version: str | None = None, **options: Any
    ) -> ValidationResult: ...
    async def delete_data(self, data_type: str, *, filters: Mapping[str, Any] | None = None) -> DeleteResult: ...


class Chosen(NamedTuple):
    """Rows of a quarantine, and the table's version in which they are so; -1 where there is no table."""

    rows: pa.Table
    version: int


class MovedError(ConflictError):
    """The quarantine was changed between reading and writing; nothing was written."""


class QuarantineTable:
    """The quarantine of one data type."""

    def __init__(self, lake: Lake, contract: Contract) -> None:
        self.lake = lake
        self.contract = contract
        self.name = contract.data_type
        self.base = contract.data_type.removesuffix(SUFFIX)

    @classmethod
    async def of(cls, lake: Lake, data_type: str) -> QuarantineTable:
        """Return the quarantine of a data type, which may be named by either name.

        Raises
        ------
        UnknownDataTypeError
            There is no such data type.
        ConfigurationError
            The quarantine's name is that of a data type of its own.
        """
        given = await lake.contract(data_type)
        if is_quarantine(given):
            return cls(lake, given)
        contract = await lake.contract(quarantine_of(data_type))
        if not is_quarantine(contract):
            raise ConfigurationError(
                f"refused rows of {data_type} would be {contract.data_type}, which is a data type of its own: give it "
                "another name, or use on_invalid='raise'"
            )
        return cls(lake, contract)

    async def add(self, rows: pa.Table, user_metadata: str) -> None:
        """Add the rows that are not there yet."""
        table = await self.lake.table_for(self.contract)
        await _add_columns(table, rows.schema)
        known = [name for name in rows.column_names if name not in self.contract.key]
        await self._upsert(rows, ignore=known, user_metadata=user_metadata)

    async def rows(
        self, filters: Mapping[str, Any], *, columns: Sequence[str] | None = None, limit: int | None = None
    ) -> Chosen:
        """Return the rows that filters find, in the order in which they were given."""
        query = DataQuery(self.name, filters, columns=columns, limit=limit)
        try:
            answer = await self.lake.retrieve_data(query)
        except TableNotFoundError:
            return Chosen(self.contract.schema.empty_table().select(columns or self.contract.schema.names), -1)
        order = [name for name in ("quarantined_at", "record_index") if name in answer.table.column_names]
        return Chosen(await in_thread(sort_rows, answer.table, order), answer.table_version)

    async def change(self, chosen: Chosen, **values: Any) -> None:
        """Give columns of these rows another value.

        Raises
        ------
        MovedError
            The table has another version by now than the one that they were read in.
        """
        rows = await in_thread(_with, chosen.rows, values)

        def unchanged(snapshot: Snapshot) -> None:
            if snapshot.version != chosen.version:
                raise MovedError(
                    f"{self.name} was changed by others ({chosen.version} -> {snapshot.version}); nothing was changed, "
                    "try again",
                    key=self.name,
                )

        await self._upsert(rows, ignore=(), condition=unchanged)

    async def change_where(
        self, filters: Mapping[str, Any], *, first: Callable[[pa.Table], Awaitable[bool]] | None = None, **values: Any
    ) -> pa.Table:
        """Give columns of the rows that filters find another value, and return the rows as they were.

        Parameters
        ----------
        first:
            Looks at the rows before they are changed; True asks to find them anew.
        """
        for attempt in range(MAX_ATTEMPTS):
            chosen = await self.rows(filters)
            if not chosen.rows.num_rows or (first is not None and await first(chosen.rows)):
                if not chosen.rows.num_rows:
                    return chosen.rows
                continue
            try:
                await self.change(chosen, **values)
            except MovedError:
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                continue
            return chosen.rows
        raise MovedError(f"{self.name} is being changed by others; try again when fewer do", key=self.name)

    async def _upsert(self, rows: pa.Table, **options: Any) -> None:
        table = await self.lake.table(self.name)
        await table.upsert(rows, key=self.contract.key, layout=time_bucket_layout(self.contract), **options)


def is_quarantine(contract: Contract) -> bool:
    """Tell whether the contract is one of refused rows, also where it was loaded from a store."""
    return contract.category == Quarantined.contract_facts["category"] and contract.data_type.endswith(SUFFIX)


def selection(ids: Sequence[str] | None, filters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the filters that find the open rows which a call speaks of.

    Raises
    ------
    InvalidInputError
        It does not say which.
    """
    if ids is None and filters is None:
        raise InvalidInputError("which rows? Give ids or filters; filters={} is all that are open")
    if isinstance(ids, str):
        raise InvalidInputError(f"ids={ids!r} is one text: give a list of ids, [{ids!r}]")
    chosen = {"status": OPEN, **(filters or {})}
    if chosen["status"] != OPEN:
        raise InvalidInputError(f"status={chosen['status']!r}: only open rows can be replayed or discarded")
    return chosen if ids is None else {**chosen, "quarantine_id": list(ids)}


async def _add_columns(table: DeltaTable, schema: pa.Schema) -> None:
    """Add the columns that the table does not have: a later version of the data type may have another key."""

    def missing() -> list[pa.Field]:
        return [field for field in schema if field.name not in table.schema.names]

    if missing():
        await table.refresh()
    if absent := missing():
        try:
            await table.add_columns(absent)
        except InvalidInputError:
            await table.refresh()
            if missing():
                raise  # nobody else added them


def _with(rows: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    for name, value in values.items():
        at = rows.schema.get_field_index(name)
        kind = rows.schema.field(at)
        rows = rows.set_column(at, kind, pa.repeat(pa.scalar(value, kind.type), rows.num_rows))
    return rows
