"""Tells a hook of every call to a store."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from buffetstore.monitoring.events import Hook, Operation, error_code, no_hook, observed
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

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence
    from typing import TypeVar

    T = TypeVar("T")


class MetricsStore(StoreWrapper):
    """Tells `hook` of each finished call as `objects.<verb>`.

    The verbs are put, upload, get, head, get_ranges, delete, list_objects, list_prefixes, copy, list_versions,
    get_version and restore_version. Counts: `bytes_out`
    were given to the store, `bytes_in` came from it, `keys` were listed or deleted. A get is told when its body has
    been consumed or closed, an upload when it is completed or aborted; their seconds last until then.
    """

    forwards: ClassVar[frozenset[str]] = frozenset({"url", "capabilities", "signed_url", "aclose"})

    def __init__(self, inner: ObjectStore, hook: Hook) -> None:
        super().__init__(inner)
        self._hook = hook

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        with observed(self._hook, "objects.put", key) as counts:
            meta = await self.inner.put(key, data, mode=mode, attributes=attributes)
            counts["bytes_out"] = meta.size
            return meta

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        call = _Call(self._hook, "objects.upload", key, "bytes_out")
        try:
            return _ObservedUpload(await self.inner.start_upload(key, mode=mode, attributes=attributes), call)
        except BaseException as error:
            call.end(error)
            raise

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        if head:
            with observed(self._hook, "objects.head", key):
                return await self.inner.get(key, if_match=if_match, head=True)
        return await self._opened("objects.get", key, self.inner.get(key, range=range, if_match=if_match))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        with observed(self._hook, "objects.get_ranges", key) as counts:
            parts = await self.inner.get_ranges(key, ranges, if_match=if_match)
            counts["bytes_in"] = sum(len(part) for part in parts)
            return parts

    async def delete(self, keys: Sequence[str]) -> None:
        with observed(self._hook, "objects.delete", keys[0] if keys else "") as counts:
            await self.inner.delete(keys)
            counts["keys"] = len(keys)

    def list_objects(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectMeta]:
        return self._listed("objects.list_objects", prefix, self.inner.list_objects(prefix, after=after))

    async def list_prefixes(self, prefix: str = "") -> Listing:
        with observed(self._hook, "objects.list_prefixes", prefix) as counts:
            listing = await self.inner.list_prefixes(prefix)
            counts["keys"] = len(listing.objects) + len(listing.prefixes)
            return listing

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        with observed(self._hook, "objects.copy", target):
            return await self.inner.copy(source, target, mode=mode)

    def list_versions(self, prefix: str = "") -> AsyncIterator[ObjectVersion]:
        return self._listed("objects.list_versions", prefix, self.inner.list_versions(prefix))

    async def get_version(self, key: str, version_id: str, *, range: ByteRange | None = None) -> GetResult:
        return await self._opened("objects.get_version", key, self.inner.get_version(key, version_id, range=range))

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        with observed(self._hook, "objects.restore_version", key):
            return await self.inner.restore_version(key, version_id)

    async def _opened(self, name: str, key: str, opening: Awaitable[GetResult]) -> GetResult:
        if self._hook is no_hook:
            return await opening
        call = _Call(self._hook, name, key, "bytes_in")
        try:
            result = await opening
        except BaseException as error:
            call.end(error)
            raise
        return _ObservedResult(result, call)

    async def _listed(self, name: str, prefix: str, listing: AsyncIterator[T]) -> AsyncIterator[T]:
        call = _Call(self._hook, name, prefix, "keys")
        try:
            async for entry in listing:
                call.count += 1
                yield entry
        except GeneratorExit:  # the caller has seen enough
            call.end()
            raise
        except BaseException as error:
            call.end(error)
            raise
        call.end()


class _Call:
    """One call that outlives the method which began it; told once."""

    __slots__ = ("_counted", "_ended", "_hook", "_key", "_name", "_started", "count")

    def __init__(self, hook: Hook, name: str, key: str, counted: str) -> None:
        self._hook = hook
        self._name = name
        self._key = key
        self._counted = counted
        self._started = time.perf_counter()
        self._ended = False
        self.count = 0

    def end(self, error: BaseException | None = None) -> None:
        if not self._ended:
            self._ended = True
            seconds = time.perf_counter() - self._started
            code = None if error is None else error_code(error)
            self._hook(Operation(self._name, seconds, self._key, code, {self._counted: self.count}))


class _ObservedResult(PassingResult):
    def __init__(self, inner: GetResult, call: _Call) -> None:
        super().__init__(inner, inner.meta)
        self._call = call

    def _passed(self, size: int) -> None:
        self._call.count += size

    def _ended(self, error: BaseException | None) -> None:
        self._call.end(error)


class _ObservedUpload(UploadWrapper):
    def __init__(self, inner: Upload, call: _Call) -> None:
        super().__init__(inner)
        self._call = call

    async def write(self, data: Data) -> None:
        try:
            await self.inner.write(data)
        except BaseException as error:
            self._call.end(error)
            raise
        self._call.count += len(data)

    async def complete(self) -> ObjectMeta:
        try:
            meta = await self.inner.complete()
        except BaseException as error:
            self._call.end(error)
            raise
        self._call.end()
        return meta

    async def abort(self) -> None:
        await self.inner.abort()
        self._call.end()
