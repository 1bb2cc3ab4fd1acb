"""No fault on the way to a namenode or a datanode makes the store give a wrong answer."""

from __future__ import annotations

import pytest

from buffetstore.objects.fsspec import FsspecStore
from buffetstore.testing.background import in_background
from buffetstore.testing.fault_cases import BODY, KEY
from buffetstore.testing.fault_injection import HttpInjector
from buffetstore.testing.http_faults import HttpFault, HttpFaultProxy
from buffetstore.testing.object_store_faults import ObjectStoreFaultContract


@pytest.fixture(scope="module")
def proxy(namenode_process):
    with in_background(HttpFaultProxy(f"http://127.0.0.1:{namenode_process.port}")) as proxy:
        yield proxy


class TestWebHDFSUnderFaults(ObjectStoreFaultContract):
    checks_uploads = False  # WebHDFS takes no checksums: TLS has to find a flipped bit
    part_bytes = None

    @pytest.fixture
    def injector(self, proxy):
        return HttpInjector(proxy)

    @pytest.fixture
    async def raw_store(self, injector, idle_seconds, namenode):
        url = f"webhdfs://127.0.0.1:{injector.proxy.port}"
        async with FsspecStore.from_url(url, root="/data", user="analyst", timeout_seconds=idle_seconds) as store:
            yield store

    @pytest.mark.parametrize("kind", ["reset", "truncate"])
    async def test_8_a_broken_download_goes_on_where_it_was(self, kind, store, raw_store, injector):
        """A body is several requests, each with a look at the version: what counts is that the bytes are right."""
        data = BODY * 8
        await raw_store.put(KEY, data)
        injector.clear()
        injector.add(*(HttpFault(kind, when="after", after_bytes=len(data) // 3) for _ in range(2)))
        async with await store.get(KEY) as result:
            assert b"".join([bytes(chunk) async for chunk in result]) == data
