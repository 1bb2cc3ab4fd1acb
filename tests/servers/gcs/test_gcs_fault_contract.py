"""No fault on the way makes GCSStore give a wrong answer."""

from __future__ import annotations

import pytest

from buffetstore.objects.gcs import GCSStore
from buffetstore.testing.background import in_background
from buffetstore.testing.fault_injection import HttpInjector
from buffetstore.testing.http_faults import HttpFaultProxy
from buffetstore.testing.object_store_faults import ObjectStoreFaultContract


@pytest.fixture(scope="module")
def proxy(gcs_server):
    with in_background(HttpFaultProxy(gcs_server.url)) as proxy:
        yield proxy


class TestGCSStoreUnderFaults(ObjectStoreFaultContract):
    @pytest.fixture
    def injector(self, proxy):
        return HttpInjector(proxy)

    @pytest.fixture
    async def raw_store(self, injector, idle_seconds, bucket):
        url = injector.proxy.url
        async with GCSStore(
            bucket, api_root=url, page_size=10, chunk_bytes=1024 * 1024, timeout_seconds=idle_seconds
        ) as store:
            yield store
