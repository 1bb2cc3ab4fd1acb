"""Checkpoints in the background: after enough commits, or enough bytes of log, and then the old log is cleaned."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from buffetstore.errors import StorageError
from buffetstore.monitoring.events import observed
from buffetstore.tables.checkpoint_writer import write_checkpoint
from buffetstore.tables.log_cleanup import clean_log
from buffetstore.tables.properties import Properties

if TYPE_CHECKING:
    from buffetstore.tables.checkpoint_writer import WrittenCheckpoint
    from buffetstore.tables.commit import Committed, Committer

MOST_LOG_BYTES = 16 * 1024 * 1024  # that whoever opens the table has to parse


class Checkpointer:
    """Writes the checkpoints of one table, one at a time; a failed one is told to the hook and fails no commit."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
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

    async def checkpoint(self, committed: Committed) -> WrittenCheckpoint | None:
        """Write the checkpoint of a commit, and clean the log where the table's properties say so."""
        store, path, hook = self._committer.store, self._committer.path, self._committer.hook
        snapshot = committed.snapshot
        with observed(hook, "table.checkpoint", path) as counts:
            written = await write_checkpoint(store, path, snapshot.version)
            if written is not None:
                counts |= {"bytes_out": written.bytes, "files": written.files}
        properties = Properties(snapshot.metadata.configuration)
        if properties.cleans_log:
            with observed(hook, "table.clean_log", path) as counts:
                counts["keys"] = await clean_log(store, path, properties.log_retention)
        return written
