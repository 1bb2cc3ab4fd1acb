"""The object store contract: objects written in parts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import AlreadyExistsError, NotFoundError, PreconditionFailedError
from buffetstore.objects.base import CREATE, Attributes, ByteRange, Update
from buffetstore.objects.helpers import exists, get_bytes, head
from buffetstore.testing.object_store_writes import needs

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore


class UploadCases:
    """What holds for `start_upload` and what it returns."""

    upload_bytes = 13 * 1024 * 1024 + 7  # more than two parts of any service's least size

    async def test_it_is_seen_only_when_complete(self, store: ObjectStore) -> None:
        async with await store.start_upload("a/k") as upload:
            await upload.write(b"one ")
            await upload.write(bytearray(b"two "))
            await upload.write(b"")
            assert not await exists(store, "a/k")
            assert [meta async for meta in store.list_objects()] == []
            assert (await store.list_prefixes()).prefixes == []
            await upload.write(memoryview(b"three"))
            meta = await upload.complete()
        assert (meta.key, meta.size) == ("a/k", 13)
        assert await get_bytes(store, "a/k", if_match=meta.version) == b"one two three"

    async def test_the_old_object_stays_until_then(self, store: ObjectStore) -> None:
        first = await store.put("k", b"old")
        async with await store.start_upload("k") as upload:
            await upload.write(b"new")
            assert await get_bytes(store, "k", if_match=first.version) == b"old"
            await upload.complete()
        assert await get_bytes(store, "k") == b"new"

    async def test_aborted_it_leaves_nothing(self, store: ObjectStore) -> None:
        upload = await store.start_upload("k")
        await upload.write(b"data")
        await upload.abort()
        await upload.abort()
        assert not await exists(store, "k")
        async with await store.start_upload("k") as upload:
            await upload.write(b"left without complete")
        assert not await exists(store, "k")
        assert [meta async for meta in store.list_objects()] == []

    async def test_abort_after_complete_does_nothing(self, store: ObjectStore) -> None:
        upload = await store.start_upload("k")
        await upload.write(b"data")
        await upload.complete()
        await upload.abort()
        assert await get_bytes(store, "k") == b"data"

    async def test_an_empty_upload(self, store: ObjectStore) -> None:
        async with await store.start_upload("empty") as upload:
            meta = await upload.complete()
        assert meta.size == 0
        assert await get_bytes(store, "empty") == b""

    async def test_a_large_upload(self, store: ObjectStore) -> None:
        size = self.upload_bytes
        data = memoryview(b"".join(number.to_bytes(8, "big") for number in range(size // 8 + 1)))[:size]
        async with await store.start_upload("large", attributes=Attributes(content_type="text/csv")) as upload:
            for at in range(0, size, 1_000_000):
                await upload.write(data[at : at + 1_000_000])
            meta = await upload.complete()
        assert meta.size == size
        assert await get_bytes(store, "large") == data
        assert await get_bytes(store, "large", range=ByteRange(6_000_000, 9_000_000)) == data[6_000_000:9_000_000]

    async def test_one_large_write(self, store: ObjectStore) -> None:
        async with await store.start_upload("large") as upload:
            await upload.write(bytes(self.upload_bytes))
            await upload.complete()
        assert (await head(store, "large")).size == self.upload_bytes

    @pytest.mark.parametrize("size", [10, 6_000_000])
    async def test_create_is_decided_at_the_end(self, store: ObjectStore, size: int) -> None:
        needs(store, "conditional_create")
        async with await store.start_upload("k", mode=CREATE) as upload:
            await upload.write(bytes(size))
            winner = await store.put("k", b"winner", mode=CREATE)
            with pytest.raises(AlreadyExistsError):
                await upload.complete()
        assert await get_bytes(store, "k", if_match=winner.version) == b"winner"
        async with await store.start_upload("other", mode=CREATE) as upload:
            await upload.write(bytes(size))
            await upload.complete()
        assert (await head(store, "other")).size == size

    async def test_update_is_decided_at_the_end(self, store: ObjectStore) -> None:
        needs(store, "conditional_update")
        first = await store.put("k", b"first")
        async with await store.start_upload("k", mode=Update(first.version)) as upload:
            await upload.write(b"second")
            await upload.complete()
        assert await get_bytes(store, "k") == b"second"
        async with await store.start_upload("k", mode=Update(first.version)) as upload:
            await upload.write(b"third")
            with pytest.raises(PreconditionFailedError):
                await upload.complete()
        assert await get_bytes(store, "k") == b"second"

    async def test_of_two_open_creators_one_wins(self, store: ObjectStore) -> None:
        needs(store, "conditional_create")

        async def create(number: int) -> int | None:
            async with await store.start_upload("k", mode=CREATE) as upload:
                await upload.write(bytes([number]) * 100)
                try:
                    await upload.complete()
                except AlreadyExistsError:
                    return None
                return number

        answers = await asyncio.gather(*(create(number) for number in range(4)))
        winners = [number for number in answers if number is not None]
        assert len(winners) == 1
        assert await get_bytes(store, "k") == bytes(winners) * 100

    async def test_a_cancelled_upload_leaves_nothing(self, store: ObjectStore) -> None:
        async def upload() -> None:
            async with await store.start_upload("k") as upload:
                for _ in range(8):
                    await upload.write(bytes(1_000_000))
                    await asyncio.sleep(0)
                await asyncio.Event().wait()

        task = asyncio.create_task(upload())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(NotFoundError):
            await store.get("k")
