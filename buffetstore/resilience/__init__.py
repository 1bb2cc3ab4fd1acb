"""Trying again, leaving alone, asking for less, asking twice, and keeping the event loop free; knows no store."""

from __future__ import annotations

from buffetstore.resilience.circuit import CircuitBreaker, CircuitPolicy
from buffetstore.resilience.hedge import HedgePolicy
from buffetstore.resilience.permits import ConcurrencyLimit, Permits
from buffetstore.resilience.rate import RateLimit
from buffetstore.resilience.retry import RetryPolicy, is_transient
from buffetstore.resilience.threads import in_thread

__all__ = [
    "CircuitBreaker",
    "CircuitPolicy",
    "ConcurrencyLimit",
    "HedgePolicy",
    "Permits",
    "RateLimit",
    "RetryPolicy",
    "in_thread",
    "is_transient",
]
