"""Data files by key: from memory, from a fetch that is on its way, or from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.caching import LRUCache, SingleFlight
from buffetstore.errors import CorruptFileError
from buffetstore.objects.helpers import get_bytes

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore

DEFAULT_CACHE_BYTES = 256 * 1024 * 1024


@dataclass(slots=True)
class Reading:
    """What one query fetched. `bytes` and `requests` count what the store had to send, `hits` what was in memory."""

    bytes: int = 0
    requests: int = 0
    hits: int = 0


class CacheManager:
    """Fetches whole data files, each once at a time, and remembers those used last.

    A data file never changes, so key and size name its bytes for ever.

    Parameters
    ----------
    store:
        Where the files are.
    cache:
        Whose budget they live in; None is a cache of 256 MiB.
    """

    def __init__(self, store: ObjectStore, cache: LRUCache[bytes] | None = None) -> None:
        self._store = store
        self.cache: LRUCache[bytes] = LRUCache(DEFAULT_CACHE_BYTES) if cache is None else cache
        self._flights: SingleFlight[bytes] = SingleFlight()

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
        # Whoever joins a fetch that is on its way waits for the store too: no hit.
        data = await self._flights.run((key, size), lambda: self._load(key, size))
        reading.requests += 1
        reading.bytes += size
        return data

    async def _load(self, key: str, size: int) -> bytes:
        data = await get_bytes(self._store, key)
        if len(data) != size:
            raise CorruptFileError(
                f"data file {key!r} has {len(data)} bytes, the table's log says {size}: restore it from a backup",
                key=key,
            )
        self.cache.put((key, size), data, size)
        return data

    def stats(self) -> dict[str, float]:
        """Return entries, bytes, hits, misses and evictions."""
        stats = self.cache.stats()
        return {name: getattr(stats, name) for name in ("entries", "bytes", "max_bytes", "hits", "misses", "evictions")}

    async def aclose(self) -> None:
        """Cancel what is on its way and forget everything. May be called twice."""
        await self._flights.aclose()
        self.cache.clear()
