"""What keeps a table fast, small and whole: compaction, vacuum, verification, repair."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from buffetstore.errors import UnsupportedOperationError
from buffetstore.monitoring.events import observed
from buffetstore.tables.operations.bins import Coarsening
from buffetstore.tables.operations.compact import MEMORY_BYTES, TARGET_BYTES, Compaction, CompactResult, compact
from buffetstore.tables.operations.repair import RepairResult, repair
from buffetstore.tables.operations.vacuum import VacuumResult, vacuum
from buffetstore.tables.operations.verify import VerifyReport, verify
from buffetstore.tables.writable import WritableTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.formats.parquet import ParquetFormatter
    from buffetstore.tables.head import Head
    from buffetstore.tables.snapshot import Snapshot

_COARSENING = Coarsening()
# Tables that this process has opened at a version: vacuum keeps what they refer to as long as they are in use.
_PINNED: WeakSet[MaintenanceMethods] = WeakSet()


class MaintenanceMethods(WritableTable):
    """Maintenance of a table. All of it may run beside other writers, and be run again after it was interrupted."""

    def __init__(self, head: Head, formatter: ParquetFormatter, *, pinned: bool) -> None:
        super().__init__(head, formatter, pinned=pinned)
        if pinned:
            _PINNED.add(self)

    async def compact(
        self,
        *,
        predicate: Expression | None = None,
        target_bytes: int = TARGET_BYTES,
        sort_by: Sequence[str] | None = None,
        coarsening: Coarsening | None = _COARSENING,
        stem: Callable[[pa.Table], str] | None = None,
        bytes_in_flight: int = MEMORY_BYTES,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactResult:
        """Put many small data files into few, sorted by key; the rows stay what they are.

        Nothing is committed where there is nothing to gain. Files that are replaced stay until `vacuum`, so earlier
        versions can be read. Commits are made as the work goes on, one for a gibibyte or a thousand files.

        Parameters
        ----------
        predicate:
            Only files that may hold a row that satisfies it are compacted.
        target_bytes:
            The size of the files to come; those of three quarters of it or more are left alone.
        sort_by:
            The order of rows inside files; by default the contract's key (the property `buffetstore.key`).
        coarsening:
            When time buckets grow into months and years; None leaves every file in its folder.
        stem:
            Names a new file by its rows; by default it is called as the files that it replaces are.
        bytes_in_flight:
            Arrow bytes of the rows that are worked on at a time, estimated; memory peaks at some three times as much.
        progress:
            Told the bytes of files that were replaced, and how many there are in all, after each commit.

        Raises
        ------
        InvalidInputError, InvalidQueryError
            A column is not in the table or has no order.
        CorruptFileError
            A data file is damaged, or the new files did not hold exactly the rows of the old ones.
        CommitConflictError, CommitUnknownError
        """
        self._check_writable()
        wanted = Compaction(predicate, target_bytes, sort_by, bytes_in_flight, coarsening, stem, progress)
        with observed(self._head.committer.hook, "table.compact", self.path) as counts:
            done = await compact(self._head, self._formatter, wanted)
            if done.commits:
                await self._checkpointer.keep_indexed(self.snapshot)
            counts |= {
                "files_removed": done.files_removed,
                "files_added": done.files_added,
                "rows": done.rows,
                "bytes_in": done.bytes_removed,
                "bytes_out": done.bytes_added,
            }
            return done

    async def vacuum(
        self,
        *,
        retention: timedelta | None = None,
        dry_run: bool = False,
        allow_short_retention: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumResult:
        """Delete the files that no version within retention refers to. What is kept: `tables.operations.vacuum`.

        Parameters
        ----------
        retention:
            By default the table's `delta.deletedFileRetentionDuration`, or seven days. Versions that were the newest
            within it can be read afterwards.
        dry_run:
            Delete nothing, and tell what would be.
        allow_short_retention:
            Take a retention below the table's own. Only for a table that nobody else uses meanwhile: files of writes
            that are not committed yet look like those that failed writes left.
        progress:
            Told how many files were deleted, and how many are to be.

        Raises
        ------
        InvalidInputError
            The retention is shorter than the table's own.
        UnsupportedOperationError
            The table was opened at a version.
        UnsupportedFeatureError
            The table uses what may refer to files in a way that is not known.
        """
        self._check_not_pinned()
        with observed(self._head.committer.hook, "table.vacuum", self.path) as counts:
            done = await vacuum(
                self._head,
                retention,
                allow_short=allow_short_retention,
                dry_run=dry_run,
                pinned=self._pinned_snapshots,
                progress=progress,
            )
            counts |= {"files": 0 if dry_run else done.files, "bytes": 0 if dry_run else done.bytes}
            return done

    async def verify(self, *, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Compare the table with its log: one listing, and no request for each file unless `deep`.

        Parameters
        ----------
        deep:
            Read every file too: that it can be decoded, has the rows that the log tells, and none outside of the bounds
            by which questions are answered.
        progress:
            With `deep`, told the bytes of files that were read, and of all.
        """
        with observed(self._head.committer.hook, "table.verify", self.path) as counts:
            report = await verify(self._head, self._formatter, deep=deep, progress=progress, pinned=self._pinned)
            counts |= {"files": report.files, "bytes": report.bytes, "ok": int(report.ok)}
            return report

    async def repair(self, *, dry_run: bool = True, deep: bool = False) -> RepairResult:
        """Mend what can be mended without guessing, and tell the rest.

        Data files that are gone are taken out of the table, so that what is left can be read again: their rows are
        lost, so look for a backup first. A damaged `_last_checkpoint` is written anew.

        Parameters
        ----------
        dry_run:
            Change nothing, and tell what would be done.
        deep:
            Read every file too, to tell those that cannot be mended.

        Raises
        ------
        UnsupportedOperationError
            The table was opened at a version, or is append-only.
        """
        self._check_writable(removes=not dry_run)
        with observed(self._head.committer.hook, "table.repair", self.path) as counts:
            report = await verify(self._head, self._formatter, deep=deep, progress=None, pinned=False)
            done = await repair(self._head, report, dry_run=dry_run)
            counts |= {"files": 0 if dry_run else len(done.removed)}
            return done

    def _pinned_snapshots(self) -> list[Snapshot]:
        mine = (self.store.url, self.path)
        return [each.snapshot for each in _PINNED if (each.store.url, each.path) == mine]

    def _check_not_pinned(self) -> None:
        if self._pinned:
            raise UnsupportedOperationError(
                f"table {self.path!r} was opened at version {self.version}, for reading; open it without a version",
                key=self.path,
            )
