"""Group commit: blind appends that arrive while a commit is under way share the next entry of the log."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from buffetstore.errors import CommitConflictError, StorageError
from buffetstore.resilience.concurrency import gather
from buffetstore.tables.commit import Committed, StarvedError
from buffetstore.tables.conflicts import Proposal, outgrown
from buffetstore.tables.head import BuriedCommitError
from buffetstore.tables.idempotency import already_done

if TYPE_CHECKING:
    from buffetstore.tables.head import Head
    from buffetstore.tables.snapshot import Snapshot

MOST_FILES = 10_000  # in one entry: everybody who reads the log reads it whole


@dataclass(eq=False, slots=True)
class _Waiting:
    """One append; `repeats` carry the same idempotency key, and share its fate without its files."""

    proposal: Proposal
    seen: Snapshot
    outcome: asyncio.Future[Committed]
    sealed: bool = False
    repeats: list[_Waiting] = field(default_factory=list)

    def succeed(self, snapshot: Snapshot, *, done_before: bool = False) -> None:
        if not self.outcome.done():
            self.outcome.set_result(Committed(snapshot, done_before))
        for repeat in self.repeats:
            repeat.succeed(snapshot, done_before=True)

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            if isinstance(error, asyncio.CancelledError):
                self.outcome.cancel()
            else:
                self.outcome.set_exception(error)
        for repeat in self.repeats:
            repeat.fail(error)


class GroupCommit:
    """Commits the blind appends of one table, in the order of their arrival, as many together as are waiting.

    Each append has its own outcome: one that no longer fits the table, or repeats another's idempotency key with other
    rows, fails alone. A call that is cancelled before its group is sealed leaves nothing; after that it is carried to
    its end first.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._queue: list[_Waiting] = []
        self._runner: asyncio.Task[None] | None = None

    async def commit(self, proposal: Proposal, seen: Snapshot) -> Committed:
        """Commit an append that was made on `seen`.

        Raises
        ------
        CommitConflictError, CommitUnknownError, IdempotencyKeyReusedError
        """
        waiting = _Waiting(proposal, seen, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._runner is None:
            # The task is the table's: it must not end with whichever caller came first.
            self._runner = asyncio.create_task(self._run())
        try:
            return await asyncio.shield(waiting.outcome)
        except asyncio.CancelledError:
            await self._withdraw(waiting)
            raise

    async def drain(self) -> None:
        """Wait until nothing is under way any more."""
        while self._runner is not None:
            await asyncio.wait([self._runner])

    async def _withdraw(self, waiting: _Waiting) -> None:
        if not waiting.sealed:
            self._queue.remove(waiting)
            await self._head.committer.discard(waiting.proposal)
            return
        while not waiting.outcome.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([waiting.outcome])
        if not waiting.outcome.cancelled():
            waiting.outcome.exception()  # it has been looked at, so it is not reported as never retrieved

    async def _run(self) -> None:
        group: list[_Waiting] = []
        try:
            while self._queue:
                async with self._head.lock:
                    group = self._sealed()
                    await self._commit_group(group)
        except BaseException as error:
            for waiting in (*group, *self._queue):
                waiting.fail(error)
            self._queue.clear()
            raise
        finally:
            self._runner = None

    def _sealed(self) -> list[_Waiting]:
        """Take what is waiting, up to a bound; a second write of one application waits for the next entry."""
        group: list[_Waiting] = []
        applications: dict[str, _Waiting] = {}
        left: list[_Waiting] = []
        files = 0
        for waiting in self._queue:
            txns = waiting.proposal.txns
            twin = next((applications[txn.app_id] for txn in txns if txn.app_id in applications), None)
            files += len(waiting.proposal.adds)
            if twin is not None and _same_write(twin.proposal, waiting.proposal):
                twin.repeats.append(waiting)
                waiting.sealed = True
            elif twin is not None or (group and files > MOST_FILES):
                left.append(waiting)
            else:
                waiting.sealed = True
                group.append(waiting)
                applications.update((txn.app_id, waiting) for txn in txns)
        self._queue = left
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        try:
            snapshot = await self._head.current()
        except StorageError as error:
            await self._fail(group, error)
            return
        for waiting in group:
            await self._discard_repeats(waiting)
        fit = [waiting for waiting in group if await self._fits(waiting, snapshot)]
        if len(fit) > 1 and await self._commit_together(snapshot, fit):
            return
        for waiting in fit:
            await self._commit_alone(waiting)

    async def _fits(self, waiting: _Waiting, snapshot: Snapshot) -> bool:
        """Settle an append that is not to be committed, and say so."""
        try:
            done = already_done(snapshot.txns, waiting.proposal.txns)
            reason = None if done else outgrown(waiting.proposal, waiting.seen, snapshot)
            if reason is not None:
                raise CommitConflictError(
                    f"{waiting.proposal.operation} on table {snapshot.path!r} was overtaken by version "
                    f"{snapshot.version}: {reason}; read the table again and decide again",
                    key=snapshot.path,
                )
        except StorageError as error:
            await self._fail([waiting], error)
            return False
        if done:
            await self._head.committer.discard(waiting.proposal)
            waiting.succeed(snapshot, done_before=True)
        return not done

    async def _commit_together(self, snapshot: Snapshot, group: list[_Waiting]) -> bool:
        """Commit the group as one entry; False where each must be tried alone."""
        try:
            committed = await self._head.commit(
                snapshot, _together([waiting.proposal for waiting in group]), keep_on_conflict=True
            )
        except StarvedError as error:  # so would each be
            await self._fail(group, error)
            return True
        except CommitConflictError:
            return False
        except StorageError as error:  # the committer has deleted the files where it could
            for waiting in group:
                waiting.fail(error)
            return True
        if committed.done_before:
            return False
        for waiting in group:
            waiting.succeed(committed.snapshot)
        return True

    async def _commit_alone(self, waiting: _Waiting) -> None:
        try:
            try:
                committed = await self._head.commit(await self._head.current(), waiting.proposal, waiting.seen)
            except BuriedCommitError:  # it suspended for hours; the files it names are there still
                committed = await self._head.commit(await self._head.refresh(), waiting.proposal, waiting.seen)
        except StorageError as error:
            waiting.fail(error)
        else:
            waiting.succeed(committed.snapshot, done_before=committed.done_before)

    async def _fail(self, group: list[_Waiting], error: BaseException) -> None:
        await gather([lambda each=each: self._head.committer.discard(each.proposal) for each in group])  # type: ignore[misc]
        for waiting in group:
            waiting.fail(error)

    async def _discard_repeats(self, waiting: _Waiting) -> None:
        for repeat in waiting.repeats:
            await self._head.committer.discard(repeat.proposal)


def _same_write(one: Proposal, other: Proposal) -> bool:
    ours, theirs = ([(txn.app_id, txn.version) for txn in each.txns] for each in (one, other))
    return ours == theirs


def _together(proposals: list[Proposal]) -> Proposal:
    metrics: dict[str, int] = {}
    for proposal in proposals:
        for name, count in proposal.metrics.items():
            metrics[name] = metrics.get(name, 0) + count
    told = [proposal.user_metadata for proposal in proposals if proposal.user_metadata is not None]
    return Proposal(
        proposals[0].operation,
        tuple(chain.from_iterable(proposal.adds for proposal in proposals)),
        txns=tuple(chain.from_iterable(proposal.txns for proposal in proposals)),
        metrics=metrics,
        user_metadata=joined_metadata(told),
        writes=len(proposals),
    )


def joined_metadata(told: list[str]) -> str | None:
    """Return what the members of a group said of themselves, each in its line."""
    distinct = list(dict.fromkeys(told))
    return "\n".join(distinct) if distinct else None
