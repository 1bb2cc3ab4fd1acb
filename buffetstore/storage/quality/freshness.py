"""How old the newest row is, days without a session not counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.availability import availability
from buffetstore.schemas.quality import Freshness
from buffetstore.schemas.sessions import sessions_of
from buffetstore.storage.quality.tally import Tally
from buffetstore.storage.quality.window import DAY, Window, moment

if TYPE_CHECKING:
    from datetime import datetime

    from buffetstore.schemas.contract import Contract

_EXCHANGE = "exchange"


class FreshnessTally(Tally[Freshness]):
    """Judges the rows of the latest event time.

    Parameters
    ----------
    now:
        An aware time.

    Raises
    ------
    MissingDependencyError, ConfigurationError
        The calendar that the check names cannot be had.
    """

    def __init__(self, check: Freshness, contract: Contract, now: datetime) -> None:
        super().__init__(check, contract, 0.0)
        within = check.within or contract.service_levels.freshness
        self.bound = None if within is None else within.total_seconds()
        self._now = int(now.timestamp() * 1_000_000)
        self._newest: int | None = None
        self._age: float | None = None
        self._since = ""
        if self.bound is None:
            self.untold = (
                f"{contract.data_type} promises no freshness: service_levels=ServiceLevels(freshness=...), "
                "or Freshness(within=...)"
            )
        if check.calendar is not None:
            sessions_of(check.calendar)

    def columns(self) -> set[str]:
        """Return the columns that it needs."""
        return {"interval", _EXCHANGE} & set(self.contract.schema.names)

    def observe(self, window: Window) -> None:
        """Take the newest rows."""
        newest = int(window.times.max())
        if self._newest is not None and newest < self._newest:
            return
        self._newest = newest
        window = Window(window.table.filter(pa.array(window.times == newest)), window.contract, window.withheld)
        self.rows, self.failed, self.examples = window.rows, 0, []
        end = _end_of(window)
        calendar = self.check.calendar or _exchange(window)
        closed = 0 if calendar is None else _closed(calendar, end, self._now)
        self._age = max(self._now - end - closed, 0) / 1_000_000
        left_out = f", {closed // DAY} days without a session left out" if closed >= DAY else ""
        self._since = f"the newest row ends at {moment(end):%Y-%m-%d %H:%M} UTC{left_out}"
        if self.bound is not None and self._age > self.bound:
            self.failed = window.rows
            self.tell(window.keys(range(min(window.rows, 1))))

    @property
    def measured(self) -> float | None:
        """The age, in seconds."""
        return self._age

    @property
    def message(self) -> str:
        """The verdict in words."""
        if self._age is None or self.bound is None:
            return self.untold or self.nothing
        return f"{self._since}: {_hours(self._age)} old, at most {_hours(self.bound)}"


def _end_of(window: Window) -> int:
    """Return when the latest bar of the rows ends; what has no length ends when it is."""
    times = window.table[window.contract.event_time].cast(pa.timestamp("us", "UTC"))
    held = [name for name in ("interval", _EXCHANGE) if name in window.table.column_names]
    # Neither `available_at` nor load time: what was loaded late is not newer for it.
    bare = window.table.select([window.contract.event_time, *held]).append_column("created_at", times)
    found: int = pc.max(availability(bare, window.contract).cast(pa.int64())).as_py()
    return found


def _exchange(window: Window) -> str | None:
    """Return the exchange that the rows state, if its calendar is known and it is the same in all that state one."""
    if _EXCHANGE not in window.table.column_names:
        return None
    stated = [each for each in pc.unique(window.array(_EXCHANGE)).to_pylist() if each is not None]
    if len(stated) != 1:
        return None
    try:
        sessions_of(stated[0])
    except ValueError:  # no such calendar, or no package: every day counts
        return None
    return str(stated[0])


def _closed(calendar: str, start: int, end: int) -> int:
    """Return how many microseconds from start to end lie on UTC days without a session."""
    if end <= start:
        return 0
    days = np.arange(start // DAY, end // DAY + 1)
    sessions = sessions_of(calendar).days.astype(np.int64)
    # Beyond its last day the calendar says nothing: those days count.
    closed = days[~np.isin(days, sessions) & (days >= sessions[0]) & (days <= sessions[-1])]
    return int((np.minimum((closed + 1) * DAY, end) - np.maximum(closed * DAY, start)).sum())


def _hours(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 172_800 else f"{seconds / 3_600:.2f} hours"
