"""Stores around a store."""

from __future__ import annotations

from buffetstore.objects.wrappers.base import StoreWrapper, UploadWrapper, WrappedResult
from buffetstore.objects.wrappers.metrics import MetricsStore
from buffetstore.objects.wrappers.prefix import PrefixStore
from buffetstore.objects.wrappers.retry import RetryStore

__all__ = ["MetricsStore", "PrefixStore", "RetryStore", "StoreWrapper", "UploadWrapper", "WrappedResult"]
