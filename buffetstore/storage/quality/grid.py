"""Where an exchange's calendar expects bars: numbered places, one after another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.availability import length_of
from buffetstore.storage.quality.window import DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.schemas.sessions import Sessions

    Integers = NDArray[np.int64]

_NOWHERE = -1


class Grid:
    """The places of bars of one length.

    Daily bars have one place a session, found by their date: that of UTC where they are stamped at its midnight, that
    of the exchange otherwise. Shorter bars have one at every step from the open, up to the close, without the break;
    they are stamped at their start.

    Parameters
    ----------
    interval:
        '1d', '1m', '30s'...
    """

    def __init__(self, sessions: Sessions, interval: str) -> None:
        self._sessions = sessions
        self._days = sessions.days.astype("datetime64[D]").astype(np.int64)
        length = length_of(interval)
        assert length is not None, f"{interval!r} was checked when it was declared"
        self._step = 0 if re.fullmatch("1d", interval) else int(length.total_seconds() * 1_000_000)
        self._opens, self._closes = _integers(sessions.opens), _integers(sessions.closes)
        paused = ~np.isnat(sessions.break_starts)
        self._pauses = np.where(paused, _integers(sessions.break_starts), self._closes)
        self._resumes = np.where(paused, _integers(sessions.break_ends), self._closes)
        if self._step:
            before = -(-(self._pauses - self._opens) // self._step)
            after = -(-(self._closes - self._resumes) // self._step)
            self._morning = before
            self._ends = np.cumsum(before + after)

    def places(self, times: Integers) -> Integers:
        """Return the place of a bar at each time; -1 where the calendar expects none."""
        return self._by_time(times) if self._step else self._by_day(times)

    def time_of(self, place: int) -> int:
        """Return when a bar is expected: at midnight (UTC) of the session's date, or at its start."""
        if not self._step:
            return int(self._days[place]) * DAY
        session = int(np.searchsorted(self._ends, place, side="right"))
        at = place - (int(self._ends[session - 1]) if session else 0)
        morning = int(self._morning[session])
        if at < morning:
            return int(self._opens[session]) + at * self._step
        return int(self._resumes[session]) + (at - morning) * self._step

    def _by_day(self, times: Integers) -> Integers:
        days = np.where(times % DAY == 0, times // DAY, _local_days(times, self._sessions.tz))
        at = np.searchsorted(self._days, days)
        found = (at < len(self._days)) & (self._days[np.minimum(at, len(self._days) - 1)] == days)
        return np.where(found, at, _NOWHERE)

    def _by_time(self, times: Integers) -> Integers:
        session = np.searchsorted(self._opens, times, side="right") - 1
        known = np.maximum(session, 0)
        before = np.where(known > 0, self._ends[np.maximum(known - 1, 0)], 0)
        morning = before + (times - self._opens[known]) // self._step
        noon = before + self._morning[known] + (times - self._resumes[known]) // self._step
        open_ = (session >= 0) & (times < self._closes[known])
        early = open_ & (times < self._pauses[known])
        late = open_ & (times >= self._resumes[known])
        return np.where(early, morning, np.where(late, noon, _NOWHERE))


def _integers(moments: NDArray[np.datetime64]) -> Integers:
    return moments.astype("datetime64[us]").astype(np.int64)


def _local_days(times: Integers, tz: str) -> Integers:
    moments = pa.array(times, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", tz))
    return np.asarray(pc.local_timestamp(moments).cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64) // DAY
