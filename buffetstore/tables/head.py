"""The newest version of a table that this process knows, and the one place that moves it on."""

from __future__ import annotations

import asyncio
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from buffetstore.errors import CommitConflictError
from buffetstore.objects.helpers import head as head_of
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.load import load_again, newer_entries
from buffetstore.tables.log import commit_key
from buffetstore.tables.properties import Properties
from buffetstore.tables.segment import find_segment
from buffetstore.tables.snapshot import advance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from buffetstore.tables.commit import Committed, Committer
    from buffetstore.tables.conflicts import Proposal
    from buffetstore.tables.log import Entry
    from buffetstore.tables.row_group_index import RowGroupIndex
    from buffetstore.tables.snapshot import Snapshot

# Entries can be cleaned up by others while a process sleeps: an older snapshot is not trusted to be followed by N + 1.
MAX_SNAPSHOT_AGE_SECONDS = 3600.0


class MixedWritersWarning(UserWarning):
    """Spark writes to the same table on S3: its log store there checks nothing, so that commits can be lost."""


class BuriedCommitError(CommitConflictError):
    """The entry was made where no reader looks any more; the commit may be tried again on the newest version."""


class Head:
    """One table's newest snapshot. All but `snapshot` is used with `lock` held.

    `after_commit` is told of every commit; it returns at once.

    Parameters
    ----------
    clock:
        Wall-clock seconds: what bounds the age of a snapshot is the clock of whoever cleans the log.
    checked:
        When the snapshot was surely the newest; None is now.
    """

    def __init__(
        self,
        committer: Committer,
        snapshot: Snapshot,
        *,
        clock: Callable[[], float] = time.time,
        checked: float | None = None,
    ) -> None:
        self.committer = committer
        self.snapshot = snapshot
        self.lock = asyncio.Lock()
        self._clock = clock
        self._checked = clock() if checked is None else checked
        self.refreshes = 0  # begun, whether they came to an end or not
        self._refreshed = 0  # the last that did
        self._warned = False
        self.after_commit: Callable[[Committed], None] = lambda _committed: None

    async def refresh(self) -> Snapshot:
        """Come to the newest version: one request where there is none newer."""
        store, path = self.committer.store, self.committer.path
        self.refreshes += 1
        begun, started = self.refreshes, self._clock()
        if self._is_aged(self._checked):
            self.snapshot = await load_again(self.snapshot, store)
        else:
            entries = await newer_entries(store, path, self.snapshot.version)
            self._look_for_spark(entries)
            self.snapshot = await in_thread(advance, self.snapshot, entries)
        self._checked, self._refreshed = started, begun
        return self.snapshot

    async def refresh_since(self, refreshes: int) -> Snapshot:
        """Come to what was newest when `refreshes` had begun: many who ask at one time are answered by one of them."""
        return self.snapshot if self._refreshed > refreshes else await self.refresh()

    def is_known_after(self, moment: float) -> bool:
        """Tell whether the snapshot was the newest at the moment or later, in seconds of the clock."""
        return self._checked >= moment

    def is_known_since(self, max_age: timedelta) -> bool:
        """Tell whether the snapshot was the newest at most so long ago. A clock that was set back tells nothing."""
        return 0 <= self._clock() - self._checked <= max_age.total_seconds()

    def learn(self, row_groups: RowGroupIndex) -> None:
        """Take note of footers that readers need not read then; of all there is this alone needs no lock."""
        self.snapshot = replace(self.snapshot, row_groups=row_groups)

    async def current(self) -> Snapshot:
        """Return the snapshot, read anew where it is too old for `version + 1` to be the next entry surely."""
        return await self.refresh() if self._is_aged(self._checked) else self.snapshot

    async def commit(
        self, head: Snapshot, proposal: Proposal, seen: Snapshot | None = None, *, keep_on_conflict: bool = False
    ) -> Committed:
        """Commit on `head`; `seen` is what the proposal was made on, where that is older.

        The proposal's files are deleted when it certainly is not committed; with `keep_on_conflict` not after a
        conflict, since the caller tries them otherwise.
        """
        checked, started = self._checked, self._clock()
        committed = await self.committer.commit(head, proposal, seen or head, keep_on_conflict=keep_on_conflict)
        if self._is_aged(checked):
            await self._check_not_buried(committed)
        self.snapshot, self._checked = committed.snapshot, started
        self.after_commit(committed)
        return committed

    async def _check_not_buried(self, committed: Committed) -> None:
        """Find out whether a late commit took the place of an entry that had been cleaned up: nobody would read it.

        A checkpoint of this version or a later one that is older than the entry does not have the entry in it.
        """
        store, path, version = self.committer.store, self.committer.path, committed.snapshot.version
        segment = await find_segment(store, path)
        if segment.checkpoint is None or segment.checkpoint.version < version:
            return
        entry = await head_of(store, commit_key(path, version))
        if segment.checkpoint.last_modified < entry.last_modified:
            raise BuriedCommitError(
                f"the commit to table {path!r} came so late that version {version} had been cleaned up: nobody reads "
                f"it. The table is at version {segment.latest}; read it again and decide again",
                key=path,
            )

    def _is_aged(self, checked: float) -> bool:
        """Return whether the entry that follows what was looked at then may have been cleaned up since."""
        retention = Properties(self.snapshot.metadata.configuration).log_retention / 1000
        return self._clock() - checked > min(MAX_SNAPSHOT_AGE_SECONDS, retention / 2)

    def _look_for_spark(self, entries: Sequence[Entry]) -> None:
        if self._warned or not self.committer.store.url.startswith(("s3://", "s3a://")):
            return
        engines = (entry.info.engine for entry in entries if entry.info is not None and entry.info.engine)
        spark = next((engine for engine in engines if "spark" in engine.lower()), None)
        if spark is not None:
            self._warned = True
            warnings.warn(
                f"{spark} writes to {self.committer.path!r} in {self.committer.store.url}: its log store for S3 has no "
                "conditional writes, so that its commits and ours can replace each other; let one of them write",
                MixedWritersWarning,
                stacklevel=2,
            )
