from __future__ import annotations

import gc
import weakref

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

from buffetstore.errors import NotFoundError
from buffetstore.monitoring import Operation, PrometheusHook, observed


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_operations_errors_latency_and_bytes(registry: CollectorRegistry) -> None:
    hook = PrometheusHook(registry)
    hook(Operation("objects.get", 0.02, "a/b", counts={"bytes_in": 100}))
    hook(Operation("objects.put", 0.02, "a/b", counts={"bytes_out": 7}))
    with pytest.raises(NotFoundError), observed(hook, "objects.get", "a/c"):
        raise NotFoundError("a/c is not there")
    value = registry.get_sample_value
    assert value("buffetstore_operations_total", {"operation": "objects.get", "outcome": "ok"}) == 1
    assert value("buffetstore_operations_total", {"operation": "objects.get", "outcome": "error"}) == 1
    assert value("buffetstore_errors_total", {"operation": "objects.get", "code": "not_found"}) == 1
    assert value("buffetstore_operation_seconds_count", {"operation": "objects.get"}) == 2
    assert value("buffetstore_operation_seconds_bucket", {"operation": "objects.put", "le": "0.025"}) == 1
    assert value("buffetstore_operation_seconds_bucket", {"operation": "objects.put", "le": "0.01"}) == 0
    assert value("buffetstore_bytes_total", {"direction": "in"}) == 100
    assert value("buffetstore_bytes_total", {"direction": "out"}) == 7


def test_a_retry_is_counted_by_its_cause_and_is_no_operation(registry: CollectorRegistry) -> None:
    PrometheusHook(registry)(Operation("objects.retry", 0.1, "a", error="rate_limited"))
    assert registry.get_sample_value("buffetstore_retries_total", {"code": "rate_limited"}) == 1
    assert b'operation="objects.retry"' not in generate_latest(registry)


def test_rows_partitions_and_files_by_data_type(registry: CollectorRegistry) -> None:
    hook = PrometheusHook(registry)
    hook(Operation("storage.store", 1, "market_data", counts={"rows_written": 5, "rows_rejected": 2, "bytes_out": 9}))
    hook(Operation("storage.retrieve", 1, "market_data", counts={"files_scanned": 1, "files_pruned": 8, "odd": 3}))
    by_type = {"data_type": "market_data"}
    found = {
        name: registry.get_sample_value(f"buffetstore_{name}_total", by_type)
        for name in ("rows_written", "rows_rejected", "files_scanned", "files_pruned", "rows_read")
    }
    assert found == {"rows_written": 5, "rows_rejected": 2, "files_scanned": 1, "files_pruned": 8, "rows_read": None}
    assert registry.get_sample_value("buffetstore_bytes_total", {"direction": "out"}) is None, "counted once, below"


def test_keys_never_become_labels(registry: CollectorRegistry) -> None:
    PrometheusHook(registry)(Operation("objects.get", 1, "raw/secret-key", error="not_found"))
    assert b"secret-key" not in generate_latest(registry)


def test_two_hooks_share_a_registry_and_the_global_one_stays_untouched(registry: CollectorRegistry) -> None:
    first, second = PrometheusHook(registry), PrometheusHook(registry)
    first(Operation("objects.get", 1))
    second(Operation("objects.get", 1))
    ok = {"operation": "objects.get", "outcome": "ok"}
    assert registry.get_sample_value("buffetstore_operations_total", ok) == 2
    assert b"buffetstore" not in generate_latest(REGISTRY)


def test_pools_are_asked_at_the_scrape_until_their_hook_closes(registry: CollectorRegistry) -> None:
    in_use = [3]
    first, second = PrometheusHook(registry), PrometheusHook(registry)
    first.watch_pool("gs://b", lambda: {"in_use": in_use[0], "idle": 1, "waiting": 2})
    second.watch_pool("gs://b", lambda: {"in_use": 10, "waiting": 5})
    gauge = ("buffetstore_pool_in_use", {"pool": "gs://b"})
    assert registry.get_sample_value(*gauge) == 13
    assert registry.get_sample_value("buffetstore_pool_idle", {"pool": "gs://b"}) == 1
    assert registry.get_sample_value("buffetstore_pool_waiting", {"pool": "gs://b"}) == 7
    in_use[0] = 4
    assert registry.get_sample_value(*gauge) == 14
    second.close()
    second.close()
    assert registry.get_sample_value(*gauge) == 4
    first.close()
    assert registry.get_sample_value(*gauge) is None


def test_a_registry_that_is_gone_is_not_kept_alive() -> None:
    registry = CollectorRegistry()
    PrometheusHook(registry)(Operation("objects.get", 1))
    gone = weakref.ref(registry)
    del registry
    gc.collect()
    assert gone() is None


def test_quality_checks_are_gauges_by_data_type_and_check() -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    check = {"data_type": "options_data", "check": "crossed_quotes"}
    hook(Operation("quality.check", 0.1, "options_data/crossed_quotes", counts={"rows": 8, "failed": 2, "status": 1}))
    hook(Operation("quality.batch", 0.1, "options_data/crossed_quotes", counts={"rows": 8, "failed": 2, "status": 1}))
    assert registry.get_sample_value("buffetstore_quality_status", check) == 1
    assert registry.get_sample_value("buffetstore_quality_failed_ratio", check) == 0.25
    assert registry.get_sample_value("buffetstore_quality_failed_batches_total", check) == 1
    assert registry.get_sample_value("buffetstore_quality_run_timestamp_seconds", check) > 1e9
    hook(Operation("quality.check", 0.1, "options_data/crossed_quotes", counts={"rows": 0, "failed": 0, "status": 2}))
    assert registry.get_sample_value("buffetstore_quality_status", check) == 2
    assert registry.get_sample_value("buffetstore_quality_failed_ratio", check) == 0
