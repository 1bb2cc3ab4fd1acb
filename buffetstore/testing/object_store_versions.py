"""The object store contract: versions of an object, and signed URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from buffetstore.errors import InvalidInputError, InvalidKeyError, NotFoundError, UnsupportedOperationError
from buffetstore.objects.base import ByteRange
from buffetstore.objects.helpers import exists, get_bytes, get_text, head

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectStore, ObjectVersion


async def versions_of(store: ObjectStore, prefix: str = "") -> list[ObjectVersion]:
    """Return every version under a prefix."""
    return [version async for version in store.list_versions(prefix)]


class VersionCases:
    """What holds for `list_versions`, `get_version` and `restore_version`, in a bucket that keeps versions."""

    @pytest.fixture
    async def versioned_store(self, store: ObjectStore) -> ObjectStore:  # noqa: ARG002 - what `store` needs, a suite may be parametrized by
        """Give an empty store whose bucket keeps versions; a suite that has none skips these cases."""
        return pytest.skip("needs a bucket that keeps versions (fixture versioned_store)")

    async def test_without_versions_it_says_so(self, store: ObjectStore) -> None:
        if store.capabilities.object_versions:
            pytest.skip("it has the capability object_versions")
        await store.put("k", b"")
        with pytest.raises(UnsupportedOperationError):
            await versions_of(store)
        with pytest.raises(UnsupportedOperationError):
            await store.get_version("k", "1")
        with pytest.raises(UnsupportedOperationError):
            await store.restore_version("k", "1")

    async def test_versions_are_listed_newest_first(self, versioned_store: ObjectStore) -> None:
        store = versioned_store
        assert await versions_of(store) == []
        for key, count in {"b": 2, "a/x": 3, "c": 1}.items():
            for number in range(count):
                await store.put(key, f"{key} {number}".encode())
        found = await versions_of(store)
        assert [version.meta.key for version in found] == ["a/x"] * 3 + ["b"] * 2 + ["c"]
        assert [version.is_current for version in found] == [True, False, False, True, False, True]
        assert not any(version.is_deletion for version in found)
        assert len({(version.meta.key, version.id) for version in found}) == 6
        assert [version.id for version in await versions_of(store, "a/")] == [version.id for version in found[:3]]
        bodies = [await (await store.get_version(version.meta.key, version.id)).read() for version in found]
        assert bodies == [b"a/x 2", b"a/x 1", b"a/x 0", b"b 1", b"b 0", b"c 0"]
        assert [version.meta.size for version in found] == [len(body) for body in bodies]

    async def test_a_version_is_read(self, versioned_store: ObjectStore) -> None:
        store = versioned_store
        await store.put("k", b"the old bytes")
        await store.put("k", b"new")
        old = (await versions_of(store))[-1]
        async with await store.get_version("k", old.id, range=ByteRange(4, 7)) as result:
            assert (result.meta.key, result.meta.size, result.range) == ("k", 13, (4, 7))
            assert await result.read() == b"old"
        for key, version in (("k", "999999999"), ("other", old.id)):
            with pytest.raises((NotFoundError, InvalidInputError)):
                await store.get_version(key, version)
        assert await get_text(store, "k") == "new"

    async def test_a_version_is_restored_by_a_copy(self, versioned_store: ObjectStore) -> None:
        store = versioned_store
        await store.put("k", b"first")
        await store.put("k", b"second")
        first = (await versions_of(store))[-1]
        meta = await store.restore_version("k", first.id)
        assert (meta.key, meta.size) == ("k", 5)
        assert await get_bytes(store, "k", if_match=meta.version) == b"first"
        history = await versions_of(store)
        assert len(history) == 3
        assert history[-1].id == first.id
        assert await (await store.get_version("k", history[1].id)).read() == b"second"

    async def test_what_was_deleted_is_restored(self, versioned_store: ObjectStore) -> None:
        store = versioned_store
        await store.put("k", b"precious")
        await store.delete(["k"])
        assert not await exists(store, "k")
        history = await versions_of(store)
        kept = [version for version in history if not version.is_deletion]
        assert len(kept) == 1
        assert not kept[0].is_current
        for deletion in (version for version in history if version.is_deletion):
            with pytest.raises(NotFoundError):
                await store.get_version("k", deletion.id)
        await store.restore_version("k", kept[0].id)
        assert await get_text(store, "k") == "precious"


class SignedURLCases:
    """What holds for `signed_url`: who has the URL alone may do this one thing."""

    async def test_without_signed_urls_it_says_so(self, store: ObjectStore) -> None:
        if store.capabilities.signed_urls:
            pytest.skip("it has the capability signed_urls")
        with pytest.raises(UnsupportedOperationError):
            await store.signed_url("k")

    @pytest.mark.parametrize("key", ["k", "dir/a b+c=100%?x#y", "Zürich/📈"])
    async def test_a_signed_url_reads_one_object(self, store: ObjectStore, key: str) -> None:
        self._needs_signing(store)
        await store.put(key, b"for all to see")
        url = await store.signed_url(key, expires_seconds=60)
        async with aiohttp.ClientSession() as client, client.get(URL(url, encoded=True)) as answer:
            assert (answer.status, await answer.read()) == (200, b"for all to see")

    async def test_a_signed_url_writes_one_object(self, store: ObjectStore) -> None:
        self._needs_signing(store)
        url = await store.signed_url("dir/k.csv", method="PUT", expires_seconds=60, content_type="text/csv")
        headers = {"Content-Type": "text/csv", "x-ms-blob-type": "BlockBlob"}  # Azure wants it, others do not mind
        async with (
            aiohttp.ClientSession() as client,
            client.put(URL(url, encoded=True), data=b"a,b", headers=headers) as answer,
        ):
            assert answer.status in {200, 201}, await answer.text()
        assert await get_text(store, "dir/k.csv") == "a,b"
        attributes = (await head(store, "dir/k.csv")).attributes
        assert attributes is not None
        assert attributes.content_type == "text/csv"

    async def test_a_signed_url_within_reason(self, store: ObjectStore) -> None:
        self._needs_signing(store)
        for seconds in (0, -1):
            with pytest.raises(InvalidInputError):
                await store.signed_url("k", expires_seconds=seconds)
        with pytest.raises(InvalidKeyError):
            await store.signed_url("../k")

    def _needs_signing(self, store: ObjectStore) -> None:
        if not store.capabilities.signed_urls:
            pytest.skip("needs the capability signed_urls")
