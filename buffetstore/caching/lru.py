"""A cache in memory with a budget in bytes, which forgets what was used longest ago."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

V = TypeVar("V")


class _Entry(NamedTuple):
    value: object
    size: int
    expires: float | None


@dataclass(slots=True)
class CacheStats:
    """What a cache holds, and how useful it was; on a disk, what was found damaged, and what could not be kept."""

    entries: int = 0
    bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    expirations: int = 0
    corrupt: int = 0
    failures: int = 0


class LRUCache(Generic[V]):
    """At most `max_bytes` bytes of values by key, none older than `ttl_seconds`. Not for use from several threads.

    Parameters
    ----------
    max_bytes:
        The budget. A value that is larger is not kept at all; 0 keeps nothing.
    ttl_seconds:
        How long a value is good; None is for ever.
    clock:
        Seconds; monotonic.
    on_forget:
        Told of each key whose value goes, for whatever reason.

    >>> cache: LRUCache[bytes] = LRUCache(10)
    >>> cache.put("a", b"12345", 5), cache.put("b", b"12345", 5), cache.get("a"), cache.put("c", b"1", 1)
    (True, True, b'12345', True)
    >>> cache.get("b") is None, cache.stats().evictions
    (True, 1)
    """

    def __init__(
        self,
        max_bytes: int,
        ttl_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_forget: Callable[[Hashable], None] | None = None,
    ) -> None:
        if max_bytes < 0 or (ttl_seconds is not None and ttl_seconds <= 0):
            raise ValueError(f"max_bytes={max_bytes} must be >= 0 and ttl_seconds={ttl_seconds} > 0 or None")
        self._ttl = ttl_seconds
        self._clock = clock
        self._on_forget = on_forget
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._stats = CacheStats(max_bytes=max_bytes)

    def get(self, key: Hashable) -> V | None:
        """Return the value, which is now the youngest, or None."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires is not None and entry.expires <= self._clock():
            self._forget(key)
            self._stats.expirations += 1
            entry = None
        if entry is None:
            self._stats.misses += 1
            return None
        self._entries.move_to_end(key)
        self._stats.hits += 1
        return entry.value  # type: ignore[return-value]  # an entry holds what `put` was given

    def put(self, key: Hashable, value: V, size: int) -> bool:
        """Keep `value`, which takes `size` bytes, and return whether it was kept; the oldest go to make room."""
        if size < 0:
            raise ValueError(f"size={size} must not be negative")
        self._forget(key)
        if size > self._stats.max_bytes:
            return False
        expires = None if self._ttl is None else self._clock() + self._ttl
        self._entries[key] = _Entry(value, size, expires)
        self._stats.bytes += size
        while self._stats.bytes > self._stats.max_bytes:
            self._forget(next(iter(self._entries)))
            self._stats.evictions += 1
        return True

    def delete(self, key: Hashable) -> None:
        """Forget `key` if it is there."""
        self._forget(key)

    def clear(self) -> None:
        """Forget everything but the counts."""
        for key in list(self._entries):
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._stats.bytes -= entry.size
            if self._on_forget is not None:
                self._on_forget(key)

    def __len__(self) -> int:
        return len(self._entries)

    def stats(self) -> CacheStats:
        """Return a copy of the counts."""
        return CacheStats(**asdict(self._stats) | {"entries": len(self._entries)})
