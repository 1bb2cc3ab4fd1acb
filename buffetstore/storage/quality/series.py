"""Checks along a series: outliers, volume spikes, stale prices. Each remembers a few numbers of every series."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from buffetstore.schemas.quality import Outliers, StalePrices, VolumeSpikes
from buffetstore.storage.quality.tally import EXAMPLES, Tally
from buffetstore.storage.quality.trailing import History
from buffetstore.storage.quality.window import codes_of, moment, series_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.window import Window

# From median and mean distance of a normal distribution to its standard deviation (Iglewicz and Hoaglin 1993).
_OF_MAD, _OF_MEAN = 1.4826, 1.2533
_NOISE = 1e-12  # returns that are equal but for the last digits of a float


class _Values(NamedTuple):
    """The numbers of some rows, series after series."""

    numbers: NDArray[np.float64]
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    names: Sequence[tuple[Any, ...]]

    def where(self, kept: NDArray[np.bool_]) -> _Values:
        counts = np.concatenate(([0], np.cumsum(kept)))
        return _Values(self.numbers[kept], self.rows[kept], counts[self.starts], self.names)


def _values(window: Window, column: str, by: Sequence[str]) -> _Values:
    series = window.series(by)
    found = _Values(window.numbers(column)[series.order], series.order, series.starts, series.names)
    return found.where(np.isfinite(found.numbers))


class OutlierTally(Tally[Outliers]):
    """Holds values against median and MAD of those before them."""

    def __init__(self, check: Outliers, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self._by = series_columns(contract, check.by)
        self._history = History(check.window, spread=True)
        self._last: dict[tuple[Any, ...], float] = {}

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        values = _values(window, self.check.column, self._by)
        if self.check.on == "returns":
            values = self._returns(values)
        before = self._history.extend(values.numbers, values.starts, values.names)
        floor = self.check.floor * (np.abs(before.median) if self.check.on == "levels" else 1.0)
        judged = before.held >= self.check.least
        with np.errstate(invalid="ignore"):
            # Where more than half of the values are equal their MAD is 0, and says nothing of the others.
            spread = np.where(before.mad > _NOISE, _OF_MAD * before.mad, _OF_MEAN * before.mean_distance)
            z = np.abs(values.numbers - before.median) / np.maximum(spread, floor)
            odd = judged & (z > self.check.threshold)
        self.rows += int(judged.sum())
        self.tell_rows(window, np.sort(values.rows[odd]))

    def _returns(self, values: _Values) -> _Values:
        """Return each price over the one before it, less one; not of the first, and not of one that is not positive."""
        prices = values.numbers
        before = np.concatenate(([np.nan], prices[:-1])) if len(prices) else prices
        filled = np.flatnonzero(np.diff(values.starts))
        firsts = values.starts[:-1][filled]
        before[firsts] = [self._last.get(values.names[number], np.nan) for number in filled.tolist()]
        lasts = prices[values.starts[1:][filled] - 1].tolist()
        self._last.update(zip((values.names[number] for number in filled.tolist()), lasts, strict=True))
        with np.errstate(invalid="ignore", divide="ignore"):
            returns = prices / before - 1
        kept: NDArray[np.bool_] = (before > 0) & np.isfinite(returns)
        return values._replace(numbers=returns).where(kept)

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no value has {self.check.least} others before it in its series ({', '.join(self._by)})"


class SpikeTally(Tally[VolumeSpikes]):
    """Holds volumes against the median of those before them."""

    def __init__(self, check: VolumeSpikes, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self._by = series_columns(contract, check.by)
        self._history = History(check.window)

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        values = _values(window, self.check.column, self._by)
        before = self._history.extend(values.numbers, values.starts, values.names)
        judged = (before.held >= self.check.least) & (before.median > 0)
        odd = judged & (values.numbers > self.check.factor * before.median)
        self.rows += int(judged.sum())
        self.tell_rows(window, np.sort(values.rows[odd]))

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no volume has {self.check.least} others before it in its series ({', '.join(self._by)})"


class _Run(NamedTuple):
    """The equal prices that a series ended with: the price (None of none), how many, and since when."""

    price: Any = None
    rows: int = 0
    since: int = 0


class StaleTally(Tally[StalePrices]):
    """Finds runs of equal prices."""

    def __init__(self, check: StalePrices, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        self._by = series_columns(contract, check.by)
        self._last: dict[tuple[Any, ...], _Run] = {}

    def observe(self, window: Window) -> None:
        """Count the rows of the next window."""
        series = window.series(self._by)
        order, starts = series.order, series.starts
        traded = np.isfinite(window.numbers(self.check.column)) & (window.numbers(self.check.volume) > 0)
        traded, times = traded[order], window.times[order]
        prices = window.array(self.check.column)
        codes = codes_of(prices)[order]
        new = np.ones(window.rows, np.bool_)
        new[1:] = (codes[1:] != codes[:-1]) | ~traded[1:] | ~traded[:-1]
        new[starts[:-1]] = True
        heads = np.flatnonzero(new)
        lengths = np.diff(np.append(heads, window.rows))
        first, since = self._joined(series.names, heads, starts, prices, order, traded, times)
        totals = np.where(traded[heads], lengths + first, 0)
        stale = totals >= self.check.rows
        self.rows += int(traded.sum())
        # What was before this window counts when the run becomes stale in it.
        self.failed += int((lengths + np.where(first < self.check.rows, first, 0))[stale].sum())
        if stale.any() and self.first < 0:
            self.first = int(order[heads[stale]].min())
        begun = np.flatnonzero(stale & (first < self.check.rows))
        ids = np.searchsorted(starts, heads, side="right") - 1
        names = (*self._by, self.contract.event_time)
        self.tell(
            window.shown(names, (*series.names[ids[run]], moment(since[run])))
            for run in islice(begun.tolist(), EXAMPLES)
        )
        self._remember(series.names, ids, totals, since, prices, order[heads])

    def _joined(
        self,
        names: Sequence[tuple[Any, ...]],
        heads: NDArray[np.int64],
        starts: NDArray[np.int64],
        prices: Any,
        order: NDArray[np.int64],
        traded: NDArray[np.bool_],
        times: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each run how many rows it had before this window, and since when it lasts."""
        before, since = np.zeros(len(heads), np.int64), times[heads].copy()
        runs = np.searchsorted(heads, starts[:-1])
        for name, run, start in zip(names, runs.tolist(), starts[:-1].tolist(), strict=True):
            last = self._last.get(name)
            if last is not None and last.rows and traded[start] and prices[int(order[start])].as_py() == last.price:
                before[run], since[run] = last.rows, last.since
        return before, since

    def _remember(
        self,
        names: Sequence[tuple[Any, ...]],
        ids: NDArray[np.int64],
        totals: NDArray[np.int64],
        since: NDArray[np.int64],
        prices: Any,
        rows: NDArray[np.int64],
    ) -> None:
        lasts = np.flatnonzero(np.diff(ids, append=len(names)))
        for name, run in zip(names, lasts.tolist(), strict=True):
            price = prices[int(rows[run])].as_py() if totals[run] else None
            self._last[name] = _Run(price, int(totals[run]), int(since[run]))

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no row has both {self.check.column} and {self.check.volume}"
