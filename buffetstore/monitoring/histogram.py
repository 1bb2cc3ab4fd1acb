"""Quantiles of any number of durations in a fixed amount of memory."""

from __future__ import annotations

import math
from collections import Counter

_SMALLEST, _LARGEST = 1e-6, 1e5  # a microsecond to a day and more, in seconds
_STEP = math.log(2) / 16  # sixteen buckets per doubling: a quantile is off by 2.2 % at most


class Histogram:
    """Counts of values (seconds) in geometric buckets: at most 600 of them, however many values come.

    >>> durations = Histogram()
    >>> for milliseconds in range(1, 1001):
    ...     durations.add(milliseconds / 1000)
    >>> round(durations.quantile(0.5), 2), durations.largest
    (0.51, 1.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.largest = 0.0
        self.smallest = math.inf
        self._buckets: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)
        self.smallest = min(self.smallest, value)
        self._buckets[math.floor(math.log(min(max(value, _SMALLEST), _LARGEST)) / _STEP)] += 1

    def quantile(self, fraction: float) -> float:
        """Return the value below which `fraction` of all values lie, or 0.0 when there are none."""
        if not self.count:
            return 0.0
        rank = fraction * (self.count - 1)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen > rank:
                return min(max(math.exp((bucket + 0.5) * _STEP), self.smallest), self.largest)
        return self.largest

    def summary(self) -> dict[str, float]:
        """Return mean, p50, p95, p99, max and total, in the unit of the values."""
        return {
            "mean": self.total / self.count if self.count else 0.0,
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "max": self.largest,
            "total": self.total,
        }
