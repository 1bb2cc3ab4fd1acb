"""Caches: what is remembered, and one fetch for many waiters."""

from buffetstore.caching.disk import DiskCache
from buffetstore.caching.lru import CacheStats, LRUCache
from buffetstore.caching.single_flight import SingleFlight

__all__ = ["CacheStats", "DiskCache", "LRUCache", "SingleFlight"]
