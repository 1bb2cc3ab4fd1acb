"""Checks of a batch that has just been stored: by its own rows alone, and without ever failing the write."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.findings import Finding
from buffetstore.schemas.quality import Outliers, StalePrices, VolumeSpikes
from buffetstore.storage.quality.report import CheckResult
from buffetstore.storage.quality.tallies import secret_columns, tally_of
from buffetstore.storage.quality.tell import tell
from buffetstore.storage.quality.window import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from buffetstore.monitoring.events import Hook
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.quality_check import QualityCheck
    from buffetstore.storage.base import StoreResult


async def with_batch_checks(result: StoreResult, contract: Contract, rows: pa.Table, hook: Hook) -> StoreResult:
    """Return the result of a write with a warning for every check marked `on_write` that its rows fail."""
    checks = [check for check in contract.quality if check.on_write and rows.num_rows >= _least(check)]
    if not checks or result.done_before:
        return result
    try:
        found = await in_thread(_findings, checks, contract, rows, result.table_version, hook)
    except Exception as error:  # noqa: BLE001 the rows are stored: no fault of a check may say otherwise
        labels = ", ".join(check.label for check in checks)
        found = [Finding(contract.event_time, "quality", f"{labels} could not be run on the batch: {error!r}", 0)]
    return replace(result, warnings=(*result.warnings, *found)) if found else result


def _least(check: QualityCheck) -> int:
    """Return how many rows a batch must have for the check to find anything in it."""
    if isinstance(check, Outliers | VolumeSpikes):
        return check.least + 1
    return check.rows if isinstance(check, StalePrices) else 1


def _findings(
    checks: list[QualityCheck], contract: Contract, rows: pa.Table, version: int, hook: Hook
) -> list[Finding]:
    window = Window(rows, contract, secret_columns(contract))
    found = []
    for check in checks:
        place, result = _judged(check, window, version)
        if result.status == "failed":
            # Batches are not the data type: metrics are told of those that fail, the rest is for `run` to say.
            tell(hook, result, name="quality.batch")
            field = next((column for column, _ in check.reads()), contract.event_time)
            found.append(Finding(field, f"quality.{check.label}", f"{check.label}: {result.message}", place))
    return found


def _judged(check: QualityCheck, window: Window, version: int) -> tuple[int, CheckResult]:
    started, now = time.perf_counter(), datetime.now(UTC)
    tally = tally_of(check, window.contract, now)
    tally.observe(window)
    tally.finish()
    result = CheckResult(
        data_type=window.contract.data_type,
        check=check.label,
        scope="batch",
        ran_at=now,
        status=tally.status,
        severity=check.severity,
        measured=tally.measured,
        bound=tally.bound,
        rows=tally.rows,
        failed=tally.failed,
        message=tally.message,
        examples=tuple(tally.examples),
        table_version=version,
        seconds=time.perf_counter() - started,
    )
    return tally.first, result
