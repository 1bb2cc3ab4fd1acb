"""Counts by UTC day, and days that have far more or fewer rows than those before them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from buffetstore.schemas.quality import RowsPerDay
from buffetstore.storage.quality.tally import Tally
from buffetstore.storage.quality.trailing import History, Trailing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.window import Window


class Days:
    """How often each day came: a number for each day, however many rows."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, days: NDArray[np.int64]) -> None:
        """Count days since 1970."""
        found, counts = np.unique(days, return_counts=True)
        self._counts.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def count(self, day: int) -> int:
        """Return how often the day came."""
        return self._counts[day]

    def in_order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the days, ascending, and how often each came."""
        days = sorted(self._counts)
        return np.array(days, np.int64), np.array([self._counts[day] for day in days], np.int64)

    @staticmethod
    def before(values: NDArray[np.float64], window: int) -> Trailing:
        """Return the median of the days before each day."""
        return History(window).extend(values, np.array([0, len(values)]), [()])


class RowsTally(Tally[RowsPerDay]):
    """Compares the number of rows of days."""

    def __init__(self, check: RowsPerDay, contract: Contract, bound: float, today: int) -> None:
        super().__init__(check, contract, bound)
        self._today = today
        self._days = Days()

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        self._days.add(window.days)

    def finish(self) -> None:
        """Compare the days."""
        days, rows = self._days.in_order()
        over = days < self._today
        days, counts = days[over], rows[over].astype(np.float64)
        before = Days.before(counts, self.check.window)
        judged = before.held >= self.check.least
        odd = np.flatnonzero(judged & (np.abs(counts - before.median) > self.check.tolerance * before.median))
        self.rows, self.failed = int(judged.sum()), len(odd)
        self.tell(
            {"day": str(np.datetime64(int(days[at]), "D")), "rows": int(counts[at]), "before": float(before.median[at])}
            for at in odd.tolist()
        )

    @property
    def counted(self) -> str:
        """What `rows` counts."""
        return "days"

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no day that is over has {self.check.least} others before it"
