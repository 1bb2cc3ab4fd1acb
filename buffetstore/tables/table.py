"""A Delta table: created, opened at a version, appended to, upserted, deleted from and read."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar

import pyarrow as pa

from buffetstore.errors import CommitConflictError, InvalidInputError, UnsupportedOperationError
from buffetstore.formats.parquet import ParquetFormatter
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import Metadata, Protocol, Txn
from buffetstore.tables.commit import Committed, Committer
from buffetstore.tables.conflicts import Proposal, has_done
from buffetstore.tables.features import check_writable, is_append_only
from buffetstore.tables.files import Layout, default_layout, fitted
from buffetstore.tables.load import load, newer_entries
from buffetstore.tables.operations.modify import delete_rows, overwrite_rows, upsert_rows
from buffetstore.tables.operations.write import Writer
from buffetstore.tables.results import CommitResult, DeleteResult, UpsertResult
from buffetstore.tables.schema import canonical_schema, schema_to_json
from buffetstore.tables.snapshot import Snapshot, advance, replay
from buffetstore.tables.view import TableView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from buffetstore.expressions import Expression
    from buffetstore.objects.base import ObjectStore

# Entries can be cleaned up by others while a process sleeps: an older snapshot is not trusted to be followed by N + 1.
MAX_SNAPSHOT_AGE_SECONDS = 3600.0
# How often a change is planned anew because others came first.
MAX_PLANS = 16

R = TypeVar("R", CommitResult, UpsertResult, DeleteResult)


class DeltaTable(TableView):
    """One Delta table in an object store. Make it with `create` or `open`.

    A table may be used by many tasks at once: data files are written in parallel, commits go one after the other.
    The store is the caller's and stays open.

    >>> import asyncio
    >>> from buffetstore.objects import MemoryStore
    >>> async def example() -> list[dict[str, int]]:
    ...     table = await DeltaTable.create(MemoryStore(), "raw/numbers", pa.schema([("n", pa.int64())]))
    ...     await table.append(pa.table({"n": [1, 2]}))
    ...     return (await table.to_arrow()).to_pylist()
    >>> asyncio.run(example())
    [{'n': 1}, {'n': 2}]
    """

    def __init__(
        self,
        store: ObjectStore,
        snapshot: Snapshot,
        *,
        formatter: ParquetFormatter,
        hook: Hook,
        pinned: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(store, snapshot, formatter)
        self._writer = Writer(store, formatter, Committer(store, snapshot.path, hook))
        self._pinned = pinned
        self._clock = clock
        self._checked = clock()
        self._lock = asyncio.Lock()

    @classmethod
    async def create(
        cls,
        store: ObjectStore,
        path: str,
        schema: pa.Schema,
        *,
        name: str | None = None,
        description: str | None = None,
        partition_by: Sequence[str] = (),
        configuration: Mapping[str, str] | None = None,
        formatter: ParquetFormatter | None = None,
        hook: Hook = no_hook,
    ) -> Self:
        """Create an empty table, reader version 1 and writer version 2, which every engine reads.

        Raises
        ------
        AlreadyExistsError
            There is a table at `path`.
        UnsupportedFeatureError
            A column's type is not one of Delta's.
        """
        unknown = [column for column in partition_by if column not in schema.names]
        if unknown or (partition_by and set(partition_by) == set(schema.names)):
            raise InvalidInputError(f"partition_by {list(partition_by)} must name some of {', '.join(schema.names)}")
        metadata = Metadata(
            str(uuid.uuid4()),
            schema_to_json(schema),
            tuple(partition_by),
            dict(configuration or {}),
            name,
            description,
            time.time_ns() // 1_000_000,
        )
        protocol = Protocol()
        check_writable(protocol, metadata, canonical_schema(schema), path)
        proposal = Proposal("CREATE TABLE", metadata=metadata, first_actions=(protocol,))
        entry = await Committer(store, path, hook).create(proposal)
        snapshot = await in_thread(replay, path, None, [entry])
        return cls(store, snapshot, formatter=formatter or ParquetFormatter(), hook=hook)

    @classmethod
    async def open(
        cls,
        store: ObjectStore,
        path: str,
        *,
        version: int | None = None,
        timestamp: datetime | None = None,
        formatter: ParquetFormatter | None = None,
        hook: Hook = no_hook,
    ) -> Self:
        """Open the latest version of a table, or an earlier one for reading only.

        Parameters
        ----------
        version:
            Open this version.
        timestamp:
            Open what was the latest version then, by in-commit timestamps where the table has them, else by the store's
            times of the log's entries. It needs a zone.

        Raises
        ------
        TableNotFoundError, TableVersionNotFoundError
            With what is there instead.
        CorruptLogError
            An entry is damaged or missing; the message names the version and the path.
        UnsupportedFeatureError
            The table needs a feature that we cannot read; the message names it.
        """
        if version is not None and timestamp is not None:
            raise InvalidInputError(f"version {version} and timestamp {timestamp} were given: one of them is enough")
        snapshot = await load(store, path, version, timestamp)
        pinned = version is not None or timestamp is not None
        return cls(store, snapshot, formatter=formatter or ParquetFormatter(), hook=hook, pinned=pinned)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for a commit that is under way. May be called twice."""
        async with self._lock:
            pass

    async def refresh(self) -> Snapshot:
        """Come to the latest version: one request where there is none newer."""
        if self._pinned:
            return self._snapshot
        async with self._lock:
            return await self._refresh()

    async def append(
        self,
        table: pa.Table,
        *,
        layout: Layout | None = None,
        user_metadata: str | None = None,
        txn: Txn | None = None,
    ) -> CommitResult:
        """Add rows. Two dependent requests where nobody else is writing: the data files, then the commit.

        Parameters
        ----------
        layout:
            Rows to data files; by default one file, or one for each value of the partition columns.
        txn:
            Names the application and its progress: a second write with the same or a lower version does nothing.

        Raises
        ------
        InvalidInputError
            The rows do not fit the schema; the columns are named.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable()
        seen = self._snapshot
        rows = await in_thread(fitted, table, seen.schema)
        if has_done(seen, txn) or (not rows.num_rows and txn is None):
            return CommitResult(seen.version, (), 0)
        adds = await self._writer.write(seen, rows, layout or self._layout())
        proposal = Proposal("WRITE", adds, txn=txn, user_metadata=user_metadata)
        committed = await self._commit_append(proposal, seen)
        return CommitResult(committed.snapshot.version, *(((), 0) if committed.done_before else (adds, rows.num_rows)))

    async def upsert(
        self,
        table: pa.Table,
        *,
        key: Sequence[str],
        ignore: Sequence[str] = ("created_at", "version"),
        placed_by: Sequence[str] = (),
        layout: Layout | None = None,
        user_metadata: str | None = None,
        txn: Txn | None = None,
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

        Raises
        ------
        InvalidInputError
            The rows do not fit the schema, or two of them have the same key.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable(removes=True)
        rows = await in_thread(fitted, table, self.schema)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, UpsertResult]:
            places = (*placed_by, *snapshot.partition_columns)
            new = await in_thread(fitted, rows, snapshot.schema)
            lay_out = layout or self._layout()
            return await upsert_rows(
                self._writer, snapshot, new, key=key, ignore=ignore, placed_by=places, layout=lay_out
            )

        return await self._modify(attempt, user_metadata, txn, UpsertResult(self.version, 0, 0, 0))

    async def delete(self, predicate: Expression, *, user_metadata: str | None = None) -> DeleteResult:
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

        return await self._modify(attempt, user_metadata, None, DeleteResult(self.version, 0))

    async def overwrite(
        self,
        table: pa.Table,
        *,
        layout: Layout | None = None,
        user_metadata: str | None = None,
        txn: Txn | None = None,
    ) -> CommitResult:
        """Replace all rows by these, in one commit."""
        self._check_writable(removes=True)
        rows = await in_thread(fitted, table, self.schema)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, CommitResult]:
            return await overwrite_rows(self._writer, snapshot, rows, layout or self._layout())

        return await self._modify(attempt, user_metadata, txn, CommitResult(self.version, (), 0))

    async def add_columns(self, fields: Sequence[pa.Field]) -> int:
        """Add nullable columns; stored rows have null in them. Return the new version.

        Raises
        ------
        InvalidInputError
            A column is there already, or is not nullable.
        """
        self._check_writable()
        async with self._lock:
            snapshot = await self._refresh()
            for field in fields:
                if field.name in snapshot.schema.names or not field.nullable:
                    fault = "is there already" if field.nullable else "is not nullable, and stored rows have no value"
                    raise InvalidInputError(f"column {field.name!r} cannot be added to {self.path!r}: it {fault}")
            schema = pa.schema([*snapshot.schema, *fields])
            metadata = replace(snapshot.metadata, schema_string=schema_to_json(schema))
            check_writable(snapshot.protocol, metadata, schema, self.path)
            committed = await self._commit(snapshot, Proposal("ADD COLUMNS", metadata=metadata))
            return committed.snapshot.version

    def _layout(self) -> Layout:
        return default_layout(self._snapshot.partition_columns)

    def _check_writable(self, *, removes: bool = False) -> None:
        snapshot = self._snapshot
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

    async def _refresh(self) -> Snapshot:
        if self._clock() - self._checked > MAX_SNAPSHOT_AGE_SECONDS:
            self._snapshot = await load(self.store, self.path)
        else:
            entries = await newer_entries(self.store, self.path, self.version)
            self._snapshot = await in_thread(advance, self._snapshot, entries)
        self._checked = self._clock()
        return self._snapshot

    async def _current(self) -> Snapshot:
        """Return the snapshot, read anew where it is too old for `version + 1` to be the next entry surely."""
        aged = self._clock() - self._checked > MAX_SNAPSHOT_AGE_SECONDS
        return await self._refresh() if aged else self._snapshot

    async def _commit_append(self, proposal: Proposal, seen: Snapshot) -> Committed:
        begun = False
        try:
            async with self._lock:
                head = await self._current()
                begun = True
                return await self._commit(head, proposal, seen)
        except BaseException:
            if not begun:
                await self._writer.committer.discard(proposal)
            raise

    async def _commit(self, head: Snapshot, proposal: Proposal, seen: Snapshot | None = None) -> Committed:
        """Commit on `head`, the lock being held; `seen` is what the proposal was made on, where that is older."""
        committed = await self._writer.committer.commit(head, proposal, seen or head)
        self._snapshot, self._checked = committed.snapshot, self._clock()
        return committed

    async def _modify(
        self,
        attempt: Callable[[Snapshot], Awaitable[tuple[Proposal | None, R]]],
        user_metadata: str | None,
        txn: Txn | None,
        nothing: R,
    ) -> R:
        """Plan and commit; plan again on the new snapshot when another commit changed what the plan relied on."""
        async with self._lock:
            for _ in range(MAX_PLANS):
                snapshot = await self._current()
                self._check_writable(removes=True)
                if has_done(snapshot, txn):
                    return replace(nothing, version=snapshot.version)
                proposal, result = await attempt(snapshot)
                if proposal is None:
                    # That nothing changes must hold for the table as it is now.
                    if (await self._refresh()).version == snapshot.version:
                        return result
                    continue
                proposal = replace(proposal, user_metadata=user_metadata, txn=txn)
                try:
                    committed = await self._commit(snapshot, proposal)
                except CommitConflictError:
                    await self._refresh()
                    continue
                found = nothing if committed.done_before else result
                return replace(found, version=committed.snapshot.version)
        raise CommitConflictError(
            f"table {self.path!r} was changed by others during each of {MAX_PLANS} plans; try again when fewer write",
            key=self.path,
        )
