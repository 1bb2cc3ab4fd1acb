"""What a cache of objects keeps: whole small objects and ranges, in memory and then on disk."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from buffetstore.caching import DiskCache, LRUCache
from buffetstore.errors import ConfigurationError
from buffetstore.monitoring.events import Hook, Operation, no_hook
from buffetstore.objects.base import Attributes, Checksum, GetResult, ObjectMeta
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from buffetstore.caching import CacheStats
    from buffetstore.objects.base import Data

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """How much is kept, where, and what may be answered without asking the service.

    Parameters
    ----------
    memory_bytes:
        Budget of the tier in memory; 0 has none.
    folder:
        Where the tier on disk is; None has none. Processes may share it.
    disk_bytes:
        Its budget.
    ttl_seconds:
        What was read so long ago is read again, whatever else holds; None is for ever.
    max_object_bytes:
        Larger objects and ranges pass by.
    fresh_seconds:
        A read that names no version may be answered with what was current so long ago, at most. 0 asks each time.
    immutable:
        Objects whose content never changes once it is there, as glob patterns of keys (`*` matches `/` too) or as a
        function: they are answered without asking, also after somebody else deleted them.
    namespace:
        Tells apart, on disk, stores that have one URL: the service's endpoint, and whose credentials read it.
    """

    memory_bytes: int = 64 * MIB
    folder: str | os.PathLike[str] | None = None
    disk_bytes: int = 1024 * MIB
    ttl_seconds: float | None = None
    max_object_bytes: int = 8 * MIB
    fresh_seconds: float = 0.0
    immutable: tuple[str, ...] | Callable[[str], bool] = ()
    namespace: str = ""

    def __post_init__(self) -> None:
        faults = [
            f"{name}={getattr(self, name)} must not be negative"
            for name in ("memory_bytes", "disk_bytes", "max_object_bytes", "fresh_seconds")
            if getattr(self, name) < 0
        ]
        if self.ttl_seconds is not None and self.ttl_seconds <= 0:
            faults.append(f"ttl_seconds={self.ttl_seconds} must be above 0, or None")
        immutable: object = self.immutable
        if isinstance(immutable, str):  # each of its letters would be a pattern
            faults.append(f"immutable={immutable!r} must be a tuple of patterns, or a function")
        if faults:
            raise ConfigurationError("; ".join(faults))

    def is_immutable(self) -> Callable[[str], bool]:
        """Return what decides by a key."""
        if callable(self.immutable):
            return self.immutable
        if not self.immutable:
            return lambda _key: False
        patterns = re.compile("|".join(map(fnmatch.translate, self.immutable)))
        return lambda key: patterns.match(key) is not None


@dataclass(frozen=True, slots=True)
class Entry:
    """Bytes of one version of an object.

    Parameters
    ----------
    version:
        "" where the reader did not know it, of an immutable object.
    meta:
        None for ranges that came without.
    start:
        Where in the object the body begins.
    checked:
        When this version was surely the current one, by the cache's clock; None on disk.
    """

    version: str
    meta: ObjectMeta | None
    start: int
    body: bytes
    checked: float | None = None

    @property
    def end(self) -> int:
        """Where in the object the body ends."""
        return self.start + len(self.body)

    def dump(self) -> bytes:
        """Return the entry as bytes: a line of JSON, and the body."""
        meta: dict[str, Any] | None = None
        if self.meta is not None:
            held = self.meta
            attributes, checksum = held.attributes, held.checksum
            meta = {
                "key": held.key,
                "size": held.size,
                "modified": held.last_modified.isoformat(),
                "attributes": attributes
                and [attributes.content_type, dict(attributes.metadata), attributes.storage_class],
                "checksum": checksum and [checksum.algorithm, checksum.value],
            }
        return json.dumps([self.version, self.start, meta]).encode() + b"\n" + self.body

    @classmethod
    def load(cls, data: bytes) -> Entry | None:
        """Return what `dump` gave, or None for what it did not give."""
        line, _, body = data.partition(b"\n")
        try:
            version, start, held = json.loads(line)
            return cls(version, None if held is None else _meta(version, held), start, body)
        except (ValueError, KeyError, TypeError):
            return None


def _meta(version: str, held: Mapping[str, Any]) -> ObjectMeta:
    attributes, checksum = held["attributes"], held["checksum"]
    return ObjectMeta(
        held["key"],
        held["size"],
        version,
        datetime.fromisoformat(held["modified"]),
        attributes and Attributes(*attributes),
        checksum and Checksum(*checksum),
    )


class CachedResult(GetResult):
    """Bytes that are held already."""

    def __init__(self, meta: ObjectMeta, body: Data, span: tuple[int, int]) -> None:
        super().__init__(meta, self._once(), range=span)
        self._body: Data | None = body

    async def read(self) -> bytes:
        """Return the bytes."""
        body, self._body = self._body, None
        return b"" if body is None else bytes(body)

    async def _once(self) -> AsyncIterator[Data]:
        body, self._body = self._body, None
        if body:
            yield memoryview(body)


class Tiers:
    """Memory over disk, by key and part of an object: "" is the whole, `start-end` a range.

    Answers are told to the hook, as `objects.cache_memory`, `objects.cache_disk` and, where the service was asked for
    the version alone, `objects.cache_revalidated`, with the counts `hits` and `bytes`, or `misses`.
    """

    def __init__(self, url: str, options: CacheOptions, hook: Hook, clock: Callable[[], float]) -> None:
        self._hook = hook
        self._parts: dict[str, set[str]] = {}
        self._memory: LRUCache[Entry] = LRUCache(
            options.memory_bytes, options.ttl_seconds, clock, on_forget=self._forgotten
        )
        self._disk: DiskCache | None = None
        # Another process's memory is another store, with the same URL and the same versions.
        if options.folder is not None and not url.startswith("memory:"):
            self._disk = DiskCache(
                options.folder, options.disk_bytes, ttl_seconds=options.ttl_seconds, in_thread=in_disk_thread
            )
        self._name = f"{options.namespace}\n{url}\n"

    def in_memory(self, key: str, part: str) -> Entry | None:
        """Return what memory has."""
        return self._memory.get((key, part))

    async def on_disk(self, key: str, parts: Sequence[str]) -> dict[str, Entry]:
        """Return which of the parts the disk has."""
        if self._disk is None or not parts:
            return {}
        found = await self._disk.get_many(self._name + key, parts)
        entries = {part: Entry.load(data) for part, data in found.items()}
        return {part: entry for part, entry in entries.items() if entry is not None}

    @property
    def has_disk(self) -> bool:
        """Whether there is a tier on disk."""
        return self._disk is not None

    def keep_in_memory(self, key: str, part: str, entry: Entry) -> None:
        """Keep an entry in memory alone."""
        # A dictionary and its names take some 500 bytes beside the body.
        if self._memory.put((key, part), entry, len(entry.body) + 512):
            self._parts.setdefault(key, set()).add(part)

    async def keep(self, key: str, entries: Mapping[str, Entry], wanted: Callable[[], bool]) -> None:
        """Keep entries by part, in both tiers, unless they are not wanted by then."""
        for part, entry in entries.items():
            self.keep_in_memory(key, part, entry)
        if self._disk is not None:
            values = {part: entry.dump() for part, entry in entries.items()}
            await self._disk.put_many(self._name + key, values, while_true=wanted)

    async def forget_on_disk(self, keys: Sequence[str]) -> None:
        """Forget every part of `keys` on disk."""
        if self._disk is not None:
            await self._disk.delete(*(self._name + key for key in keys))

    def forget_in_memory(self, keys: Sequence[str]) -> None:
        """Forget every part of `keys` in memory."""
        for key in keys:
            for part in list(self._parts.get(key, ())):
                self._memory.delete((key, part))

    def tell(self, tier: str, key: str, hits: Sequence[int], misses: int, started: float) -> None:
        """Tell the hook of answers by their sizes, and of those that were not there."""
        if self._hook is no_hook:
            return
        counts = {"hits": len(hits), "bytes": sum(hits), "misses": misses}
        told = {name: count for name, count in counts.items() if count}
        self._hook(Operation(f"objects.cache_{tier}", time.perf_counter() - started, key, None, told))

    def stats(self) -> dict[str, CacheStats]:
        """Return the counts by tier."""
        found = {"memory": self._memory.stats()}
        return found if self._disk is None else {**found, "disk": self._disk.stats()}

    async def aclose(self) -> None:
        """Let memory go; the disk stays."""
        self._memory.clear()
        if self._disk is not None:
            await self._disk.aclose()

    def _forgotten(self, name: Any) -> None:
        key, part = name
        parts = self._parts.get(key)
        if parts is not None:
            parts.discard(part)
            if not parts:
                del self._parts[key]


def checked_at(entry: Entry, clock: float) -> Entry:
    """Return the entry as one that was the current version at `clock`."""
    return replace(entry, checked=clock)
