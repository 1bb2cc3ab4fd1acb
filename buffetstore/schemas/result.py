"""The verdict on a batch of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from buffetstore.schemas.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from buffetstore.schemas.contract import Contract

__all__ = ["Finding", "RowwiseRule", "ValidationLevel", "ValidationResult"]


class ValidationLevel(StrEnum):
    """How findings are judged.

    `STRICT`: an error refuses the row. `WARNING`: a broken rule is counted as a warning, but a row that does not fit
    the schema's types or lacks a key is still an error. `DISABLED`: types alone are enforced, rules are not looked at.
    """

    STRICT = "strict"
    WARNING = "warning"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class RowwiseRule:
    """What Python code of the contract's class took: functions that no kernel can run.

    Parameters
    ----------
    name:
        The functions, behind the column that they are of.
    columns:
        What they were given.
    rows:
        How often they were called.
    seconds:
        How long that took.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """The verdict on a batch, and the batch itself as typed Arrow columns, so that storing it needs no second look.

    `errors` and `warnings` hold at most the first 1,000 findings; `error_count` and `warning_count` count all.
    `accepted` holds, in input order, the rows without errors; `rejected` the indices of the others.
    `rounded` counts values that were rounded half-even to their column's scale. `rowwise` says which validators had to
    be run in Python, row by row, and what they took: the first place to look when validation is slow.
    """

    contract: Contract
    accepted: pa.Table
    rows: int
    errors: Sequence[Finding] = ()
    warnings: Sequence[Finding] = ()
    error_count: int = 0
    warning_count: int = 0
    rejected: Sequence[int] = ()
    rounded: int = 0
    ignored_columns: Sequence[str] = field(default_factory=tuple)
    rowwise: Sequence[RowwiseRule] = ()

    @property
    def is_valid(self) -> bool:
        """True when no row has an error."""
        return self.error_count == 0

    @property
    def data_type(self) -> str:
        """The data type's name."""
        return self.contract.data_type

    @property
    def schema_version(self) -> str:
        """The version of the contract that was applied."""
        return self.contract.version

    def summary(self) -> dict[str, Any]:
        """Return the verdict as plain values, for logs and ``--json``."""
        return {
            "data_type": self.data_type,
            "schema_version": self.schema_version,
            "is_valid": self.is_valid,
            "rows": self.rows,
            "errors": self.error_count,
            "warnings": self.warning_count,
            "rounded": self.rounded,
            "rejected": len(self.rejected),
        }
