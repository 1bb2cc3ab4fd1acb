"""GCSStore keeps the contract of object stores."""

from __future__ import annotations

import pytest

from buffetstore.objects.gcs import GCSStore
from buffetstore.testing.object_store import ObjectStoreContract


class TestGCSStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, server, bucket):
        async with GCSStore(bucket, api_root=server.url, page_size=10, chunk_bytes=1024 * 1024) as store:
            yield store
