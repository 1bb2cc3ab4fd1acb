from __future__ import annotations

import pytest

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects import open_store
from buffetstore.objects.base import CREATE
from buffetstore.objects.fsspec import FsspecStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.testing import ObjectStoreContract


class WebHDFSContract(ObjectStoreContract):
    nested_names = False


class TestWebHDFS(WebHDFSContract):
    @pytest.fixture
    async def store(self, namenode):
        async with FsspecStore.from_url(f"webhdfs://127.0.0.1:{namenode.port}", root="/data", user="analyst") as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, namenode):
        async with FsspecStore.from_url(f"webhdfs://127.0.0.1:{namenode.port}", root="/none") as store:
            yield store


class TestOpenedWebHDFS(WebHDFSContract):
    """The stack that users get, with a prefix."""

    @pytest.fixture
    async def store(self, namenode):
        async with open_store(f"webhdfs://analyst@127.0.0.1:{namenode.port}/data/made/here") as store:
            yield store


async def test_a_gateway_creates_but_does_not_replace(gateway):
    async with FsspecStore.from_url(f"webhdfs://127.0.0.1:{gateway.port}", root="/data") as store:
        await store.put("a", b"one", mode=CREATE)
        with pytest.raises(UnsupportedOperationError, match="HttpFS"):
            await store.put("a", b"two")
        assert await get_bytes(store, "a") == b"one"
        assert not store.capabilities.unique_versions
        assert store.guarantees.replace == "unknown"
        await store.put("b", b"new")
        await store.put("folder/x", b"")
        for mode in (CREATE, None):
            with pytest.raises(UnsupportedOperationError):
                await store.put("folder", b"", **({"mode": mode} if mode else {}))
        assert [meta.key async for meta in store.list_objects()] == ["a", "b", "folder/x"]
    assert sorted(gateway.nodes) == ["/", "/data", "/data/a", "/data/b", "/data/folder", "/data/folder/x"]
