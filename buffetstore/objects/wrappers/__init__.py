"""Stores around a store."""

from __future__ import annotations

from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper, WrappedResult
from buffetstore.objects.wrappers.circuit import CircuitStore
from buffetstore.objects.wrappers.hedge import HedgeStore
from buffetstore.objects.wrappers.limit import LimitStore
from buffetstore.objects.wrappers.metrics import MetricsStore
from buffetstore.objects.wrappers.passing import PassingResult
from buffetstore.objects.wrappers.prefix import PrefixStore
from buffetstore.objects.wrappers.rate import RateStore
from buffetstore.objects.wrappers.retry import RetryStore

__all__ = [
    "CircuitStore",
    "HedgeStore",
    "LimitStore",
    "MetricsStore",
    "PassingResult",
    "PrefixStore",
    "RateStore",
    "RetryStore",
    "StoreWrapper",
    "UploadWrapper",
    "WrappedResult",
]
