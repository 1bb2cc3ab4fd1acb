"""A table on an S3 server that we and deltalake write in turn."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("deltalake", reason="needs deltalake")

from buffetstore.objects.open import open_store
from buffetstore.testing.cross_engine import PATH, CrossHistory, steps


@pytest.mark.parametrize(("seed", "partition_by"), [(1, ()), (2, ("place",))])
async def test_both_see_the_same_rows(seed, partition_by, bucket, options) -> None:
    foreign = {
        "aws_endpoint_url": options["endpoint_url"],
        "aws_access_key_id": options["access_key"],
        "aws_secret_access_key": options["secret_key"],
        "aws_region": options["region"],
        "aws_allow_http": "true",
    }
    async with open_store(f"s3://{bucket}", **options) as store:
        cross = CrossHistory(store, f"s3://{bucket}/{PATH}", foreign)
        await cross.run(steps(Random(seed), 8), partition_by=partition_by)
    assert min(cross.calls.values()) > 0
