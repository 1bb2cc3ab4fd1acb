"""What keeps a table fast, small and whole: compaction, vacuum, verification, repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.monitoring.events import observed
from buffetstore.tables.operations.bins import Coarsening
from buffetstore.tables.operations.compact import MEMORY_BYTES, TARGET_BYTES, Compaction, CompactResult, compact
from buffetstore.tables.writable import WritableTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from buffetstore.expressions import Expression

_COARSENING = Coarsening()


class MaintenanceMethods(WritableTable):
    """Maintenance of a table. All of it may run beside other writers, and be run again after it was interrupted."""

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
            counts |= {
                "files_removed": done.files_removed,
                "files_added": done.files_added,
                "rows": done.rows,
                "bytes_in": done.bytes_removed,
                "bytes_out": done.bytes_added,
            }
            return done
