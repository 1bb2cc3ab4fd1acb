"""Committing: put-if-absent of the next entry of the log, settled whatever the store answers."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, NoReturn

from buffetstore.errors import (
    AlreadyExistsError,
    CommitConflictError,
    CommitUnknownError,
    CorruptLogError,
    NotFoundError,
    StorageError,
)
from buffetstore.monitoring.events import Hook, Operation, no_hook, observed
from buffetstore.objects.base import CREATE, Attributes
from buffetstore.resilience.concurrency import unhurried
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import CommitInfo
from buffetstore.tables.conflicts import conflict, outgrown
from buffetstore.tables.idempotency import already_done
from buffetstore.tables.load import newer_entries
from buffetstore.tables.log import commit_key, join, read_entry
from buffetstore.tables.snapshot import advance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from buffetstore.objects.base import Data, ObjectStore
    from buffetstore.tables.conflicts import Proposal
    from buffetstore.tables.log import Entry
    from buffetstore.tables.snapshot import Snapshot

    T = TypeVar("T")

ENGINE = f"buffetstore/{metadata.version('buffetstore')}"
_JSON = Attributes(content_type="application/json")
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0


class StarvedError(CommitConflictError):
    """Nothing stood against the commit, but others were always first."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The snapshot that a commit made, by an entry of so many `bytes`.

    `done_before` means that the same write had been committed already.
    """

    snapshot: Snapshot
    done_before: bool = False
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Committer:
    """Commits to one table.

    Parameters
    ----------
    settle_seconds:
        How long an unclear answer is followed up before `CommitUnknownError`.
    attempts:
        How many other commits may come first before `CommitConflictError`.
    append_seconds:
        How long a blind append, which any commit may precede, goes on beyond that: where others commit all the time it
        is put off, and fails only when none of its attempts was first for so long.
    clock, sleep, now:
        For tests: monotonic seconds, how to wait, and wall-clock milliseconds.
    """

    store: ObjectStore
    path: str
    hook: Hook = no_hook
    settle_seconds: float = 10.0
    attempts: int = 64
    append_seconds: float = 120.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    now: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)

    async def commit(
        self, head: Snapshot, proposal: Proposal, seen: Snapshot, *, keep_on_conflict: bool = False
    ) -> Committed:
        """Commit `proposal`, which was made on `seen`, at the first free version after `head`.

        Only what reads no other rows than those of the files it replaces may have been made on an older version.

        The data files that it adds are deleted when it certainly was not and will not be committed; with
        `keep_on_conflict` not after a conflict.

        Raises
        ------
        CommitConflictError
            Another commit changed what the proposal relied on; nothing was committed.
        CommitUnknownError
            It may or may not have been committed.
        """
        with observed(self.hook, "table.commit", self.path) as counts:
            counts["files"] = len(proposal.adds)
            return await self._rebase(head, proposal, seen, counts, keep_on_conflict=keep_on_conflict)

    async def create(self, proposal: Proposal) -> Entry:
        """Commit version 0.

        Raises
        ------
        AlreadyExistsError
            There is a version 0 of somebody else.
        """
        with observed(self.hook, "table.commit", self.path):
            commit_id = str(uuid.uuid4())
            info = self._info(proposal, None, commit_id)
            if await self._attempt(0, proposal.body(info), commit_id) is not None:
                raise AlreadyExistsError(f"there is already a Delta table at {self.path!r}: open it", key=self.path)
            return proposal.entry(0, info)

    async def discard(self, proposal: Proposal) -> None:
        """Delete the data files of a proposal that will never be committed; what stays is left to vacuum."""
        keys = [join(self.path, name) for name in proposal.written]
        if keys:
            with suppress(StorageError):
                await unhurried(self.store.delete(keys))

    async def _rebase(
        self, head: Snapshot, proposal: Proposal, seen: Snapshot, counts: dict[str, int], *, keep_on_conflict: bool
    ) -> Committed:
        commit_id = str(uuid.uuid4())
        certain = True  # that nothing of ours is in the log, nor on its way there
        attempt, deadline = 0, self.clock() + self.append_seconds
        try:
            reason = None if head is seen else await in_thread(outgrown, proposal, seen, head)
            while attempt < self.attempts or (proposal.blind and self.clock() < deadline):
                if reason is not None:
                    self._lose(proposal, f"was overtaken by version {head.version}: {reason}")
                if _is_done(head, proposal):
                    await self.discard(proposal)
                    return Committed(head, done_before=True)
                counts["version"] = number = head.version + 1
                info = self._info(proposal, head.version, commit_id)
                body = await in_thread(proposal.body, info)
                certain = False
                winner = await self._attempt(number, body, commit_id, proposal)
                if winner is None:
                    return Committed(await in_thread(_follow, head, proposal, number, info), bytes=len(body))
                certain = True
                self.hook(Operation("table.conflict", 0.0, self.path, counts={"version": number}))
                winners = [winner]
                if attempt:  # far behind, or among many writers: come to the newest version at once
                    winners += await newer_entries(self.store, self.path, number)
                attempt += 1
                head = await in_thread(advance, head, winners)
                reason = None if _is_done(head, proposal) else await in_thread(conflict, proposal, seen, winners)
            self._lose(proposal, f"was overtaken {attempt} times, last by version {head.version}", StarvedError)
        except BaseException as error:
            # Files are deleted only when others are known to hold every version that was tried.
            if certain and not (keep_on_conflict and isinstance(error, CommitConflictError)):
                await self.discard(proposal)
            raise

    def _lose(self, proposal: Proposal, fate: str, kind: type[CommitConflictError] = CommitConflictError) -> NoReturn:
        raise kind(
            f"{proposal.operation} on table {self.path!r} {fate}; read the table again and decide again", key=self.path
        )

    def _info(self, proposal: Proposal, read_version: int | None, commit_id: str) -> CommitInfo:
        return CommitInfo(
            self.now(),
            proposal.operation,
            commit_id,
            proposal.parameters,
            read_version,
            blind_append=proposal.blind and bool(proposal.adds),
            engine=ENGINE,
            user_metadata=proposal.user_metadata,
            metrics=proposal.metrics,
        )

    async def _attempt(
        self, version: int, body: Data, commit_id: str, proposal: Proposal | None = None
    ) -> Entry | None:
        """Try to make `version`; return None when it is ours, else the entry that is there instead.

        Once begun it is carried to its end: a caller that is cancelled is told so only after it is known what became
        of the commit, and of a lost one the data files have been deleted.
        """
        settling = asyncio.ensure_future(self._settle(version, body, commit_id))
        try:
            return await unhurried(settling)
        except asyncio.CancelledError:
            lost = settling.exception() is None and settling.result() is not None
            if lost and proposal is not None:
                await self.discard(proposal)
            raise

    async def _settle(self, version: int, body: Data, commit_id: str) -> Entry | None:
        key = commit_key(self.path, version)
        deadline = self.clock() + self.settle_seconds
        wait, unclear = _FIRST_WAIT, False
        while True:
            try:
                await self.store.put(key, body, mode=CREATE, attributes=_JSON)
                return None
            except AlreadyExistsError:
                # Occupied, maybe by an earlier attempt of ours whose answer was lost, here or in a layer below.
                return await self._occupant(version, commit_id, deadline)
            except StorageError as error:
                unclear = unclear or error.ambiguous
                if not (error.ambiguous or error.transient) or self.clock() + wait > deadline:
                    if unclear:
                        raise self._unknown(version, commit_id) from error
                    raise
            # The same bytes again, until the version is occupied by anyone: reading back would be no fence, because
            # the lost request may still arrive after the read.
            await self.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _occupant(self, version: int, commit_id: str, deadline: float) -> Entry | None:
        wait = _FIRST_WAIT
        while True:
            try:
                entry = await read_entry(self.store, self.path, version)
            except (CorruptLogError, NotFoundError):
                raise
            except StorageError as error:
                if not error.transient or self.clock() + wait > deadline:
                    raise self._unknown(version, commit_id) from error
            else:
                if entry is None:
                    raise self._unknown(version, commit_id)
                return None if entry.commit_id == commit_id else entry
            await self.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _unknown(self, version: int, commit_id: str) -> CommitUnknownError:
        return CommitUnknownError(
            f"it is not known whether version {version} of table {self.path!r} was committed: the store gave no "
            f"clear answer within {self.settle_seconds:g} s; look for txnId {commit_id} in "
            f"{commit_key(self.path, version)!r}",
            key=self.path,
            version=version,
            commit_id=commit_id,
        )


def _is_done(head: Snapshot, proposal: Proposal) -> bool:
    # Of a group some may be done and others not: whoever made it finds out.
    return proposal.writes == 1 and already_done(head.txns, proposal.txns)


def _follow(head: Snapshot, proposal: Proposal, version: int, info: CommitInfo) -> Snapshot:
    return advance(head, [proposal.entry(version, info)])
