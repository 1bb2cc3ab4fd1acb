"""What the checks find: positions first, words only for the few findings that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from buffetstore.schemas.findings import KEPT, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Severity


@dataclass(frozen=True, slots=True, eq=False)
class Breach:
    """The rows that break one rule.

    Parameters
    ----------
    rows:
        Positions, ascending.
    messages:
        Gives, for positions in the order asked, what is wrong with each.
    structural:
        A row without it does not fit the schema at all, whatever the level of validation.
    """

    field: str
    error_type: str
    rows: NDArray[np.int64]
    messages: Callable[[NDArray[np.int64]], list[str]]
    severity: Severity = "error"
    structural: bool = False


def first_findings(breaches: Sequence[Breach], known: Sequence[Finding] = ()) -> list[Finding]:
    """Return the first 1,000 findings in the order of the rows, `known` ones among them."""
    candidates = [breach.rows[:KEPT] for breach in breaches]
    rows = np.concatenate([np.array([finding.record_index for finding in known], np.int64), *candidates])
    source = np.repeat(np.arange(-1, len(breaches)), [len(known), *map(len, candidates)])
    if len(rows) > KEPT:
        cut = np.partition(rows, KEPT - 1)[KEPT - 1]
        rows, source = rows[rows <= cut], source[rows <= cut]
        limit = int(cut)
    else:
        limit = int(rows.max(initial=-1))
    found = [finding for finding in known if finding.record_index <= limit]
    for number, breach in enumerate(breaches):
        chosen = rows[source == number]
        if len(chosen):
            texts = breach.messages(chosen)
            found += [
                Finding(breach.field, breach.error_type, text, row)
                for row, text in zip(chosen.tolist(), texts, strict=True)
            ]
    found.sort(key=lambda finding: finding.record_index)
    return found[:KEPT]


def rows_of(breaches: Sequence[Breach], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows that have a finding, each once, ascending."""
    return np.unique(np.concatenate([known, *(breach.rows for breach in breaches)])).astype(np.int64)
