"""What became of a file's rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from buffetstore.schemas import Finding

if TYPE_CHECKING:
    from buffetstore.ingest.source import Batch
    from buffetstore.schemas import ValidationResult
    from buffetstore.storage.base import StoreResult

_NO_ROW = "line: fields"


@dataclass(frozen=True, slots=True)
class Rejection(Finding):
    """One thing that is wrong with a row of a file: `record_index` counts the rows of `member`; 0 is the first."""

    member: str = ""


@dataclass(slots=True)
class ImportResult:
    """What became of a file's rows.

    Parameters
    ----------
    rows:
        Rows read, the rejected ones included.
    accepted, rejected:
        Rows that keep the contract, and rows that do not, or are lines that are no rows.
    inserted, updated, unchanged:
        Of the accepted rows, once they are stored.
    done_before:
        Of the unchanged rows, those that had been stored under the same idempotency key.
    quarantined:
        Of the rejected rows, those that are in the store's quarantine.
    rounded, warnings:
        Values rounded to their column's scale; odd things about rows that were stored.
    rejected_counts:
        ``{"price: greater_than": 3}``; a row that breaks two rules counts twice.
    warning_counts:
        The same for warnings.
    ignored_columns:
        Columns of the file that are no fields.
    findings:
        The first errors.
    rejected_file:
        Where rejected rows are; None when there are none in a file.
    table_version:
        The table's version after the last commit; None when nothing was stored.
    commits:
        How many there were.
    """

    file: str
    data_type: str
    dry_run: bool = False
    rows: int = 0
    accepted: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    done_before: int = 0
    rejected: int = 0
    quarantined: int = 0
    rounded: int = 0
    warnings: int = 0
    bytes_written: int = 0
    files_written: int = 0
    commits: int = 0
    table_version: int | None = None
    rejected_file: str | None = None
    rejected_counts: dict[str, int] = field(default_factory=dict)
    warning_counts: dict[str, int] = field(default_factory=dict)
    ignored_columns: list[str] = field(default_factory=list)
    findings: list[Rejection] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return plain values, for ``--json``."""
        return asdict(self)

    def judged(self, check: ValidationResult) -> None:
        """Count a verdict."""
        self.rows += check.rows
        self.accepted += check.rows - len(check.rejected)
        self.rejected += len(check.rejected)
        self.rounded += check.rounded
        self.warnings += check.warning_count
        self.ignored_columns += [name for name in check.ignored_columns if name not in self.ignored_columns]
        for found in check.counts:
            counts = self.rejected_counts if found.severity == "error" else self.warning_counts
            name = f"{found.field}: {found.error_type}"
            counts[name] = counts.get(name, 0) + found.rows

    def malformed(self, batch: Batch) -> None:
        """Count lines that are no rows."""
        count = len(batch.malformed)
        self.rows += count
        self.rejected += count
        self.rejected_counts[_NO_ROW] = self.rejected_counts.get(_NO_ROW, 0) + count

    def stored(self, result: StoreResult) -> None:
        """Count what was stored."""
        self.inserted += result.inserted
        self.updated += result.updated
        self.unchanged += result.unchanged
        self.done_before += result.unchanged if result.done_before else 0
        self.quarantined += result.quarantined
        self.bytes_written += result.bytes_written
        self.files_written += len(result.file_paths)
        self.commits += 1
        self.table_version = result.table_version
