"""Caches against a history of writes: no read answers what it could not have read without a cache."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.errors import InvalidRangeError, NotFoundError, PreconditionFailedError
from buffetstore.objects import ByteRange, MemoryStore, get_bytes
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.cached import CacheOptions
from buffetstore.objects.wrappers.encryption import EncryptionStore
from buffetstore.security import StaticKeys

KEYS = StaticKeys({"k": b"k" * 32})
NAMES = ["a", "b/c"]
SIZES = [0, 1, 50, 70_000, 150_000]


class Slow(StoreWrapper):
    """Lets others run before and after each call, as often as chance will have it."""

    def __init__(self, inner, random):
        super().__init__(inner)
        self._random = random

    @property
    def url(self):
        return "bucket://of-this-test"  # not memory: so that the cache keeps it on disk

    async def pause(self):
        for _ in range(self._random.choice([0, 0, 1, 3, 10])):
            await asyncio.sleep(0)

    async def put(self, key, data, **options):
        await self.pause()
        meta = await self.inner.put(key, data, **options)
        await self.pause()
        return meta

    async def delete(self, keys):
        await self.pause()
        await self.inner.delete(keys)
        await self.pause()

    async def get(self, key, **options):
        await self.pause()
        result = await self.inner.get(key, **options)
        await self.pause()
        return result

    async def get_ranges(self, key, ranges, **options):
        await self.pause()
        bodies = await self.inner.get_ranges(key, ranges, **options)
        await self.pause()
        return bodies


@dataclass
class Write:
    start: int
    end: int | None
    body: bytes | None  # None: deleted


class History:
    """What was written when, by a counter for a clock."""

    def __init__(self):
        self.clock = count(1)
        self.writes = {name: [Write(0, 0, None)] for name in NAMES}
        self.versions: dict[tuple[str, str], bytes] = {}

    def could_be_read(self, name, start):
        """Every content that was there at some time between `start` and now."""
        writes = self.writes[name]
        before = [write for write in writes if write.end is not None and write.end < start]
        return [
            write.body
            for write in writes
            if not any(write.end is not None and write.end < later.start for later in before)
        ]


class Run:
    """Several tasks over two cached stores with one folder, as two processes have them."""

    def __init__(self, random: Random, folder: Path, *, sealed: bool) -> None:
        self.random = random
        self.folder = folder
        self.sealed = sealed
        self.history = History()
        self.inner = Slow(MemoryStore(), random)
        self.stores = [self.opened() for _ in range(2)]

    def opened(self):
        options = CacheOptions(
            folder=self.folder,
            disk_bytes=self.random.choice([0, 100_000, 1_000_000]),
            memory_bytes=self.random.choice([0, 1_000, 1_000_000]),
            max_object_bytes=self.random.choice([100, 100_000, 1_000_000]),
        )
        store = CacheStore(self.inner, options)
        return EncryptionStore(store, KEYS) if self.sealed else store

    async def write(self, store, name):
        clock = self.history.clock
        body = None
        if self.random.random() < 0.8:
            mark = str(next(clock)).encode()
            size = self.random.choice(SIZES)
            body = mark + b"." + self.random.randbytes(7) * (size // 7)
        write = Write(next(clock), None, body)
        self.history.writes[name].append(write)
        if body is None:
            await store.delete([name])
        else:
            meta = await store.put(name, body)
            self.history.versions[name, meta.version] = body
        write.end = next(clock)

    async def read(self, store, name):
        start = next(self.history.clock)
        span = self.random.choice([None, (0, 2), (1, 60_000), (-3, None), (140_000, 150_000)])
        try:
            if span is not None and span[1] is not None and self.random.random() < 0.5:
                (found,) = await store.get_ranges(name, [span])
            else:
                found = await get_bytes(store, name, range=ByteRange(*span) if span else None)
        except NotFoundError:
            assert None in self.history.could_be_read(name, start)
            return
        except InvalidRangeError:
            assert span is not None
            bodies = self.history.could_be_read(name, start)
            assert any(body is not None and len(body) <= span[0] for body in bodies)
            return
        except PreconditionFailedError:  # replaced while it was read
            return
        bodies = [body for body in self.history.could_be_read(name, start) if body is not None]
        assert found in [body if span is None else body[slice(*span)] for body in bodies]

    async def read_version(self, store, name):
        known = [version for key, version in self.history.versions if key == name]
        if not known:
            return
        version = self.random.choice(known)
        body = self.history.versions[name, version]
        try:
            if self.random.random() < 0.5:
                assert await store.get_ranges(name, [(0, 2), (1, 9)], if_match=version) == [body[0:2], body[1:9]]
            else:
                assert await get_bytes(store, name, if_match=version) == body
        except (NotFoundError, PreconditionFailedError):
            bodies = self.history.writes[name]
            assert len(bodies) > 2 or bodies[-1].body is None, "it had not been replaced"

    async def work(self):
        for _ in range(12):
            store, name = self.random.choice(self.stores), self.random.choice(NAMES)
            act = self.random.choice([self.write, self.read, self.read, self.read_version])
            task = asyncio.create_task(act(store, name))
            if act is not self.write and self.random.random() < 0.1:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def damage(self):
        files = sorted(self.folder.rglob("*.entry"))
        for path in self.random.sample(files, len(files) // 2):
            data = bytearray(path.read_bytes())
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            path.write_bytes(data[: self.random.choice([len(data), len(data) // 2])])

    async def __call__(self):
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(self.work())
            await self.damage()
            self.stores[self.random.randrange(2)] = self.opened()  # a restart
        for store in self.stores:
            await store.aclose()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), sealed=st.booleans())
def test_a_cache_answers_what_the_service_could_have(seed, sealed):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(Run(Random(seed), Path(folder), sealed=sealed)())
