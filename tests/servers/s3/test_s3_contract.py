from __future__ import annotations

import pytest

from buffetstore.objects.helpers import get_bytes, head
from buffetstore.objects.s3 import S3Store
from buffetstore.testing.object_store import ObjectStoreContract
from buffetstore.testing.object_store_listing import ListingCases


class TestS3Store(ObjectStoreContract):
    listed_objects = 25

    @pytest.fixture
    async def store(self, bucket, options):
        async with S3Store.from_url(f"s3://{bucket}", **options) as store:
            yield store

    async def test_overwrite_replaces(self, store):
        """An ETag is made of the bytes: the same bytes are the same version, which the store's docstring says."""
        versions = {(await store.put("k", b"same")).version for _ in range(2)}
        assert len(versions) == 1
        meta = await store.put("k", b"other")
        assert meta.version not in versions
        assert (await head(store, "k")).version == meta.version
        assert await get_bytes(store, "k") == b"other"


@pytest.mark.asyncio
class TestS3ListingsUnderAPrefix(ListingCases):
    @pytest.fixture
    async def store(self, admin, bucket, options):
        for stray in ("lake", "lake2/k", "k", "lake/"):  # beside the prefix, and the marker that a console makes
            admin.put_object(Bucket=bucket, Key=stray, Body=b"stray")
        async with S3Store.from_url(f"s3://{bucket}/lake/", **options) as store:
            yield store
