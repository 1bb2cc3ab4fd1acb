"""The whole contract on moto, on ministack (which verifies checksums and signatures), and on Ceph's gateway."""

from __future__ import annotations

import pytest

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.base import CREATE, Update
from buffetstore.objects.helpers import get_bytes, head
from buffetstore.objects.s3 import S3Store
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.object_store import ObjectStoreContract
from buffetstore.testing.object_store_listing import ListingCases


class S3Contract(ObjectStoreContract):
    async def test_overwrite_replaces(self, store):
        """An ETag is made of the bytes: the same bytes are the same version, which the store's docstring says."""
        versions = {(await store.put("k", b"same")).version for _ in range(2)}
        assert len(versions) == 1
        meta = await store.put("k", b"other")
        assert meta.version not in versions
        assert (await head(store, "k")).version == meta.version
        assert await get_bytes(store, "k") == b"other"


class TestMoto(S3Contract):
    listed_objects = 25

    @pytest.fixture
    async def store(self, bucket, options):
        async with S3Store.from_url(f"s3://{bucket}", **options) as store:
            yield store


class TestMinistack(S3Contract):
    listed_objects = 25

    @pytest.fixture
    async def store(self, ministack_bucket, ministack_options):
        async with S3Store.from_url(f"s3://{ministack_bucket}", **ministack_options, page_size=10) as store:
            yield store


class TestCeph(S3Contract):
    listed_objects = 25

    @pytest.fixture
    async def store(self, ceph_bucket, ceph_options):
        # Of writers that race under a condition it answers some with 500, which are settled as any unclear answer is.
        inner = S3Store.from_url(f"s3://{ceph_bucket}", **ceph_options, page_size=10)
        async with RetryStore(inner, RetryPolicy(attempts=6, base_seconds=0.02)) as store:
            yield store

    async def test_copy_if_absent(self, store):
        """Its conditions hold for puts only, so a copy under one is refused rather than done without."""
        await store.put("source", b"body")
        with pytest.raises(UnsupportedOperationError, match="conditional='puts'"):
            await store.copy("source", "target", mode=CREATE)

    async def test_copy_over_a_version(self, store):
        first = await store.put("target", b"old")
        with pytest.raises(UnsupportedOperationError, match="conditional='puts'"):
            await store.copy("source", "target", mode=Update(first.version))


@pytest.mark.asyncio
class TestListingsUnderAPrefix(ListingCases):
    @pytest.fixture
    async def store(self, admin, bucket, options):
        for stray in ("lake", "lake2/k", "k", "lake/"):  # beside the prefix, and the marker that a console makes
            admin.put_object(Bucket=bucket, Key=stray, Body=b"stray")
        async with S3Store.from_url(f"s3://{bucket}/lake/", **options) as store:
            yield store
