"""What happened: events, and hooks that count or log them."""

from buffetstore.monitoring.events import Hook, Operation, fan_out, no_hook, observed
from buffetstore.monitoring.logs import LogHook
from buffetstore.monitoring.prometheus import PrometheusHook
from buffetstore.monitoring.summary import StorageMetrics

__all__ = ["Hook", "LogHook", "Operation", "PrometheusHook", "StorageMetrics", "fan_out", "no_hook", "observed"]
