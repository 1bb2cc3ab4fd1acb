"""The object store contract: writing, conditionally and at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedOperationError,
)
from buffetstore.objects.base import CREATE, Attributes, Update
from buffetstore.objects.helpers import exists, get_bytes, get_text, head, put_text, read_object

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore


def needs(store: ObjectStore, capability: str) -> None:
    """Skip the test when the store does not have the capability."""
    if not getattr(store.capabilities, capability):
        pytest.skip(f"needs the capability {capability}")


class WriteCases:
    """What holds for `put`, `delete` and `copy`."""

    racers = 32

    async def test_overwrite_replaces(self, store: ObjectStore) -> None:
        first = await store.put("k", b"one")
        meta = await store.put("k", b"other")
        assert meta.version != first.version
        assert (await head(store, "k")).version == meta.version
        assert await get_bytes(store, "k") == b"other"

    async def test_the_same_bytes_again_are_another_version(self, store: ObjectStore) -> None:
        needs(store, "unique_versions")
        assert len({(await store.put("k", b"same")).version for _ in range(5)}) == 5

    async def test_content_type_is_told(self, store: ObjectStore) -> None:
        await store.put("k.json", b"{}", attributes=Attributes(content_type="application/json"))
        attributes = (await head(store, "k.json")).attributes
        assert attributes is not None
        assert attributes.content_type == "application/json"

    async def test_metadata_is_kept(self, store: ObjectStore) -> None:
        attributes = Attributes(metadata={"run-id": "a1", "note": "x y/z"})
        if not store.capabilities.metadata:
            with pytest.raises(UnsupportedOperationError):
                await store.put("k", b"", attributes=attributes)
            assert not await exists(store, "k")
            return
        await store.put("k", b"", attributes=attributes)
        await store.put("k2", b"", attributes=attributes, mode=CREATE)
        await store.copy("k", "copied")
        for key in ("k", "k2", "copied"):
            kept = (await head(store, key)).attributes
            assert kept is not None
            assert dict(kept.metadata) == dict(attributes.metadata)

    async def test_create(self, store: ObjectStore) -> None:
        needs(store, "conditional_create")
        meta = await store.put("k", b"first", mode=CREATE)
        with pytest.raises(AlreadyExistsError) as failure:
            await store.put("k", b"second", mode=CREATE)
        assert failure.value.key == "k"
        assert await get_bytes(store, "k", if_match=meta.version) == b"first"
        await store.delete(["k"])
        await store.put("k", b"third", mode=CREATE)

    async def test_create_of_an_empty_object(self, store: ObjectStore) -> None:
        needs(store, "conditional_create")
        await store.put("k", b"", mode=CREATE)
        with pytest.raises(AlreadyExistsError):
            await store.put("k", b"", mode=CREATE)

    async def test_update(self, store: ObjectStore) -> None:
        needs(store, "conditional_update")
        first = await store.put("k", b"one")
        second = await store.put("k", b"two", mode=Update(first.version))
        with pytest.raises(PreconditionFailedError) as failure:
            await store.put("k", b"three", mode=Update(first.version))
        assert failure.value.key == "k"
        assert await get_bytes(store, "k", if_match=second.version) == b"two"

    async def test_update_of_an_absent_key(self, store: ObjectStore) -> None:
        needs(store, "conditional_update")
        meta = await store.put("k", b"one")
        await store.delete(["k"])
        with pytest.raises(PreconditionFailedError):
            await store.put("k", b"two", mode=Update(meta.version))
        assert not await exists(store, "k")

    async def test_of_many_creators_one_wins(self, store: ObjectStore) -> None:
        needs(store, "conditional_create")

        async def create(number: int) -> int | None:
            try:
                await put_text(store, "race/00000.json", f"writer {number}", mode=CREATE)
            except AlreadyExistsError:
                return None
            return number

        answers = await asyncio.gather(*(create(number) for number in range(self.racers)))
        winners = [number for number in answers if number is not None]
        assert len(winners) == 1
        assert await get_text(store, "race/00000.json") == f"writer {winners[0]}"

    async def test_no_update_is_lost(self, store: ObjectStore) -> None:
        """Five workers add ten entries each by compare and swap; an unclear answer is settled by reading."""
        needs(store, "conditional_update")
        await put_text(store, "counter", "[]")

        async def add(entry: str) -> None:
            while True:
                meta, body = await read_object(store, "counter")
                entries = json.loads(body)
                if entry in entries:  # an earlier swap had landed although its answer was lost
                    return
                try:
                    await put_text(store, "counter", json.dumps([*entries, entry]), mode=Update(meta.version))
                except PreconditionFailedError as error:
                    if not error.ambiguous:
                        continue
                else:
                    return

        async def work(worker: int) -> None:
            for number in range(10):
                await add(f"{worker}-{number}")

        await asyncio.gather(*(work(worker) for worker in range(5)))
        entries = json.loads(await get_text(store, "counter"))
        assert sorted(entries) == sorted(f"{worker}-{number}" for worker in range(5) for number in range(10))

    async def test_readers_see_whole_objects(self, store: ObjectStore) -> None:
        bodies = {bytes([number]) * 300_000 for number in range(8)}
        await store.put("k", next(iter(bodies)))

        async def read() -> bytes:
            return await get_bytes(store, "k")

        results = await asyncio.gather(*(store.put("k", body) for body in bodies), *(read() for _ in range(8)))
        assert {body for body in results if isinstance(body, bytes)} <= bodies
        assert await get_bytes(store, "k") in bodies

    async def test_a_cancelled_write_is_whole_or_absent(self, store: ObjectStore) -> None:
        body = b"x" * 2_000_000
        for steps in range(8):
            task = asyncio.create_task(store.put(f"k{steps}", body))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            try:
                assert await get_bytes(store, f"k{steps}") == body
            except NotFoundError:
                assert task.cancelled()
        await store.put("after", b"")

    async def test_delete_is_idempotent(self, store: ObjectStore) -> None:
        await store.put("a/b", b"")
        await store.put("a/c", b"")
        await store.delete(["a/b", "never/was", "a/b"])
        await store.delete(["a/b"])
        await store.delete([])
        assert [meta.key async for meta in store.list_objects()] == ["a/c"]

    async def test_delete_of_many(self, store: ObjectStore) -> None:
        keys = [f"many/{number}" for number in range(60)]
        await asyncio.gather(*(store.put(key, b"") for key in keys))
        await store.delete(keys[:55])
        assert [meta.key async for meta in store.list_objects("many/")] == sorted(keys[55:])

    async def test_copy(self, store: ObjectStore) -> None:
        source = await store.put("a/source.json", b"body", attributes=Attributes(content_type="application/json"))
        meta = await store.copy("a/source.json", "b/target.json")
        assert (meta.key, meta.size) == ("b/target.json", 4)
        assert await get_bytes(store, "b/target.json", if_match=meta.version) == b"body"
        assert await get_bytes(store, "a/source.json", if_match=source.version) == b"body"
        attributes = (await head(store, "b/target.json")).attributes
        assert attributes is not None
        assert attributes.content_type == "application/json"
        await store.put("empty", b"")
        assert (await store.copy("empty", "empty too")).size == 0

    async def test_copy_if_absent(self, store: ObjectStore) -> None:
        needs(store, "conditional_create")
        await store.put("source", b"body")
        await store.copy("source", "target", mode=CREATE)
        await store.put("source", b"other")
        with pytest.raises(AlreadyExistsError):
            await store.copy("source", "target", mode=CREATE)
        assert await get_bytes(store, "target") == b"body"

    async def test_copy_over_a_version(self, store: ObjectStore) -> None:
        needs(store, "conditional_update")
        await store.put("source", b"body")
        first = await store.put("target", b"old")
        await store.copy("source", "target", mode=Update(first.version))
        with pytest.raises(PreconditionFailedError):
            await store.copy("source", "target", mode=Update(first.version))
        assert await get_bytes(store, "target") == b"body"
