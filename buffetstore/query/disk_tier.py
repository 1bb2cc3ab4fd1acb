"""Data files and parts of them from a folder, before they are asked of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from buffetstore.errors import CorruptFileError
from buffetstore.formats.chunks import together
from buffetstore.formats.footer import parse_footer
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.row_groups import StoreSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow.parquet as pq

    from buffetstore.caching import DiskCache
    from buffetstore.formats.chunks import Span
    from buffetstore.objects.base import Data, ObjectStore

_WHOLE: Final = ""
_FOOTER: Final = "footer"
_CUT_UP_TO: Final = (
    16 * 1024 * 1024
)  # bytes: reading and checking a larger file for a part of it is slower than a request
_COPIED_AT_ONCE: Final = 1024 * 1024  # bytes: a tenth of a millisecond


class Fetched(NamedTuple):
    """Bytes, and what of them the store had to send in how many requests."""

    bodies: list[bytes]
    bytes: int = 0
    requests: int = 0


class FetchedFooter(NamedTuple):
    """A footer, and what of it the store had to send in how many requests."""

    metadata: pq.FileMetaData
    bytes: int = 0
    requests: int = 0


class DiskTier:
    """Data files by key and size, from disk or else from the store. It holds nothing in memory.

    Every entry on disk carries its digest. One that was damaged is as good as none, and a folder that cannot be read or
    written costs what it would save: `DiskCache.stats` counts it, and answers come from the store.

    Parameters
    ----------
    disk:
        None keeps nothing. What is in it is readable by whoever may read the folder: it is not for a store that
        encrypts, whose own cache holds ciphertext (`Layers.cache`).
    """

    def __init__(self, store: ObjectStore, disk: DiskCache | None) -> None:
        self._store = StoreSource(store)
        self.disk = disk
        self._place = store.url

    async def whole(self, key: str, size: int) -> Fetched:
        """Return the file.

        Raises
        ------
        CorruptFileError
            The store's is not `size` bytes long.
        NotFoundError
        """
        held = await self._held(key, size, [_WHOLE])
        if _WHOLE in held:
            return Fetched([held[_WHOLE]])
        data = await _as_bytes(await self._store.whole(key, size))
        await self._keep(key, size, {_WHOLE: data})
        return Fetched([data], size, 1)

    async def chunks(self, key: str, size: int, ranges: Sequence[Span]) -> Fetched:
        """Return the bytes of ranges of the file, which are ascending. Raises as `whole`."""
        held = await self._held(key, size, list(map(_part, ranges)))
        if len(held) < len(ranges) and size <= _CUT_UP_TO:
            whole = (await self._held(key, size, [_WHOLE])).get(_WHOLE)
            if whole is not None:
                return Fetched([whole[start:end] for start, end in ranges])
        missing = [span for span in ranges if _part(span) not in held]
        if not missing:
            return Fetched([held[_part(span)] for span in ranges])
        # Copies: a part in a cache must not hold on to what was read together with it.
        bodies = [await _as_bytes(body) for body in await self._store.chunks(key, size, missing)]
        parts = dict(zip(map(_part, missing), bodies, strict=True))
        await self._keep(key, size, parts)
        asked = together(missing)
        held |= parts
        return Fetched([held[_part(span)] for span in ranges], sum(end - start for start, end in asked), len(asked))

    async def footer(self, key: str, size: int) -> FetchedFooter:
        """Return what the file's footer says. Raises as `whole`."""
        held = (await self._held(key, size, [_FOOTER])).get(_FOOTER)
        if held is not None:
            try:
                return FetchedFooter(await in_thread(parse_footer, held, size))
            except CorruptFileError:  # of another release, or of no file at all: the store's is right
                pass
        data = await self._store.raw_footer(key, size)
        found = FetchedFooter(await in_thread(parse_footer, data, size), len(data), 1)
        await self._keep(key, size, {_FOOTER: bytes(data)})
        return found

    async def _held(self, key: str, size: int, parts: Sequence[str]) -> dict[str, bytes]:
        if self.disk is None:
            return {}
        found = await self.disk.get_many(self._name(key, size), parts)
        return {part: data for part, data in found.items() if part == _FOOTER or len(data) == _length(part, size)}

    async def _keep(self, key: str, size: int, parts: dict[str, bytes]) -> None:
        if self.disk is not None:
            await self.disk.put_many(self._name(key, size), parts)

    async def forget(self, key: str, size: int) -> None:
        """Forget all of a file."""
        if self.disk is not None:
            await self.disk.delete(self._name(key, size))

    def _name(self, key: str, size: int) -> str:
        return f"{self._place}\n{key}\n{size}"

    async def aclose(self) -> None:
        """Keep nothing from now on; what is on disk stays for the next one. May be called twice."""
        if self.disk is not None:
            await self.disk.aclose()


def _part(span: Span) -> str:
    return f"{span[0]}-{span[1]}"


def _length(part: str, size: int) -> int:
    start, _, end = part.partition("-")
    return int(end) - int(start) if end else size


async def _as_bytes(data: Data) -> bytes:
    if isinstance(data, bytes):
        return data
    return bytes(data) if len(data) < _COPIED_AT_ONCE else await in_thread(bytes, data)
