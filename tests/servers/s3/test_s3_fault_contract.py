"""No fault on the way makes S3Store give a wrong answer."""

from __future__ import annotations

import pytest

from buffetstore.objects.s3 import S3Store
from buffetstore.testing.background import in_background
from buffetstore.testing.fault_injection import HttpInjector
from buffetstore.testing.http_faults import HttpFaultProxy
from buffetstore.testing.object_store_faults import ObjectStoreFaultContract


@pytest.fixture(scope="module")
def proxy(s3_endpoint):
    with in_background(HttpFaultProxy(s3_endpoint)) as proxy:
        yield proxy


class TestS3StoreUnderFaults(ObjectStoreFaultContract):
    upload_bytes = 8 * 1024 * 1024 + 300_000
    part_bytes = 8 * 1024 * 1024
    stall_seconds = 1.0
    checks_uploads = False  # moto takes any checksum

    @pytest.fixture
    def injector(self, proxy):
        return HttpInjector(proxy)

    @pytest.fixture
    async def raw_store(self, injector, idle_seconds, bucket, options):
        options |= {"endpoint_url": injector.proxy.url, "timeout_seconds": idle_seconds}
        async with S3Store.from_url(f"s3://{bucket}", **options) as store:
            yield store


@pytest.fixture(scope="module")
def ministack_proxy(ministack_endpoint):
    with in_background(HttpFaultProxy(ministack_endpoint)) as proxy:
        yield proxy


class TestMinistackUnderFaults(ObjectStoreFaultContract):
    """It checks what it is sent, so that a bit that flips on the way up is found."""

    upload_bytes = 8 * 1024 * 1024 + 300_000
    part_bytes = 8 * 1024 * 1024
    stall_seconds = 1.0

    @pytest.fixture
    def injector(self, ministack_proxy):
        return HttpInjector(ministack_proxy)

    @pytest.fixture
    async def raw_store(self, injector, idle_seconds, ministack_bucket, ministack_options):
        options = ministack_options | {"endpoint_url": injector.proxy.url, "timeout_seconds": idle_seconds}
        async with S3Store.from_url(f"s3://{ministack_bucket}", **options, page_size=10) as store:
            yield store
