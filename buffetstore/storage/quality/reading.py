"""A data type's rows in order of time, a bounded number of them at a time.

A window holds all rows of a stretch of event time. Stretches are cut where no file reaches across, as far as files are
small enough; one that turns out to hold more than twice `WINDOW_ROWS` rows is cut in two and read again, down to the
rows of one single moment.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import And, Comparison
from buffetstore.query.binding import only_columns
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.quality.window import moment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from numpy.typing import NDArray

    from buffetstore.expressions import Expression
    from buffetstore.query import BoundPlan, QueryExecutor
    from buffetstore.tables import Snapshot

WINDOW_ROWS = 250_000  # more of them are no faster, and hold other threads up for longer


class Stretch(NamedTuple):
    """Values of the axis from `low` up to, and without, `high`; None is open."""

    low: Any = None
    high: Any = None

    def predicate(self, axis: str) -> Expression:
        """Return what its rows satisfy."""
        after = () if self.low is None else (Comparison(axis, ">=", self.low),)
        before = () if self.high is None else (Comparison(axis, "<", self.high),)
        return And((*after, *before))


@dataclass(slots=True)
class Pass:
    """One reading of a data type.

    Parameters
    ----------
    bound, snapshot:
        Which rows and columns, of which state of the table.
    axis:
        The column by which it is cut: event time, or the key's first column where event time is not in the key.
    window_rows:
        About how many rows are held at a time.
    bytes_read:
        What the store has sent so far.
    """

    executor: QueryExecutor
    bound: BoundPlan
    snapshot: Snapshot
    axis: str
    window_rows: int = WINDOW_ROWS
    bytes_read: int = field(default=0, init=False)

    async def windows(self, *, newest_first: bool = False) -> AsyncGenerator[pa.Table, None]:
        """Yield the rows, window after window, without empty ones.

        Parameters
        ----------
        newest_first:
            From the last window to the first; of all files, the last one begins with the last time in any.
        """
        if self.bound.is_empty:
            return
        waiting = await in_thread(self._stretches, newest_alone=newest_first)
        if not newest_first:
            waiting.reverse()
        while waiting:
            stretch = waiting.pop()
            found = await self._read(stretch)
            if isinstance(found, pa.Table):
                if found.num_rows:
                    yield found
            else:
                halves = [Stretch(found.value, stretch.high), Stretch(stretch.low, found.value)]
                waiting += halves[::-1] if newest_first else halves

    async def _read(self, stretch: Stretch) -> pa.Table | _Cut:
        within = stretch.predicate(self.axis)
        bound = replace(
            self.bound, predicate=And((self.bound.predicate, within)), below=_joined(self.bound.below, within)
        )
        counts: dict[str, int] = {}
        batches: list[pa.RecordBatch] = []
        rows, most = 0, 2 * self.window_rows
        try:
            async with aclosing(self.executor.scan(bound, self.snapshot, counts)) as found:
                async for batch in found:
                    batches.append(batch)
                    rows += batch.num_rows
                    if rows > most:
                        cut = await in_thread(_cut_of, batches, self.axis)
                        if cut is not None:
                            return cut
                        most = 2 * rows  # all of one value so far
        finally:
            self.bytes_read += counts.get("bytes_in", 0)
        return pa.Table.from_batches(batches, schema=bound.output_schema())

    def _stretches(self, *, newest_alone: bool) -> list[Stretch]:
        event_time = self.bound.contract.event_time
        if self.axis != event_time:
            return [Stretch()]
        files = self.snapshot.prune(only_columns(self.bound.below, self.bound.stored), (event_time,))
        names = (f"min.{event_time}", f"max.{event_time}", "num_records")
        if not set(names) <= set(files.column_names):
            return [Stretch()]
        known = files.select(names).drop_null()
        low, high = (_microseconds(known[name]) for name in names[:2])
        places = cuts_of(low, high, _numbers(known["num_records"]), self.window_rows)
        if newest_alone and len(high) and high.max() > max(places, default=int(low.min())):
            places.append(int(high.max()))
        cuts = list(map(moment, places))
        return [Stretch(*edges) for edges in zip([None, *cuts], [*cuts, None], strict=True)]


class _Cut(NamedTuple):
    """Where a stretch that holds too many rows is cut in two."""

    value: Any


def cuts_of(low: NDArray[np.int64], high: NDArray[np.int64], rows: NDArray[np.int64], target: int) -> list[int]:
    """Return where to cut time, so that about `target` rows lie between cuts.

    Parameters
    ----------
    low, high, rows:
        First and last time in each file, and how many rows it has.
    """
    cuts: list[int] = []
    held = 0
    for start, end, size in _components(low, high, rows):
        if held and held + size > target:
            cuts.append(start)
            held = 0
        held += size
        if size > target:
            parts = min(-(-size // target), end - start + 1)
            cuts += [start + (end + 1 - start) * part // parts for part in range(1, parts)]
            held = target  # what comes next starts a window of its own
    return cuts


def _components(low: NDArray[np.int64], high: NDArray[np.int64], rows: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return the stretches that files cover without a gap: first and last time, and their rows."""
    if not len(low):
        return []
    order = np.argsort(low, kind="stable")
    low, reach, rows = low[order], np.maximum.accumulate(high[order]), rows[order]
    heads = np.concatenate(([0], np.flatnonzero(low[1:] > reach[:-1]) + 1))
    ends = np.append(heads[1:], len(low)) - 1
    sizes = np.add.reduceat(rows, heads)
    return list(zip(low[heads].tolist(), reach[ends].tolist(), sizes.tolist(), strict=True))


def _cut_of(batches: list[pa.RecordBatch], axis: str) -> _Cut | None:
    """Return a value that parts the rows; None where all have the same."""
    values = pa.chunked_array([batch[axis] for batch in batches])
    ordered = values.take(pc.sort_indices(values))
    least, middle = ordered[0], ordered[len(ordered) // 2]
    if middle == least:
        above = ordered.filter(pc.greater(ordered, least))
        if not len(above):
            return None
        middle = above[0]
    return _Cut(middle.as_py())


def _joined(first: Expression, second: Expression) -> Expression:
    """Return both as one row of conjuncts, of which each is looked at by itself."""
    parts = [part for each in (first, second) for part in (each.parts if isinstance(each, And) else (each,))]
    return And(tuple(parts))


def _microseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return _numbers(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(), np.int64)
