"""A store whose writes are copied to others."""

# ruff: noqa: D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from buffetstore.errors import (
    BucketNotFoundError,
    ConfigurationError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from buffetstore.monitoring.events import Hook, Operation, error_code, no_hook, observed
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    Data,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.copier import ObjectCopier
from buffetstore.objects.copy_store import CopyReport, Mirror, table_of
from buffetstore.objects.helpers import exists
from buffetstore.objects.wrappers.base import UploadWrapper
from buffetstore.objects.wrappers.failover import FailoverStore

if TYPE_CHECKING:
    from collections.abc import Sequence

CONCURRENCY = 8
QUEUED_KEYS = 10_000
DRAIN_SECONDS = 30.0
_HINT = "_delta_log/_last_checkpoint"


class ReplicateStore(FailoverStore):
    """Writes to `primary`, and copies what was written to each of `replicas`.

    The primary alone decides every write and gives the versions. Once it has acknowledged one, the replicas get the
    key's newest state, whatever order the writes came in; entries of a Delta log one after another, each after all
    that was written before it. A replica's failure never fails the write: it counts as `lag`, the hook is told
    (`objects.replicate` with its error), and from then on that replica gets no log entries, which could name files
    that it lacks, until `repair` has brought it level. So it is after a process ended before its queue was empty.

    Reads go to the primary, and while it is unavailable to the replicas in order, whose versions are marked
    (`other-1:...`); see `FailoverStore`. That something is not there is believed only of a replica without lag.

    Parameters
    ----------
    wait:
        Let a write return only when its copies are made, or have failed. Otherwise they are made in the background.
    queued_keys:
        What may wait for one replica; beyond it keys count as lag and wait for `repair`.
    concurrency:
        Copies on their way to one replica at once.
    drain_seconds:
        How long `aclose` lets copies that wait be made.
    hook:
        Told of each copy (`objects.replicate`) and of each answer that is a replica's (`objects.fallback`).
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "get", "get_ranges", "list_objects", "list_prefixes", "signed_url"}
        | {"list_versions", "get_version"}
    )

    def __init__(
        self,
        primary: ObjectStore,
        replicas: Sequence[ObjectStore],
        *,
        wait: bool = False,
        queued_keys: int = QUEUED_KEYS,
        concurrency: int = CONCURRENCY,
        drain_seconds: float = DRAIN_SECONDS,
        hook: Hook = no_hook,
    ) -> None:
        super().__init__(primary, *replicas, hook=hook)
        for name, value in (("queued_keys", queued_keys), ("concurrency", concurrency)):
            if value < 1:
                raise ConfigurationError(f"{name} is {value}: at least 1 is needed")
        self._wait = wait
        self._drain_seconds = drain_seconds
        self._replicas = [_Replica(primary, store, queued_keys, concurrency, hook) for store in replicas]

    @property
    def lag(self) -> list[int]:
        """For each replica, how many keys it may not hold as the primary does: they wait, or have failed."""
        return [replica.lag for replica in self._replicas]

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        try:
            meta = await self.inner.put(key, data, mode=mode, attributes=attributes)
        except BaseException as error:
            self._after_failure(error, [key])
            raise
        await self.written([key])
        return meta

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        inner = await self.inner.start_upload(key, mode=mode, attributes=attributes)
        return _ReplicatedUpload(inner, self, key)

    async def delete(self, keys: Sequence[str]) -> None:
        try:
            await self.inner.delete(keys)
        except BaseException as error:
            if not isinstance(error, InvalidInputError):
                self._enqueue(keys)  # some may be gone all the same: the replicas get the state that is
            raise
        await self.written(keys)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        try:
            meta = await self.inner.copy(source, target, mode=mode)
        except BaseException as error:
            self._after_failure(error, [target])
            raise
        await self.written([target])
        return meta

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        try:
            meta = await self.inner.restore_version(key, version_id)
        except BaseException as error:
            self._after_failure(error, [key])
            raise
        await self.written([key])
        return meta

    async def aclose(self) -> None:
        """Let the copies that wait be made for at most `drain_seconds`; close every store. What is left is lag."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_seconds):
                    await self.drain()
        finally:
            for replica in self._replicas:
                await replica.stop()
            await super().aclose()

    async def drain(self) -> None:
        """Wait until no copy waits; those that failed are still `lag`."""
        for replica in self._replicas:
            await replica.drained(replica.enqueue([]))

    async def repair(self, prefix: str = "") -> list[CopyReport]:
        """Make every replica hold what the primary does under `prefix`, and nothing else; return a report for each.

        Compares listings, so that it also finds what other processes left undone. Copies that wait are made after it.
        A replica that was repaired without failures, all of it, has no lag of before.
        """
        return [await replica.repair(prefix) for replica in self._replicas]

    async def written(self, keys: Sequence[str]) -> None:
        """Have `keys` copied: they were written at the primary."""
        tickets = self._enqueue(keys)
        if self._wait:
            for replica, ticket in zip(self._replicas, tickets, strict=True):
                await replica.drained(ticket)

    def _after_failure(self, error: BaseException, keys: Sequence[str]) -> None:
        # A write whose answer was lost may be there; so may one whose caller was cancelled.
        if not isinstance(error, StorageError) or error.ambiguous:
            self._enqueue(keys)

    def _enqueue(self, keys: Sequence[str]) -> list[int]:
        return [replica.enqueue(keys) for replica in self._replicas]

    def _trusts(self, number: int) -> bool:
        return self._replicas[number - 1].lag == 0


class _ReplicatedUpload(UploadWrapper):
    def __init__(self, inner: Upload, store: ReplicateStore, key: str) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    async def complete(self) -> ObjectMeta:
        try:
            meta = await self.inner.complete()
        except BaseException as error:
            self._store._after_failure(error, [self._key])  # noqa: SLF001 - of this module
            raise
        await self._store.written([self._key])
        return meta


class _Replica:
    """One replica, its queue, and the task that empties it; the task lives only while there is something to do."""

    def __init__(
        self, primary: ObjectStore, store: ObjectStore, queued_keys: int, concurrency: int, hook: Hook
    ) -> None:
        self._primary = primary
        self._store = store
        self._copier = ObjectCopier(primary, store)
        self._limit = queued_keys
        self._concurrency = concurrency
        self._hook = hook
        self._queue: deque[str] = deque()
        self._waiting: set[str] = set()  # what the queue holds: a key that waits already need not wait twice
        self._running = 0
        self._missed = 0
        self._taken = self._finished = 0  # keys ever queued, and done with
        self._batch_done = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()  # copies and repairs keep out of each other's way

    @property
    def lag(self) -> int:
        return len(self._queue) + self._running + self._missed

    def enqueue(self, keys: Sequence[str]) -> int:
        """Queue `keys`; return the ticket by which `drained` waits for them."""
        for key in keys:
            if key in self._waiting and table_of(key) is None:
                continue
            if len(self._queue) >= self._limit:
                self._miss(key, "queue_full")
                continue
            self._queue.append(key)
            self._waiting.add(key)
            self._taken += 1
        if self._queue and not self._is_working():
            self._task = asyncio.create_task(self._work(), name=f"replicate to {self._store.url}")
        return self._taken

    async def drained(self, ticket: int) -> None:
        """Wait until what was queued by then is done with; what comes later is not waited for."""
        while self._finished < ticket and self._is_working():
            await self._batch_done.wait()

    async def stop(self) -> None:
        """End the task; what waits is lag."""
        if self._task is not None and self._is_working():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def repair(self, prefix: str) -> CopyReport:
        async with self._lock:
            missed = self._missed
            mirror = Mirror(self._primary, self._store, prefix, overwrite_log=True)
            with observed(self._hook, "objects.repair", prefix) as counts:
                report = await mirror.run(delete_extra=True)
                counts |= {"keys": report.copied + report.deleted, "bytes_out": report.bytes}
            if not prefix and not report.failed:
                self._missed -= missed
            return report

    def _is_working(self) -> bool:
        return self._task is not None and not self._task.done()

    async def _work(self) -> None:
        try:
            while self._queue:
                async with self._lock:
                    await self._copy(self._batch())
                self._wake()
        finally:
            self._wake()

    def _wake(self) -> None:
        event, self._batch_done = self._batch_done, asyncio.Event()
        event.set()

    def _batch(self) -> list[str]:
        """Take what may go side by side; an entry of a log goes alone, after all that was before it."""
        batch: list[str] = []
        while self._queue and len(batch) < self._concurrency:
            if batch and (table_of(batch[-1]) is not None or table_of(self._queue[0]) is not None):
                break
            key = self._queue.popleft()
            self._waiting.discard(key)
            batch.append(key)
        return batch

    async def _copy(self, batch: list[str]) -> None:
        left = set(batch)

        async def copy(key: str) -> None:
            await self._level(key)
            left.discard(key)

        self._running = len(batch)
        try:
            await asyncio.gather(*(copy(key) for key in batch))
        finally:
            self._missed += len(left)  # cancelled
            self._running = 0
            self._finished += len(batch)

    async def _level(self, key: str) -> None:
        """Give the replica the key's state at the primary; a failure is told and counted."""
        if table_of(key) is not None and (self._missed or (key.endswith(_HINT) and key in self._queue)):
            if self._missed:
                self._miss(key, "lagging")
            return  # a hint that is queued again is copied then: what it names now may not be there yet
        started = time.perf_counter()
        try:
            await self._copy_or_delete(key)
        except StorageError as error:
            self._miss(key, error_code(error), time.perf_counter() - started)
        else:
            self._hook(Operation("objects.replicate", time.perf_counter() - started, key))

    async def _copy_or_delete(self, key: str) -> None:
        try:
            await self._copier.copy(key)
        except BucketNotFoundError:
            raise
        except NotFoundError:
            if await exists(self._primary, key):
                raise
            await self._store.delete([key])

    def _miss(self, key: str, error: str, seconds: float = 0.0) -> None:
        self._missed += 1
        self._hook(Operation("objects.replicate", seconds, key, error))
