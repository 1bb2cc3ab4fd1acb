"""Writing to one table as its contract demands: replace, keep or append; delete; new columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import columns_of
from buffetstore.query import BoundPlan, DataQuery, QueryOptimizer, bind
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.layout import time_bucket_layout
from buffetstore.storage.revisions import IGNORED, keys_predicate, new_revisions
from buffetstore.tables import DeleteResult
from buffetstore.tables.files import fitted
from buffetstore.tables.operations.upsert import key_range

if TYPE_CHECKING:
    import pyarrow as pa

    from buffetstore.query import QueryExecutor
    from buffetstore.schemas import Contract
    from buffetstore.tables import AddFile, DeltaTable


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the rows of a write, and the files it made."""

    version: int
    inserted: int
    updated: int
    unchanged: int
    files: tuple[AddFile, ...]


class TableWriter:
    """Writes to one table by one contract."""

    def __init__(self, table: DeltaTable, contract: Contract, executor: QueryExecutor) -> None:
        self._table = table
        self._contract = contract
        self._executor = executor

    async def write(self, rows: pa.Table, *, append: bool = False) -> Written:
        """Write rows of the contract; with `append` their keys are known to be new."""
        await self.add_columns(rows.schema)
        layout = time_bucket_layout(self._contract)
        contract, table = self._contract, self._table
        if contract.revisions == "replace" and not append:
            moves = () if contract.event_time in contract.key else (contract.event_time,)
            done = await table.upsert(rows, key=contract.key, ignore=IGNORED, placed_by=moves, layout=layout)
            return Written(done.version, done.inserted, done.updated, done.unchanged, done.files)
        if contract.revisions == "append" or append:
            added = await table.append(rows, layout=layout)
            return Written(added.version, added.rows, 0, 0, added.files)
        rows = await in_thread(fitted, rows, table.schema)
        latest = await self._latest(rows)
        found = await in_thread(new_revisions, rows, latest, contract.key)
        added = await table.append(found.rows, layout=layout)
        return Written(added.version, found.inserted, found.updated, found.unchanged, added.files)

    async def _latest(self, rows: pa.Table) -> pa.Table:
        """Return the latest revision of every key that may be among those of `rows`."""
        snapshot = await self._table.refresh()
        every = bind(QueryOptimizer().optimize(DataQuery(self._contract.data_type)), self._contract, snapshot.schema)
        near = replace(
            every, below=await in_thread(key_range, rows, self._contract.key), columns=tuple(rows.column_names)
        )
        return (await self._executor.retrieve(near, snapshot)).table

    async def add_columns(self, schema: pa.Schema) -> None:
        """Add the columns of `schema` that the table does not have."""
        missing = self._missing(schema)
        if not missing:
            return
        await self._table.refresh()
        if not (missing := self._missing(schema)):
            return
        try:
            await self._table.add_columns(missing)
        except InvalidInputError:
            await self._table.refresh()
            if self._missing(schema):
                raise  # nobody else added them

    def _missing(self, schema: pa.Schema) -> list[pa.Field]:
        return [field for field in schema if field.name not in self._table.schema.names]

    async def delete(self, bound: BoundPlan) -> DeleteResult:
        """Delete the rows that the plan finds; of a type that keeps revisions, all revisions of their keys."""
        predicate = bound.predicate
        if bound.merge and not columns_of(predicate) <= set(bound.key):
            found = replace(bound, columns=bound.key)
            keys = (await self._executor.retrieve(found, self._table.snapshot)).table
            if not keys.num_rows:
                return DeleteResult(self._table.version, 0)
            predicate = await in_thread(keys_predicate, keys)
        return await self._table.delete(predicate)
