"""What a check has counted so far, window after window, and what follows from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from buffetstore.schemas.quality_check import QualityCheck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.report import Status
    from buffetstore.storage.quality.window import Window

C = TypeVar("C", bound=QualityCheck)
EXAMPLES = 20


class Tally(ABC, Generic[C]):
    """Counts for one check. Windows come in order of time, and no moment is in two of them.

    Parameters
    ----------
    bound:
        The share that may fail.
    """

    def __init__(self, check: C, contract: Contract, bound: float) -> None:
        self.check = check
        self.contract = contract
        self.bound: float | None = bound
        self.rows = 0
        self.failed = 0
        self.first = -1
        """The place of the first row that failed in the first window, for findings about a batch."""
        self.examples: list[dict[str, Any]] = []
        self.untold = ""
        """Why it cannot be told, where it cannot."""

    @abstractmethod
    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""

    def columns(self) -> set[str]:
        """Return the columns that it needs beside the key and the event time."""
        return {name for name, _ in self.check.reads()}

    def finish(self) -> None:
        """Count what only the end of the rows tells."""

    def tell(self, examples: Iterable[dict[str, Any]]) -> None:
        """Keep examples, while there is room."""
        room = EXAMPLES - len(self.examples)
        self.examples.extend(example for _, example in zip(range(room), examples, strict=False))

    def tell_rows(self, window: Window, rows: Any) -> None:
        """Count rows of the window as failed, and keep the first keys; rows are positions, in any order."""
        self.failed += len(rows)
        if len(rows) and self.first < 0:
            self.first = int(min(rows))
        room = EXAMPLES - len(self.examples)
        if room and len(rows):
            self.tell(window.keys(rows[:room]))

    @property
    def measured(self) -> float | None:
        """The share that failed."""
        return self.failed / self.rows if self.rows else None

    @property
    def status(self) -> Status:
        """The verdict."""
        if self.measured is None or self.bound is None:
            return "unknown"
        return "failed" if self.measured > self.bound else "passed"

    @property
    def counted(self) -> str:
        """What `rows` counts."""
        return "rows"

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return "there is no row that it could judge"

    @property
    def message(self) -> str:
        """The verdict in words."""
        if self.measured is None or self.bound is None:
            return self.untold or self.nothing
        words = f"{self.failed:,} of {self.rows:,} {self.counted} ({self.measured:.4%}), at most {self.bound:.4%}"
        return f"{words}; {self.untold}" if self.untold else words
