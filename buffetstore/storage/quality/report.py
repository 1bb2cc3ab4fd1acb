"""What checks found, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

Status: TypeAlias = Literal["passed", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found.

    Parameters
    ----------
    data_type, check:
        What was judged, and the check's label.
    scope:
        Which rows were looked at: ``"all"``, or days and symbols.
    ran_at:
        When the run began; the same for all results of a run.
    status:
        ``"unknown"`` says that it could not be told; `message` says why.
    severity:
        Whether a failure makes the report fail.
    measured, bound:
        The share of `rows` that failed, and what it may be at most; of freshness, seconds.
    rows, failed:
        What was counted: rows, expected bars, days, or pairs.
    message:
        In words.
    examples:
        The first that failed, by their key; values of confidential columns are left out.
    start, end:
        First and last event time of what was looked at.
    table_version:
        The table's version that was read.
    seconds, bytes_read:
        What it took. Checks share their reading: the bytes are those of the whole pass.
    """

    data_type: str
    check: str
    scope: str
    ran_at: datetime
    status: Status
    severity: Literal["error", "warning"]
    measured: float | None = None
    bound: float | None = None
    rows: int = 0
    failed: int = 0
    message: str = ""
    examples: Sequence[Mapping[str, Any]] = ()
    start: datetime | None = None
    end: datetime | None = None
    table_version: int = 0
    seconds: float = 0.0
    bytes_read: int = 0

    @property
    def ok(self) -> bool:
        """Whether it is no failed check of severity `error`."""
        return self.status != "failed" or self.severity != "error"

    def to_row(self) -> dict[str, Any]:
        """Return a row of the data type `quality_results`."""
        return self.summary() | {"examples": json.dumps(list(self.examples), ensure_ascii=False)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> CheckResult:
        """Return what a row of `quality_results` holds."""
        known = {field.name: row[field.name] for field in fields(cls) if field.name != "examples"}
        return cls(**known, examples=tuple(json.loads(row["examples"])))

    def summary(self) -> dict[str, Any]:
        """Return the fields as a dict."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What a run found.

    Parameters
    ----------
    data_type, table_version, scope, ran_at:
        What was judged, and when.
    results:
        One for each check, in the order in which they were declared.
    seconds, bytes_read:
        What the run took: time, and bytes of data files that the store sent.
    """

    data_type: str
    table_version: int
    scope: str
    ran_at: datetime
    results: Sequence[CheckResult]
    seconds: float = 0.0
    bytes_read: int = 0

    @property
    def ok(self) -> bool:
        """True when no check of severity `error` failed; a check that could not be told is no failure."""
        return all(result.ok for result in self.results)

    @property
    def failed(self) -> list[CheckResult]:
        """The checks that failed, of any severity."""
        return [result for result in self.results if result.status == "failed"]

    def summary(self) -> dict[str, Any]:
        """Return the report as plain values, for logs and ``--json``."""
        counts = {
            status: sum(result.status == status for result in self.results)
            for status in ("passed", "failed", "unknown")
        }
        return {
            "data_type": self.data_type,
            "table_version": self.table_version,
            "scope": self.scope,
            "ran_at": self.ran_at,
            "ok": self.ok,
            **counts,
            "seconds": self.seconds,
            "bytes_read": self.bytes_read,
            "results": [result.summary() for result in self.results],
        }
