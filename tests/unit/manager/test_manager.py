from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from buffetstore import (
    ConfigurationError,
    DataQuery,
    GCSConfig,
    GCSStorageManager,
    QueryOptimizer,
    S3Config,
    SchemaManager,
    StorageManager,
    StorageMetrics,
    UnsupportedError,
)
from buffetstore.testing.data_storage import bars
from buffetstore.testing.gcs import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def gcs() -> Iterator[Any]:
    with serve_in_thread(buckets=["data"]) as server:
        yield server


def gcs_config(server: Any) -> GCSConfig:
    return GCSConfig(project_id="test", data_bucket="data", emulator_host=server.url)


@pytest.mark.parametrize("scheme", ["memory", "file", "path"])
async def test_the_front_door(scheme: str, tmp_path: Path) -> None:
    url = {"memory": "memory://", "file": (tmp_path / "new folder").as_uri(), "path": tmp_path / "plain"}[scheme]
    await front_door(StorageManager.open(url))


async def test_the_front_door_of_a_bucket(gcs: Any) -> None:
    await front_door(GCSStorageManager(gcs_config(gcs)))


async def front_door(manager: StorageManager) -> None:
    market_data = bars(["AAPL", "MSFT"])
    async with manager as storage:
        schema_manager = SchemaManager()
        check = schema_manager.validate_data(data=market_data, data_type="market_data")
        assert check.is_valid
        result = await storage.store_data(data_type="market_data", data=market_data)
        assert result.file_path == result.file_paths[0]
        assert (result.table_version, result.rows, result.unchanged) == (1, 10, 0)
        query = DataQuery(
            data_type="market_data",
            filters={"symbol": "AAPL"},
            date_range={"start": "2024-01-01", "end": "2024-01-31"},
            limit=1000,
        )
        answer = await storage.retrieve_data(QueryOptimizer().optimize(query))
        assert (
            answer.table.num_rows == len(answer.to_pylist()) == len(answer.to_pandas()) == len(answer.to_polars()) == 5
        )
        assert (answer.partitions_scanned, answer.files_pruned, answer.cache_hit) == (5, 0, False)
        again = await storage.retrieve_data(query)
        assert again.cache_hit
        assert again.table.equals(answer.table)


async def test_open_may_be_awaited_entered_or_used_at_once() -> None:
    awaited = await StorageManager.open("memory://")
    assert await awaited.list_data_types() == []
    assert await awaited is awaited
    await awaited.aclose()
    async with StorageManager.open("memory://") as entered:
        assert await entered.list_data_types() == []
    async with await StorageManager.open("memory://") as both:
        assert await both.list_data_types() == []
    lazy = StorageManager("memory://")
    assert "not started" in repr(lazy)
    assert await lazy.list_data_types() == []
    await lazy.aclose()


async def test_a_closed_manager_says_so() -> None:
    manager = await StorageManager.open("memory://")
    await manager.aclose()
    await manager.aclose()
    with pytest.raises(UnsupportedError, match="is closed"):
        await manager.list_data_types()
    with pytest.raises(UnsupportedError, match="is closed"):
        await manager


def test_a_manager_belongs_to_one_loop() -> None:
    manager = StorageManager("memory://")
    asyncio.run(manager.list_data_types())
    with pytest.raises(UnsupportedError, match="another event loop"):
        asyncio.run(manager.list_data_types())
    asyncio.run(manager.aclose())


async def test_a_forgotten_manager_warns_and_an_unused_one_does_not() -> None:
    manager = await StorageManager.open("memory://")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del manager
        gc.collect()
        unused = StorageManager("memory://")
        del unused
        gc.collect()
    assert ["never closed" in str(each.message) for each in told if each.category is ResourceWarning] == [True]


@pytest.mark.parametrize("url", ["ftp://host", "gs://", 5])
def test_a_place_that_cannot_be(url: Any) -> None:
    async def use() -> None:
        async with StorageManager.open(url):
            pass

    with pytest.raises(ConfigurationError):
        asyncio.run(use())


async def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="max_conections"):
        await StorageManager.open(tmp_path.as_uri(), max_conections=5)


def test_a_gcs_manager_wants_its_configuration() -> None:
    with pytest.raises(ConfigurationError, match=r"GCSConfig\.from_environment"):
        GCSStorageManager("gs://bucket")  # type: ignore[arg-type]


def test_configurations_carry_everything() -> None:
    config = S3Config(bucket="data", endpoint_url="http://localhost:9", retry_attempts=7, compression="lz4")
    manager = StorageManager(config)
    assert manager.url == "s3://data"
    assert manager._layers.retry.attempts == 7
    assert manager._formatter.compression == "lz4"
    assert manager._options["endpoint_url"] == "http://localhost:9"


async def test_metrics_reach_the_registry_and_the_summary() -> None:
    registry, metrics = CollectorRegistry(), StorageMetrics()
    async with StorageManager.open("memory://", registry=registry, metrics=metrics) as storage:
        assert storage.metrics is metrics
        await storage.store_data("market_data", bars())
        for _ in range(2):
            await storage.retrieve_data(DataQuery("market_data", date_range={"end": "2024-01-02"}))
        summary = metrics.get_performance_summary()
        assert summary["uploads"]["rows_written"] == 10
        assert summary["queries"]["files_pruned"] == 6
        cache = metrics.get_cache_metrics()
        assert (cache["hits"], cache["misses"]) == (1, 1)
        assert cache["caches"]["data_memory"]["entries"] == 2
    labels = {"data_type": "market_data"}
    assert registry.get_sample_value("buffetstore_rows_written_total", labels) == 10
    assert registry.get_sample_value("buffetstore_partitions_pruned_total", labels) == 6
    assert registry.get_sample_value("buffetstore_operations_total", {"operation": "objects.get", "outcome": "ok"})


async def test_the_table_beneath() -> None:
    async with StorageManager.open("memory://") as storage:
        await storage.store_data("market_data", bars())
        table = await storage.table("market_data")
        assert (await table.to_arrow(["symbol"])).num_rows == 10
        assert storage.store.url.startswith("memory:")
    with pytest.raises(UnsupportedError, match="has no store"):
        _ = storage.store
