"""No fault on the way makes AzureStore give a wrong answer."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from buffetstore.objects.azure import AzureStore
from buffetstore.testing.background import in_background
from buffetstore.testing.fault_injection import HttpInjector
from buffetstore.testing.http_faults import HttpFaultProxy
from buffetstore.testing.object_store_faults import ObjectStoreFaultContract


@pytest.fixture(scope="module")
def proxy(azure_endpoint):
    with in_background(HttpFaultProxy(f"http://{urlsplit(azure_endpoint).netloc}")) as proxy:
        yield proxy


class TestAzureStoreUnderFaults(ObjectStoreFaultContract):
    @pytest.fixture
    def injector(self, proxy):
        return HttpInjector(proxy)

    @pytest.fixture
    async def raw_store(self, injector, idle_seconds, container, options):
        small = {"page_size": 10, "part_bytes": 1024 * 1024, "timeout_seconds": idle_seconds}
        endpoint = f"{injector.proxy.url}{urlsplit(options['endpoint_url']).path}"
        async with AzureStore.from_url(f"az://{container}", **options | small | {"endpoint_url": endpoint}) as store:
            yield store
