from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry

from buffetstore import StorageManager, sync
from buffetstore.config import CacheConfig
from buffetstore.errors import ConfigurationError
from buffetstore.query import DataQuery
from buffetstore.testing.data_storage import bars

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
AAPL = DataQuery("market_data", {"symbol": "AAPL"})
SHOWN = {"entries", "bytes", "max_bytes", "hits", "misses", "evictions", "hit_rate"}


def test_every_setting_is_read_from_the_environment() -> None:
    env = {
        "DATA_CACHE_BYTES": "1",
        "DATA_CACHE_DIR": "/tmp/data",
        "DATA_CACHE_DISK_BYTES": "2",
        "RESULTS_CACHE_BYTES": "3",
        "RESULTS_CACHE_TTL_SECONDS": "4.5",
    }
    assert set(env) == {names[0] for names in CacheConfig.VARIABLES.values()}
    config = CacheConfig.chosen(env=env)
    assert (config.memory_bytes, str(config.folder), config.disk_bytes) == (1, "/tmp/data", 2)
    assert (config.results_bytes, config.results_ttl_seconds) == (3, 4.5)
    assert CacheConfig.chosen(env=env, results_bytes=0, disk_bytes=None).results_bytes == 0
    assert CacheConfig.chosen(env={}) == CacheConfig()


@pytest.mark.parametrize(
    ("env", "given", "told"),
    [
        ({"DATA_CACHE_BYTES": "much"}, {}, "DATA_CACHE_BYTES"),
        ({"RESULTS_CACHE_TTL_SECONDS": "0"}, {}, "RESULTS_CACHE_TTL_SECONDS"),
        ({}, {"disk_bytes": -1}, "disk_bytes"),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        CacheConfig.chosen(env=env, **given)


async def test_answers_are_kept_unless_told_otherwise() -> None:
    for budget, hits in ((None, 1), (0, 0)):
        async with StorageManager("memory://", results_bytes=budget) as storage:
            await storage.store_data("market_data", bars())
            first, second = await storage.retrieve_data(AAPL), await storage.retrieve_data(AAPL)
            assert (second.table is first.table) == bool(hits)
            assert storage.get_cache_metrics()["caches"]["results"]["hits"] == hits


async def test_what_is_on_disk_outlives_the_manager(tmp_path: Path) -> None:
    url, options = str(tmp_path / "data"), {"cache_dir": tmp_path / "cache", "disk_bytes": MIB, "cache_bytes": 0}
    async with StorageManager(url, **options) as storage:
        await storage.store_data("market_data", bars())
        answer = await storage.retrieve_data(AAPL)
        assert answer.requests == 5
    async with StorageManager(url, **options) as storage:
        again = await storage.retrieve_data(AAPL)
        assert (again.requests, again.cache_hit) == (0, True)
        assert again.table.equals(answer.table)
        tiers = storage.get_cache_metrics()["caches"]
        assert (tiers["data_disk"]["hits"], tiers["data_memory"]["entries"]) == (5, 0)


async def test_a_folder_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    async with StorageManager("memory://", cache_dir=tmp_path / "file") as storage:
        await storage.store_data("market_data", bars())
        assert (await storage.retrieve_data(AAPL)).rows == 5
        assert storage.get_cache_metrics()["caches"]["data_disk"]["failures"] > 0


async def test_what_is_encrypted_is_not_put_on_disk_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBJECT_ENCRYPTION_KEYS", "k=" + base64.b64encode(bytes(32)).decode())
    with pytest.raises(ConfigurationError, match="beneath the encryption"):
        StorageManager("memory://", cache_dir=tmp_path)


async def test_metrics_of_every_tier(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with StorageManager("memory://", registry=registry, cache_dir=tmp_path) as storage:
        await storage.store_data("market_data", bars())
        for _ in range(3):
            await storage.retrieve_data(AAPL)
        told = storage.get_cache_metrics()
        assert (told["hits"], told["misses"], told["hit_rate"]) == (2, 1, 2 / 3)
        assert set(told["caches"]) == {"snapshots", "footers", "data_memory", "data_disk", "results"}
        assert all(set(tier) >= SHOWN for tier in told["caches"].values())
        results, memory = told["caches"]["results"], told["caches"]["data_memory"]
        assert (results["hits"], results["misses"], results["hit_rate"]) == (2, 1, 2 / 3)
        assert results["bytes"] > 0
        assert memory["entries"] == 5

        def sample(name: str, tier: str) -> float | None:
            return registry.get_sample_value(f"buffetstore_cache_tier_{name}", {"tier": tier})

        assert sample("hits_total", "results") == 2
        assert sample("misses_total", "data_disk") == 5
        assert sample("entries", "data_memory") == 5
        assert sample("max_bytes", "results") == 64 * MIB
        assert sample("failures_total", "data_disk") == 0
        async with StorageManager("memory://", registry=registry) as other:
            await other.list_data_types()
            assert sample("max_bytes", "results") == 128 * MIB, "caches of several managers are added up"
        assert sample("max_bytes", "results") == 64 * MIB
    assert sample("max_bytes", "results") is None


def test_the_blocking_face_tells_too() -> None:
    with sync.open("memory://") as storage:
        storage.store_data("market_data", bars())
        storage.retrieve_data(AAPL)
        assert storage.get_cache_metrics()["caches"]["results"]["misses"] == 1
