"""Writing to a table: appends share commits, everything else is planned, committed, and planned anew on conflict."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import pyarrow as pa

from buffetstore.errors import CommitConflictError, InvalidInputError, UnsupportedOperationError
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.checkpointer import Checkpointer
from buffetstore.tables.commit import Committed
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.constraints import checks_of
from buffetstore.tables.features import check_writable, is_append_only
from buffetstore.tables.files import Layout, default_layout, fitted
from buffetstore.tables.group import GroupCommit
from buffetstore.tables.idempotency import IdempotencyKey, already_done, sent_again_by, transactions
from buffetstore.tables.operations.modify import delete_rows, overwrite_rows
from buffetstore.tables.operations.upserting import MEMORY_BYTES, upsert_rows
from buffetstore.tables.operations.write import Writer, admitted, written
from buffetstore.tables.results import CommitResult, DeleteResult, RestoreResult, UpsertResult
from buffetstore.tables.schema import schema_to_json
from buffetstore.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import timedelta

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.tables.actions import Txn
    from buffetstore.tables.checkpoint_writer import WrittenCheckpoint
    from buffetstore.tables.head import Head
    from buffetstore.tables.snapshot import Snapshot

# How often a change is planned anew because others came first.
MAX_PLANS = 16
_AT_ONCE = 256 * 1024  # bytes of rows: looking at their types is less than it costs to ask a thread

Condition: TypeAlias = "Callable[[Snapshot], None]"

R = TypeVar("R", CommitResult, UpsertResult, DeleteResult, RestoreResult)


class WritableTable(TableView):
    """A table whose newest version is known, and that writes to it."""

    def __init__(self, head: Head, formatter: ParquetFormatter, *, pinned: bool) -> None:
        super().__init__(head.committer.store, head.snapshot, formatter)
        self._head = head
        self._writer = Writer(head.committer.store, formatter)
        self._group = GroupCommit(head)
        self._checkpointer = Checkpointer(head.committer, head.learn)
        head.after_commit = self._checkpointer.note
        self._pinned = pinned

    @property
    def snapshot(self) -> Snapshot:
        """The version that is read; it changes with `refresh` and with every write through this object."""
        return self._head.snapshot

    def is_known_since(self, max_age: timedelta) -> bool:
        """Tell whether `snapshot` was the newest version at most so long ago."""
        return self._head.is_known_since(max_age)

    def is_known_after(self, moment: float) -> bool:
        """Tell whether `snapshot` was the newest version at this Unix time or later."""
        return self._head.is_known_after(moment)

    async def refresh(self, max_age: timedelta | None = None) -> Snapshot:
        """Come to the latest version: one request where there is none newer, shared by all who ask at one time.

        Parameters
        ----------
        max_age:
            What was the latest at most so long ago will do: nothing is asked then.
        """
        if self._pinned or (max_age is not None and self.is_known_since(max_age)):
            return self.snapshot
        refreshes = self._head.refreshes
        async with self._head.lock:
            return await self._head.refresh_since(refreshes)

    async def append(
        self,
        table: pa.Table,
        *,
        layout: Layout | None = None,
        user_metadata: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
        txn: Txn | tuple[Txn, ...] | None = None,
        condition: Condition | None = None,
    ) -> CommitResult:
        """Add rows. Two dependent requests where nobody else is writing: the data files, then the commit.

        Appends that wait while another is being committed are committed together, each with an outcome of its own.

        Parameters
        ----------
        layout:
            Rows to data files; by default one file, or one for each value of the partition columns.
        idempotency_key:
            Names this write, so that it can be sent again: see `buffetstore.tables.idempotency.transactions`.
        txn:
            Names the application and its progress, as other engines do: a second write with the same or a lower version
            does nothing. Several, as `transactions` makes them, are one name: the first decides.
        condition:
            Asked of each version of the table that a write is planned on; it raises where the rows do not belong there.

        Raises
        ------
        InvalidInputError
            The rows do not fit the schema; the columns are named.
        IdempotencyKeyReusedError
            Other rows were written under the key.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable()
        seen = self.snapshot
        if condition is not None:
            condition(seen)
        rows = await _fitted(table, seen.schema)
        txns = await self._txns(idempotency_key, txn, rows)
        done_before = already_done(seen.txns, txns)
        if done_before or (not rows.num_rows and not txns):
            return CommitResult(seen.version, (), 0, done_before)
        if checks_of(seen.protocol, seen.metadata):
            await in_thread(admitted, rows, seen)
        adds = await self._writer.write(seen, rows, layout or self._layout())
        proposal = Proposal("WRITE", adds, txns=txns, user_metadata=user_metadata, metrics=written(adds, rows.num_rows))
        with sent_again_by(txns):
            committed = await self._group.commit(proposal, seen)
        if committed.done_before:
            return CommitResult(committed.snapshot.version, (), 0, done_before=True)
        return CommitResult(committed.snapshot.version, adds, rows.num_rows)

    async def upsert(
        self,
        table: pa.Table,
        *,
        key: Sequence[str],
        ignore: Sequence[str] = ("created_at", "version"),
        placed_by: Sequence[str] = (),
        layout: Layout | None = None,
        user_metadata: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
        txn: Txn | tuple[Txn, ...] | None = None,
        condition: Condition | None = None,
        bytes_in_flight: int = MEMORY_BYTES,
    ) -> UpsertResult:
        """Make the table hold each row under its key: replace the row that is there, or insert it.

        Only files whose key ranges overlap are read, only those with changed rows are rewritten. A row that differs
        in nothing but `ignore` is left as it is; where that holds for all, nothing is committed.

        Parameters
        ----------
        key:
            The columns that identify a row; nulls equal nulls.
        placed_by:
            Columns that decide in which file a row belongs, besides partition columns: a row whose value in one of
            them changes is moved to a new file.
        bytes_in_flight:
            Arrow bytes of stored rows that are held at a time, beside the new rows, whatever the table's size; one
            file's at least. With what is written in their place, and to compare, memory peaks at some three times that.

        Raises
        ------
        InvalidInputError
            The rows do not fit the schema, or two of them have the same key.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable(removes=True)
        rows = await _fitted(table, self.schema)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, UpsertResult]:
            if condition is not None:
                condition(snapshot)
            places = (*placed_by, *snapshot.partition_columns)
            new = await in_thread(admitted, rows, snapshot)
            lay_out = layout or self._layout()
            return await upsert_rows(
                self._writer,
                snapshot,
                new,
                key=key,
                ignore=ignore,
                placed_by=places,
                layout=lay_out,
                bytes_in_flight=bytes_in_flight,
            )

        txns = await self._txns(idempotency_key, txn, rows)
        return await self._modify(attempt, user_metadata, txns, UpsertResult(self.version, 0, 0, 0, done_before=True))

    async def delete(
        self,
        predicate: Expression,
        *,
        user_metadata: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
        txn: Txn | tuple[Txn, ...] | None = None,
    ) -> DeleteResult:
        """Delete the stored rows for which the predicate is true.

        Files that hold none are not touched; files that hold nothing else are removed without being rewritten.

        Raises
        ------
        InvalidQueryError
            A column is not in the table.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable(removes=True)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, DeleteResult]:
            return await delete_rows(self._writer, snapshot, predicate)

        txns = await self._txns(idempotency_key, txn, pa.table({"predicate": [repr(predicate)]}))
        return await self._modify(attempt, user_metadata, txns, DeleteResult(self.version, 0, done_before=True))

    async def overwrite(
        self,
        table: pa.Table,
        *,
        predicate: Expression | None = None,
        layout: Layout | None = None,
        user_metadata: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
        txn: Txn | tuple[Txn, ...] | None = None,
        condition: Condition | None = None,
    ) -> CommitResult:
        """Replace all rows, or those for which the predicate is true, by these, in one commit.

        Raises
        ------
        InvalidInputError
            The rows do not fit the schema, or the predicate is not true for one of them.
        InvalidQueryError
            A column of the predicate is not in the table.
        IdempotencyKeyReusedError, CommitConflictError, CommitUnknownError
        """
        self._check_writable(removes=True)
        rows = await _fitted(table, self.schema)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, CommitResult]:
            if condition is not None:
                condition(snapshot)
            new = await in_thread(admitted, rows, snapshot)
            return await overwrite_rows(self._writer, snapshot, new, layout or self._layout(), predicate)

        txns = await self._txns(idempotency_key, txn, rows)
        return await self._modify(attempt, user_metadata, txns, CommitResult(self.version, (), 0, done_before=True))

    async def add_columns(self, fields: Sequence[pa.Field]) -> int:
        """Add nullable columns; stored rows have null in them. Return the new version.

        Raises
        ------
        InvalidInputError
            A column is there already, or is not nullable.
        """
        self._check_writable()
        async with self._head.lock:
            snapshot = await self._head.refresh()
            for field in fields:
                if field.name in snapshot.schema.names or not field.nullable:
                    fault = "is there already" if field.nullable else "is not nullable, and stored rows have no value"
                    raise InvalidInputError(f"column {field.name!r} cannot be added to {self.path!r}: it {fault}")
            schema = pa.schema([*snapshot.schema, *fields])
            metadata = replace(snapshot.metadata, schema_string=schema_to_json(schema))
            check_writable(snapshot.protocol, metadata, schema, self.path)
            committed = await self._head.commit(snapshot, Proposal("ADD COLUMNS", metadata=metadata))
            return committed.snapshot.version

    async def checkpoint(self) -> WrittenCheckpoint | None:
        """Write the checkpoint of the newest version now, and clean the log; None where it is there already.

        Checkpoints are written in the background as commits are made (`delta.checkpointInterval`, or 16 MiB of log).
        """
        self._check_writable()
        return await self._checkpointer.checkpoint(Committed(await self.refresh()))

    def _layout(self) -> Layout:
        return default_layout(self.snapshot.partition_columns)

    def _check_writable(self, *, removes: bool = False) -> None:
        snapshot = self.snapshot
        if self._pinned:
            raise UnsupportedOperationError(
                f"table {self.path!r} was opened at version {snapshot.version}, for reading; open it without a version "
                "to write",
                key=self.path,
            )
        check_writable(snapshot.protocol, snapshot.metadata, snapshot.schema, self.path)
        if removes and is_append_only(snapshot.metadata):
            raise UnsupportedOperationError(
                f"table {self.path!r} is append-only (delta.appendOnly): rows cannot be changed or deleted",
                key=self.path,
            )

    async def _txns(
        self, key: IdempotencyKey | None, txn: Txn | tuple[Txn, ...] | None, rows: pa.Table
    ) -> tuple[Txn, ...]:
        if key is None:
            return txn if isinstance(txn, tuple) else () if txn is None else (txn,)
        if txn is not None:
            raise InvalidInputError(f"idempotency_key {key!r} and txn {txn!r} were given: one of them is enough")
        return await in_thread(transactions, key, rows, self._head.committer.now())

    async def _modify(
        self,
        attempt: Callable[[Snapshot], Awaitable[tuple[Proposal | None, R]]],
        user_metadata: str | None,
        txns: tuple[Txn, ...],
        repeated: R,
    ) -> R:
        """Plan and commit; plan again on the new snapshot when another commit changed what the plan relied on."""
        head = self._head
        async with head.lock:
            for _ in range(MAX_PLANS):
                snapshot = await head.current()
                self._check_writable(removes=True)
                if already_done(snapshot.txns, txns):
                    return replace(repeated, version=snapshot.version)
                proposal, result = await attempt(snapshot)
                if proposal is None:
                    # That nothing changes must hold for the table as it is now.
                    if (await head.refresh()).version != snapshot.version:
                        continue
                    if not txns:
                        return result
                    proposal = Proposal("WRITE")  # of the key alone, which is to be known from now on
                proposal = replace(proposal, user_metadata=user_metadata, txns=txns)
                try:
                    with sent_again_by(txns):
                        committed = await head.commit(snapshot, proposal)
                except CommitConflictError:
                    await head.refresh()
                    continue
                found = repeated if committed.done_before else result
                return replace(found, version=committed.snapshot.version)
        raise CommitConflictError(
            f"table {self.path!r} was changed by others during each of {MAX_PLANS} plans; try again when fewer write",
            key=self.path,
        )


async def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return fitted(table, schema) if table.nbytes <= _AT_ONCE else await in_thread(fitted, table, schema)
