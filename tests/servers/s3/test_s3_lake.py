"""Governed data types on an S3 server: the contract suite behind the manager, and a foreign reader."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable
from prometheus_client import CollectorRegistry

from buffetstore import DataQuery, StorageManager
from buffetstore.testing.data_storage import DataStorageContract, bars


class TestS3Lake(DataStorageContract):
    @pytest.fixture
    async def storage(self, bucket, options):
        async with StorageManager.open(f"s3://{bucket}/some/prefix", **options) as storage:
            yield storage


async def test_deltalake_reads_from_the_bucket(bucket, options):
    async with StorageManager.open(f"s3://{bucket}", **options) as storage:
        await storage.store_data("market_data", bars())
        ours = await storage.retrieve_data(DataQuery("market_data"))
    table = DeltaTable(
        f"s3://{bucket}/raw/market_data",
        storage_options={
            "aws_endpoint_url": options["endpoint_url"],
            "aws_access_key_id": options["access_key"],
            "aws_secret_access_key": options["secret_key"],
            "aws_region": options["region"],
            "aws_allow_http": "true",
        },
    )
    order = [("symbol", "ascending"), ("timestamp", "ascending")]
    assert table.to_pyarrow_table().sort_by(order).to_pylist() == ours.table.sort_by(order).to_pylist()


async def test_connections_in_use_are_shown(bucket, options):
    registry = CollectorRegistry()

    def in_use():
        return registry.get_sample_value("buffetstore_pool_in_use", {"pool": f"s3://{bucket}"})

    async with StorageManager.open(f"s3://{bucket}", registry=registry, **options) as storage:
        assert in_use() == 0
        await storage.store.put("large", bytes(8_000_000))
        async with await storage.store.get("large"):
            assert in_use() == 1
        assert in_use() == 0
