"""A download that goes on where it broke."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from buffetstore.errors import ChecksumMismatchError, StorageError, UnavailableError
from buffetstore.objects.base import ByteRange, GetResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from buffetstore.objects.base import Data, ObjectMeta, ObjectStore
    from buffetstore.resilience.retry import Retries

T = TypeVar("T")


class ResumingResult(GetResult):
    """A result whose body survives broken connections.

    A break is mended by asking for the rest of the same version (`if_match`), so that bytes of two versions never mix:
    where the object was replaced meanwhile, `PreconditionFailedError` is raised. Bytes that were handed on cannot be
    taken back, so a wrong checksum ends a streamed body; `read` and `readinto` start again instead.

    Parameters
    ----------
    store, first, meta:
        Where the rest is asked for, what came first, and the metadata to show.
    retries:
        How often; the waiting for bytes is not bounded, each new opening is.
    version_id:
        The version that was asked for by `get_version`.
    """

    def __init__(
        self, store: ObjectStore, first: GetResult, meta: ObjectMeta, retries: Retries, version_id: str | None = None
    ) -> None:
        # Not the base's: see PassingResult.
        self.meta = meta
        self.range = first.range
        self._store = store
        self._current = first
        self._retries = retries
        self._version_id = version_id
        self._at, self._end = first.range
        self._streamed: AsyncIterator[Data] | None = None

    def __aiter__(self) -> AsyncIterator[Data]:
        if self._streamed is None:
            self._chunks = self._streamed = self._body()
        return self._streamed

    async def read(self) -> bytes:
        if self._at != self.range[0]:  # part of it has been streamed already
            return await super().read()
        return await self._whole(self._read)

    async def readinto(self, buffer: memoryview) -> int:
        if self._at != self.range[0]:
            return await super().readinto(buffer)
        return await self._whole(lambda: self._readinto(buffer))

    async def aclose(self) -> None:
        await self._current.aclose()

    async def _whole(self, read: Callable[[], Awaitable[T]]) -> T:
        async def again() -> T:
            await self._reopen(self.range[0])
            return await read()

        try:
            return await read()
        except StorageError as error:
            if not error.transient:
                raise
            return await self._retries.resume(error, again, self.meta.key)
        finally:
            await self._current.aclose()

    async def _read(self) -> bytes:
        data = await self._current.read()
        self._came(len(data))
        return data

    async def _readinto(self, buffer: memoryview) -> int:
        size = await self._current.readinto(buffer)
        self._came(size)
        return size

    def _came(self, size: int) -> None:
        self._at += size
        if self._at < self._end:
            raise self._truncated()

    async def _body(self) -> AsyncIterator[Data]:
        self._iterator = aiter(self._current)
        while True:
            try:
                chunk = await self._next()
            except StorageError as error:
                if not error.transient or isinstance(error, ChecksumMismatchError) or self._at >= self._end:
                    raise
                chunk = await self._retries.resume(error, self._next_again, self.meta.key)
            if chunk is None:
                return
            self._at += len(chunk)
            yield chunk

    async def _next(self) -> Data | None:
        chunk = await anext(self._iterator, None)
        if chunk is None and self._at < self._end:
            raise self._truncated()
        return chunk

    async def _next_again(self) -> Data | None:
        await self._reopen(self._at)
        self._iterator = aiter(self._current)
        return await self._next()

    async def _reopen(self, start: int) -> None:
        await self._current.aclose()
        key = self.meta.key
        # An empty object has no range to ask for.
        rest = ByteRange(start, self._end) if start < self._end else None
        opening = (
            self._store.get(key, range=rest, if_match=self.meta.version)
            if self._version_id is None
            else self._store.get_version(key, self._version_id, range=rest)
        )
        self._current = await self._retries.within(opening, key)
        self._at = start

    def _truncated(self) -> UnavailableError:
        start, end = self.range
        message = f"the body of {self.meta.key!r} ended after {self._at - start} of {end - start} bytes"
        return UnavailableError(message, key=self.meta.key)
