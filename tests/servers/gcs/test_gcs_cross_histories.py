"""A table on a GCS server that we and deltalake write in turn."""

from __future__ import annotations

from random import Random

import pytest

pytest.importorskip("deltalake", reason="needs deltalake")

from buffetstore.objects.gcs import GCSStore
from buffetstore.testing.cross_engine import PATH, CrossHistory, steps


@pytest.mark.parametrize(("seed", "partition_by"), [(1, ()), (2, ("place",))])
async def test_both_see_the_same_rows(seed, partition_by, bucket, server, object_store_account) -> None:
    options = {"google_service_account_key": object_store_account, "allow_http": "true"}
    async with GCSStore(bucket, api_root=server.url) as store:
        cross = CrossHistory(store, f"gs://{bucket}/{PATH}", options)
        await cross.run(steps(Random(seed), 8), partition_by=partition_by)
    assert min(cross.calls.values()) > 0
