from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from buffetstore.errors import NotFoundError
from buffetstore.objects import PrefixStore, RetryStore, open_store
from buffetstore.objects.fsspec import FsspecStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.testing import ObjectStoreContract


class SFTPContract(ObjectStoreContract):
    nested_names = False


class TestAsyncssh(SFTPContract):
    @pytest.fixture
    async def store(self, asyncssh_server, tmp_path):
        async with FsspecStore.from_url(asyncssh_server.url, root=str(tmp_path), **asyncssh_server.options) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, asyncssh_server, tmp_path):
        async with FsspecStore.from_url(
            asyncssh_server.url, root=f"{tmp_path}/none", **asyncssh_server.options
        ) as store:
            yield store


class TestOpenSSH(SFTPContract):
    @pytest.fixture
    async def store(self, openssh_server, tmp_path):
        async with FsspecStore.from_url(openssh_server.url, root=str(tmp_path), **openssh_server.options) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, openssh_server, tmp_path):
        async with FsspecStore.from_url(openssh_server.url, root=f"{tmp_path}/none", **openssh_server.options) as store:
            yield store


class TestRetryOverAsyncssh(SFTPContract):
    @pytest.fixture
    async def store(self, asyncssh_server, tmp_path):
        inner = FsspecStore.from_url(asyncssh_server.url, root=str(tmp_path), **asyncssh_server.options)
        async with RetryStore(inner) as store:
            yield store


class TestOpenedOpenSSH(SFTPContract):
    """The stack that users get; the path of the URL is a prefix, and is the server's path."""

    @pytest.fixture
    async def store(self, openssh_server, tmp_path):
        async with open_store(f"{openssh_server.url}{tmp_path}/made/here", **openssh_server.options) as store:
            yield store


class TestPoorServer(SFTPContract):
    """A server that has no extensions: what needs them is skipped, as the capability says."""

    @pytest.fixture
    async def store(self, poor_server, tmp_path):
        inner = FsspecStore.from_url(poor_server.url, root=str(tmp_path), **poor_server.options)
        async with PrefixStore(inner, "below") as store:
            await inner.warm_up(1)
            yield store

    async def test_readers_see_whole_objects(self, store):
        """Whole or, for a moment, not at all: `guarantees.replace` is "gap"."""
        assert store.inner.guarantees.replace == "gap"
        bodies = {bytes([number]) * 300_000 for number in range(8)}

        async def read():
            with suppress(NotFoundError):
                return await get_bytes(store, "k")

        results = await asyncio.gather(*(store.put("k", body) for body in bodies), *(read() for _ in range(8)))
        assert {body for body in results if isinstance(body, bytes)} <= bodies
        assert await get_bytes(store, "k") in bodies
