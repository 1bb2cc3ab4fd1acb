"""The caches of a manager: made of its settings, shown in its metrics."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from buffetstore.caching import CacheStats, DiskCache, LRUCache
from buffetstore.errors import ConfigurationError
from buffetstore.resilience.threads import in_disk_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buffetstore.config import CacheConfig
    from buffetstore.monitoring import PrometheusHook, StorageMetrics
    from buffetstore.objects.layers import Layers
    from buffetstore.storage import LakeStorage


def lake_caches(config: CacheConfig, layers: Layers) -> dict[str, Any]:
    """Return what a `LakeStorage` takes for its caches.

    Raises
    ------
    ConfigurationError
        What is encrypted would lie readable on disk.
    """
    if config.folder is not None and layers.encryption is not None:
        raise ConfigurationError(
            f"cache_dir={str(config.folder)!r} would hold in the clear what the store encrypts: leave it out, and set "
            "ENABLE_CACHE=true and CACHE_DIR, whose cache lies beneath the encryption"
        )
    memory: LRUCache[bytes] = LRUCache(config.memory_bytes)
    disk = None
    if config.folder is not None:
        disk = DiskCache(config.folder, config.disk_bytes, in_thread=in_disk_thread)
    return {
        "cache": memory,
        "disk": disk,
        "results_bytes": config.results_bytes,
        "results_ttl_seconds": config.results_ttl_seconds,
    }


def watch_caches(lake: LakeStorage, metrics: StorageMetrics, prometheus: PrometheusHook | None) -> None:
    """Show what each cache of a storage says of itself.

    They are held by the metrics from then on; the manager is not, which would keep a forgotten one alive.
    """
    for tier, stats in lake.caches.items():
        told = partial(_told, stats)
        metrics.watch_cache(tier, told)
        if prometheus is not None:
            prometheus.watch_cache(tier, told)


def _told(stats: Callable[[], CacheStats]) -> Mapping[str, int]:
    return asdict(stats())
