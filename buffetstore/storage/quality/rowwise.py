"""Checks that count rows one by one: crossed quotes, nulls, ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from buffetstore.schemas.quality import CrossedQuotes, InRange, NullRate
from buffetstore.storage.quality.days import Days
from buffetstore.storage.quality.tally import Tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.window import Window


class CrossedTally(Tally[CrossedQuotes]):
    """Finds bids above their asks."""

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        bid, ask = window.array(self.check.bid), window.array(self.check.ask)
        # As they are stored: two decimals may be nearer to each other than floats can tell.
        crossed = np.asarray(pc.fill_null(pc.greater(bid, ask), False).to_numpy(zero_copy_only=False))
        both = ~np.isnan(window.numbers(self.check.bid)) & ~np.isnan(window.numbers(self.check.ask))
        self.rows += int(both.sum())
        self.tell_rows(window, np.flatnonzero(crossed))

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no quote has both {self.check.bid} and {self.check.ask}"


class RangeTally(Tally[InRange]):
    """Finds values that are out of range."""

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        values = window.numbers(self.check.column)
        outside = np.zeros(window.rows, np.bool_)
        if self.check.low is not None:
            outside |= values < self.check.low
        if self.check.high is not None:
            outside |= values > self.check.high
        self.rows += int((~np.isnan(values)).sum())
        self.tell_rows(window, np.flatnonzero(outside))

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"{self.check.column} is null in every row"


class NullTally(Tally[NullRate]):
    """Counts nulls, of all rows and by day."""

    def __init__(self, check: NullRate, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self._days = Days()
        self._missing = Days()
        self._drifted = ""

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        missing = _missing(window, self.check.column)
        self.rows += window.rows
        self.tell_rows(window, np.flatnonzero(missing))
        if self.check.drift is not None:
            self._days.add(window.days)
            self._missing.add(window.days[missing])

    def finish(self) -> None:
        """Compare days."""
        if self.check.drift is None:
            return
        days, rows = self._days.in_order()
        shares = np.array([self._missing.count(day) for day in days.tolist()]) / np.maximum(rows, 1)
        before = Days.before(shares, self.check.window)
        odd = (before.held >= self.check.least) & (shares - before.median > self.check.drift)
        if odd.any():
            at = int(np.flatnonzero(odd)[0])
            day = np.datetime64(int(days[at]), "D")
            self._drifted = (
                f"on {day} {shares[at]:.2%} of {self.check.column} is null, {before.median[at]:.2%} before "
                f"({int(odd.sum())} such days)"
            )

    @property
    def status(self) -> str:  # type: ignore[override]
        """The verdict: a day that drifted fails it, too."""
        return "failed" if self._drifted else super().status

    @property
    def message(self) -> str:
        """The verdict in words."""
        return "; ".join(filter(None, (super().message, self._drifted)))


def _missing(window: Window, column: str) -> NDArray[np.bool_]:
    found = pc.is_null(window.array(column), nan_is_null=True).to_numpy(zero_copy_only=False)
    return np.asarray(found, np.bool_)
