"""A result whose bytes pass as they are, for wrappers that only want to know of them."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.objects.base import GetResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.objects.base import Data, ObjectMeta


class PassingResult(GetResult):
    """Hands on the bytes of `inner`; `read` and `readinto` are the inner one's own, which knows how to do them best.

    A subclass is told of bytes by `_passed` and of the end by `_ended`: at the last byte, a failure, or the closing,
    whichever comes first, and perhaps again at a later one of these.
    """

    def __init__(self, inner: GetResult, meta: ObjectMeta) -> None:
        # Not the base's: its iterator is made here only when asked for, and nothing holds a reference to itself, as
        # every small read would else leave work to the garbage collector.
        self.meta = meta
        self.range = inner.range
        self.inner = inner
        self._streamed: AsyncIterator[Data] | None = None

    def __aiter__(self) -> AsyncIterator[Data]:
        if self._streamed is None:
            self._streamed = self._stream()
        return self._streamed

    async def read(self) -> bytes:
        try:
            data = await self.inner.read()
        except BaseException as error:
            self._ended(error)
            raise
        self._passed(len(data))
        self._ended(None)
        return data

    async def readinto(self, buffer: memoryview) -> int:
        try:
            size = await self.inner.readinto(buffer)
        except BaseException as error:
            self._ended(error)
            raise
        self._passed(size)
        self._ended(None)
        return size

    async def aclose(self) -> None:
        try:
            await self.inner.aclose()
        finally:
            self._ended(None)

    async def _stream(self) -> AsyncIterator[Data]:
        try:
            async for chunk in self.inner:
                self._passed(len(chunk))
                yield chunk
        except GeneratorExit:  # the consumer has seen enough: what it holds is freed by closing the result
            raise
        except BaseException as error:
            self._ended(error)
            raise
        self._ended(None)

    def _passed(self, size: int) -> None:
        """Take note of so many bytes."""

    def _ended(self, error: BaseException | None) -> None:
        """Take note of the end."""
