"""What quality checks found, as a data type of its own: it can be queried, kept and read by other tools like any."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from buffetstore.schemas.record import Record
from buffetstore.schemas.types import Name, Timestamp

_Count = Annotated[int, Field(ge=0)]


class QualityResult(
    Record,
    data_type="quality_results",
    version="1.0.0",
    key=("data_type", "check", "scope", "ran_at"),
    event_time="ran_at",
    symbol=None,
    category="quality",
):
    """What one check of one data type found in one run."""

    data_type: Name
    check: Name
    scope: Name
    """Which rows were looked at: 'all', or days and symbols."""
    ran_at: Timestamp
    status: Literal["passed", "failed", "unknown"]
    """`unknown`: it could not be told, `message` says why."""
    severity: Literal["error", "warning"]
    measured: float | None = None
    """The share that failed; of freshness, the age in seconds."""
    bound: float | None = None
    """What may be measured at most."""
    rows: _Count
    """What was counted: rows, expected bars, days, pairs."""
    failed: _Count
    message: str = ""
    examples: str = "[]"
    """The keys of the first that failed, as JSON; no values of confidential columns."""
    start: Timestamp | None = None
    end: Timestamp | None = None
    """First and last event time of the rows that were looked at."""
    table_version: _Count
    seconds: Annotated[float, Field(ge=0)]
    bytes_read: _Count
