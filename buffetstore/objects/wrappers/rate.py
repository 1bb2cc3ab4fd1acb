"""Asks a service for so much per second and no more."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import asyncio
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
from buffetstore.resilience.rate import RateLimit, TokenBucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import TypeVar

    T = TypeVar("T")

_PAGE = 1000


class RateStore(StoreWrapper):
    """Delays calls so that the store is asked for no more than `limit`, in the order in which they came.

    * Each call is one request. A listing is one for each 1,000 entries, a deletion one for each 1,000 keys, which is
      roughly what services make of them; an upload is one for its start and one for its completion, its parts count by
      their bytes.
    * Bytes that are written wait before they are sent. Bytes that are read are known only when they have come: they are
      handed on when they have been paid for, so that a streamed body keeps to the rate chunk by chunk.
    * A caller that is cancelled while it waits gives back what it had not used.

    Parameters
    ----------
    inner:
        The store around.
    limit:
        Requests and bytes per second.
    hook:
        Told of each wait as `objects.rate_wait`: its seconds, and what it was for in the counts `requests` and `bytes`.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "capabilities", "signed_url", "aclose"})

    def __init__(self, inner: ObjectStore, limit: RateLimit, *, hook: Hook = no_hook) -> None:
        super().__init__(inner)
        requests, sent = limit.requests_per_second, limit.bytes_per_second
        # Less than one request could never be taken without a wait.
        self._requests = TokenBucket(requests, max(1.0, (requests or 0) * limit.burst_seconds), limit.clock)
        self._bytes = TokenBucket(sent, (sent or 0) * limit.burst_seconds, limit.clock)
        self._sleep = limit.sleep
        self._hook = hook

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        await self.ask(key, size=len(data))
        return await self.inner.put(key, data, mode=mode, attributes=attributes)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        await self.ask(key)
        return _PacedUpload(await self.inner.start_upload(key, mode=mode, attributes=attributes), self, key)

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        if seconds := self._requests.take(1):
            await self._wait(seconds, key, 1, 0)
        return _PacedResult(await self.inner.get(key, range=range, if_match=if_match, head=head), self)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        await self.ask(key)
        parts = await self.inner.get_ranges(key, ranges, if_match=if_match)
        await self.came(key, sum(map(len, parts)))
        return parts

    async def delete(self, keys: Sequence[str]) -> None:
        await self.ask(keys[0] if keys else "", requests=max(1, -(-len(keys) // _PAGE)))
        await self.inner.delete(keys)

    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        return self._listed(prefix, self.inner.list_objects(prefix, after=after))

    async def list_prefixes(self, prefix: str = "") -> Listing:
        await self.ask(prefix)
        return await self.inner.list_prefixes(prefix)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        await self.ask(target)
        return await self.inner.copy(source, target, mode=mode)

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        return self._listed(prefix, self.inner.list_versions(prefix))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        await self.ask(key)
        return _PacedResult(await self.inner.get_version(key, version_id, range=range), self)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        await self.ask(key)
        return await self.inner.restore_version(key, version_id)

    async def ask(self, key: str, *, requests: int = 1, size: int = 0) -> None:
        """Wait until so many requests and bytes may be sent."""
        seconds = max(self._requests.take(requests), self._bytes.take(size) if size else 0.0)
        if seconds:
            await self._wait(seconds, key, requests, size)

    async def came(self, key: str, size: int) -> None:
        """Wait until so many bytes, which have come, are paid for."""
        if seconds := self._bytes.take(size):
            self._tell(seconds, key, 0, size)
            await self._sleep(seconds)

    async def _wait(self, seconds: float, key: str, requests: int, size: int) -> None:
        self._tell(seconds, key, requests, size)
        try:
            await self._sleep(seconds)
        except asyncio.CancelledError:
            self._requests.give_back(requests)
            self._bytes.give_back(size)
            raise

    def _tell(self, seconds: float, key: str, requests: int, size: int) -> None:
        self._hook(Operation("objects.rate_wait", seconds, key, None, {"requests": requests, "bytes": size}))

    async def _listed(self, prefix: str, listing: AsyncIterator[T]) -> AsyncIterator[T]:
        await self.ask(prefix)
        count = 0
        async for entry in listing:
            count += 1
            if count > _PAGE:
                await self.ask(prefix)
                count = 1
            yield entry


class _PacedResult(PassingResult):
    def __init__(self, inner: GetResult, store: RateStore) -> None:
        super().__init__(inner, inner.meta)
        self._store = store

    async def read(self) -> bytes:
        data = await self.inner.read()
        await self._store.came(self.meta.key, len(data))
        return data

    async def readinto(self, buffer: memoryview) -> int:
        size = await self.inner.readinto(buffer)
        await self._store.came(self.meta.key, size)
        return size

    async def _stream(self) -> AsyncIterator[Data]:
        async for chunk in self.inner:
            await self._store.came(self.meta.key, len(chunk))
            yield chunk


class _PacedUpload(UploadWrapper):
    def __init__(self, inner: Upload, store: RateStore, key: str) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    async def write(self, data: Data) -> None:
        await self._store.ask(self._key, requests=0, size=len(data))
        await self.inner.write(data)

    async def complete(self) -> ObjectMeta:
        await self._store.ask(self._key)
        return await self.inner.complete()
