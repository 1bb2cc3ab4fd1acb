"""Generations kept by a bucket with object versioning, read by us and by Google's own client."""

from __future__ import annotations

import aiohttp
import pytest

from buffetstore.errors import InvalidRangeError, NotFoundError
from buffetstore.objects.base import Attributes, ByteRange
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.helpers import get_bytes, head, list_all
from buffetstore.objects.open import open_store
from buffetstore.testing.gcs import GCSServer
from buffetstore.testing.gcs.errors import ApiError


@pytest.fixture
async def store(server, bucket):
    server.state.bucket(bucket).fields["versioning"] = {"enabled": True}
    async with GCSStore(bucket, api_root=server.url, page_size=2) as store:
        yield store


async def read(store, key, version, **options):
    return await (await store.get_version(key, version, **options)).read()


async def test_every_generation_is_listed_and_read(store):
    written = [await store.put("a/k", b"version %d" % number) for number in range(5)]
    other = await store.put("a/other", b"")
    await store.put("b", b"")
    versions = [each async for each in store.list_versions("a/")]
    assert [(each.meta.key, each.id, each.is_current, each.is_deletion) for each in versions] == [
        *(("a/k", meta.version, number == 4, False) for number, meta in reversed(list(enumerate(written)))),
        ("a/other", other.version, True, False),
    ]
    assert versions[-2].meta.checksum == written[0].checksum
    for number, meta in enumerate(written):
        assert await read(store, "a/k", meta.version) == b"version %d" % number
    assert await read(store, "a/k", written[1].version, range=ByteRange(-1)) == b"1"
    with pytest.raises(InvalidRangeError):
        await store.get_version("a/k", written[1].version, range=ByteRange(100))


async def test_a_deleted_object_is_restored(store):
    first = await store.put("k", b"kept", attributes=Attributes("text/x", {"a": "b"}))
    await store.put("k", b"newer")
    await store.delete(["k"])
    assert await list_all(store) == []
    assert [each.is_current async for each in store.list_versions()] == [False, False]
    restored = await store.restore_version("k", first.version)
    assert await get_bytes(store, "k", if_match=restored.version) == b"kept"
    attributes = (await head(store, "k")).attributes
    assert attributes is not None
    assert (attributes.content_type, attributes.metadata) == ("text/x", {"a": "b"})
    assert [each.is_current async for each in store.list_versions()] == [True, False, False]


@pytest.mark.parametrize("version", ["1", "etag", "", "99999999999999999"])
async def test_a_version_that_is_not_there(store, version):
    await store.put("k", b"")
    with pytest.raises(NotFoundError):
        await store.get_version("k", version)
    with pytest.raises(NotFoundError):
        await store.restore_version("k", version)


async def test_a_bucket_without_versioning_has_the_current_ones(server, bucket):
    async with open_store(f"gs://{bucket}/prefix", api_root=server.url) as store:
        assert store.capabilities.object_versions
        first, second = await store.put("k", b"1"), await store.put("k", b"2")
        assert [(each.meta.key, each.id) async for each in store.list_versions()] == [("k", second.version)]
        assert await read(store, "k", second.version) == b"2"
        with pytest.raises(NotFoundError):
            await store.get_version("k", first.version)


def test_google_sees_the_same(google, server, bucket):
    home = google.get_bucket(bucket)
    home.versioning_enabled = True
    home.patch()
    for number in range(3):
        home.blob("k").upload_from_string(b"%d" % number)
    home.blob("other").upload_from_string(b"")
    found = [each for each in google.list_blobs(bucket, versions=True, page_size=2) if each.name == "k"]
    assert [(each.generation, each.time_deleted is None) for each in found] == [
        (each.generation, number == 2) for number, each in enumerate(found)
    ]
    assert [home.blob("k", generation=each.generation).download_as_bytes() for each in found] == [b"0", b"1", b"2"]
    home.blob("k").delete()
    home.copy_blob(home.blob("k"), home, "k", source_generation=found[0].generation)
    assert home.blob("k").download_as_bytes() == b"0"
    home.blob("k", generation=found[1].generation).delete()
    left = [each.generation for each in home.list_blobs(prefix="k", versions=True)]
    assert len(left) == 3
    assert found[1].generation not in left


async def test_the_server_keeps_them_as_google_does():
    async with GCSServer(buckets=["b"], versioning=True) as server, GCSStore("b", api_root=server.url) as store:
        first = await store.put("k", b"1")
        await store.delete(["k"])
        with pytest.raises(ApiError, match="not empty"):
            server.state.delete_bucket("b")
        patched = server.state.patch("b", "k", {"contentType": "text/x"}, generation=int(first.version))
        assert patched.deleted is not None
        async with await store.get_version("k", first.version) as result:
            assert result.meta.attributes.content_type == "text/x"
        server.state.bucket("b").fields["versioning"] = {"enabled": False}
        await store.put("k", b"2")
        await store.put("k", b"3")  # what is replaced now is gone, what was kept stays
        assert [each.is_current async for each in store.list_versions()] == [True, False]
        async with aiohttp.ClientSession(server.url) as http:
            path = "/storage/v1/b/b/o"
            assert (await http.get(path, params={"versions": "true", "delimiter": "/"})).status == 400
            assert (await http.delete(f"{path}/k", params={"generation": first.version})).status == 204
            assert (await http.delete(f"{path}/k", params={"generation": first.version})).status == 404
        server.state.delete("b", "k", generation=int((await head(store, "k")).version))
        server.state.delete_bucket("b")
