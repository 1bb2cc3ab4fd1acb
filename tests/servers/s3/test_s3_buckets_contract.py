"""What holds for a bucket that keeps versions, and for one that is not there: on moto and on ministack."""

from __future__ import annotations

import pytest

from buffetstore.errors import UnsupportedOperationError
from buffetstore.objects.base import ByteRange
from buffetstore.objects.s3 import S3Store
from buffetstore.testing.object_store_edges import EdgeCases
from buffetstore.testing.object_store_versions import VersionCases


class BucketCases(EdgeCases, VersionCases):
    @pytest.fixture
    async def store(self, place):
        bucket, options, _ = place
        async with S3Store.from_url(f"s3://{bucket}", **options) as store:
            yield store

    @pytest.fixture
    async def versioned_store(self, place, store):
        bucket, _, client = place
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return store

    @pytest.fixture
    async def missing_bucket_store(self, place):
        async with S3Store.from_url("s3://no-such-bucket-here", **place[1]) as store:
            yield store


@pytest.mark.asyncio
class TestMotoBuckets(BucketCases):
    @pytest.fixture
    def place(self, bucket, options, admin):
        return bucket, options, admin


@pytest.mark.asyncio
class TestMinistackBuckets(BucketCases):
    @pytest.fixture
    def place(self, ministack_bucket, ministack_options, ministack_admin):
        return ministack_bucket, ministack_options, ministack_admin

    async def test_a_version_is_read(self, versioned_store):
        """It sends the whole of a version whatever range is asked for, which is refused rather than taken."""
        await versioned_store.put("k", b"the old bytes")
        (version,) = [version async for version in versioned_store.list_versions()]
        assert await (await versioned_store.get_version("k", version.id)).read() == b"the old bytes"
        with pytest.raises(UnsupportedOperationError, match="asked for bytes"):
            await versioned_store.get_version("k", version.id, range=ByteRange(4, 7))
