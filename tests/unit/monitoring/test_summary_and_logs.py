from __future__ import annotations

import json
import logging

import pytest

from buffetstore.monitoring import LogHook, Operation, StorageMetrics
from buffetstore.monitoring.logs import without_secrets


def test_a_hook_call_and_a_recorded_call_say_the_same() -> None:
    told, recorded = StorageMetrics(), StorageMetrics()
    upload = {"bytes_out": 10, "rows_written": 2, "files_written": 1, "rows_rejected": 0}
    told(Operation("storage.store", 0.5, "market_data", counts=upload))
    recorded.record_upload("market_data", seconds=0.5, bytes_written=10, rows=2)
    query = {"rows_read": 1, "bytes_in": 5, "partitions_scanned": 1, "files_scanned": 1, "files_pruned": 3}
    told(Operation("storage.retrieve", 0.1, "market_data", counts=query | {"cache_hits": 0, "cache_misses": 1}))
    recorded.record_query(
        "market_data", seconds=0.1, rows=1, bytes_read=5, partitions_scanned=1, files_scanned=1, files_pruned=3
    )
    assert told.get_performance_summary() == recorded.get_performance_summary()
    assert told.get_cache_metrics() == recorded.get_cache_metrics()


def test_totals_rates_shares_and_errors() -> None:
    metrics = StorageMetrics()
    metrics.record_upload("market_data", seconds=2, bytes_written=100, rows=10, rejected=1)
    metrics.record_upload("forecasts", seconds=2, bytes_written=100, rows=30)
    metrics.record_upload("forecasts", seconds=1, bytes_written=0, error="schema_validation")
    metrics.record_query("market_data", seconds=0.1, rows=4, files_scanned=1, files_pruned=3)
    metrics.record_query("market_data", seconds=0.1, rows=4, cache_hit=True)
    metrics(Operation("objects.retry", 0.1, "a", error="rate_limited"))
    summary = metrics.get_performance_summary()
    assert (summary["uploads"]["count"], summary["uploads"]["failed"], summary["uploads"]["rows_written"]) == (3, 1, 40)
    assert summary["uploads"]["rows_per_second"] == 8
    assert summary["uploads"]["seconds"]["max"] == 2
    assert summary["queries"]["files_pruned_share"] == 0.75
    assert summary["data_types"] == {
        "forecasts": {"rows_written": 30},
        "market_data": {"rows_read": 8, "rows_written": 10},
    }
    assert summary["errors"] == {"schema_validation": 1}
    assert summary["retries"] == 1
    assert "objects.retry" not in summary["operations"]
    assert metrics.get_cache_metrics() == {"hits": 1, "misses": 1, "hit_rate": 0.5, "caches": {}}
    json.dumps(summary)


def test_nothing_has_happened_yet() -> None:
    summary = StorageMetrics().get_performance_summary()
    assert summary["uploads"]["rows_per_second"] == 0
    assert summary["queries"]["seconds"]["p99"] == 0


def test_watched_caches_and_reset() -> None:
    metrics = StorageMetrics()
    metrics.watch_cache("snapshots", lambda: {"entries": 2, "bytes": 10})
    metrics(Operation("objects.get", 1, "key", error="not_found"))
    metrics.reset()
    assert metrics.get_performance_summary() == StorageMetrics().get_performance_summary()
    assert metrics.get_cache_metrics()["caches"] == {"snapshots": {"entries": 2, "bytes": 10}}


def test_many_keys_take_no_memory() -> None:
    metrics = StorageMetrics()
    for number in range(1000):
        metrics(Operation("objects.get", 0.001 * number, f"key-{number}", counts={"bytes_in": 1}))
    operations = metrics.get_performance_summary()["operations"]
    assert list(operations) == ["objects.get"]
    assert operations["objects.get"]["bytes_in"] == 1000
    assert "key-" not in json.dumps(metrics.get_performance_summary())


def test_failures_are_warnings_and_the_rest_is_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "buffetstore")
    hook = LogHook()
    hook(Operation("objects.get", 0.0123, "a/b", counts={"bytes_in": 3}))
    hook(Operation("objects.get", 0.1, "a/c", error="not_found"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "objects.get a/b ok in 12.3 ms bytes_in=3"),
        ("WARNING", "objects.get a/c failed: not_found in 100.0 ms"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gs://bucket/a", "gs://bucket/a"),
        ("s3://KEY:SECRET@bucket/a", "s3://***@bucket/a"),
        ("https://h/a?X-Amz-Signature=abc&b=c rest", "https://h/a?*** rest"),
        ("raw/what?.parquet", "raw/what?.parquet"),
    ],
)
def test_credentials_in_urls_are_not_logged(text: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    assert without_secrets(text) == shown
    LogHook()(Operation("objects.get", 1, text, error="access"))
    assert shown in caplog.text
