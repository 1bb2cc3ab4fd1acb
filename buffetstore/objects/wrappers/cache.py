"""Answers reads with what was read before, where that is surely right."""

# ruff: noqa: A002, D102 - names and docstrings are those of the contract

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from buffetstore.caching import SingleFlight
from buffetstore.errors import PreconditionFailedError
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.objects.base import (
    DEFAULT_ATTRIBUTES,
    OVERWRITE,
    Attributes,
    ByteRange,
    Data,
    GetResult,
    ObjectMeta,
    ObjectStore,
    PutMode,
    Upload,
)
from buffetstore.objects.keys import checked_key
from buffetstore.objects.ranges import checked_range, resolve_range
from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper
from buffetstore.objects.wrappers.cached import CachedResult, CacheOptions, Entry, Tiers, checked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from buffetstore.caching import CacheStats

_WORTH_ASKING_BYTES = 64 * 1024  # a smaller body costs no more than the question whether it is still the current one


class CacheStore(StoreWrapper):
    """Keeps small objects and ranges in memory, then on disk; bytes are kept with the version that they are of.

    What is answered without a request:

    * a read of one version (`if_match`) that is held: its content cannot change. That somebody replaced or deleted the
      object meanwhile goes unnoticed, where the service would have said so;
    * a read of a key that the options call immutable;
    * with `fresh_seconds`, a read of what was the current version so short a time ago.

    Any other read of a whole object or a range asks the service first: where a large body is held, for the current
    version alone, and the body only if it is another. `head` and listings always ask. Nothing is kept of what is not
    there. Writes through this store forget what they replace before they return; reads that were under way keep
    nothing. Equal reads at one time of what cannot change are one request. An object that is too large for
    the cache is streamed as it comes.

    Parameters
    ----------
    inner:
        Asked for what is not held.
    options:
        Budgets, the folder, and what may be answered without asking.
    hook:
        Told of hits and misses: `objects.cache_memory`, `objects.cache_disk`.
    clock:
        Seconds; monotonic.
    """

    forwards: ClassVar[frozenset[str]] = frozenset(
        {"url", "capabilities", "list_objects", "list_prefixes", "signed_url", "list_versions", "get_version"}
    )

    def __init__(
        self,
        inner: ObjectStore,
        options: CacheOptions | None = None,
        *,
        hook: Hook = no_hook,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self._options = options if options is not None else CacheOptions()
        self._clock = clock
        self._immutable = self._options.is_immutable()
        self._tiers = Tiers(inner.url, self._options, hook, clock)
        self._flights: SingleFlight[Entry | None] = SingleFlight()
        self._range_flights: SingleFlight[list[bytes]] = SingleFlight()
        self._openings: dict[Hashable, _Opening] = {}
        self._readings: dict[str, _Reading] = {}

    def stats(self) -> dict[str, CacheStats]:
        """Return what each tier, `memory` and `disk`, holds, and how often it was of use."""
        return self._tiers.stats()

    async def put(
        self, key: str, data: Data, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> ObjectMeta:
        try:
            return await self.inner.put(key, data, mode=mode, attributes=attributes)
        finally:
            await self.forget(key)

    async def start_upload(
        self, key: str, *, mode: PutMode = OVERWRITE, attributes: Attributes = DEFAULT_ATTRIBUTES
    ) -> Upload:
        return _CacheUpload(await self.inner.start_upload(key, mode=mode, attributes=attributes), self, key)

    async def delete(self, keys: Sequence[str]) -> None:
        try:
            await self.inner.delete(keys)
        finally:
            await self.forget(*keys)

    async def copy(self, source: str, target: str, *, mode: PutMode = OVERWRITE) -> ObjectMeta:
        try:
            return await self.inner.copy(source, target, mode=mode)
        finally:
            await self.forget(target)

    async def restore_version(self, key: str, version_id: str) -> ObjectMeta:
        try:
            return await self.inner.restore_version(key, version_id)
        finally:
            await self.forget(key)

    async def aclose(self) -> None:
        await self._flights.aclose()
        await self._range_flights.aclose()
        await self._tiers.aclose()
        await self.inner.aclose()

    async def forget(self, *keys: str) -> None:
        """Keep nothing of `keys`, nor of reads of them that are under way."""
        self._outdate(keys)
        try:
            await self._tiers.forget_on_disk(keys)
        finally:
            # Again: meanwhile a reader may have brought to memory what it had found on disk.
            self._outdate(keys)
            self._tiers.forget_in_memory(keys)

    def _outdate(self, keys: Sequence[str]) -> None:
        for key in keys:
            reading = self._readings.pop(key, None)
            if reading is not None:
                reading.valid = False

    async def get(
        self, key: str, *, range: ByteRange | None = None, if_match: str | None = None, head: bool = False
    ) -> GetResult:
        if head:
            return await self.inner.get(key, if_match=if_match, head=True)
        started = time.perf_counter()
        asked = _Asked(key, range, if_match)
        stale: dict[str, Entry] = {}
        for part in asked.parts:
            entry = self._tiers.in_memory(key, part)
            if entry is None or entry.meta is None:
                continue
            if self._may_answer(entry, key, if_match):
                self._tiers.tell("memory", key, [len(entry.body)], 0, started)
                return asked.answer(entry)
            stale[part] = entry
        self._tiers.tell("memory", key, [], 1, started)
        checked_key(key)
        with self._reading(key) as reading:
            return await self._get_from_disk(asked, stale, reading)

    async def _get_from_disk(self, asked: _Asked, stale: dict[str, Entry], reading: _Reading) -> GetResult:
        key, started = asked.key, time.perf_counter()
        found = await self._tiers.on_disk(key, [part for part in asked.parts if part not in stale])
        for part, entry in found.items():
            if entry.meta is None:
                continue
            if self._may_answer(entry, key, asked.if_match):
                self._tiers.tell("disk", key, [len(entry.body)], 0, started)
                if reading.valid:
                    self._tiers.keep_in_memory(key, part, entry)
                return asked.answer(entry)
            stale[part] = entry
        if self._tiers.has_disk:
            self._tiers.tell("disk", key, [], 1, started)
        if asked.if_match is None and any(len(entry.body) >= _WORTH_ASKING_BYTES for entry in stale.values()):
            current = await self._still_current(key, stale, reading)
            if current is not None:
                return asked.answer(current)
        return await self._fetched(asked, reading)

    async def _still_current(self, key: str, held: Mapping[str, Entry], reading: _Reading) -> Entry | None:
        """Ask which version is the current one; return an entry of it, if there is one."""
        now, started = self._clock(), time.perf_counter()
        async with await self.inner.get(key, head=True) as result:
            current = result.meta.version
        for part, entry in held.items():
            if entry.version == current:
                found = checked_at(entry, now)
                if reading.valid:
                    self._tiers.keep_in_memory(key, part, found)
                self._tiers.tell("revalidated", key, [len(found.body)], 0, started)
                return found
        return None

    async def _fetched(self, asked: _Asked, reading: _Reading) -> GetResult:
        """Ask the service, once for all who ask at the same time for what cannot change."""
        if not self._is_pinned(asked.key, asked.if_match):
            # An answer to an earlier reader may be of before a write of somebody else.
            alone = _Opening()
            entry = await self._load(asked, reading, alone)
            return alone.spare.pop() if entry is None else asked.answer(entry)
        name = (asked, id(reading))
        opening = self._openings.setdefault(name, _Opening())
        opening.waiters += 1
        try:
            shared = await self._flights.run(name, partial(self._load, asked, reading, opening))
            if shared is not None:
                return asked.answer(shared)
            if opening.spare:
                return opening.spare.pop()
        finally:
            opening.waiters -= 1
            if not opening.waiters:
                del self._openings[name]
                while opening.spare:
                    await opening.spare.pop().aclose()
        return await self.inner.get(asked.key, range=asked.range, if_match=asked.if_match)

    async def _load(self, asked: _Asked, reading: _Reading, opening: _Opening) -> Entry | None:
        """Read and keep what is asked; None where it is too large: the open result is then spare."""
        while True:
            now = self._clock()
            result = await self.inner.get(asked.key, range=asked.range, if_match=asked.if_match)
            start, end = result.range
            if end - start > self._options.max_object_bytes:
                opening.spare.append(result)
                return None
            try:
                body = await result.read()
            except PreconditionFailedError:
                if asked.if_match is not None:
                    raise
                continue  # replaced while it was read: what is asked for is the current one
            entry = Entry(result.meta.version, result.meta, start, body, now)
            if len(body) == end - start:
                await self._keep(asked.key, {asked.parts[-1]: entry}, reading)
            return entry

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, if_match: str | None = None
    ) -> list[bytes]:
        if not ranges:
            return await self.inner.get_ranges(key, ranges, if_match=if_match)
        if not self._is_pinned(key, if_match):
            # Ranges come without their version: what is fresh can answer them, but nothing is kept.
            whole = self._tiers.in_memory(key, "")
            if whole is None or not self._may_answer(whole, key, None):
                return await self.inner.get_ranges(key, ranges)
            return [_cut(whole, key, span) for span in ranges]
        with self._reading(checked_key(key)) as reading:
            found = await self._ranges_held(key, ranges, if_match, reading)
            missing = [span for span in dict.fromkeys(ranges) if span not in found]
            if missing:
                name = (key, tuple(missing), if_match, id(reading))
                fetch = partial(self._load_ranges, key, missing, if_match, reading)
                found |= zip(missing, await self._range_flights.run(name, fetch), strict=True)
        return [found[span] for span in ranges]

    async def _ranges_held(
        self, key: str, ranges: Sequence[tuple[int, int]], if_match: str | None, reading: _Reading
    ) -> dict[tuple[int, int], bytes]:
        """Return the ranges that are held, from memory and then from disk."""
        found: dict[tuple[int, int], bytes] = {}
        missing = list(dict.fromkeys(ranges))

        def take(held: Callable[[str], Entry | None], tier: str) -> None:
            started, before = time.perf_counter(), len(found)
            whole = held("")
            for span in missing:
                if whole is not None and self._may_answer(whole, key, if_match):
                    found[span] = _cut(whole, key, span)
                elif (entry := held(_part(span))) is not None and self._may_answer(entry, key, if_match):
                    found[span] = entry.body
            hits = [len(body) for body in list(found.values())[before:]]
            self._tiers.tell(tier, key, hits, len(missing) - len(hits), started)
            missing[:] = [span for span in missing if span not in found]

        take(partial(self._tiers.in_memory, key), "memory")
        if missing and self._tiers.has_disk:
            entries = await self._tiers.on_disk(key, ["", *map(_part, missing)])
            take(entries.get, "disk")
            if reading.valid:
                for part, entry in entries.items():
                    if self._may_answer(entry, key, if_match):
                        self._tiers.keep_in_memory(key, part, entry)
        return found

    async def _load_ranges(
        self, key: str, missing: Sequence[tuple[int, int]], if_match: str | None, reading: _Reading
    ) -> list[bytes]:
        bodies = await self.inner.get_ranges(key, missing, if_match=if_match)
        entries = {
            _part((start, end)): Entry(if_match or "", None, start, body)
            for (start, end), body in zip(missing, bodies, strict=True)
            if len(body) <= self._options.max_object_bytes
        }
        await self._keep(key, entries, reading)
        return bodies

    async def _keep(self, key: str, entries: Mapping[str, Entry], reading: _Reading) -> None:
        if reading.valid:
            await self._tiers.keep(key, entries, lambda: reading.valid)

    def _is_pinned(self, key: str, if_match: str | None) -> bool:
        """Whether what is asked for cannot change."""
        return if_match is not None or self._immutable(key)

    def _may_answer(self, entry: Entry, key: str, if_match: str | None) -> bool:
        if if_match is not None:
            return entry.version == if_match
        if entry.checked is not None and self._clock() - entry.checked < self._options.fresh_seconds:
            return True
        return self._immutable(key)

    @contextmanager
    def _reading(self, key: str) -> Iterator[_Reading]:
        """Learn whether this store writes `key` during the block: what was read may then not be kept."""
        reading = self._readings.setdefault(key, _Reading())
        reading.count += 1
        try:
            yield reading
        finally:
            reading.count -= 1
            if not reading.count and self._readings.get(key) is reading:
                del self._readings[key]


@dataclass(slots=True)
class _Reading:
    count: int = 0
    valid: bool = True


@dataclass(slots=True)
class _Opening:
    """Those who wait for one answer, and results that are too large to share, for whoever takes them."""

    waiters: int = 0
    spare: list[GetResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One read, and how an entry answers it."""

    key: str
    range: ByteRange | None
    if_match: str | None

    @property
    def parts(self) -> tuple[str, ...]:
        """Which parts of the object can answer."""
        if self.range is None:
            return ("",)
        return ("", _part((self.range.start, self.range.end)))

    def answer(self, entry: Entry) -> GetResult:
        """Return the asked range of an entry that can answer."""
        meta = entry.meta
        assert meta is not None
        start, end = resolve_range(self.range, meta.size, self.key)
        whole = (start, end) == (entry.start, entry.end)
        body = entry.body if whole else memoryview(entry.body)[start - entry.start : end - entry.start]
        return CachedResult(meta, body, (start, end))


class _CacheUpload(UploadWrapper):
    def __init__(self, inner: Upload, store: CacheStore, key: str) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key

    async def complete(self) -> ObjectMeta:
        try:
            return await self.inner.complete()
        finally:
            await self._store.forget(self._key)


def _part(span: tuple[int, int | None]) -> str:
    start, end = span
    return f"{start}-{'' if end is None else end}"


def _cut(whole: Entry, key: str, span: tuple[int, int]) -> bytes:
    start, end = checked_range(*span, len(whole.body), key)
    return whole.body[start:end]
