from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from buffetstore.errors import ConfigurationError, NotFoundError, PreconditionFailedError, UnavailableError
from buffetstore.objects import Attributes, ByteRange, LocalStore, MemoryStore, get_bytes, head
from buffetstore.objects.base import Checksum, ObjectMeta
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.cached import CacheOptions, Entry
from buffetstore.testing import CountingStore, Fault, FaultyStore

LARGE = bytes(range(256)) * 400  # more than is worth a question
IMMUTABLE = CacheOptions(immutable=("*.parquet",))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Gated(StoreWrapper):
    """Holds reads back until told."""

    def __init__(self, inner):
        super().__init__(inner)
        self.gate = asyncio.Event()
        self.gets = 0
        self.closed = 0

    async def get(self, key, **options):
        self.gets += 1
        result = await self.inner.get(key, **options)
        await self.gate.wait()
        close = result.aclose

        async def counted():
            self.closed += 1
            await close()

        result.aclose = counted  # type: ignore[method-assign]
        return result

    async def get_ranges(self, key, ranges, **options):
        self.gets += 1
        bodies = await self.inner.get_ranges(key, ranges, **options)
        await self.gate.wait()
        return bodies


@pytest.fixture
def inner():
    return CountingStore(MemoryStore())


class TestVersions:
    async def test_a_version_that_is_held_needs_no_request(self, inner):
        store = CacheStore(inner)
        meta = await store.put("k", b"body")
        assert await get_bytes(store, "k") == b"body"
        inner.reset()
        assert await get_bytes(store, "k", if_match=meta.version) == b"body"
        assert await get_bytes(store, "k", if_match=meta.version, range=ByteRange(1, 3)) == b"od"
        assert await get_bytes(store, "k", if_match=meta.version, range=ByteRange(-2)) == b"dy"
        assert await store.get_ranges("k", [(0, 2), (3, 99)], if_match=meta.version) == [b"bo", b"y"]
        assert inner.total == 0

    async def test_ranges_of_a_version_are_kept(self, inner):
        store = CacheStore(inner)
        meta = await store.put("k", LARGE)
        ranges = [(0, 10), (500, 600), (0, 10)]
        expected = [LARGE[start:end] for start, end in ranges]
        assert await store.get_ranges("k", ranges, if_match=meta.version) == expected
        assert await get_bytes(store, "k", range=ByteRange(7, 70), if_match=meta.version) == LARGE[7:70]
        inner.reset()
        assert await store.get_ranges("k", ranges, if_match=meta.version) == expected
        assert await store.get_ranges("k", [(7, 70)], if_match=meta.version) == [LARGE[7:70]]
        assert await get_bytes(store, "k", range=ByteRange(7, 70), if_match=meta.version) == LARGE[7:70]
        assert inner.total == 0
        assert await store.get_ranges("k", [(0, 10), (1, 2)], if_match=meta.version) == [LARGE[:10], LARGE[1:2]]
        assert (dict(inner.requests), inner.bytes_in) == ({"get_ranges": 1}, 1)

    async def test_another_version_is_asked_for(self, inner):
        store = CacheStore(inner)
        first = await store.put("k", b"one")
        await get_bytes(store, "k")
        await inner.put("k", b"two")
        with pytest.raises(PreconditionFailedError):
            await get_bytes(store, "k", if_match="other")
        assert await get_bytes(store, "k", if_match=first.version) == b"one", "the version asked for, still held"
        assert await get_bytes(store, "k") == b"two"
        with pytest.raises(PreconditionFailedError):
            await get_bytes(store, "k", if_match=first.version)


class TestPlainReads:
    async def test_a_large_body_is_asked_after_not_read_again(self, inner):
        store = CacheStore(inner)
        await inner.put("k", LARGE, attributes=Attributes("text/csv", {"a": "b"}))
        for _ in range(3):
            assert await get_bytes(store, "k") == LARGE
        assert (inner.requests["get"], inner.requests["head"]) == (1, 2)
        async with await store.get("k") as result:
            assert result.meta == (await head(inner, "k"))
        await inner.put("k", LARGE[::-1])
        assert await get_bytes(store, "k") == LARGE[::-1]

    async def test_a_small_body_is_read(self, inner):
        store = CacheStore(inner)
        await inner.put("k", b"one")
        assert await get_bytes(store, "k") == b"one"
        await inner.put("k", b"two")
        assert await get_bytes(store, "k") == b"two"
        assert inner.requests["head"] == 0

    async def test_what_is_fresh_is_not_asked_after(self, inner):
        clock = Clock()
        store = CacheStore(inner, CacheOptions(fresh_seconds=10), clock=clock)
        await inner.put("k", b"one")
        assert await get_bytes(store, "k") == b"one"
        await inner.put("k", b"two")
        clock.now = 9.9
        assert await get_bytes(store, "k") == b"one"
        assert await store.get_ranges("k", [(0, 1)]) == [b"o"]
        clock.now = 10
        assert await store.get_ranges("k", [(0, 1)]) == [b"t"]
        assert await get_bytes(store, "k") == b"two"

    async def test_what_was_asked_after_is_fresh_again(self, inner):
        clock = Clock()
        store = CacheStore(inner, CacheOptions(fresh_seconds=10), clock=clock)
        await inner.put("k", LARGE)
        for clock.now in (0.0, 10.0, 19.0):
            assert await get_bytes(store, "k") == LARGE
        assert dict(inner.requests) == {"put": 1, "get": 1, "head": 1}

    async def test_what_is_not_there_is_not_remembered(self, inner):
        store = CacheStore(inner, CacheOptions(fresh_seconds=99, immutable=("*",)))
        with pytest.raises(NotFoundError):
            await store.get("k")
        await inner.put("k", b"now")
        assert await get_bytes(store, "k") == b"now"


class TestImmutable:
    async def test_it_is_read_once(self, inner):
        store = CacheStore(inner, IMMUTABLE)
        for key in ("a/x.parquet", "a/x.json"):
            await inner.put(key, b"body")
            for _ in range(3):
                assert await get_bytes(store, key) == b"body"
                assert await store.get_ranges(key, [(0, 1)]) == [b"b"]
        assert (inner.requests["get"], inner.requests["get_ranges"]) == (1 + 3, 3)

    async def test_ranges_need_no_version(self, inner):
        store = CacheStore(inner, CacheOptions(immutable=lambda key: key == "k"))
        await inner.put("k", LARGE)
        for _ in range(3):
            assert await store.get_ranges("k", [(5, 9), (1, 2)]) == [LARGE[5:9], LARGE[1:2]]
        assert inner.requests["get_ranges"] == 1

    @pytest.mark.parametrize("tier", ["memory", "disk"])
    @pytest.mark.parametrize("write", ["put", "upload", "copy", "delete", "failed put"])
    async def test_own_writes_are_seen(self, tmp_path, write, tier):
        faulty = FaultyStore(LocalStore(tmp_path / "store", create=True))
        options = CacheOptions(immutable=("*",), folder=tmp_path / "cache", memory_bytes=10**6 * (tier == "memory"))
        store = CacheStore(faulty, options)
        await store.put("k", b"old")
        await store.put("source", b"new")
        assert await get_bytes(store, "k") == b"old"
        assert await store.get_ranges("k", [(0, 1)]) == [b"o"]
        match write:
            case "put":
                await store.put("k", b"new")
            case "upload":
                async with await store.start_upload("k") as upload:
                    await upload.write(b"new")
                    await upload.complete()
            case "copy":
                await store.copy("source", "k")
            case "delete":
                await store.delete(["k"])
                with pytest.raises(NotFoundError):
                    await store.get("k")
                with pytest.raises(NotFoundError):
                    await store.get_ranges("k", [(0, 1)])
                return
            case _:
                faulty.inject("put", Fault("after"))
                with pytest.raises(UnavailableError):
                    await store.put("k", b"new")
        assert await get_bytes(store, "k") == b"new"
        assert await store.get_ranges("k", [(0, 1)]) == [b"n"]

    async def test_a_read_under_way_keeps_nothing_of_before_a_write(self):
        gated = Gated(MemoryStore())
        store = CacheStore(gated, CacheOptions(immutable=("*",)))
        await store.put("k", b"old")
        early = [asyncio.create_task(get_bytes(store, "k")), asyncio.create_task(store.get_ranges("k", [(0, 3)]))]
        await asyncio.sleep(0.001)
        await store.put("k", b"new")
        late = [asyncio.create_task(get_bytes(store, "k")), asyncio.create_task(store.get_ranges("k", [(0, 3)]))]
        await asyncio.sleep(0.001)
        gated.gate.set()
        assert await asyncio.gather(*early) == [b"old", [b"old"]]
        assert await asyncio.gather(*late) == [b"new", [b"new"]]
        assert (await get_bytes(store, "k"), await store.get_ranges("k", [(0, 3)])) == (b"new", [b"new"])
        assert store._readings == {}


class TestAtTheSameTime:
    async def test_equal_reads_are_one_request(self):
        gated = Gated(MemoryStore())
        store = CacheStore(gated, IMMUTABLE)
        meta = await store.put("k.parquet", LARGE)
        reads = [asyncio.create_task(get_bytes(store, "k.parquet")) for _ in range(20)]
        reads += [asyncio.create_task(get_bytes(store, "k.parquet", if_match=meta.version)) for _ in range(20)]
        ranges = [asyncio.create_task(store.get_ranges("k.parquet", [(0, 5)])) for _ in range(20)]
        await asyncio.sleep(0.001)
        assert gated.gets == 3
        for task in (reads[0], reads[1], ranges[0]):
            task.cancel()
        gated.gate.set()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True] * 2 + [False] * 38
        assert all(answer == LARGE for answer in answers[2:])
        assert (await asyncio.gather(*ranges[1:])) == [[LARGE[:5]]] * 19
        assert (store._openings, len(store._flights)) == ({}, 0)

    async def test_of_a_large_one_each_has_a_stream(self):
        gated = Gated(MemoryStore())
        store = CacheStore(gated, CacheOptions(immutable=("*",), max_object_bytes=1000))
        await store.put("k", LARGE)
        reads = [asyncio.create_task(get_bytes(store, "k")) for _ in range(5)]
        await asyncio.sleep(0.001)
        assert gated.gets == 1
        gated.gate.set()
        assert await asyncio.gather(*reads) == [LARGE] * 5
        assert gated.gets == 5

    async def test_a_stream_that_nobody_takes_is_closed(self):
        gated = Gated(MemoryStore())
        store = CacheStore(gated, CacheOptions(immutable=("*",), max_object_bytes=1000))
        await store.put("k", LARGE)
        read = asyncio.create_task(store.get("k"))
        await asyncio.sleep(0.001)
        gated.gate.set()
        while not any(opening.spare for opening in store._openings.values()):  # noqa: ASYNC110 - that very moment
            await asyncio.sleep(0)
        read.cancel()
        with suppress(asyncio.CancelledError):
            await (await read).aclose()
        assert gated.closed == 1
        assert store._openings == {}

    async def test_mutable_reads_do_not_share(self):
        """An answer that was on its way before somebody else's write must not reach who asks after it."""
        memory = MemoryStore()
        gated = Gated(memory)
        store = CacheStore(gated)
        await memory.put("k", b"old")
        early = asyncio.create_task(get_bytes(store, "k"))
        await asyncio.sleep(0.001)
        await memory.put("k", b"new")
        late = asyncio.create_task(get_bytes(store, "k"))
        await asyncio.sleep(0.001)
        gated.gate.set()
        assert await early in {b"old", b"new"}
        assert await late == b"new"


class TestBounds:
    async def test_a_large_object_passes_by(self, inner):
        store = CacheStore(inner, CacheOptions(max_object_bytes=1000, immutable=("*",)))
        await store.put("k", LARGE)
        for _ in range(2):
            async with await store.get("k") as result:
                assert b"".join([bytes(chunk) async for chunk in result]) == LARGE
            assert await store.get_ranges("k", [(0, 2000)]) == [LARGE[:2000]]
        assert store.stats()["memory"].bytes == 0
        assert await get_bytes(store, "k", range=ByteRange(0, 1000)) == LARGE[:1000]
        assert store.stats()["memory"].entries == 1

    async def test_memory_is_bounded(self, inner):
        store = CacheStore(inner, CacheOptions(memory_bytes=20_000, immutable=("*",)))
        for number in range(100):
            await store.put(f"k{number}", bytes(1000))
            assert await get_bytes(store, f"k{number}") == bytes(1000)
            await store.get_ranges("k0", [(number, number + 1)])
        assert store.stats()["memory"].bytes <= 20_000
        assert sum(map(len, store._tiers._parts.values())) == store.stats()["memory"].entries

    async def test_it_ends_by_its_age(self, inner):
        clock = Clock()
        store = CacheStore(inner, CacheOptions(ttl_seconds=60, immutable=("*",)), clock=clock)
        await inner.put("k", b"body")
        for clock.now in (0.0, 59.0, 60.0):
            assert await get_bytes(store, "k") == b"body"
        assert inner.requests["get"] == 2

    async def test_a_cut_body_is_not_kept(self):
        faulty = FaultyStore(MemoryStore())
        store = CacheStore(faulty, CacheOptions(immutable=("*",)))
        await store.put("k", b"body")
        faulty.inject("get", Fault("truncated", after_bytes=2))
        assert await get_bytes(store, "k") == b"bo", "as the store below gave it"
        assert await get_bytes(store, "k") == b"body"

    async def test_errors_are_not_kept(self):
        faulty = FaultyStore(MemoryStore())
        store = CacheStore(faulty, CacheOptions(immutable=("*",)))
        await store.put("k", b"body")
        faulty.inject("get", Fault(), Fault("body", after_bytes=1))
        faulty.inject("get_ranges", Fault())
        for call in (
            lambda: get_bytes(store, "k"),
            lambda: get_bytes(store, "k"),
            lambda: store.get_ranges("k", [(0, 1)]),
        ):
            with pytest.raises(UnavailableError):
                await call()
        assert await get_bytes(store, "k") == b"body"


class TestDisk:
    async def test_it_survives_a_restart(self, tmp_path):
        counting = CountingStore(LocalStore(tmp_path / "store", create=True))
        options = CacheOptions(folder=tmp_path / "cache", immutable=("i*",))
        async with CacheStore(counting, options) as store:
            metas = {key: await store.put(key, LARGE) for key in ("k", "i")}
            for key, meta in metas.items():
                await get_bytes(store, key)
                await store.get_ranges(key, [(3, 5)], if_match=meta.version)
            await get_bytes(store, "k", range=ByteRange(10, 20))
        counting.reset()
        async with CacheStore(counting, options) as store:
            assert await get_bytes(store, "k", if_match=metas["k"].version) == LARGE
            assert await get_bytes(store, "i") == LARGE
            assert await store.get_ranges("i", [(3, 5), (7, 9)]) == [LARGE[3:5], LARGE[7:9]]
            assert counting.total == 0
            async with await store.get("k") as result:
                assert result.meta == await head(counting, "k")
                assert await result.read() == LARGE
            assert dict(counting.requests) == {"head": 2}
            assert store.stats()["disk"].hits == 2

    async def test_a_damaged_entry_is_read_again(self, tmp_path):
        options = CacheOptions(folder=tmp_path / "cache", immutable=("*",), memory_bytes=0)
        store = CacheStore(LocalStore(tmp_path / "store", create=True), options)
        await store.put("k", LARGE)
        for _ in range(2):
            assert await get_bytes(store, "k") == LARGE
            (path,) = (tmp_path / "cache").rglob("*.entry")
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        assert await get_bytes(store, "k") == LARGE
        assert store.stats()["disk"].corrupt == 2

    async def test_stores_with_one_folder_are_told_apart(self, tmp_path):
        def store(name, namespace=""):
            options = CacheOptions(folder=tmp_path / "cache", immutable=("*",), namespace=namespace)
            return CacheStore(LocalStore(tmp_path / name, create=True), options)

        await store("a").put("k", b"of a")
        await store("b").put("k", b"of b")
        assert await get_bytes(store("a"), "k") == b"of a"
        assert await get_bytes(store("b"), "k") == b"of b"
        await LocalStore(tmp_path / "a").put("k", b"changed")
        assert await get_bytes(store("a"), "k") == b"of a"
        assert await get_bytes(store("a", "other"), "k") == b"changed"

    async def test_memory_stores_are_not_kept_on_disk(self, tmp_path):
        for body in (b"one", b"two"):
            store = CacheStore(MemoryStore(), CacheOptions(folder=tmp_path / "cache", immutable=("*",)))
            await store.put("k", body)
            assert await get_bytes(store, "k") == body
        assert not (tmp_path / "cache").exists()

    async def test_a_folder_that_cannot_be_written_fails_no_read(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        options = CacheOptions(folder=tmp_path / "file", immutable=("*",))
        store = CacheStore(LocalStore(tmp_path / "store", create=True), options)
        await store.put("k", b"body")
        assert await get_bytes(store, "k") == b"body"
        await store.delete(["k"])
        assert store.stats()["disk"].failures >= 1


class TestEntries:
    async def test_everything_is_kept(self):
        meta = await MemoryStore().put("k", b"body", attributes=Attributes("a/b", {"é": "日本"}, "COLD"))
        for full in (
            Entry(meta.version, meta, 0, b"body"),
            Entry("v", None, 3, b"\n\0"),
            Entry("", None, 0, b""),
        ):
            assert Entry.load(full.dump()) == full
        object.__setattr__(meta, "checksum", Checksum("md5", "abc="))
        object.__setattr__(meta, "attributes", None)
        assert Entry.load(Entry(meta.version, meta, 0, b"body").dump()) == Entry(meta.version, meta, 0, b"body")

    def test_the_format_that_was_ever_written_is_read(self):
        """Entries of format 1 on the disks of users; a change of this needs another format version."""
        found = Entry.load(
            b'["v7", 2, {"key": "k", "size": 9, "modified": "2024-01-02T03:04:05.678901+00:00", '
            b'"attributes": ["text/csv", {"a": "b"}, "COLD"], "checksum": ["crc32c", "AAAAAA=="]}]\nbody'
        )
        assert found is not None
        assert (found.version, found.start, found.body, found.end) == ("v7", 2, b"body", 6)
        assert found.meta == ObjectMeta(
            "k", 9, "v7", datetime(2024, 1, 2, 3, 4, 5, 678901, UTC), Attributes("text/csv", {"a": "b"}, "COLD"),
            Checksum("crc32c", "AAAAAA=="),
        )  # fmt: skip

    @pytest.mark.parametrize("data", [b"", b"{}\n", b"[1,2]\n", b"\xff\n", b'["v", 0, {}]\n', b'["v", 0, 5]\n'])
    def test_what_is_none(self, data):
        assert Entry.load(data) is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"memory_bytes": -1}, "memory_bytes=-1"),
        ({"disk_bytes": -1, "fresh_seconds": -2}, "disk_bytes=-1.*fresh_seconds=-2"),
        ({"ttl_seconds": 0}, "ttl_seconds=0"),
        ({"immutable": "*.json"}, "tuple"),
    ],
)
def test_senseless_options(options, says):
    with pytest.raises(ConfigurationError, match=says):
        CacheOptions(**options)


async def test_hits_and_misses_are_told(tmp_path):
    told = []
    options = CacheOptions(folder=tmp_path / "cache", immutable=("*",))
    local = LocalStore(tmp_path / "store", create=True)
    await local.put("k", LARGE)
    store = CacheStore(local, options, hook=told.append)
    await get_bytes(store, "k")
    await get_bytes(store, "k")
    await store.get_ranges("k", [(0, 2), (5, 6)])
    await get_bytes(CacheStore(local, options, hook=told.append), "k")
    await get_bytes(CacheStore(local, CacheOptions(folder=tmp_path / "cache"), hook=told.append), "k")
    assert [(operation.name.removeprefix("objects.cache_"), dict(operation.counts)) for operation in told] == [
        ("memory", {"misses": 1}),
        ("disk", {"misses": 1}),
        ("memory", {"hits": 1, "bytes": len(LARGE)}),
        ("memory", {"hits": 2, "bytes": 3}),
        ("memory", {"misses": 1}),
        ("disk", {"hits": 1, "bytes": len(LARGE)}),
        ("memory", {"misses": 1}),
        ("disk", {"misses": 1}),
        ("revalidated", {"hits": 1, "bytes": len(LARGE)}),
    ]
    assert {operation.subject for operation in told} == {"k"}


async def test_head_and_listings_always_ask(inner):
    store = CacheStore(inner, CacheOptions(immutable=("*",), fresh_seconds=99))
    await store.put("k", b"body")
    await get_bytes(store, "k")
    await inner.delete(["k"])
    with pytest.raises(NotFoundError):
        await head(store, "k")
    assert [meta async for meta in store.list_objects()] == []
