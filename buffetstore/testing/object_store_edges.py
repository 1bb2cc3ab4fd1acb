"""The object store contract: what is missing, closed, or to be checked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from buffetstore.errors import BucketNotFoundError, InvalidInputError, StorageError
from buffetstore.objects.base import ByteRange
from buffetstore.objects.checksums import checksum
from buffetstore.objects.helpers import get_bytes, head, list_all

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from buffetstore.objects.base import ObjectMeta, ObjectStore

    Verb = Callable[[ObjectStore], Coroutine[Any, Any, object]]

_BODY = b"0123456789" * 1000
_SECONDS = 20.0


async def _upload(store: ObjectStore) -> ObjectMeta:
    async with await store.start_upload("k") as upload:
        await upload.write(_BODY)
        return await upload.complete()


VERBS: dict[str, Verb] = {
    "put": lambda store: store.put("k", _BODY),
    "upload": _upload,
    "get": lambda store: get_bytes(store, "k"),
    "head": lambda store: head(store, "k"),
    "get_ranges": lambda store: store.get_ranges("k", [(0, 1)]),
    "delete": lambda store: store.delete(["k"]),
    "delete many": lambda store: store.delete(["k", "k2", "k3"]),
    "list_objects": list_all,
    "list_prefixes": lambda store: store.list_prefixes(),
    "copy": lambda store: store.copy("k", "k2"),
}


class EdgeCases:
    """What holds for a bucket that is missing, a store that is closed, buffers and checksums."""

    @pytest.fixture
    async def missing_bucket_store(self, store: ObjectStore) -> ObjectStore:  # noqa: ARG002 - what `store` needs, a suite may be parametrized by
        """Give a store whose bucket, container or folder is not there; a suite without one skips these cases."""
        return pytest.skip("needs a store of a missing bucket (fixture missing_bucket_store)")

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_missing_bucket_is_named(self, missing_bucket_store: ObjectStore, verb: str) -> None:
        async with asyncio.timeout(_SECONDS):
            with pytest.raises(BucketNotFoundError):
                await VERBS[verb](missing_bucket_store)

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_closed_store_answers_or_says_so(self, store: ObjectStore, verb: str) -> None:
        """A store that holds nothing goes on; one that held connections refuses by an error of ours, at once."""
        await store.put("k", _BODY)
        await store.aclose()
        async with asyncio.timeout(_SECONDS):
            try:
                await VERBS[verb](store)
            except StorageError as error:
                assert not error.transient, "repeating does not open it again"  # noqa: PT017

    async def test_a_body_is_read_into_a_buffer(self, store: ObjectStore) -> None:
        await store.put("k", _BODY)
        buffer = bytearray(b"\xff" * (len(_BODY) + 10))
        assert await (await store.get("k")).readinto(memoryview(buffer)) == len(_BODY)
        assert buffer == _BODY + b"\xff" * 10
        exact = bytearray(5)
        assert await (await store.get("k", range=ByteRange(3, 8))).readinto(memoryview(exact)) == 5
        assert exact == b"34567"
        await store.put("empty", b"")
        assert await (await store.get("empty")).readinto(memoryview(bytearray())) == 0

    async def test_a_large_body_is_read_into_a_buffer(self, store: ObjectStore) -> None:
        data = _BODY * 300
        await store.put("large", data)
        buffer = bytearray(len(data))
        assert await (await store.get("large")).readinto(memoryview(buffer)) == len(data)
        assert buffer == data

    async def test_too_small_a_buffer_is_refused(self, store: ObjectStore) -> None:
        await store.put("k", _BODY)
        buffer = bytearray(len(_BODY) - 1)
        with pytest.raises(InvalidInputError):
            await (await store.get("k")).readinto(memoryview(buffer))
        assert await get_bytes(store, "k") == _BODY

    async def test_a_checksum_is_that_of_the_bytes(self, store: ObjectStore) -> None:
        """Where a service gives one of all the bytes; wherever it is given, it is the same."""
        metas = [await store.put("k", _BODY), await head(store, "k"), *await list_all(store)]
        metas += (await store.list_prefixes()).objects
        async with await store.get("k") as result:
            metas.append(result.meta)
        async with await store.get("k", range=ByteRange(5, 10)) as result:
            metas.append(result.meta)
        metas.append(await _upload(store))
        metas.append(await head(store, "k"))
        metas.append(await store.copy("k", "k2"))
        for meta in metas:
            if meta.checksum is not None:
                assert meta.checksum == checksum(meta.checksum.algorithm, _BODY)
