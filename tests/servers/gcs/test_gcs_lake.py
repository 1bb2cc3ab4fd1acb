"""Governed data types on the GCS server: the contract suite behind the front door, and foreign readers."""

from __future__ import annotations

import polars as pl
import pytest
from deltalake import DeltaTable
from prometheus_client import CollectorRegistry

from buffetstore import DataQuery, GCSConfig, GCSStorageManager
from buffetstore.testing.data_storage import DataStorageContract, bars


@pytest.fixture
def config(server, bucket):
    return GCSConfig(project_id="project", data_bucket=bucket, emulator_host=server.url)


class TestGCSLake(DataStorageContract):
    @pytest.fixture
    async def storage(self, config):
        async with GCSStorageManager(config) as storage:
            yield storage


async def test_deltalake_and_polars_read_from_the_bucket(config, bucket, object_store_account):
    async with GCSStorageManager(config) as storage:
        await storage.store_data("market_data", bars())
        ours = await storage.retrieve_data(DataQuery("market_data"))
    options = {"google_service_account_key": object_store_account, "allow_http": "true"}
    table = DeltaTable(f"gs://{bucket}/raw/market_data", storage_options=options)
    key = ["symbol", "timestamp"]
    expected = ours.table.sort_by([(name, "ascending") for name in key]).to_pylist()
    assert table.to_pyarrow_table().sort_by([(name, "ascending") for name in key]).to_pylist() == expected
    assert pl.read_delta(table).sort(key).rows(named=True) == expected


async def test_connections_in_use_are_shown(config, bucket):
    registry = CollectorRegistry()

    def in_use():
        return registry.get_sample_value("buffetstore_pool_in_use", {"pool": f"gs://{bucket}"})

    async with GCSStorageManager(config, registry=registry) as storage:
        await storage.store.put("large", bytes(8_000_000))
        assert in_use() == 0
        async with await storage.store.get("large"):
            assert in_use() == 1
        assert in_use() == 0
    assert in_use() is None
