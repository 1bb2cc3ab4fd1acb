"""Has so many calls in flight and no more."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from buffetstore.monitoring.events import Hook, Operation, no_hook
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Data,
    GetResult,
    Listing,
    ObjectMeta,
    ObjectStore,
    ObjectVersion,
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.passing import PassingResult
from buffetstore.resilience.permits import ConcurrencyLimit, Permits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import TypeVar

    T = TypeVar("T")

DEFAULT_LIMIT = ConcurrencyLimit()


class LimitStore(StoreWrapper):
    """Lets at most so many calls into the store at once; the others wait, first come, first served.

    A get holds its permit until its body is consumed or closed, as it holds a connection so long. Whoever opens bodies
    and reads none of them until he has opened more than `limit.calls` waits for himself.

    An upload holds one only while a start, write or completion runs, and a listing while it takes a step, so that any
    number of them may be open while other calls are made. Aborting needs no permit: what frees must not wait.

    Parameters
    ----------
    inner:
        The store around.
    limit:
        Calls at once, and bytes of writes at once.
    hook:
        Told of each wait as `objects.limit_wait`, with its seconds.
    permits:
        Shared with other stores of the same event loop; `limit` is then theirs.

    Attributes
    ----------
    permits:
        What is in flight now: `in_use`, `waiting` and `bytes_in_flight`.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "capabilities", "signed_url", "aclose"})

    def __init__(
        self,
        inner: ObjectStore,
        limit: ConcurrencyLimit = DEFAULT_LIMIT,
        *,
        hook: Hook = no_hook,
        permits: Permits | None = None,
    ) -> None:
        super().__init__(inner)
        self.permits = Permits(limit) if permits is None else permits
        self._hook = hook

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        return await self.held(key, lambda: self.inner.put(key, data, mode=mode, attributes=attributes), size=len(data))

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        upload = await self.held(key, lambda: self.inner.start_upload(key, mode=mode, attributes=attributes))
        return _HeldUpload(upload, self, key)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        if not self.permits.take_now():
            await self._wait(key, 0)
        try:
            result = await self.inner.get(key, range=range, if_match=if_match, head=head)
        except BaseException:
            self.permits.give_back()
            raise
        return _HeldResult(result, self.permits)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        return await self.held(key, lambda: self.inner.get_ranges(key, ranges, if_match=if_match))

    async def delete(self, keys: Sequence[str]) -> None:
        await self.held(keys[0] if keys else "", lambda: self.inner.delete(keys))

    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        return self._listed(prefix, self.inner.list_objects(prefix, after=after))

    async def list_prefixes(self, prefix: str = "") -> Listing:
        return await self.held(prefix, lambda: self.inner.list_prefixes(prefix))

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        return await self.held(target, lambda: self.inner.copy(source, target, mode=mode))

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        return self._listed(prefix, self.inner.list_versions(prefix))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        if not self.permits.take_now():
            await self._wait(key, 0)
        try:
            result = await self.inner.get_version(key, version_id, range=range)
        except BaseException:
            self.permits.give_back()
            raise
        return _HeldResult(result, self.permits)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        return await self.held(key, lambda: self.inner.restore_version(key, version_id))

    async def held(self, key: str, call: Callable[[], Awaitable[T]], *, size: int = 0) -> T:
        """Make `call`, which sends `size` bytes, under a permit."""
        if not self.permits.take_now(size):
            await self._wait(key, size)
        try:
            return await call()
        finally:
            self.permits.give_back(size)

    async def _wait(self, key: str, size: int) -> None:
        started = time.perf_counter()
        await self.permits.take(size)
        self._hook(Operation("objects.limit_wait", time.perf_counter() - started, key))

    async def _listed(self, prefix: str, listing: AsyncIterator[T]) -> AsyncIterator[T]:
        while True:
            entry = await self.held(prefix, lambda: anext(listing, None))
            if entry is None:
                return
            yield entry


class _HeldResult(PassingResult):
    def __init__(self, inner: GetResult, permits: Permits) -> None:
        super().__init__(inner, inner.meta)
        self._permits: Permits | None = permits

    def _ended(self, error: BaseException | None) -> None:  # noqa: ARG002 - it is over either way
        if self._permits is not None:
            permits, self._permits = self._permits, None
            permits.give_back()


class _HeldUpload(UploadWrapper):
    def __init__(self, inner: Upload, store: LimitStore, key: str) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    async def write(self, data: Data) -> None:
        await self._store.held(self._key, lambda: self.inner.write(data), size=len(data))

    async def complete(self) -> ObjectMeta:
        return await self._store.held(self._key, self.inner.complete)
