"""Operations as Prometheus metrics, in a registry that the caller passes in."""

from __future__ import annotations

from collections import Counter as Tally
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from buffetstore.monitoring.events import Operation

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# Counts that belong to a data type: count's name -> what the counter says.
_COUNTERS: Final = {
    "rows_written": "Rows stored.",
    "rows_rejected": "Rows refused by their contract.",
    "rows_unchanged": "Rows that were stored already.",
    "rows_read": "Rows returned.",
    "partitions_scanned": "Partitions (time buckets) read.",
    "partitions_pruned": "Partitions (time buckets) that need not be read.",
    "files_scanned": "Data files read.",
    "files_pruned": "Data files that need not be read.",
    "cache_hits": "Reads that were answered by a cache.",
    "cache_misses": "Reads that a cache could not answer.",
}


_POOL_GAUGES: Final = {
    "in_use": "Connections in use.",
    "idle": "Connections kept open for the next request.",
    "waiting": "Requests that wait for a connection.",
}


class _Pools(Collector):
    """The connections, asked for when the metrics are scraped."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, Callable[[], Mapping[str, int]]]] = []

    def collect(self) -> Iterator[Metric]:
        totals: dict[str, Tally[str]] = {}
        for pool, ask in list(self.watched):
            totals.setdefault(pool, Tally()).update(ask())
        for name, text in _POOL_GAUGES.items():
            gauge = GaugeMetricFamily(f"buffetstore_pool_{name}", text, labels=["pool"])
            for pool, numbers in totals.items():
                gauge.add_metric([pool], numbers[name])
            yield gauge


_CACHE_GAUGES: Final = {
    "entries": "What a cache holds.",
    "bytes": "Bytes that a cache holds.",
    "max_bytes": "Bytes that a cache may hold.",
}
_CACHE_COUNTERS: Final = {
    "hits": "What was found in a cache.",
    "misses": "What was not found in a cache.",
    "evictions": "What had to make room in a cache.",
    "failures": "What a cache on disk could not keep or read.",
    "corrupt": "What was found damaged in a cache on disk.",
}


class _Caches(Collector):
    """The caches by tier, asked when the metrics are scraped."""

    def __init__(self) -> None:
        self.watched: list[tuple[str, Callable[[], Mapping[str, float]]]] = []

    def collect(self) -> Iterator[Metric]:
        totals: dict[str, Tally[str]] = {}
        for tier, ask in list(self.watched):
            totals.setdefault(tier, Tally()).update(dict(ask()))
        for name, text in _CACHE_GAUGES.items():
            gauge = GaugeMetricFamily(f"buffetstore_cache_tier_{name}", text, labels=["tier"])
            for tier, numbers in totals.items():
                gauge.add_metric([tier], numbers[name])
            yield gauge
        for name, text in _CACHE_COUNTERS.items():
            counter = CounterMetricFamily(f"buffetstore_cache_tier_{name}", text, labels=["tier"])
            for tier, numbers in totals.items():
                counter.add_metric([tier], numbers[name])
            yield counter


class _Quality:
    """What quality checks found last: a handful of checks for each data type."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["data_type", "check"]
        self._status = Gauge(
            "buffetstore_quality_status", "0 passed, 1 failed, 2 could not be told.", labels, registry=registry
        )
        self._share = Gauge(
            "buffetstore_quality_failed_ratio", "Share of what was counted that failed.", labels, registry=registry
        )
        self._ran = Gauge("buffetstore_quality_run_timestamp_seconds", "When it was told.", labels, registry=registry)
        self._batches = Counter(
            "buffetstore_quality_failed_batches_total", "Batches that failed when written.", labels, registry=registry
        )

    def note(self, operation: Operation) -> None:
        data_type, _, check = operation.subject.partition("/")
        if operation.name == "quality.batch":  # told of failures alone
            self._batches.labels(data_type, check).inc()
            return
        counts = operation.counts
        self._status.labels(data_type, check).set(counts["status"])
        self._share.labels(data_type, check).set(counts["failed"] / counts["rows"] if counts["rows"] else 0)
        self._ran.labels(data_type, check).set_to_current_time()


class _Metrics:
    """The metrics of one registry, shared by every hook on it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.operations = Counter(
            "buffetstore_operations_total", "Finished operations.", ["operation", "outcome"], registry=registry
        )
        self.errors = Counter("buffetstore_errors_total", "Errors by code.", ["operation", "code"], registry=registry)
        self.retries = Counter("buffetstore_retries_total", "Calls tried again.", ["code"], registry=registry)
        self.bytes = Counter(
            "buffetstore_bytes_total", "Bytes moved: in from the store, out to it.", ["direction"], registry=registry
        )
        self.seconds = Histogram(
            "buffetstore_operation_seconds", "How long it took.", ["operation"], buckets=_BUCKETS, registry=registry
        )
        self.counts = {
            name: Counter(f"buffetstore_{name}_total", text, ["data_type"], registry=registry)
            for name, text in _COUNTERS.items()
        }
        self.quality = _Quality(registry)
        self.pools = _Pools()
        registry.register(self.pools)
        self.caches = _Caches()
        registry.register(self.caches)


_metrics: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
_lock = Lock()


def _metrics_of(registry: CollectorRegistry) -> _Metrics:
    # A registry refuses a name that it has, and does not give back who holds it.
    with _lock:
        found = _metrics.get(registry)
        if found is None:
            found = _metrics[registry] = _Metrics(registry)
        return found


class PrometheusHook:
    """A hook that counts operations in `registry`; any number of hooks may share one registry.

    Parameters
    ----------
    registry:
        Where the metrics live; never the global one unless the caller passes it.

    Notes
    -----
    ``buffetstore_operations_total{operation, outcome}``, ``buffetstore_errors_total{operation, code}``,
    ``buffetstore_retries_total{code}``, ``buffetstore_bytes_total{direction}``,
    ``buffetstore_operation_seconds{operation}`` (histogram), ``buffetstore_pool_in_use{pool}``, ``_idle`` and
    ``_waiting`` (see `watch_pool`), by ``tier`` of the caches ``buffetstore_cache_tier_entries``, ``_bytes``,
    ``_max_bytes``, ``_hits_total``, ``_misses_total``, ``_evictions_total``, ``_failures_total`` and ``_corrupt_total``
    (see `watch_cache`), and by ``data_type`` rows written, rejected, unchanged and read, partitions and
    files scanned and pruned, cache hits and misses. Of quality checks, by ``data_type`` and ``check``:
    ``buffetstore_quality_status`` (0 passed, 1 failed, 2 could not be told), ``_failed_ratio``,
    ``_run_timestamp_seconds`` and ``_failed_batches_total``.

    >>> from prometheus_client import CollectorRegistry
    >>> from buffetstore.monitoring.events import Operation
    >>> registry = CollectorRegistry()
    >>> PrometheusHook(registry)(Operation("objects.get", 0.01, "a/b", counts={"bytes_in": 5}))
    >>> registry.get_sample_value("buffetstore_bytes_total", {"direction": "in"})
    5.0
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metrics = _metrics_of(registry)
        self._watching: list[tuple[str, Callable[[], Mapping[str, int]]]] = []
        self._caches: list[tuple[str, Callable[[], Mapping[str, float]]]] = []

    def watch_pool(self, pool: str, stats: Callable[[], Mapping[str, int]]) -> None:
        """Show `in_use`, `idle` and `waiting` of ``stats()`` as gauges until `close`; equal pools are added up.

        It is asked at every scrape, and must answer at once.
        """
        self._watching.append((pool, stats))
        self._metrics.pools.watched.append((pool, stats))

    def watch_cache(self, tier: str, stats: Callable[[], Mapping[str, float]]) -> None:
        """Show entries, bytes, hits and misses of ``stats()`` until `close`; caches of one tier are added up.

        It is asked at every scrape, and must answer at once.
        """
        self._caches.append((tier, stats))
        self._metrics.caches.watched.append((tier, stats))

    def close(self) -> None:
        """Stop asking for the pools and caches of this hook; its counts stay. May be called twice."""
        for cache in self._caches:
            self._metrics.caches.watched.remove(cache)
        self._caches.clear()
        for watched in self._watching:
            self._metrics.pools.watched.remove(watched)
        self._watching.clear()

    def __call__(self, operation: Operation, /) -> None:
        """Count `operation`."""
        metrics = self._metrics
        name, error = operation.name, operation.error
        if name.endswith(".retry"):  # a wait between two tries, not an operation of its own
            metrics.retries.labels(error or "").inc()
            return
        metrics.operations.labels(name, "ok" if error is None else "error").inc()
        metrics.seconds.labels(name).observe(operation.seconds)
        if error is not None:
            metrics.errors.labels(name, error).inc()
        if name.startswith("quality."):
            metrics.quality.note(operation)
            return
        for count, number in operation.counts.items():
            if count in {"bytes_in", "bytes_out"}:
                # Higher layers count the same bytes again, for their own summaries.
                if name.startswith("objects."):
                    metrics.bytes.labels(count.removeprefix("bytes_")).inc(number)
            elif count in metrics.counts and name.startswith("storage."):
                metrics.counts[count].labels(operation.subject).inc(number)
