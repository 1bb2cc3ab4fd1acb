"""As-of join: to each row the last row of the other side that was known then. Pure, and in bounded memory.

A row of the right side counts for a moment when it was available by then; of those that count the one with the latest
event time is taken, and of several with the same event time the one that became available last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.tables.matching import row_codes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from numpy.typing import NDArray

KNOWN = "known"  # the column of a right side in which it became available
EVENT = "event"  # and when it happened
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class AsofTerms:
    """What is joined on.

    Parameters
    ----------
    on:
        The left side's moments.
    by:
        Columns that must be equal: the left side's name for each, and the right side's.
    columns:
        The right side's columns in the outcome: their names there, and the outcome's names.
    tolerance:
        How old an event may be; None is any age.
    """

    on: str
    by: Mapping[str, str]
    columns: Mapping[str, str]
    tolerance: timedelta | None = None


class AsofJoin:
    """Joins window after window of time. Between windows one row of the right side is held for each value of `by`.

    Right sides have the columns of `terms` and `KNOWN` and `EVENT`, both timestamps in microseconds, UTC.
    """

    def __init__(self, terms: AsofTerms, right: pa.Schema) -> None:
        self._terms = terms
        self._held = right.empty_table()

    @property
    def held_rows(self) -> int:
        """How many rows of the right side are held."""
        return int(self._held.num_rows)

    def add(self, right: pa.Table) -> None:
        """Take rows of the right side, in any order."""
        known = right.filter(pc.and_(pc.is_valid(right[KNOWN]), pc.is_valid(right[EVENT])))
        self._held = pa.concat_tables([self._held, known.select(self._held.column_names)])

    def match(self, left: pa.Table) -> pa.Table:
        """Return the left rows, each with the columns of the right row that it finds; null where there is none."""
        held = self._in_order()
        found = _positions(left, held, self._terms)
        at = pa.array(found, mask=found < 0)
        for name, shown in self._terms.columns.items():
            left = left.append_column(shown, held[name].take(at))
        return left

    def forget(self, before: datetime, last: datetime | None = None) -> None:
        """Let go of what no row from `before` on can find; `last` is the latest moment that will be asked for."""
        held = self._in_order()
        known = _numbers(held[KNOWN])
        keep = known >= _microseconds(before)
        best = _best(held, self._terms, upto=_microseconds(before) - 1)
        keep[best[best >= 0]] = True
        if last is not None:
            keep &= known <= _microseconds(last)
        if self._terms.tolerance is not None:
            keep &= _numbers(held[EVENT]) >= _microseconds(before) - _span(self._terms.tolerance)
        self._held = held.filter(pa.array(keep))

    def _in_order(self) -> pa.Table:
        """Return what is held by availability, then event time; equal rows stay in the order in which they came."""
        held = self._held.combine_chunks()
        order = np.lexsort((_numbers(held[EVENT]), _numbers(held[KNOWN])))
        return held if bool(np.all(order[1:] > order[:-1])) else held.take(pa.array(order))


def _positions(left: pa.Table, right: pa.Table, terms: AsofTerms) -> NDArray[np.int64]:
    """Return for each left row the right row that it finds, -1 for none. The right side is in order."""
    if not left.num_rows or not right.num_rows:
        return np.full(left.num_rows, -1, np.int64)
    ours, theirs = _codes(left, right, terms)
    moments = pc.fill_null(left[terms.on].cast(pa.int64()), _NEVER).to_numpy()
    known, events = _numbers(right[KNOWN]), _numbers(right[EVENT])
    order = np.argsort(theirs, kind="stable")
    best = order[_running_best(theirs[order], events[order])]
    ranks = np.unique(np.concatenate([known, moments]), return_inverse=True)[1].reshape(-1)
    width = int(ranks.max()) + 1
    places = theirs[order] * width + ranks[: len(known)][order]
    at = np.searchsorted(places, ours * width + ranks[len(known) :], side="right") - 1
    hit = (at >= 0) & (theirs[order][at] == ours)
    found = np.where(hit, best[at], -1)
    if terms.tolerance is not None:
        fresh = events[found] >= moments - _span(terms.tolerance)
        found = np.where((found >= 0) & fresh, found, -1)
    unknown = moments == _NEVER
    for name in terms.by:
        unknown |= np.asarray(pc.is_null(left[name]).to_numpy(zero_copy_only=False), bool)
    return np.where(unknown, -1, found)


def _best(right: pa.Table, terms: AsofTerms, *, upto: int) -> NDArray[np.int64]:
    """Return for each value of `by` the row that counts at a moment; the right side is in order."""
    count = int(np.searchsorted(_numbers(right[KNOWN]), upto, side="right"))
    if not count:
        return np.zeros(0, np.int64)
    (codes,) = row_codes([right.select(list(terms.by.values())).slice(0, count)], list(terms.by.values()))
    order = np.argsort(codes, kind="stable")
    best = order[_running_best(codes[order], _numbers(right[EVENT])[:count][order])]
    last = np.append(codes[order][1:] != codes[order][:-1], [True])
    found: NDArray[np.int64] = best[last]
    return found


def _running_best(codes: NDArray[np.int64], events: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the row of the same code, up to it, with the latest event; of equal ones the later row."""
    if not len(codes):
        return np.zeros(0, np.int64)
    ranks = np.unique(events, return_inverse=True)[1].reshape(-1)
    value = codes * (int(ranks.max()) + 1) + ranks
    highest = np.maximum.accumulate(value)
    rows = np.arange(len(codes))
    found: NDArray[np.int64] = np.maximum.accumulate(np.where(value == highest, rows, 0))
    return found


def _codes(left: pa.Table, right: pa.Table, terms: AsofTerms) -> list[NDArray[np.int64]]:
    if not terms.by:
        return [np.zeros(left.num_rows, np.int64), np.zeros(right.num_rows, np.int64)]
    names = list(terms.by)
    theirs = pa.table({name: _like(right[other], left[name].type) for name, other in terms.by.items()})
    return row_codes([left.select(names), theirs], names)


def _like(column: Any, kind: pa.DataType) -> Any:
    return column if column.type == kind else column.cast(kind)


def _numbers(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, pa.timestamp("us", tz="UTC")).cast(pa.int64()).as_py())


def _span(tolerance: timedelta) -> int:
    return tolerance // type(tolerance)(microseconds=1)
