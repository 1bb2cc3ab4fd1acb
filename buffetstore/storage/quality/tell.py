"""Results as events, for metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from buffetstore.monitoring.events import Hook, Operation

if TYPE_CHECKING:
    from buffetstore.storage.quality.report import CheckResult

_STATUS = {"passed": 0, "failed": 1, "unknown": 2}


def tell(hook: Hook, result: CheckResult, *, name: str = "quality.check") -> None:
    """Tell of a result; `status` counts 0 passed, 1 failed, 2 could not be told."""
    counts = {"rows": result.rows, "failed": result.failed, "status": _STATUS[result.status]}
    hook(Operation(name, result.seconds, f"{result.data_type}/{result.check}", None, counts))
