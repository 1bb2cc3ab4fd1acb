"""What happened so far, as plain values: for a person, a log line or a health page."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

from buffetstore.monitoring.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.monitoring.events import Operation

_UPLOADS = {"storage.store"}
_QUERIES = {"storage.retrieve", "storage.scan"}


@dataclass(slots=True)
class _Kind:
    """Uploads, queries, or one operation by name."""

    failed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=Histogram)

    def add(self, seconds: float, error: str | None, counts: Mapping[str, int]) -> None:
        self.seconds.add(seconds)
        self.failed += error is not None
        self.counts.update(counts)

    def summary(self) -> dict[str, Any]:
        return {
            "count": self.seconds.count,
            "failed": self.failed,
            **dict(sorted(self.counts.items())),
            "seconds": self.seconds.summary(),
        }


class StorageMetrics:
    """Totals and latencies of one manager, in bounded memory: a histogram and a few counts per kind of operation.

    It is a `Hook`: a manager tells it of every operation. `record_upload` and `record_query` are for work done
    outside of one. May be told and asked from any thread.

    >>> metrics = StorageMetrics()
    >>> metrics.record_upload("market_data", seconds=0.5, bytes_written=1000, rows=100)
    >>> metrics.record_query("market_data", seconds=0.01, rows=20, cache_hit=True)
    >>> summary = metrics.get_performance_summary()
    >>> summary["uploads"]["rows_written"], summary["queries"]["rows_read"], metrics.get_cache_metrics()["hit_rate"]
    (100, 20, 1.0)
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._clear()
        self._caches: dict[str, Callable[[], Mapping[str, float]]] = {}

    def _clear(self) -> None:
        self._uploads = _Kind()
        self._queries = _Kind()
        self._operations: defaultdict[str, _Kind] = defaultdict(_Kind)
        self._data_types: Counter[tuple[str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._retries = 0

    def reset(self) -> None:
        """Start counting again from nothing; watched caches stay watched."""
        with self._lock:
            self._clear()

    def __call__(self, operation: Operation, /) -> None:
        """Count `operation`."""
        with self._lock:
            if operation.name.endswith(".retry"):  # a wait between two tries, not an operation of its own
                self._retries += 1
                return
            kind = (
                self._uploads
                if operation.name in _UPLOADS
                else self._queries
                if operation.name in _QUERIES
                else self._operations[operation.name]
            )
            self._add(kind, operation.subject, operation.seconds, operation.error, operation.counts)

    def _add(self, kind: _Kind, subject: str, seconds: float, error: str | None, counts: Mapping[str, int]) -> None:
        kind.add(seconds, error, counts)
        if error is not None:
            self._errors[error] += 1
        for name in ("rows_written", "rows_read"):
            if counts.get(name):
                self._data_types[name, subject] += counts[name]

    def record_upload(
        self,
        data_type: str,
        *,
        seconds: float,
        bytes_written: int,
        rows: int = 0,
        files: int = 1,
        rejected: int = 0,
        error: str | None = None,
    ) -> None:
        """Count one upload of `rows` rows of `data_type` in `files` files; `error` is its code if it failed."""
        counts = {"bytes_out": bytes_written, "rows_written": rows, "files_written": files, "rows_rejected": rejected}
        with self._lock:
            self._add(self._uploads, data_type, seconds, error, counts)

    def record_query(
        self,
        data_type: str,
        *,
        seconds: float,
        rows: int = 0,
        bytes_read: int = 0,
        partitions_scanned: int = 0,
        files_scanned: int = 0,
        files_pruned: int = 0,
        cache_hit: bool = False,
        error: str | None = None,
    ) -> None:
        """Count one query of `data_type` that returned `rows` rows; `error` is its code if it failed."""
        counts = {
            "rows_read": rows,
            "bytes_in": bytes_read,
            "partitions_scanned": partitions_scanned,
            "files_scanned": files_scanned,
            "files_pruned": files_pruned,
            "cache_hits": int(cache_hit),
            "cache_misses": int(not cache_hit),
        }
        with self._lock:
            self._add(self._queries, data_type, seconds, error, counts)

    def watch_cache(self, name: str, stats: Callable[[], Mapping[str, float]]) -> None:
        """Show ``stats()`` (entries, bytes, hits, misses, evictions...) in `get_cache_metrics` under `name`.

        Their hit rate is shown too.
        """
        self._caches[name] = stats

    def get_performance_summary(self) -> dict[str, Any]:
        """Return totals, rates and latencies (seconds: mean, p50, p95, p99, max; quantiles within 2.2 %).

        ``uploads``, ``queries`` and each of ``operations`` have ``count``, ``failed``, ``seconds`` and the sums of
        their counts (``rows_written``, ``bytes_out``, ``files_pruned``...). ``rows_per_second`` and
        ``bytes_per_second`` are per second of that work, not of the clock on the wall. ``data_types`` has the rows
        written and read by data type, ``errors`` the errors by code, ``retries`` the calls tried again.
        """
        with self._lock:
            return {
                "uploads": _with_rates(self._uploads, "rows_written", "bytes_out"),
                "queries": _with_rates(self._queries, "rows_read", "bytes_in")
                | {"files_pruned_share": _share(self._queries.counts, "files_pruned", "files_scanned")},
                "operations": {name: kind.summary() for name, kind in sorted(self._operations.items())},
                "data_types": self._by_data_type(),
                "errors": dict(sorted(self._errors.items())),
                "retries": self._retries,
            }

    def _by_data_type(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (name, data_type), number in sorted(self._data_types.items()):
            found.setdefault(data_type, {})[name] = number
        return found

    def get_cache_metrics(self) -> dict[str, Any]:
        """Return hits, misses and hit rate of queries, and under ``caches`` what each watched cache says of itself."""
        with self._lock:
            counts = self._queries.counts
            return {
                "hits": counts["cache_hits"],
                "misses": counts["cache_misses"],
                "hit_rate": _share(counts, "cache_hits", "cache_misses"),
                "caches": {name: _with_hit_rate(stats()) for name, stats in sorted(self._caches.items())},
            }


def _with_hit_rate(stats: Mapping[str, float]) -> dict[str, float]:
    if not stats.keys() >= {"hits", "misses"}:
        return dict(stats)
    asked = stats["hits"] + stats["misses"]
    return {**stats, "hit_rate": stats["hits"] / asked if asked else 0.0}


def _with_rates(kind: _Kind, rows: str, data: str) -> dict[str, Any]:
    total = kind.seconds.total
    return kind.summary() | {
        rows: kind.counts[rows],
        data: kind.counts[data],
        "rows_per_second": kind.counts[rows] / total if total else 0.0,
        "bytes_per_second": kind.counts[data] / total if total else 0.0,
    }


def _share(counts: Counter[str], part: str, other: str) -> float:
    whole = counts[part] + counts[other]
    return counts[part] / whole if whole else 0.0
