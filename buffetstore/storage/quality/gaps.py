"""Bars that an exchange's calendar expects, and that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from buffetstore.errors import ConfigurationError, MissingDependencyError
from buffetstore.schemas.quality import Gaps
from buffetstore.schemas.sessions import sessions_of
from buffetstore.storage.quality.grid import Grid
from buffetstore.storage.quality.tally import Tally
from buffetstore.storage.quality.window import Window, moment, series_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.storage.quality.window import Series

_EXCHANGE, _INTERVAL = "exchange", "interval"


class GapsTally(Tally[Gaps]):
    """Counts expected bars between the first and the last of each series: one number is remembered of each.

    Raises
    ------
    MissingDependencyError
        The check names a calendar, and the package with the calendars is not installed.
    ConfigurationError
        There is no such calendar.
    """

    def __init__(self, check: Gaps, contract: Contract, bound: float) -> None:
        super().__init__(check, contract, bound)
        names = contract.schema.names
        self._has_interval = _INTERVAL in names
        own = [name for name in series_columns(contract, check.by) if check.by or name != _INTERVAL]
        self._told = check.calendar is None and _EXCHANGE in names
        if self._told and _EXCHANGE not in own:
            own.append(_EXCHANGE)
        self._by = tuple(own)
        self._grids: dict[str, Grid | None] = {}
        self._last: dict[tuple[Any, ...], int] = {}
        if check.calendar is not None:
            self._grids[check.calendar] = Grid(sessions_of(check.calendar), check.interval)
        elif not self._told:
            self.untold = f"{contract.data_type} has no column {_EXCHANGE!r}: state the calendar, Gaps(calendar='XNAS')"

    def columns(self) -> set[str]:
        """Return the columns that it needs."""
        return {*self._by, *((_INTERVAL,) if self._has_interval else ())}

    def observe(self, window: Window) -> None:
        """Count the bars of the next window."""
        if self._has_interval:
            chosen = pc.fill_null(pc.equal(window.array(_INTERVAL), self.check.interval), False)
            if not pc.all(chosen).as_py():
                window = Window(window.table.filter(chosen), self.contract, window.withheld)
        if not window.rows or (self.check.calendar is None and not self._told):
            return
        series = window.series(self._by)
        times = window.times[series.order]
        for calendar, numbers in self._calendars(series).items():
            grid = self._grid(calendar)
            if grid is not None:
                self._count(window, series, numbers, grid, times)

    def _calendars(self, series: Series) -> dict[str | None, list[int]]:
        """Return which series go by which calendar."""
        if not self._told:
            return {self.check.calendar: list(range(len(series.names)))}
        at = self._by.index(_EXCHANGE)
        found: dict[str | None, list[int]] = {}
        for number, name in enumerate(series.names):
            found.setdefault(name[at], []).append(number)
        return found

    def _grid(self, calendar: str | None) -> Grid | None:
        if calendar is None:
            self.untold = self.untold or "rows that state no exchange are not judged: Gaps(calendar='XNAS')"
            return None
        if calendar not in self._grids:
            try:
                self._grids[calendar] = Grid(sessions_of(calendar), self.check.interval)
            except (ConfigurationError, MissingDependencyError) as error:
                self._grids[calendar] = None
                self.untold = self.untold or str(error)
        return self._grids[calendar]

    def _count(self, window: Window, series: Series, numbers: list[int], grid: Grid, times: NDArray[np.int64]) -> None:
        lengths = np.diff(series.starts)
        mine = np.zeros(len(series.names), np.bool_)
        mine[numbers] = True
        rows = np.repeat(mine, lengths)
        ids, places = series.ids[rows], grid.places(times[rows])
        ids, places = ids[places >= 0], places[places >= 0]
        if not len(ids):
            return
        heads = np.flatnonzero(np.diff(ids, prepend=-1))
        steps = np.diff(places, prepend=0)
        steps[heads] = [
            int(place) - self._last.get(series.names[number], int(place) - 1)
            for number, place in zip(ids[heads].tolist(), places[heads].tolist(), strict=True)
        ]
        ends = np.append(heads[1:], len(ids)) - 1
        self._last.update(
            (series.names[number], int(place))
            for number, place in zip(ids[ends].tolist(), places[ends].tolist(), strict=True)
        )
        steps = np.maximum(steps, 0)  # a second bar of the same place is none that was expected
        self.rows += int(steps.sum())
        holes = np.flatnonzero(steps > 1)
        self.failed += int((steps[holes] - 1).sum())
        names = (*self._by, self.contract.event_time)
        self.tell(
            window.shown(
                names, (*series.names[int(ids[hole])], moment(grid.time_of(int(places[hole] - steps[hole] + 1))))
            )
            | {"missing": int(steps[hole]) - 1}
            for hole in holes.tolist()
        )

    @property
    def counted(self) -> str:
        """What `rows` counts."""
        return f"expected {self.check.interval} bars"

    @property
    def nothing(self) -> str:
        """Why nothing could be counted."""
        return f"no {self.check.interval} bar falls into a session"
