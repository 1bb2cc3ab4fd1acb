"""Writing to one table as its contract demands: replace, keep or append; delete."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import CommitConflictError, InvalidInputError
from buffetstore.expressions import columns_of
from buffetstore.query import BoundPlan, DataQuery, QueryOptimizer, bind
from buffetstore.query.rules import NEVER
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.gate import still_adopted
from buffetstore.storage.layout import time_bucket_layout
from buffetstore.storage.revisions import IGNORED, keys_predicate, new_revisions
from buffetstore.tables import DeleteResult
from buffetstore.tables.files import fitted
from buffetstore.tables.idempotency import transactions
from buffetstore.tables.operations.upsert import check_key, key_range

if TYPE_CHECKING:
    from buffetstore.expressions import Expression
    from buffetstore.query import QueryExecutor
    from buffetstore.schemas import Contract
    from buffetstore.storage.base import WriteMode
    from buffetstore.storage.known_schemas import KnownSchemas
    from buffetstore.tables import AddFile, DeltaTable, Txn
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.results import CommitResult

MAX_PLANS = 8
MODES = ("upsert", "append", "overwrite")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the rows of a write, and the files it made."""

    version: int
    inserted: int
    updated: int
    unchanged: int
    files: tuple[AddFile, ...]
    done_before: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """How rows are written.

    Parameters
    ----------
    mode:
        None is as the contract's `revisions` say.
    txns:
        What makes the write known, so that it lands once.
    user_metadata:
        What the commit says of the rows.
    replace_where:
        The stored rows that an overwrite replaces; None is all.
    """

    mode: WriteMode | None = None
    txns: tuple[Txn, ...] = ()
    user_metadata: str | None = None
    replace_where: Expression | None = None


def check_mode(mode: Any) -> None:
    """Raise `InvalidInputError` for a mode that there is not."""
    if mode is not None and mode not in MODES:
        raise InvalidInputError(
            f"mode={mode!r} is none of {', '.join(map(repr, MODES))}, nor None, which does as the contract says"
        )


async def named(key: IdempotencyKey | None, rows: pa.Table, contract: Contract) -> tuple[Txn, ...]:
    """Return what makes a write of `rows` known by its key.

    What the store stamps on rows is left out: it differs when the same rows are sent again.
    """
    if key is None:
        return ()
    stamped = {*IGNORED, *(("available_at",) if contract.availability == "observed" else ())}
    given = rows.select([name for name in rows.column_names if name not in stamped])
    return await in_thread(transactions, key, given, time.time_ns() // 1_000_000)


class TableWriter:
    """Writes to one table by one contract."""

    def __init__(self, table: DeltaTable, contract: Contract, executor: QueryExecutor, known: KnownSchemas) -> None:
        self._table = table
        self._contract = contract
        self._executor = executor
        self._known = known

    async def write(self, rows: pa.Table, terms: Terms) -> Written:
        """Write rows of the contract, which the table adopts first where it has not.

        Raises
        ------
        IncompatibleSchemaError
            The table cannot take them; nothing was written.
        """
        for plan in count(1):
            await self._known.admit(self._table, self._contract)
            seen = self._table.metadata
            try:
                return await self._write(rows, terms)
            except CommitConflictError:
                # What the table says of itself was changed meanwhile: whether it takes the rows is judged again.
                if plan == MAX_PLANS or (await self._table.refresh()).metadata == seen:
                    raise
        raise AssertionError("the loop ends by an answer or an error")

    async def _write(self, rows: pa.Table, terms: Terms) -> Written:
        contract, table = self._contract, self._table
        how: dict[str, Any] = {
            "condition": still_adopted(contract, await self._known.mark(contract)),
            "layout": time_bucket_layout(contract),
            "user_metadata": terms.user_metadata,
            "txn": terms.txns or None,
        }
        if terms.mode == "overwrite":
            if contract.revisions == "replace":
                await in_thread(check_key, rows, contract.key)
            done = await table.overwrite(rows, predicate=terms.replace_where, **how)
            return _added(done, rows, done.rows)
        if terms.mode == "upsert" or (terms.mode is None and contract.revisions == "replace"):
            moves = () if contract.event_time in contract.key else (contract.event_time,)
            put = await table.upsert(rows, key=contract.key, ignore=IGNORED, placed_by=moves, **how)
            if put.done_before:
                return Written(put.version, 0, 0, rows.num_rows, (), done_before=True)
            return Written(put.version, put.inserted, put.updated, put.unchanged, put.files)
        if terms.mode == "append" or contract.revisions == "append":
            done = await table.append(rows, **how)
            return _added(done, rows, done.rows)
        rows = await in_thread(fitted, rows, table.schema)
        latest = await self._latest(rows)
        found = await in_thread(new_revisions, rows, latest, contract.key)
        done = await table.append(found.rows, **how)
        return _added(done, rows, found.inserted, found.updated, found.unchanged)

    async def _latest(self, rows: pa.Table) -> pa.Table:
        """Return the latest revision of every key that may be among those of `rows`."""
        snapshot = await self._table.refresh()
        every = bind(QueryOptimizer().optimize(DataQuery(self._contract.data_type)), self._contract, snapshot.schema)
        near = replace(
            every, below=await in_thread(key_range, rows, self._contract.key), columns=tuple(rows.column_names)
        )
        return (await self._executor.retrieve(near, snapshot)).table

    async def delete(self, bound: BoundPlan, key: IdempotencyKey | None = None) -> DeleteResult:
        """Delete the rows that the plan finds; of a type that keeps revisions, all revisions of their keys."""
        predicate = bound.predicate
        txns = await self._delete_named(key, predicate)
        if bound.conversion is not None and not bound.merge:
            predicate = bound.conversion.exactly_on_stored(predicate, bound.stored)
        if bound.merge and not columns_of(predicate) <= set(bound.key):
            found = replace(bound, columns=bound.key)
            keys = (await self._executor.retrieve(found, self._table.snapshot)).table
            if not keys.num_rows and not txns:
                return DeleteResult(self._table.version, 0)
            predicate = await in_thread(keys_predicate, keys) if keys.num_rows else NEVER
        return await self._table.delete(predicate, txn=txns or None)

    async def _delete_named(self, key: IdempotencyKey | None, predicate: Expression) -> tuple[Txn, ...]:
        """Return what makes the call known: what it asks for, not what it finds, which is less when sent again."""
        if key is None:
            return ()
        asked = pa.table({"predicate": [repr(predicate)]})
        return await in_thread(transactions, key, asked, time.time_ns() // 1_000_000)


def _added(done: CommitResult, rows: pa.Table, inserted: int, updated: int = 0, unchanged: int = 0) -> Written:
    if done.done_before:
        return Written(done.version, 0, 0, rows.num_rows, (), done_before=True)
    return Written(done.version, inserted, updated, unchanged, done.files)
