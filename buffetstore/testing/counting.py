"""A store that counts: requests by verb, bytes, and how many requests had to wait for another."""

# ruff: noqa: A002 - names are those of the contract

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

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
    PutMode,
    Upload,
)
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper, WrappedResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


class CountingStore(StoreWrapper):
    """Counts what passes through it.

    Attributes
    ----------
    requests:
        Calls by verb: put, start_upload, write, complete, abort, get, head, get_ranges, delete, list_objects,
        list_prefixes, copy.
    bytes_in, bytes_out:
        Bytes read from the store, and given to it.
    round_trips:
        The longest chain of requests of which each began after the one before had been answered: what latency is paid
        for. Requests in flight together count once; give `latency_seconds` where the store answers faster than the
        caller can start several.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "signed_url", "list_versions", "get_version", "restore_version", "aclose"}
    )

    def __init__(self, inner: ObjectStore, *, latency_seconds: float = 0.0) -> None:
        super().__init__(inner)
        self._latency = latency_seconds
        self.reset()

    def reset(self) -> None:
        """Begin to count anew."""
        self.requests: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0
        self.round_trips = 0

    @property
    def total(self) -> int:
        """Requests of every verb."""
        return self.requests.total()

    @asynccontextmanager
    async def request(self, verb: str) -> AsyncIterator[None]:
        """Count one request that lasts as long as the block."""
        self.requests[verb] += 1
        depth = self.round_trips + 1
        if self._latency:
            await asyncio.sleep(self._latency)
        try:
            yield
        finally:
            self.round_trips = max(self.round_trips, depth)

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        async with self.request("put"):
            self.bytes_out += len(data)
            return await self.inner.put(key, data, mode=mode, attributes=attributes)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        async with self.request("start_upload"):
            return _CountingUpload(self, await self.inner.start_upload(key, mode=mode, attributes=attributes))

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        async with self.request("head" if head else "get"):
            result = await self.inner.get(key, range=range, if_match=if_match, head=head)
        return WrappedResult(result, result.meta, self._counted(result))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        async with self.request("get_ranges"):
            parts = await self.inner.get_ranges(key, ranges, if_match=if_match)
            self.bytes_in += sum(len(part) for part in parts)
            return parts

    async def delete(self, keys: Sequence[str]) -> None:
        async with self.request("delete"):
            await self.inner.delete(keys)

    async def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        async with self.request("list_objects"):
            async for meta in self.inner.list_objects(prefix, after=after):
                yield meta

    async def list_prefixes(self, prefix: str = "") -> Listing:
        async with self.request("list_prefixes"):
            return await self.inner.list_prefixes(prefix)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        async with self.request("copy"):
            return await self.inner.copy(source, target, mode=mode)

    async def _counted(self, result: GetResult) -> AsyncIterator[Data]:
        async for chunk in result:
            self.bytes_in += len(chunk)
            yield chunk


class _CountingUpload(UploadWrapper):
    def __init__(self, store: CountingStore, inner: Upload) -> None:
        super().__init__(inner)
        self._store = store

    async def write(self, data: Data) -> None:
        async with self._store.request("write"):
            self._store.bytes_out += len(data)
            await self.inner.write(data)

    async def complete(self) -> ObjectMeta:
        async with self._store.request("complete"):
            return await self.inner.complete()

    async def abort(self) -> None:
        async with self._store.request("abort"):
            await self.inner.abort()
