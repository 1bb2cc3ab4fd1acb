"""Median and MAD of the values before each value in its series: at most a window of them, in bounded memory."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_CELLS = 1_000_000  # numbers that are sorted at a time


class Trailing(NamedTuple):
    """For each value what was before it: how many values, their median, and their distance from that.

    Parameters
    ----------
    mad, mean_distance:
        The median and the mean of the distances.
    """

    held: NDArray[np.int64]
    median: Floats
    mad: Floats
    mean_distance: Floats


class History:
    """The last values of every series: `window` floats for each.

    Parameters
    ----------
    spread:
        Whether distances are wanted, too.
    """

    def __init__(self, window: int, *, spread: bool = False) -> None:
        self._window = window
        self._spread = spread
        self._last: defaultdict[tuple[Any, ...], Floats] = defaultdict(lambda: np.full(window, np.inf))

    def extend(self, values: Floats, starts: NDArray[np.int64], names: Sequence[tuple[Any, ...]]) -> Trailing:
        """Return what was before each of the values, and remember them.

        Parameters
        ----------
        values:
            Finite numbers, series after series, each in order of time.
        starts:
            Where each series begins, and where the last one ends.
        """
        window, series = self._window, len(names)
        # Each series gets its last values before it; infinity stands for those that there were not.
        lengths = np.diff(starts)
        ids = np.repeat(np.arange(series), lengths)
        at = np.arange(len(values)) + (ids + 1) * window
        line = np.empty(len(values) + series * window)
        line[at] = values
        heads = starts[:-1] + np.arange(series) * window
        for head, name in zip(heads.tolist(), names, strict=True):
            line[head : head + window] = self._last[name]
        found = self._before(line, at)
        for end, name in zip((heads + window + lengths).tolist(), names, strict=True):
            self._last[name] = line[end - window : end].copy()
        return found

    def _before(self, line: Floats, at: NDArray[np.int64]) -> Trailing:
        rows, window = len(at), self._window
        count, (median, mad, mean) = np.zeros(rows, np.int64), np.full((3, rows), np.nan)
        if not rows:
            return Trailing(count, median, mad, mean)
        view = np.lib.stride_tricks.sliding_window_view(line, window)
        step = max(_CELLS // window, 1)
        for start in range(0, rows, step):
            part = slice(start, start + step)
            held = np.sort(view[at[part] - window], axis=1)
            count[part] = np.isfinite(held).sum(axis=1)
            median[part] = _middle(held, count[part])
            if self._spread:
                away = np.sort(np.abs(held - median[part][:, None]), axis=1)
                mad[part] = _middle(away, count[part])
                mean[part] = np.where(np.isfinite(away), away, 0).sum(axis=1) / np.maximum(count[part], 1)
        return Trailing(count, median, mad, mean)


def _middle(ordered: Floats, count: NDArray[np.int64]) -> Floats:
    """Return the median of the first `count` values of each row; NaN of none."""
    rows = np.arange(len(ordered))
    low, high = (
        ordered[rows, np.maximum(count - 1, 0) // 2],
        ordered[rows, np.minimum(count // 2, ordered.shape[1] - 1)],
    )
    return np.where(count > 0, low / 2 + high / 2, np.nan)
