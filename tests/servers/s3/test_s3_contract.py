"""The whole contract on moto, on ministack (which verifies checksums and signatures), and on Ceph's gateway."""

from __future__ import annotations

import pytest

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.base import CREATE, ByteRange, Update
from buffetstore.objects.helpers import get_bytes, head
from buffetstore.objects.s3 import S3Store
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing.object_store import ObjectStoreContract
from buffetstore.testing.object_store_listing import ListingCases


class S3Contract(ObjectStoreContract):
    listed_objects = 25

    @pytest.fixture
    async def store(self, server):
        _, bucket, options = server
        async with self.opened(bucket, options) as store:
            yield store

    @pytest.fixture
    async def versioned_store(self, server):
        admin, bucket, options = server
        admin.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        async with self.opened(bucket, options) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, server):
        async with self.opened("no-such-bucket", server[2]) as store:
            yield store

    def opened(self, bucket, options):
        return S3Store.from_url(f"s3://{bucket}", **options, page_size=10)

    async def test_overwrite_replaces(self, store):
        """An ETag is made of the bytes: the same bytes are the same version, which the store's docstring says."""
        versions = {(await store.put("k", b"same")).version for _ in range(2)}
        assert len(versions) == 1
        meta = await store.put("k", b"other")
        assert meta.version not in versions
        assert (await head(store, "k")).version == meta.version
        assert await get_bytes(store, "k") == b"other"


class TestMoto(S3Contract):
    @pytest.fixture
    def server(self, admin, bucket, options):
        return admin, bucket, options


class TestMinistack(S3Contract):
    @pytest.fixture
    def server(self, ministack_admin, ministack_bucket, ministack_options):
        return ministack_admin, ministack_bucket, ministack_options

    async def test_a_version_is_read(self, versioned_store):
        """It sends the whole version where a range was asked for, which is noticed."""
        await versioned_store.put("k", b"bytes")
        (only,) = [version async for version in versioned_store.list_versions()]
        assert await (await versioned_store.get_version("k", only.id)).read() == b"bytes"
        with pytest.raises(UnsupportedOperationError, match="asked for bytes"):
            await versioned_store.get_version("k", only.id, range=ByteRange(1, 3))


class TestCeph(S3Contract):
    @pytest.fixture
    def server(self, ceph_admin, ceph_bucket, ceph_options):
        return ceph_admin, ceph_bucket, ceph_options

    def opened(self, bucket, options):
        # Of writers that race under a condition it answers some with 500, which are settled as any unclear answer is.
        return RetryStore(super().opened(bucket, options), RetryPolicy(attempts=6, base_seconds=0.02))

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
