"""A download that goes on where it broke."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.errors import ChecksumMismatchError, StorageError, UnavailableError
from buffetstore.objects.base import ByteRange, GetResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.monitoring.events import Hook
    from buffetstore.objects.base import Data, ObjectMeta, ObjectStore
    from buffetstore.resilience.retry import RetryPolicy


class ResumingResult(GetResult):
    """A result whose body survives broken connections.

    A break is mended by asking for the rest of the same version (`if_match`), so that bytes of two versions never mix:
    where the object was replaced meanwhile, `PreconditionFailedError` is raised. Bytes that were handed on cannot be
    taken back, so a wrong checksum ends a streamed body; `read` starts again instead.
    """

    def __init__(self, store: ObjectStore, first: GetResult, meta: ObjectMeta, policy: RetryPolicy, hook: Hook) -> None:
        super().__init__(meta, self._body(), range=first.range, aclose=self._close)
        self._store = store
        self._current = first
        self._iterator = aiter(first)
        self._policy = policy
        self._hook = hook
        self._at, self._end = first.range

    async def read(self) -> bytes:
        start = self.range[0]
        if self._at != start:  # part of it has been streamed already
            return await super().read()
        try:
            return await self._read_whole()
        except StorageError as error:
            if not error.transient:
                raise
            return await self._policy.resume(error, self._read_again, hook=self._hook, subject=self.meta.key)
        finally:
            await self.aclose()

    async def _read_whole(self) -> bytes:
        data = await self._current.read()
        self._at += len(data)
        if self._at < self._end:
            raise self._truncated()
        return data

    async def _read_again(self) -> bytes:
        await self._reopen(self.range[0])
        return await self._read_whole()

    async def _body(self) -> AsyncIterator[Data]:
        while True:
            try:
                chunk = await self._next()
            except StorageError as error:
                if not error.transient or isinstance(error, ChecksumMismatchError) or self._at >= self._end:
                    raise
                chunk = await self._policy.resume(error, self._next_again, hook=self._hook, subject=self.meta.key)
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
        return await self._next()

    async def _reopen(self, start: int) -> None:
        await self._current.aclose()
        # An empty object has no range to ask for.
        rest = ByteRange(start, self._end) if start < self._end else None
        self._current = await self._store.get(self.meta.key, range=rest, if_match=self.meta.version)
        self._iterator = aiter(self._current)
        self._at = start

    def _truncated(self) -> UnavailableError:
        start, end = self.range
        message = f"the body of {self.meta.key!r} ended after {self._at - start} of {end - start} bytes"
        return UnavailableError(message, key=self.meta.key)

    async def _close(self) -> None:
        await self._current.aclose()
