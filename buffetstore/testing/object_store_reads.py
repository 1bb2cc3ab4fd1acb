"""The object store contract: reading."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import InvalidKeyError, InvalidRangeError, NotFoundError, PreconditionFailedError
from buffetstore.objects.base import ByteRange
from buffetstore.objects.helpers import exists, get_bytes, get_many, get_text, head, put_text

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore

BODY = bytes(range(256)) * 4

BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "a\x00b",
    "a\nb",
    "\x7f",
    "\ud800",
]

ODD_KEYS = [
    "a b/c d",
    "100%",
    "%2e%2e/x",
    "a%2Fb",
    "q?x=1&y=2",
    "a#b",
    "a+b=c",
    "^GSPC",
    "ES=F",
    "BRK.B",
    "...",
    "..a/b..",
    "a\\b",
    "a:b;c,d@e!$'()*~[]{}|<>`\"",
    "Zürich/naïve",
    "日本語/東京",
    "emoji-📈",
    "e\u0301",
    "-dash/_x",
    "year=2024/month=01/AAPL.parquet",
]

RANGES = [
    (ByteRange(0, 10), BODY[:10]),
    (ByteRange(100, 101), BODY[100:101]),
    (ByteRange(1000), BODY[1000:]),
    (ByteRange(1000, 99999), BODY[1000:]),
    (ByteRange(-24), BODY[-24:]),
    (ByteRange(-99999), BODY),
    (ByteRange(0, len(BODY)), BODY),
]

BAD_RANGES = [
    ByteRange(len(BODY)),
    ByteRange(len(BODY), len(BODY) + 1),
    ByteRange(99999),
    ByteRange(10, 10),
    ByteRange(10, 9),
    ByteRange(-5, 10),
]


class ReadCases:
    """What holds for `get`, `get_ranges` and keys."""

    async def test_what_was_put_is_read_back(self, store: ObjectStore) -> None:
        meta = await store.put("dir/name.bin", BODY)
        async with await store.get("dir/name.bin") as result:
            assert await result.read() == BODY
            assert result.range == (0, len(BODY))
            read = result.meta
        assert (read.key, read.size, read.version) == ("dir/name.bin", len(BODY), meta.version)
        assert read.last_modified.utcoffset() == timedelta(0)

    async def test_a_zero_byte_object(self, store: ObjectStore) -> None:
        meta = await store.put("empty", b"")
        assert meta.size == 0
        assert await get_bytes(store, "empty") == b""
        assert (await head(store, "empty")).size == 0
        with pytest.raises(InvalidRangeError):
            await get_bytes(store, "empty", range=ByteRange(0, 1))

    @pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
    async def test_any_bytes_like_data(self, store: ObjectStore, view: type) -> None:
        await store.put("k", view(BODY))
        assert await get_bytes(store, "k") == BODY

    async def test_a_body_is_streamed_in_order(self, store: ObjectStore) -> None:
        data = b"".join(number.to_bytes(4, "big") for number in range(700_000))
        await store.put("large", data)
        async with await store.get("large") as result:
            chunks = [bytes(chunk) async for chunk in result]
        assert b"".join(chunks) == data

    async def test_a_body_may_be_closed_unread(self, store: ObjectStore) -> None:
        await store.put("large", bytes(3_000_000))
        for _ in range(5):
            result = await store.get("large")
            await result.aclose()
            await result.aclose()
        async with await store.get("large") as result:
            async for _chunk in result:
                break
        assert len(await get_bytes(store, "large")) == 3_000_000

    async def test_head_has_no_body(self, store: ObjectStore) -> None:
        meta = await store.put("k", BODY)
        async with await store.get("k", head=True) as result:
            assert result.meta.version == meta.version
            assert result.meta.size == len(BODY)
            assert await result.read() == b""

    async def test_an_absent_key_is_not_found(self, store: ObjectStore) -> None:
        for call in (store.get("gone"), store.get("gone", head=True), store.get_ranges("gone", [(0, 1)])):
            with pytest.raises(NotFoundError) as failure:
                await call
            assert failure.value.key == "gone"
        with pytest.raises(NotFoundError):
            await store.copy("gone", "target")
        assert not await exists(store, "gone")

    async def test_if_match(self, store: ObjectStore) -> None:
        first = await store.put("k", b"one")
        assert await get_bytes(store, "k", if_match=first.version) == b"one"
        second = await store.put("k", b"two")
        assert second.version != first.version
        with pytest.raises(PreconditionFailedError):
            await get_bytes(store, "k", if_match=first.version)
        with pytest.raises(PreconditionFailedError):
            await store.get_ranges("k", [(0, 1)], if_match=first.version)
        assert await store.get_ranges("k", [(0, 1)], if_match=second.version) == [b"t"]

    @pytest.mark.parametrize(("asked", "expected"), RANGES, ids=range(len(RANGES)))
    async def test_a_range(self, store: ObjectStore, asked: ByteRange, expected: bytes) -> None:
        await store.put("k", BODY)
        async with await store.get("k", range=asked) as result:
            start, end = result.range
            assert BODY[start:end] == expected
            assert result.meta.size == len(BODY)
            assert await result.read() == expected

    @pytest.mark.parametrize("asked", BAD_RANGES, ids=range(len(BAD_RANGES)))
    async def test_a_bad_range_is_refused(self, store: ObjectStore, asked: ByteRange) -> None:
        await store.put("k", BODY)
        with pytest.raises(InvalidRangeError):
            await get_bytes(store, "k", range=asked)

    async def test_many_ranges_come_in_the_order_asked(self, store: ObjectStore) -> None:
        data = bytes(range(256)) * 8192
        await store.put("k", data)
        ranges = [(2_000_000, 2_000_100), (0, 1), (500, 700), (600, 650), (0, 1), (2_097_000, 99_999_999)]
        assert await store.get_ranges("k", ranges) == [data[start:end] for start, end in ranges]
        assert await store.get_ranges("k", []) == []
        with pytest.raises(InvalidRangeError):
            await store.get_ranges("k", [(0, 1), (len(data), len(data) + 1)])
        with pytest.raises(InvalidRangeError):
            await store.get_ranges("k", [(5, 4)])

    @pytest.mark.parametrize("key", BAD_KEYS, ids=range(len(BAD_KEYS)))
    async def test_a_bad_key_is_refused(self, store: ObjectStore, key: str) -> None:
        await store.put("kept", b"")
        for call in (
            store.put(key, b""),
            store.get(key),
            store.get_ranges(key, [(0, 1)]),
            store.delete(["kept", key]),
            store.copy("kept", key),
            store.copy(key, "other"),
            store.start_upload(key),
        ):
            with pytest.raises(InvalidKeyError):
                await call
        assert await exists(store, "kept")

    async def test_too_long_a_key_is_refused(self, store: ObjectStore) -> None:
        with pytest.raises(InvalidKeyError):
            await store.put("/".join(["x" * 99] * 11), b"")

    @pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
    async def test_an_odd_key_is_data(self, store: ObjectStore, key: str) -> None:
        meta = await put_text(store, key, key)
        assert meta.key == key
        assert await get_text(store, key) == key
        assert (await head(store, key)).key == key
        assert [found.key async for found in store.list_objects()] == [key]
        assert [found.key async for found in store.list_objects(key)] == [key]
        await store.delete([key])
        assert not await exists(store, key)

    async def test_many_small_reads_at_once(self, store: ObjectStore) -> None:
        keys = [f"log/{number:020}.json" for number in range(64)]
        await asyncio.gather(*(put_text(store, key, key) for key in keys))
        assert await get_many(store, keys) == [key.encode() for key in keys]
        with pytest.raises(NotFoundError):
            await get_many(store, [*keys, "log/none.json"])

    async def test_a_cancelled_read_frees_what_it_held(self, store: ObjectStore) -> None:
        await store.put("large", bytes(3_000_000))
        for steps in range(6):
            task = asyncio.create_task(get_bytes(store, "large"))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert len(await get_bytes(store, "large")) == 3_000_000

    async def test_it_may_be_closed_twice(self, store: ObjectStore) -> None:
        await store.put("k", b"")
        await store.aclose()
        await store.aclose()
