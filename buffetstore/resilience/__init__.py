"""Trying again, and keeping the event loop free."""

from __future__ import annotations

from buffetstore.resilience.retry import RetryPolicy, is_transient
from buffetstore.resilience.threads import in_thread

__all__ = ["RetryPolicy", "in_thread", "is_transient"]
