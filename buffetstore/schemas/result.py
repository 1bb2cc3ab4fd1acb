"""The verdict on a batch of rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from buffetstore.schemas.columns import decoded
from buffetstore.schemas.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.detail import Detail, RuleCount

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
    `accepted` holds, in input order, the rows without errors; `rejected` the indices of the others, and `refused` these
    rows as they were given. `counts` and `errors_of` know all findings; for their sake a verdict with findings holds on
    to the data that was judged, which must not be changed meanwhile.
    `rounded` counts values that were rounded half-even to their column's scale. `rowwise` says which validators had to
    be run in Python, row by row, and what they took: the first place to look when validation is slow.
    """

    contract: Contract
    encoded: pa.Table
    rows: int
    errors: Sequence[Finding] = ()
    warnings: Sequence[Finding] = ()
    error_count: int = 0
    warning_count: int = 0
    rejected: Sequence[int] = ()
    rounded: int = 0
    ignored_columns: Sequence[str] = field(default_factory=tuple)
    rowwise: Sequence[RowwiseRule] = ()
    detail: Detail | None = field(default=None, repr=False, compare=False)
    _accepted: list[pa.Table] = field(default_factory=list, repr=False, compare=False)

    @property
    def accepted(self) -> pa.Table:
        """The rows without errors; where strings came as codes (`encoded` has them), they are looked up now, once."""
        if not self._accepted or self._accepted[0] is not self.encoded:
            made = pa.Table.from_arrays(decoded(self.encoded).columns, schema=self.contract.schema)
            self._accepted[:] = self.encoded, made
        return self._accepted[1]

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

    @property
    def counts(self) -> tuple[RuleCount, ...]:
        """How many rows break each rule in each field: errors first, then warnings, the most frequent first.

        A row that breaks two rules counts twice.
        """
        found = () if self.detail is None else self.detail.counts
        return tuple(each for each in found if self.error_count or each.severity == "warning")

    @property
    def refused(self) -> pa.Table:
        """The rows of `rejected`, in input order, as they were given: before any value was brought to its type.

        The columns are the source's own, by its own names, whatever a mapping calls them (a headerless source has the
        mapping's names, an index the name of its field). Arrow, pandas and polars columns keep their types. Values of
        dicts and records become columns of their type where all are of one; a column that mixes types, or holds what
        Arrow has no type for, is JSON text. It is made when it is asked for, and has no columns where no row was
        refused.
        """
        return pa.table({}) if self.detail is None or not len(self.rejected) else self.detail.refused

    def errors_of(self, row: int) -> list[Finding]:
        """Return all errors of a row, also those past the first 1,000 of the batch; empty for a good one."""
        if self.detail is None or not self.error_count:
            return [finding for finding in self.errors if finding.record_index == row]
        return next(self.detail.errors_of(np.array([row], np.int64)))

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
            "counts": [asdict(each) for each in self.counts],
        }
