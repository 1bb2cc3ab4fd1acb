"""A list of findings that stays small however many rows are bad, and still knows all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Rows = NDArray[np.int64]

KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or odd, with one row."""

    field: str
    error_type: str
    message: str
    record_index: int


class Noted(NamedTuple):
    """Rows with the same finding; `messages` gives the words for some of them, in the order asked."""

    field: str
    error_type: str
    rows: Rows
    messages: Callable[[Rows], list[str]]


class Findings:
    """Findings of one severity: the first 1,000 in full, of all the others their rows and what words they are told in.

    Only where a finding was noted in words (`add`), and comes after the first 1,000, are its words not kept.
    """

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.count = 0
        self._single: dict[tuple[str, str], list[int]] = {}
        self._many: list[Noted] = []
        self._of_all: list[Finding] = []
        self._all_rows = 0

    def add(self, field: str, error_type: str, message: str, row: int) -> None:
        """Note one finding."""
        if len(self.kept) < KEPT:
            self.kept.append(Finding(field, error_type, message, row))
        self.count += 1
        self._single.setdefault((field, error_type), []).append(row)

    def add_rows(
        self, field: str, error_type: str, rows: NDArray[np.int64], message: Callable[[int], str], *, offset: int = 0
    ) -> None:
        """Note the same finding for many rows.

        Parameters
        ----------
        rows:
            Positions of the rows.
        message:
            Called with a position, for those findings only whose words are asked for.
        offset:
            Added to a position to give the finding's `record_index`.
        """
        for row in rows[: KEPT - len(self.kept)].tolist():
            self.kept.append(Finding(field, error_type, message(row), row + offset))
        self.count += len(rows)

        def messages(some: Rows) -> list[str]:
            return [message(row) for row in (some - offset).tolist()]

        self._many.append(Noted(field, error_type, np.asarray(rows, np.int64) + offset, messages))

    def add_for_all(self, field: str, error_type: str, message: str, row: int, rows: int) -> None:
        """Note one finding that shows in `row`, and stands against all of so many rows."""
        finding = Finding(field, error_type, message, row)
        if len(self.kept) < KEPT:
            self.kept.append(finding)
        self.count += 1
        self._of_all.append(finding)
        self._all_rows = max(self._all_rows, rows)

    def noted(self) -> Iterator[Noted]:
        """Yield all findings, those alike together; the rows of each as they came."""
        every = np.arange(self._all_rows)
        for finding in self._of_all:
            yield Noted(finding.field, finding.error_type, every, _repeating(finding.message))
        yield from self._many
        words = {(found.field, found.error_type, found.record_index): found.message for found in self.kept}
        for (field, error_type), rows in self._single.items():
            yield Noted(field, error_type, np.array(rows, np.int64), _worded(field, error_type, words))

    @property
    def rows(self) -> Rows:
        """The rows that have a finding, each once, ascending."""
        if self._of_all:
            return np.arange(self._all_rows)
        parts = [noted.rows for noted in self._many]
        parts += [np.array(rows, np.int64) for rows in self._single.values()]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    @property
    def by_field(self) -> dict[str, Rows]:
        """The rows that have a finding, for each field."""
        parts: dict[str, list[Rows]] = {}
        for noted in self._many:
            parts.setdefault(noted.field, []).append(noted.rows)
        for (field, _), rows in self._single.items():
            parts.setdefault(field, []).append(np.array(rows, np.int64))
        found = {field: np.unique(np.concatenate(rows)) for field, rows in parts.items()}
        every = np.arange(self._all_rows)  # one for all: a file may have ten thousand columns that are no fields
        return found | {finding.field: every for finding in self._of_all}


def _repeating(message: str) -> Callable[[Rows], list[str]]:
    return lambda some: [message] * len(some)


def _worded(field: str, error_type: str, words: dict[tuple[str, str, int], str]) -> Callable[[Rows], list[str]]:
    plain = f"{field}: {error_type}"
    return lambda some: [words.get((field, error_type, row), plain) for row in some.tolist()]
