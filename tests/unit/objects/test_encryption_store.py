from __future__ import annotations

import asyncio
import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import (
    ConfigurationError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    TamperedError,
    UnavailableError,
    UnsupportedOperationError,
    WrongKeyError,
)
from buffetstore.objects import (
    Attributes,
    ByteRange,
    LocalStore,
    MemoryStore,
    Update,
    get_bytes,
    head,
    list_all,
)
from buffetstore.objects.base import GetResult, ObjectMeta, ObjectVersion
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.encryption import EncryptionStore
from buffetstore.objects.wrappers.sealed import KEY_ID
from buffetstore.security import CHUNK_BYTES, HEADER_BYTES, ObjectCipher, StaticKeys
from buffetstore.testing import CountingStore, Fault, FaultyStore

C = CHUNK_BYTES
KEYS = StaticKeys({"k1": b"1" * 32})
BODY = Random(1).randbytes(5 * C + 77)


async def stored(inner, key):
    return await get_bytes(inner, key)


async def upload(store, key, data, piece=50_000):
    async with await store.start_upload(key) as upload:
        for at in range(0, len(data), piece):
            await upload.write(data[at : at + piece])
        return await upload.complete()


@pytest.fixture
def inner():
    return CountingStore(MemoryStore())


@pytest.fixture
def store(inner):
    return EncryptionStore(inner, KEYS)


class TestWhatTheServiceSees:
    async def test_ciphertext_alone(self, store, inner):
        await store.put("a/k", BODY)
        await upload(store, "u", BODY)
        for key in ("a/k", "u"):
            sealed = await stored(inner, key)
            assert BODY[:32] not in sealed
            assert len(sealed) == HEADER_BYTES + len(BODY) + 6 * 16

    async def test_equal_objects_look_different(self, store, inner):
        await store.put("a", b"same")
        await store.put("b", b"same")
        assert (await stored(inner, "a"))[HEADER_BYTES:] != (await stored(inner, "b"))[HEADER_BYTES:]

    async def test_the_name_of_the_key_is_told_there_and_hidden_here(self, store, inner):
        given = Attributes(metadata={"run": "7"})
        await store.put("k", b"x", attributes=given)
        async with await store.start_upload("u", attributes=given) as up:
            await up.complete()
        for key in ("k", "u"):
            there, here = (await head(inner, key)).attributes, (await head(store, key)).attributes
            assert there is not None
            assert here is not None
            assert dict(there.metadata) == {"run": "7", KEY_ID: "k1"}
            assert dict(here.metadata) == {"run": "7"}

    async def test_sizes_are_those_of_the_plaintext(self, store):
        sizes = {f"o{size}": size for size in (0, 1, C, C + 1, 3 * C)}
        for key, size in sizes.items():
            assert (await store.put(key, bytes(size))).size == size
        assert {meta.key: meta.size for meta in await list_all(store)} == sizes
        assert {meta.key: meta.size for meta in (await store.list_prefixes()).objects} == sizes
        assert {key: (await head(store, key)).size for key in sizes} == sizes


class TestRequests:
    async def test_a_whole_object_is_one_request(self, store, inner):
        await store.put("k", BODY)
        store = EncryptionStore(inner, KEYS)
        inner.reset()
        assert await get_bytes(store, "k") == BODY
        assert dict(inner.requests) == {"get": 1}

    async def test_ranges_read_the_chunks_they_touch(self, store, inner):
        await store.put("k", BODY)
        store = EncryptionStore(inner, KEYS)
        inner.reset()
        assert await get_bytes(store, "k", range=ByteRange(C - 1, C + 1)) == BODY[C - 1 : C + 1]
        assert (dict(inner.requests), inner.bytes_in) == ({"get": 2}, HEADER_BYTES + 2 * (C + 16))
        inner.reset()
        assert await store.get_ranges("k", [(0, 3), (10, 20), (4 * C, 4 * C + 1)]) == [
            BODY[:3], BODY[10:20], BODY[4 * C : 4 * C + 1],
        ]  # fmt: skip
        assert (dict(inner.requests), inner.bytes_in) == ({"get_ranges": 1}, 2 * (C + 16))
        assert await store.get_ranges("k", []) == []

    async def test_what_was_just_written_needs_no_header(self, store, inner):
        meta = await store.put("k", BODY)
        inner.reset()
        assert await get_bytes(store, "k", range=ByteRange(-5), if_match=meta.version) == BODY[-5:]
        assert dict(inner.requests) == {"get": 1}

    async def test_the_size_of_a_streamed_object_is_proved_once(self, store, inner):
        await upload(store, "k", BODY)
        inner.reset()
        assert await get_bytes(store, "k", range=ByteRange(0, 1)) == BODY[:1]
        assert dict(inner.requests) == {"get": 2, "get_ranges": 1}
        inner.reset()
        assert await get_bytes(store, "k", range=ByteRange(1, 2)) == BODY[1:2]
        assert await store.get_ranges("k", [(1, 2)]) == [BODY[1:2]]
        assert dict(inner.requests) == {"get": 1, "get_ranges": 1}

    async def test_one_that_was_replaced_by_another_is_read_anew(self, store, inner):
        other = EncryptionStore(inner, KEYS)
        await store.put("k", b"short")
        assert await get_bytes(store, "k", range=ByteRange(0, 2)) == b"sh"
        await other.put("k", b"much longer")
        assert await get_bytes(store, "k", range=ByteRange(5, 11)) == b"longer"
        meta = await other.put("k", b"third")
        assert await store.get_ranges("k", [(0, 5)]) == [b"third"]
        with pytest.raises(InvalidRangeError):
            await store.get_ranges("k", [(5, 9)])
        await other.put("k", b"fourth")
        with pytest.raises(PreconditionFailedError):
            await store.get_ranges("k", [(0, 1)], if_match=meta.version)
        await other.delete(["k"])
        with pytest.raises(NotFoundError):
            await store.get_ranges("k", [(0, 1)])


class TestTampering:
    async def everything_fails(self, store, key, error):
        for call in (
            lambda: get_bytes(store, key),
            lambda: get_bytes(store, key, range=ByteRange(0, 1)),
            lambda: get_bytes(store, key, range=ByteRange(-1)),
            lambda: store.get_ranges(key, [(0, 1)]),
            lambda: store.copy(key, "elsewhere"),
        ):
            with pytest.raises(error) as failure:
                await call()
            assert failure.value.key == key
            assert repr(key) in str(failure.value)

    async def test_the_wrong_key(self, store, inner):
        await store.put("k", BODY)
        await self.everything_fails(EncryptionStore(inner, StaticKeys({"k2": b"2" * 32})), "k", WrongKeyError)
        await self.everything_fails(EncryptionStore(inner, StaticKeys({"k1": b"2" * 32})), "k", WrongKeyError)

    async def test_an_object_in_anothers_place(self, store, inner):
        await store.put("a", BODY)
        await inner.copy("a", "b")
        await self.everything_fails(store, "b", TamperedError)

    async def test_an_object_that_is_not_encrypted(self, store, inner):
        for body in (b"", b"plain", bytes(5000)):
            await inner.put("k", body)
            await self.everything_fails(store, "k", TamperedError)
        assert [meta.key for meta in await list_all(store)] == ["k"]

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("chunks", [1, 2, 5])
    async def test_an_object_that_was_cut_at_a_chunk(self, store, inner, chunks, streamed):
        await (upload(store, "k", BODY) if streamed else store.put("k", BODY))
        await inner.put("k", (await stored(inner, "k"))[: HEADER_BYTES + chunks * (C + 16)])
        await self.everything_fails(store, "k", TamperedError)

    async def test_ranges_of_an_object_that_was_cut_meanwhile(self, store, inner):
        await upload(store, "k", BODY)
        assert await store.get_ranges("k", [(0, 1)]) == [BODY[:1]]
        await inner.put("k", (await stored(inner, "k"))[: HEADER_BYTES + 2 * (C + 16)])
        with pytest.raises(TamperedError):
            await store.get_ranges("k", [(0, 3 * C)])
        with pytest.raises(InvalidRangeError):
            await store.get_ranges("k", [(5 * C, 5 * C + 1)])

    async def test_a_header_that_is_held_hides_no_newer_version(self, inner):
        """The cache below answers for a version; a read that names none must not ask it for one."""
        store = EncryptionStore(CacheStore(inner), KEYS)
        other = EncryptionStore(inner, KEYS)
        await store.put("k", b"first")
        for _ in range(2):
            assert await store.get_ranges("k", [(0, 5)]) == [b"first"]
            assert await get_bytes(store, "k", range=ByteRange(0, 5)) == b"first"
        await other.put("k", b"other")
        assert await store.get_ranges("k", [(0, 5)]) == [b"other"]
        await other.put("k", b"third")
        assert await get_bytes(store, "k", range=ByteRange(0, 5)) == b"third"
        await other.delete(["k"])
        with pytest.raises(NotFoundError):
            await store.get_ranges("k", [(0, 5)])

    async def test_a_stream_ends_with_the_error(self, store, inner):
        await upload(store, "k", BODY)
        sealed = bytearray(await stored(inner, "k"))
        sealed[-1] ^= 1
        await inner.put("k", sealed)
        got = bytearray()
        async with await store.get("k") as result:
            with pytest.raises(TamperedError):
                [got.extend(chunk) async for chunk in result]
        assert BODY.startswith(got)

    async def test_chunks_of_two_versions_never_mix(self, store, inner):
        await store.put("k", BODY)
        one = await stored(inner, "k")
        await store.put("k", BODY)
        two = await stored(inner, "k")
        await inner.put("k", one[: HEADER_BYTES + C + 16] + two[HEADER_BYTES + C + 16 :])
        with pytest.raises(TamperedError):
            await get_bytes(EncryptionStore(inner, KEYS), "k")

    async def test_another_bucket_prefix_is_another_place(self, inner):
        await EncryptionStore(inner, KEYS, prefix="raw/").put("k", b"x")
        assert await get_bytes(EncryptionStore(inner, KEYS, prefix="raw"), "k") == b"x"
        with pytest.raises(TamperedError):
            await get_bytes(EncryptionStore(inner, KEYS, prefix="other"), "k")

    async def test_a_body_that_ends_early_is_not_tampering(self):
        faulty = FaultyStore(MemoryStore())
        store = EncryptionStore(faulty, KEYS)
        await store.put("k", BODY)
        for after in (0, 500, C):
            faulty.inject("get", Fault("truncated", after_bytes=after))
            with pytest.raises(UnavailableError, match="ended after"):
                await get_bytes(store, "k")
            faulty.inject("get", Fault("truncated", after_bytes=after))
            async with await store.get("k") as result:
                with pytest.raises(UnavailableError, match="ended after"):
                    [chunk async for chunk in result]


class TestPlaintextAllowed:
    async def test_both_kinds_are_read(self, inner):
        store = EncryptionStore(inner, KEYS, plaintext="allow")
        await store.put("sealed", BODY)
        await inner.put("plain", BODY)
        await inner.put("empty", b"")
        await inner.put("like", bytes(HEADER_BYTES + 16))
        for fresh in (store, EncryptionStore(inner, KEYS, plaintext="allow")):
            for key in ("sealed", "plain"):
                assert await get_bytes(fresh, key) == BODY
                assert await get_bytes(fresh, key, range=ByteRange(C - 5, C + 5)) == BODY[C - 5 : C + 5]
                assert await fresh.get_ranges(key, [(3, 9)]) == [BODY[3:9]]
            assert await get_bytes(fresh, "empty") == b""
            sizes = {"empty": 0, "like": HEADER_BYTES + 16, "plain": len(BODY), "sealed": len(BODY)}
            assert {meta.key: meta.size for meta in await list_all(fresh)} == sizes
            assert {meta.key: meta.size for meta in (await fresh.list_prefixes()).objects} == sizes
            assert {key: (await head(fresh, key)).size for key in sizes} == sizes

    async def test_a_copy_encrypts(self, inner):
        store = EncryptionStore(inner, KEYS, plaintext="allow")
        await inner.put("k", BODY)
        await store.copy("k", "k")
        assert await get_bytes(EncryptionStore(inner, KEYS), "k") == BODY

    def test_a_senseless_choice(self, inner):
        with pytest.raises(ConfigurationError):
            EncryptionStore(inner, KEYS, plaintext="maybe")  # type: ignore[arg-type]


class TestCopy:
    async def test_onto_itself_it_changes_to_the_current_key(self, inner):
        await EncryptionStore(inner, KEYS).put("k", BODY, attributes=Attributes("text/csv", {"a": "b"}))
        both = StaticKeys({"k1": b"1" * 32, "k2": b"2" * 32}, current="k2")
        await EncryptionStore(inner, both).copy("k", "k")
        only = EncryptionStore(inner, StaticKeys({"k2": b"2" * 32}))
        assert await get_bytes(only, "k") == BODY
        kept = (await head(only, "k")).attributes
        assert kept is not None
        assert (kept.content_type, dict(kept.metadata)) == ("text/csv", {"a": "b"})

    async def test_a_large_one_is_streamed(self, store, inner):
        data = bytes(9 * 1024 * 1024)
        await upload(store, "k", data, piece=1_000_000)
        inner.reset()
        await store.copy("k", "l")
        assert inner.requests["put"] == 0
        assert inner.requests["complete"] == 1
        assert await get_bytes(store, "l") == data

    async def test_a_stale_target_is_the_callers_conflict(self, store):
        await store.put("k", b"source")
        with pytest.raises(PreconditionFailedError):
            await store.copy("k", "l", mode=Update("none"))


class TestUploads:
    async def test_an_upload_whose_write_failed_cannot_go_on(self):
        faulty = FaultyStore(MemoryStore())
        store = EncryptionStore(_FailingWrites(faulty), KEYS)
        async with await store.start_upload("k") as up:
            with pytest.raises(UnavailableError):
                await up.write(bytes(2 * C))
            with pytest.raises(UnsupportedOperationError):
                await up.write(b"more")
            with pytest.raises(UnsupportedOperationError):
                await up.complete()

    async def test_completing_again_after_a_lost_answer_writes_no_second_end(self):
        faulty = FaultyStore(MemoryStore(), {"complete": [Fault("before")]})
        store = EncryptionStore(faulty, KEYS)
        async with await store.start_upload("k") as up:
            await up.write(BODY)
            with pytest.raises(UnavailableError):
                await up.complete()
            with pytest.raises(UnsupportedOperationError):
                await up.write(b"more")
            await up.complete()
        assert await get_bytes(store, "k") == BODY

    @given(pieces=st.lists(st.sampled_from([0, 1, 7, C - 1, C, C + 1, 3 * C]) | st.integers(0, 5 * C), max_size=6))
    def test_any_cutting_of_the_writes(self, pieces):
        async def go():
            store = EncryptionStore(MemoryStore(), KEYS)
            body = Random(2).randbytes(sum(pieces))
            at = 0
            async with await store.start_upload("k") as up:
                for piece in pieces:
                    await up.write(memoryview(body)[at : at + piece])
                    at += piece
                assert (await up.complete()).size == len(body)
            assert await get_bytes(store, "k") == body
            async with await store.get("k") as result:
                assert b"".join([bytes(chunk) async for chunk in result]) == body

        asyncio.run(go())


class _FailingWrites(StoreWrapper):
    async def start_upload(self, key, **options):
        inner = await self.inner.start_upload(key, **options)

        async def write(_data):
            raise UnavailableError("no")

        inner.write = write  # type: ignore[method-assign]
        return inner


@given(data=st.data(), size=st.sampled_from([1, C, C + 1]) | st.integers(1, 4 * C), streamed=st.booleans())
def test_any_range(data, size, streamed):
    async def go():
        inner = MemoryStore()
        store = EncryptionStore(inner, KEYS)
        body = Random(size).randbytes(size)
        await (upload(store, "k", body) if streamed else store.put("k", body))
        store = EncryptionStore(inner, KEYS)
        start = data.draw(st.integers(0, size - 1))
        end = data.draw(st.integers(start + 1, size + C))
        assert await get_bytes(store, "k", range=ByteRange(start, end)) == body[start:end]
        assert await get_bytes(store, "k", range=ByteRange(-end)) == body[-end:]
        async with await store.get("k", range=ByteRange(start)) as result:
            buffer = bytearray(size)
            assert await result.readinto(memoryview(buffer)) == size - start
            assert buffer[: size - start] == body[start:]
        spans = data.draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(1, C)), max_size=5))
        ranges = [(first, first + length) for first, length in spans]
        assert await store.get_ranges("k", ranges) == [body[first:last] for first, last in ranges]

    asyncio.run(go())


class VersionedStore(StoreWrapper):
    """Memory that keeps versions."""

    def __init__(self):
        super().__init__(MemoryStore())
        self.history: list[tuple[ObjectMeta, bytes]] = []

    async def put(self, key, data, **options):
        meta = await self.inner.put(key, data, **options)
        self.history.insert(0, (meta, bytes(data)))
        return meta

    async def list_versions(self, prefix=""):
        for number, (meta, _) in enumerate(self.history):
            yield ObjectVersion(meta, meta.version, is_current=number == 0)
        yield ObjectVersion(self.history[0][0], "gone", is_current=False, is_deletion=True)

    async def get_version(self, key, version_id, *, range=None):  # noqa: A002
        meta, data = next(entry for entry in self.history if entry[0].version == version_id)
        span = (range.start, min(range.end, meta.size)) if range else (0, meta.size)

        async def chunks():
            yield data[slice(*span)]

        return GetResult(meta, chunks(), range=span)

    async def restore_version(self, key, version_id):
        data = next(data for meta, data in self.history if meta.version == version_id)
        return await self.put(key, data)


@pytest.mark.parametrize("plaintext", ["refuse", "allow"])
async def test_versions(plaintext):
    store = EncryptionStore(VersionedStore(), KEYS, plaintext=plaintext)
    first = await store.put("k", BODY)
    await store.put("k", b"second")
    found = [version async for version in store.list_versions()]
    assert [(version.meta.size, version.is_deletion) for version in found[:2]] == [(6, False), (len(BODY), False)]
    assert found[2].is_deletion
    assert await (await store.get_version("k", first.version)).read() == BODY
    assert await (await store.get_version("k", first.version, range=ByteRange(C, C + 3))).read() == BODY[C : C + 3]
    assert (await store.restore_version("k", first.version)).size == len(BODY)
    assert await get_bytes(store, "k") == BODY


async def test_much_is_ciphered_off_the_event_loop(store, monkeypatch):
    threads: dict[str, set[bool]] = {"seal": set(), "open": set()}
    for name, seen in threads.items():
        original = getattr(ObjectCipher, name)

        def spy(self, data, *args, original=original, seen=seen, **options):
            if len(data) > 1_000_000:
                seen.add(threading.current_thread() is threading.main_thread())
            return original(self, data, *args, **options)

        monkeypatch.setattr(ObjectCipher, name, spy)
    data = bytes(3_000_000)
    await store.put("k", data)
    await upload(store, "u", data, piece=len(data))
    assert await get_bytes(store, "k") == data
    assert await store.get_ranges("u", [(0, len(data))]) == [data]
    assert threads == {"seal": {False}, "open": {False}}


async def test_a_signed_url_is_refused(store):
    assert not store.capabilities.signed_urls
    with pytest.raises(UnsupportedOperationError, match="no keys"):
        await store.signed_url("k")


async def test_over_a_folder_nothing_is_in_clear(tmp_path):
    async with EncryptionStore(LocalStore(tmp_path), KEYS) as store:
        await store.put("a/k", BODY)
        await store.copy("a/k", "b")
        assert await get_bytes(store, "b") == BODY
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert BODY[:32] not in path.read_bytes()
