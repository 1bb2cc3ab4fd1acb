"""What was done to a table: its commits, newest first, and going back to one of its versions."""

from __future__ import annotations

import json
from collections import deque
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.errors import CorruptLogError, InvalidInputError, NotFoundError
from buffetstore.objects.helpers import get_bytes
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import CommitInfo
from buffetstore.tables.kept_history import kept_commits
from buffetstore.tables.kept_times import kept_times
from buffetstore.tables.load import load
from buffetstore.tables.log import MEND, commit_info, commit_key
from buffetstore.tables.operations.restore import restore_files
from buffetstore.tables.results import RestoreResult
from buffetstore.tables.time_travel import committed_times, version_at
from buffetstore.tables.writable import WritableTable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping, Sequence

    from buffetstore.objects.base import ObjectStore
    from buffetstore.tables.conflicts import Proposal
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.kept_history import KeptCommit
    from buffetstore.tables.snapshot import Snapshot

_WINDOW = 64


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """One commit, as far as its writer told: everything but the version may be absent.

    `parameters` and `metrics` are in the words of the engine that wrote them. `timestamp` is by its writer's clock;
    `committed_at` is the time that `DeltaTable.open(timestamp=)` and `restore(timestamp=)` go by.
    """

    version: int
    timestamp: datetime | None = None
    operation: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    engine: str | None = None
    user_metadata: str | None = None
    commit_id: str | None = None
    read_version: int | None = None
    is_blind_append: bool | None = None
    committed_at: datetime | None = None


class History:
    """Commits, newest first: ``await history`` for a list, ``async for commit in history`` for one at a time."""

    def __init__(self, records: Callable[[], AsyncGenerator[CommitRecord, None]]) -> None:
        self._records = records

    def __await__(self) -> Generator[Any, Any, list[CommitRecord]]:
        return self._all().__await__()

    def __aiter__(self) -> AsyncIterator[CommitRecord]:
        return self._records()

    async def _all(self) -> list[CommitRecord]:
        async with aclosing(self._records()) as records:
            return [record async for record in records]


class HistoryMethods(WritableTable):
    """Looking back, and going back."""

    def history(self, limit: int | None = None) -> History:
        """Return the latest `limit` commits, newest first: awaited a list, or iterated by ``async for``.

        It comes to the latest version first. Entries are read in parallel, 64 at a time. Where entries have been
        cleaned up it goes on with what was kept of them, and ends at the oldest commit that is known: others clean up
        without keeping anything.

        Raises
        ------
        InvalidInputError
            `limit` is negative.
        CorruptLogError
            An entry is damaged; the message names it.
        CorruptFileError
            So is what was kept of entries.
        """
        if limit is not None and limit < 0:
            raise InvalidInputError(f"limit {limit} is negative")
        return History(partial(self._commits, limit))

    async def _commits(self, limit: int | None) -> AsyncGenerator[CommitRecord, None]:
        snapshot = await self.refresh()
        newest = snapshot.version
        oldest = 0 if limit is None else max(0, newest + 1 - limit)
        stamps = await committed_times(self.store, self.path, snapshot.metadata.id)
        for start in count(newest, -_WINDOW):
            versions = range(start, max(start - _WINDOW, oldest - 1), -1)
            found = await gather([partial(_read_record, self.store, self.path, version) for version in versions])
            logged = [_stamped(record, stamps.get(record.version)) for record in found if record is not None]
            if len(logged) == len(found):
                for record in logged:
                    yield record
                low = versions[-1] if versions else oldest
            else:
                low = versions[-1] if logged and versions[-1] > min(stamps) else oldest
                kept = kept_commits(self.store, self.path, snapshot.metadata.id, versions[0], low)
                async with aclosing(_merged(logged, kept, self.path)) as records:
                    async for record in records:
                        yield record
            if low <= oldest:
                return

    async def restore(
        self,
        version: int | None = None,
        timestamp: datetime | None = None,
        *,
        ignore_missing: bool = False,
        user_metadata: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> RestoreResult:
        """Make the table what it was at `version`, or at `timestamp`, by a new commit; nothing of its history goes.

        Schema, partition columns and properties become those of that version too. The protocol stays, and so does what
        is known of idempotency keys: a write that was rolled back is not written again under its key.

        Parameters
        ----------
        ignore_missing:
            Bring back what is left where data files of that version have been vacuumed.

        Raises
        ------
        TableVersionNotFoundError
            There is no such version, or its log entries have been cleaned up.
        NotFoundError
            Data files of that version have been vacuumed; they are named, and nothing was done.
        UnsupportedFeatureError
            That version needs what the table's protocol does not have any more.
        CommitConflictError, CommitUnknownError
        """
        if (version is None) == (timestamp is None):
            raise InvalidInputError(f"version {version} and timestamp {timestamp} were given: it takes one of them")
        self._check_writable(removes=True)
        asked = {"version": version} if timestamp is None else {"timestamp": timestamp.isoformat()}
        if timestamp is not None:
            kept = await kept_times(self.store, self.path, self.snapshot.metadata.id)
            version = await version_at(self.store, self.path, timestamp, kept)
        target = await load(self.store, self.path, version)

        async def attempt(snapshot: Snapshot) -> tuple[Proposal | None, RestoreResult]:
            return await restore_files(self.store, snapshot, target, asked, ignore_missing=ignore_missing)

        txns = await self._txns(idempotency_key, None, pa.table({"restore": [json.dumps(asked)]}))
        repeated = RestoreResult(self.version, target.version, done_before=True)
        return await self._modify(attempt, user_metadata, txns, repeated)


async def _read_record(store: ObjectStore, path: str, version: int) -> CommitRecord | None:
    """Return what is known of a commit, None where its entry has been cleaned up."""
    try:
        data = await get_bytes(store, commit_key(path, version))
    except NotFoundError:
        return None
    return await in_thread(_record, data, path, version)


def _record(data: bytes, path: str, version: int) -> CommitRecord:
    with _named(path, version):
        return _record_of(commit_info(data), version)


def _kept_record(commit: KeptCommit, path: str) -> CommitRecord:
    with _named(path, commit.version):
        return _stamped(_record_of(commit.info, commit.version), commit.committed_at)


@contextmanager
def _named(path: str, version: int) -> Generator[None, None, None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        key = commit_key(path, version)
        raise CorruptLogError(
            f"version {version} of table {path!r} cannot be read: {key!r}: {error}; {MEND}", key=key
        ) from error


def _stamped(record: CommitRecord, moment: datetime | None) -> CommitRecord:
    return record if record.committed_at else replace(record, committed_at=moment)


async def _merged(
    logged: Sequence[CommitRecord], kept: AsyncGenerator[KeptCommit, None], path: str
) -> AsyncGenerator[CommitRecord, None]:
    """Yield the records, newest first; where both have a version, that of the log."""
    waiting = deque(logged)
    async with aclosing(kept):
        async for commit in kept:
            while waiting and waiting[0].version > commit.version:
                yield waiting.popleft()
            if not waiting or waiting[0].version < commit.version:
                yield _kept_record(commit, path)
    for record in waiting:
        yield record


def _record_of(body: Mapping[str, Any] | None, version: int) -> CommitRecord:
    if body is None:
        return CommitRecord(version)
    info = CommitInfo.from_json(body)
    stamp = info.in_commit_timestamp or info.timestamp
    moment = datetime.fromtimestamp(stamp / 1000, UTC) if stamp else None
    return CommitRecord(
        version,
        moment,
        info.operation or None,
        info.parameters,
        info.metrics,
        info.engine,
        info.user_metadata,
        info.commit_id,
        info.read_version,
        info.blind_append if "isBlindAppend" in body else None,
        moment if info.in_commit_timestamp else None,
    )
