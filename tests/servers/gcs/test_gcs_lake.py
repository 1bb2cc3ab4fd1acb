"""Governed data types on the GCS server: the contract suite behind the front door, and foreign readers."""

from __future__ import annotations

import polars as pl
import pytest
from deltalake import DeltaTable

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
