"""Checkpoints in the background: after enough commits, or enough bytes of log, and then the old log is cleaned."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import StorageError
from buffetstore.monitoring.events import observed
from buffetstore.tables.checkpoint_writer import write_checkpoint
from buffetstore.tables.commit import Committed
from buffetstore.tables.log_cleanup import clean_log
from buffetstore.tables.properties import Properties
from buffetstore.tables.row_group_index import HINT_TAG, NO_ROW_GROUPS
from buffetstore.tables.row_group_store import unindexed, write_row_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from buffetstore.tables.checkpoint_writer import WrittenCheckpoint
    from buffetstore.tables.commit import Committer
    from buffetstore.tables.row_group_index import RowGroupIndex
    from buffetstore.tables.snapshot import Snapshot

MOST_LOG_BYTES = 16 * 1024 * 1024  # that whoever opens the table has to parse


class Checkpointer:
    """Writes the checkpoints of one table, one at a time; a failed one is told to the hook and fails no commit.

    With each it writes the index of row groups, of which `learn` is told.
    """

    def __init__(self, committer: Committer, learn: Callable[[RowGroupIndex], None]) -> None:
        self._committer = committer
        self._learn = learn
        self._row_groups = NO_ROW_GROUPS
        self._log_bytes = 0
        self._wanted: Committed | None = None
        self._runner: asyncio.Task[None] | None = None

    def note(self, committed: Committed) -> None:
        """Take note of a commit; where it is time, a checkpoint is begun that nobody waits for."""
        self._log_bytes += committed.bytes
        snapshot = committed.snapshot
        interval = Properties(snapshot.metadata.configuration).checkpoint_interval
        is_due = snapshot.version > 0 and snapshot.version % interval == 0
        if committed.done_before or not (is_due or self._log_bytes > MOST_LOG_BYTES):
            return
        self._log_bytes = 0
        self._wanted = committed
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())

    async def drain(self) -> None:
        """Wait until no checkpoint is under way any more."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _run(self) -> None:
        try:
            while (wanted := self._wanted) is not None:
                self._wanted = None
                try:
                    await self.checkpoint(wanted)
                except StorageError:
                    continue  # the hook has been told; the next one makes up for it
        finally:
            self._runner = None

    async def keep_indexed(self, snapshot: Snapshot) -> None:
        """Write a checkpoint where the footers of large files are not known, so that readers need not read them."""
        await self.drain()
        if await unindexed(replace(snapshot, row_groups=self._known(snapshot))):
            with suppress(StorageError):  # the hook has been told
                await self.checkpoint(Committed(snapshot))

    def _known(self, snapshot: Snapshot) -> RowGroupIndex:
        return self._row_groups if self._row_groups.version > snapshot.row_groups.version else snapshot.row_groups

    async def _index(self, snapshot: Snapshot) -> dict[str, str]:
        """Write the index and return what `_last_checkpoint` says of it; a checkpoint is good without one too."""
        store, path, hook = self._committer.store, self._committer.path, self._committer.hook
        try:
            with observed(hook, "table.row_groups", path) as counts:
                index = await write_row_groups(store, snapshot, self._known(snapshot))
                counts["files"] = index.entries.num_rows
        except StorageError:
            return {}
        if index.name is None:
            return {}
        self._row_groups = index
        self._learn(index)
        return {HINT_TAG: index.name}

    async def checkpoint(self, committed: Committed) -> WrittenCheckpoint | None:
        """Write the checkpoint of a commit, and clean the log where the table's properties say so."""
        store, path, hook = self._committer.store, self._committer.path, self._committer.hook
        snapshot = committed.snapshot
        with observed(hook, "table.checkpoint", path) as counts:
            tags = await self._index(snapshot)
            written = await write_checkpoint(store, path, snapshot.version, tags=tags)
            if written is not None:
                counts |= {"bytes_out": written.bytes, "files": written.files}
        properties = Properties(snapshot.metadata.configuration)
        if properties.cleans_log:
            with observed(hook, "table.clean_log", path) as counts:
                counts["keys"] = await clean_log(store, path, properties.log_retention, snapshot.metadata.id)
        return written
