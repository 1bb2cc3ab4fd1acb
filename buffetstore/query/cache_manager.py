"""Data files and parts of them: from memory, from a fetch that is on its way, or from the store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buffetstore.caching import LRUCache, SingleFlight
from buffetstore.query.disk_tier import DiskTier, Fetched, FetchedFooter
from buffetstore.tables.row_groups import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow.parquet as pq

    from buffetstore.caching import CacheStats, DiskCache
    from buffetstore.formats.chunks import Span
    from buffetstore.objects.base import Data, ObjectStore

DEFAULT_CACHE_BYTES = 256 * 1024 * 1024
FOOTER_CACHE_BYTES = 64 * 1024 * 1024
_PARSED = 4  # what a footer takes in memory, for each byte that it has in a file


@dataclass(slots=True)
class Reading:
    """What one query fetched. `bytes` and `requests` count what the store had to send, `hits` what was in memory.

    `footers` counts those that had to be read before what they tell of: each time a round more.
    """

    bytes: int = 0
    requests: int = 0
    hits: int = 0
    footers: int = 0

    def add(self, fetched: Fetched | FetchedFooter) -> None:
        """Count what the store had to send for something."""
        self.bytes += fetched.bytes
        self.requests += fetched.requests


class CacheManager:
    """Fetches data files and column chunks of them, each once at a time, and remembers those used last.

    A data file never changes, so key and size name its bytes for ever.

    Parameters
    ----------
    store:
        Where the files are.
    cache:
        Whose budget they live in; None is a cache of 256 MiB.
    disk:
        Where they are kept besides, for longer than the process lives; it is closed with this.
    """

    def __init__(
        self, store: ObjectStore, cache: LRUCache[bytes] | None = None, *, disk: DiskCache | None = None
    ) -> None:
        self._below = DiskTier(store, disk)
        self.cache: LRUCache[bytes] = LRUCache(DEFAULT_CACHE_BYTES) if cache is None else cache
        self.footers: LRUCache[pq.FileMetaData] = LRUCache(FOOTER_CACHE_BYTES)
        self._flights: SingleFlight[Fetched] = SingleFlight()
        self._part_flights: SingleFlight[Fetched] = SingleFlight()
        self._footer_flights: SingleFlight[FetchedFooter] = SingleFlight()

    def source(self, reading: Reading) -> Source:
        """Return where a query has its data files from; `reading` is told what it takes."""
        return _CachedSource(self, reading)

    async def fetch(self, key: str, size: int, reading: Reading) -> bytes:
        """Return the bytes of the data file, and note in `reading` where they came from.

        Raises
        ------
        CorruptFileError
            The file is not as long as the log says.
        NotFoundError
            It is gone.
        """
        data = self.cache.get((key, size))
        if data is not None:
            reading.hits += 1
            return data
        return await self.fetch_missing(key, size, reading)

    async def fetch_missing(self, key: str, size: int, reading: Reading) -> bytes:
        """Do `fetch` of what has just been looked for."""
        # Whoever joins a fetch that is on its way waits for the store too: no hit.
        fetched = await self._flights.run((key, size), partial(self._load, key, size))
        reading.add(fetched)
        return fetched.bodies[0]

    async def chunks(self, key: str, size: int, ranges: Sequence[Span], reading: Reading) -> list[Data]:
        """Return the bytes of ranges of a data file, which are ascending; what is in memory is not asked for."""
        found: dict[Span, Data] = {}
        for span in ranges:
            held = self.cache.get((key, size, span))
            if held is not None:
                found[span] = held
        missing = tuple(span for span in ranges if span not in found)
        reading.hits += len(found)
        if missing:
            fetched = await self._part_flights.run((key, size, missing), partial(self._load_parts, key, size, missing))
            found.update(zip(missing, fetched.bodies, strict=True))
            reading.add(fetched)
        return [found[span] for span in ranges]

    async def footer(self, key: str, size: int, reading: Reading) -> pq.FileMetaData:
        """Return what the footer of a data file says."""
        metadata = self.footers.get((key, size))
        if metadata is not None:
            return metadata
        fetched = await self._footer_flights.run((key, size), partial(self._load_footer, key, size))
        reading.add(fetched)
        reading.footers += fetched.requests
        return fetched.metadata

    def hold_footer(self, key: str, size: int, metadata: pq.FileMetaData) -> None:
        """Remember a footer."""
        self.footers.put((key, size), metadata, metadata.serialized_size * _PARSED)

    async def forget(self, key: str, size: int, ranges: Sequence[Span]) -> None:
        """Forget a file and these parts of it: whoever mends it must not be shown what it was."""
        for name in ((key, size), *((key, size, span) for span in ranges)):
            self.cache.delete(name)
        self.footers.delete((key, size))
        await self._below.forget(key, size)

    async def _load(self, key: str, size: int) -> Fetched:
        fetched = await self._below.whole(key, size)
        self.cache.put((key, size), fetched.bodies[0], size)
        return fetched

    async def _load_parts(self, key: str, size: int, ranges: Sequence[Span]) -> Fetched:
        fetched = await self._below.chunks(key, size, ranges)
        for span, body in zip(ranges, fetched.bodies, strict=True):
            self.cache.put((key, size, span), body, len(body))
        return fetched

    async def _load_footer(self, key: str, size: int) -> FetchedFooter:
        fetched = await self._below.footer(key, size)
        self.hold_footer(key, size, fetched.metadata)
        return fetched

    @property
    def room(self) -> int:
        """How many bytes of data files can be remembered, in memory or on disk."""
        disk = self._below.disk
        return max(self.cache.stats().max_bytes, 0 if disk is None else disk.stats().max_bytes)

    def caches(self) -> dict[str, Callable[[], CacheStats]]:
        """Return what tells how full each cache is, and of what use it was, by its name."""
        disk = self._below.disk
        held = {"footers": self.footers.stats, "data_memory": self.cache.stats}
        return held if disk is None else held | {"data_disk": disk.stats}

    async def aclose(self) -> None:
        """Cancel what is on its way and forget everything. May be called twice."""
        for flights in (self._flights, self._part_flights, self._footer_flights):
            await flights.aclose()
        await self._below.aclose()
        self.cache.clear()
        self.footers.clear()


class _CachedSource(Source):
    def __init__(self, cache: CacheManager, reading: Reading) -> None:
        self._cache = cache
        self._reading = reading

    def footer_held(self, key: str, size: int) -> pq.FileMetaData | None:
        return self._cache.footers.get((key, size))

    def hold_footer(self, key: str, size: int, metadata: pq.FileMetaData) -> None:
        self._cache.hold_footer(key, size, metadata)

    def held(self, key: str, size: int) -> Data | None:
        data = self._cache.cache.get((key, size))
        if data is not None:
            self._reading.hits += 1
        return data

    async def whole(self, key: str, size: int) -> Data:
        return await self._cache.fetch_missing(key, size, self._reading)

    async def chunks(self, key: str, size: int, ranges: Sequence[Span]) -> Sequence[Data]:
        return await self._cache.chunks(key, size, ranges, self._reading)

    async def footer(self, key: str, size: int) -> pq.FileMetaData:
        return await self._cache.footer(key, size, self._reading)

    async def forget(self, key: str, size: int, ranges: Sequence[Span]) -> None:
        await self._cache.forget(key, size, ranges)
