"""Reading files: metadata, and bodies in chunks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

from buffetstore.errors import InvalidInputError, NotFoundError, PreconditionFailedError, StorageError
from buffetstore.objects.base import Attributes, GetResult, ObjectMeta
from buffetstore.objects.fsspec.errors import mapped
from buffetstore.objects.fsspec.files import CHUNK_BYTES
from buffetstore.objects.local_files import content_type
from buffetstore.objects.ranges import checked_range, coalesce, cut
from buffetstore.resilience.concurrency import gather, unhurried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from buffetstore.objects.base import Data
    from buffetstore.objects.fsspec.files import Reader, Status
_READS_AT_ONCE = 8


def meta_of(key: str, status: Status, if_match: str | None) -> ObjectMeta:
    """Return an object's metadata, or raise that it is none, or not the version asked for."""
    if status.kind != "file":
        raise NotFoundError(f"there is no object {key!r}: it is a folder", key=key)
    if if_match is not None and status.version != if_match:
        raise PreconditionFailedError(f"{key!r} has version {status.version}, not {if_match}", key=key)
    return ObjectMeta(key, status.size, status.version, status.modified, Attributes(content_type(key)))


async def read_ranges(reader: Reader, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return several ranges of an open file, in the order asked."""
    wanted = [checked_range(start, end, reader.status.size, key) for start, end in ranges]
    joined = coalesce(wanted)
    bodies = await gather([partial(reader.read, start, end) for start, end in joined], limit=_READS_AT_ONCE)
    return cut(wanted, joined, bodies)


class Body(GetResult):
    """A file's bytes; the file may be replaced or deleted meanwhile."""

    def __init__(self, url: str, meta: ObjectMeta, reader: Reader | None, span: tuple[int, int]) -> None:
        super().__init__(meta, self._read(), range=span, aclose=self._close)
        self._url = url
        self._reader = reader

    @classmethod
    def head(cls, meta: ObjectMeta) -> Self:
        """Return a body without bytes."""
        return cls("", meta, None, (0, 0))

    async def _read(self) -> AsyncIterator[Data]:
        start, end = self.range
        for at in range(start, end, CHUNK_BYTES):
            yield await self._chunk(at, min(at + CHUNK_BYTES, end))
        await self._close()

    async def _chunk(self, start: int, end: int) -> bytes:
        if self._reader is None:
            raise InvalidInputError(f"the body of {self.meta.key!r} is closed", key=self.meta.key)
        try:
            return await self._reader.read(start, end)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise mapped(error, self._url, self.meta.key) from error

    async def _close(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await unhurried(reader.aclose())
