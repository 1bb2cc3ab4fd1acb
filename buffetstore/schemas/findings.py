"""A list of findings that stays small however many rows are bad, and still knows all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd, with one row."""

    field: str
    error_type: str
    message: str
    record_index: int


class Findings:
    """Findings of one severity: the first 1,000 in full, of all the others their rows."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0
        self._rows: list[NDArray[np.int64]] = []
        self._by_field: dict[str, list[NDArray[np.int64]]] = {}

    def add(self, field: str, error_type: str, message: str, row: int) -> None:
        """Note one finding."""
        self.add_rows(field, error_type, np.array([row], np.int64), lambda _: message)

    def add_rows(
        self, field: str, error_type: str, rows: NDArray[np.int64], message: Callable[[int], str], *, offset: int = 0
    ) -> None:
        """Note the same finding for many rows.

        Parameters
        ----------
        rows:
            Positions of the rows.
        message:
            Called with a position, for those findings only that are kept in full.
        offset:
            Added to a position to give the finding's `record_index`.
        """
        for row in rows[: KEPT - len(self.kept)].tolist():
            self.kept.append(Finding(field, error_type, message(row), row + offset))
        self.count += len(rows)
        self._rows.append(np.asarray(rows, np.int64) + offset)
        self._by_field.setdefault(field, []).append(self._rows[-1])

    def refuse_all(self, rows: int) -> None:
        """Let what has been found stand against all of so many rows."""
        self._rows.append(np.arange(rows))

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows that have a finding, each once, ascending."""
        return np.unique(np.concatenate(self._rows)) if self._rows else np.empty(0, np.int64)

    @property
    def by_field(self) -> dict[str, NDArray[np.int64]]:
        """The rows that have a finding, for each field."""
        return {field: np.unique(np.concatenate(rows)) for field, rows in self._by_field.items()}
