"""What a verdict knows of its findings beyond the first thousand, and of refused rows; worked out when it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from buffetstore.resilience.threads import give_way
from buffetstore.schemas.findings import Finding, Findings
from buffetstore.schemas.withheld import withheld

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.breaches import Breach
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.findings import Noted
    from buffetstore.schemas.given import Given

    Rows = NDArray[np.int64]
    Part: TypeAlias = Breach | Noted

_CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How many rows break one rule in one field, or are odd by it."""

    field: str
    error_type: str
    severity: Literal["error", "warning"]
    rows: int


class Detail:
    """Of one verdict. It holds on to what the rows were judged from.

    Parameters
    ----------
    errors, warnings:
        What the checks found, and what was noted on the way.
    rejected:
        The rows that were refused, ascending.
    given:
        The rows as they were given; None where none was refused.
    keys:
        Key and event time of the refused rows in the contract's types: null where a value did not fit.
    """

    def __init__(
        self,
        contract: Contract,
        errors: Sequence[Breach | Findings],
        warnings: Sequence[Breach | Findings],
        rejected: Rows,
        *,
        given: Given | None,
        keys: pa.Table,
    ) -> None:
        self.rejected = rejected
        self.given = given
        self.keys = keys
        self._contract = contract
        self._found = {"error": errors, "warning": warnings}

    @cached_property
    def counts(self) -> tuple[RuleCount, ...]:
        """The rows that break each rule: errors first, the most frequent first."""
        found = [*self._counted("error"), *self._counted("warning")]
        return tuple(sorted(found, key=lambda each: (each.severity, -each.rows, each.field, each.error_type)))

    @cached_property
    def refused(self) -> pa.Table:
        """The refused rows as they were given."""
        return pa.table({}) if self.given is None else self.given.table(self.rejected)

    def errors_of(self, rows: Rows) -> Iterator[list[Finding]]:
        """Yield for each of these rows, which ascend, all errors that it has."""
        parts = self._parts("error")
        for start in range(0, len(rows), _CHUNK):
            yield from self._errors_of(rows[start : start + _CHUNK], parts)
            give_way()

    def _errors_of(self, rows: Rows, parts: Sequence[tuple[Part, Rows]]) -> list[list[Finding]]:
        found: list[list[Finding]] = [[] for _ in rows]
        for part, own in parts:
            first, end = np.searchsorted(own, [rows[0], rows[-1] + 1]).tolist()
            some = np.intersect1d(own[first:end], rows, assume_unique=True)
            if len(some):
                texts = part.messages(some)
                for row, at, text in zip(some.tolist(), np.searchsorted(rows, some).tolist(), texts, strict=True):
                    found[at].append(Finding(part.field, part.error_type, text, row))
        return [withheld(self._contract, findings) for findings in found]

    def _parts(self, severity: Literal["error", "warning"]) -> list[tuple[Part, Rows]]:
        parts: list[Part] = []
        for found in self._found[severity]:
            parts.extend(found.noted() if isinstance(found, Findings) else (found,))
        return [(part, np.unique(part.rows)) for part in parts]

    def _counted(self, severity: Literal["error", "warning"]) -> Iterator[RuleCount]:
        rows: dict[tuple[str, str], Rows] = {}
        for part, own in self._parts(severity):
            rule = (part.field, part.error_type)
            rows[rule] = np.union1d(rows[rule], own) if rule in rows else own
        for (field, error_type), own in rows.items():
            yield RuleCount(field, error_type, severity, len(own))
