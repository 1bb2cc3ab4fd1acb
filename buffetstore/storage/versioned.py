"""What a storage offers whose data types are tables with versions: looking back, going back, upkeep.

It is a contract apart from `DataStorage`: whether a storage has it is asked by ``isinstance``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buffetstore.storage.base import DataStorage
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    import pyarrow as pa

    from buffetstore.query import DataQuery, Explanation, LayoutAction, LayoutReport, Prices, QueryAnswer, QueryPlan
    from buffetstore.storage.lineage_graph import Direction, LineageGraph
    from buffetstore.tables import DeltaTable
    from buffetstore.tables.feed import Change, Cursor
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.operations.repair import RepairResult
    from buffetstore.tables.operations.vacuum import VacuumResult
    from buffetstore.tables.operations.verify import VerifyReport
    from buffetstore.tables.results import RestoreResult


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file of a data type's newest version.

    `path` is its key below the store's URL; `rows` is None where its writer did not say; `start` and `end` are the
    first and last event time in it, where known.
    """

    path: str
    rows: int | None
    bytes: int
    modified: datetime
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class LayoutChange:
    """What was done about a layout, or would be.

    Parameters
    ----------
    before, after:
        How it was, and how it is; without the latter nothing was changed.
    actions, results:
        What was done, and what each came to.
    """

    before: LayoutReport
    after: LayoutReport | None
    actions: tuple[LayoutAction, ...]
    results: tuple[CompactResult | VacuumResult, ...]


class VersionedStorage(DataStorage):
    """A storage that keeps every data type as a table with versions.

    All of its methods raise `UnknownDataTypeError` where there is no such contract, and `TableNotFoundError` where
    nothing was stored under it. What they do to the table is what the methods of `DeltaTable` of these names do.
    """

    @abstractmethod
    async def table(self, data_type: str) -> DeltaTable:
        """Return the Delta table of a data type: its stored rows, beneath contract and revisions.

        It is the storage's, which closes it.

        Raises
        ------
        UnknownDataTypeError, TableNotFoundError
            There is no such contract; nothing was stored under it.
        """

    @abstractmethod
    async def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        """Return the data files of the newest version whose paths inside the table start with `prefix`, sorted.

        Parameters
        ----------
        prefix:
            ``"year=2024/month=01/"``, say.
        """

    @abstractmethod
    async def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        """Return the latest `limit` commits, newest first; `lineage` tells what each says of its rows' origin.

        Raises
        ------
        InvalidInputError
            `limit` is negative.
        CorruptLogError
            An entry of the log is damaged; the message names it.
        """

    @abstractmethod
    async def join_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> QueryAnswer:
        """Return each row of the left side with the last row of the right side that was known at its moment.

        It never looks ahead: a right row counts from when it was available (see the data model), so that a bar stamped
        00:00 is found after its close. Of those that count the one with the latest event time is taken; a left row that
        finds none has nulls. Revisions are the ones known then, where they are kept.

        Parameters
        ----------
        left, right:
            Rows and columns of both sides; filters and date ranges are each side's own.
        by:
            Columns that must be equal, or the right side's name for each: ``{"underlying_symbol": "symbol"}``.
        on:
            The left side's moments; None is its event time.
        tolerance:
            How old what is found may be, by its event time.
        suffix:
            Is put behind names of the right side that the left side has too.

        Raises
        ------
        InvalidQueryError
            A side asks for more than rows and columns, or a column is not there.
        """

    @abstractmethod
    def scan_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Yield what `join_asof` returns in batches, in order of the left side's moments, in bounded memory.

        A window of time of some million rows of both sides is held at once, and a row of the right side for each value
        of `by`. Close the iterator (`contextlib.aclosing`) where it is left early.
        """

    @abstractmethod
    async def explain(
        self,
        query: DataQuery | QueryPlan,
        *,
        analyze: bool = False,
        storage_class: str | None = None,
        region: str | None = None,
        prices: Prices | None = None,
    ) -> Explanation:
        """Return what leaves out a query's files, and what is left to read and to pay; only the log is read.

        Parameters
        ----------
        analyze:
            Carry the query out too, and tell what it took.
        storage_class, region, prices:
            What the money depends on: see `buffetstore.query.cost.cost_of`.
        """

    @abstractmethod
    async def lineage(
        self,
        data_type: str,
        table_version: int | None = None,
        *,
        direction: Direction = "both",
        depth: int | None = None,
    ) -> LineageGraph:
        """Return what the rows of a version were made of, and what was made of them, from table to table.

        It knows what writers told (`store_data(inputs=..., job=..., code_version=...)`), and reads the log of
        each table once. `LineageGraph.to_dot` draws what was found.

        Parameters
        ----------
        table_version:
            None is the newest.
        direction:
            ``"up"`` to the sources, ``"down"`` to what was derived.
        depth:
            How many tables away; None is all the way.

        Raises
        ------
        InvalidInputError
            There is no such direction, or the depth is below 1.
        TableVersionNotFoundError
            There is no such version, or its log entry has been cleaned up.
        """

    @abstractmethod
    async def restore(
        self,
        data_type: str,
        table_version: int | None = None,
        timestamp: datetime | None = None,
        *,
        ignore_missing: bool = False,
        idempotency_key: IdempotencyKey | None = None,
    ) -> RestoreResult:
        """Make the data type what it was at a version, or at a moment, by a new version; nothing of its history goes.

        Parameters
        ----------
        ignore_missing:
            Bring back what is left where data files of that version have been vacuumed.

        Raises
        ------
        InvalidInputError
            Not exactly one of version and moment was given, or the moment has no zone.
        TableVersionNotFoundError
            There is no such version, or its log entries have been cleaned up.
        NotFoundError
            Data files of that version have been vacuumed; they are named, and nothing was done.
        """

    @abstractmethod
    async def compact(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | None = None,
        date_range: Mapping[str, Any] | None = None,
        target_bytes: int = TARGET_BYTES,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactResult:
        """Put many small data files into few, sorted by key; the rows stay what they are.

        It runs beside writers, and may be broken off and run again. Files that are replaced stay for readers of
        earlier versions until `vacuum`.

        Parameters
        ----------
        filters, date_range:
            Only files that may hold such rows.
        target_bytes:
            The size of the files to come.
        progress:
            Told the bytes that were replaced, and how many there are in all, as the work goes on.
        """

    @abstractmethod
    async def analyze(self, data_type: str, *, unneeded: bool = False) -> LayoutReport:
        """Return what hurts in the layout of a data type, and what would mend it.

        It looks at the list of files and at the queries that this storage has answered since it was opened, of which
        columns and kinds of filters are remembered but no values; no data file is read.

        Parameters
        ----------
        unneeded:
            Look for files that no version within retention needs, too: one listing of the table's folder.
        """

    @abstractmethod
    async def apply(
        self,
        report: LayoutReport,
        actions: Sequence[LayoutAction] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> LayoutChange:
        """Do what a report of `analyze` says, beside readers and writers, and look again.

        Parameters
        ----------
        actions:
            What is done, in this order; None is all of `report.actions`.
        dry_run:
            Change nothing, and tell what would be.
        progress:
            Told, for each action, how much is done and of how much, as `compact` and `vacuum` tell it.
        """

    @abstractmethod
    async def vacuum(
        self,
        data_type: str,
        *,
        retention: timedelta | None = None,
        dry_run: bool = False,
        allow_short_retention: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumResult:
        """Delete the files that no version within retention needs; older versions cannot be read afterwards.

        Parameters
        ----------
        retention:
            None is the table's own, seven days unless it says otherwise.
        dry_run:
            Delete nothing, and tell what would be.
        allow_short_retention:
            Take a retention below the table's own, while nobody else uses the table: files of writes that are not
            committed yet look like those that failed writes left.
        progress:
            Told how many files were deleted, and how many are to be.

        Raises
        ------
        InvalidInputError
            The retention is shorter than the table's own.
        """

    @abstractmethod
    async def verify(
        self, data_type: str, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        """Compare the table with its log: files that are missing, of another size, or referred to by nothing.

        Parameters
        ----------
        deep:
            Read every file too, and compare its rows with what the log tells of them.
        progress:
            With `deep`, told the bytes of files that were read, and of all.
        """

    @abstractmethod
    async def repair(self, data_type: str, *, dry_run: bool = True, deep: bool = False) -> RepairResult:
        """Mend what can be mended without guessing, and tell the rest; unless told otherwise, only tell.

        Data files that are gone are taken out of the table, so that the rest can be read: look for a backup first.

        Parameters
        ----------
        dry_run:
            Change nothing, and tell what would be done.
        deep:
            Read every file too, to tell those that cannot be mended.
        """

    @abstractmethod
    def changes(
        self,
        data_type: str,
        since: int | str | Cursor | None = None,
        *,
        until: int | None = None,
        timestamp: datetime | None = None,
        filters: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        tail: bool = False,
        poll_seconds: tuple[float, float] = (0.2, 5.0),
    ) -> AsyncGenerator[Change, None]:
        """Yield the stored rows that commits changed, commit after commit, at most those of one file at a time.

        Close the iterator (`contextlib.aclosing`) where it is left early. Without a change feed in the table
        (`delta.enableChangeDataFeed`) a rewritten file shows as its rows deleted and inserted.

        Parameters
        ----------
        since:
            Changes after this table version, or after the `cursor` of the last change that was dealt with (as it is,
            or as text); None is from the first.
        until:
            The last version; None is the latest one.
        timestamp:
            Changes after this moment, instead of `since`.
        filters, columns:
            Only such rows, and only these columns of them.
        tail:
            Go on with new commits as they are made.
        poll_seconds:
            How long to wait for new commits: at first, and at most, doubling while there are none.

        Raises
        ------
        TableVersionNotFoundError
            The log does not have the changes after `since` any more.
        NotFoundError
            A file with changes has been vacuumed; the version and the path are named.
        """
