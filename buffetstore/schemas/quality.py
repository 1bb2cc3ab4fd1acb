"""Checks beyond a row, declared as data: ``class Bars(Record, ..., quality=(Freshness(), Gaps("1d")))``.

What each one finds, and how, is with the evaluation (`buffetstore.storage.quality`). A check's `bound` is the share of
what was counted that may fail; None is none at all, or what the contract's service levels allow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal

import pyarrow as pa

from buffetstore.errors import ConfigurationError
from buffetstore.schemas.quality_check import (
    Columns,
    QualityCheck,
    check_calendar,
    check_columns,
    check_positive,
    check_window,
    is_number,
    is_whole,
    wrong,
)

_INTERVAL = re.compile(r"[1-9]\d{0,4}(s|m|min|h)|1d")


@dataclass(frozen=True, slots=True)
class Freshness(QualityCheck):
    """The newest row is not older than promised, days without a session not counted: a weekend is not stale.

    Its age is counted from the end of its bar. What is measured are seconds, and so is the bound of the result.

    Parameters
    ----------
    within:
        The greatest age; None is the contract's service level.
    calendar:
        The exchange (ISO 10383: 'XNAS', or '24/7'); None is what the newest rows state as `exchange`, and where they
        state none every day counts.
    """

    within: timedelta | None = None
    calendar: str | None = None
    kind: ClassVar[str] = "freshness"

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        if self.within is not None and not _is_time(self.within):
            raise wrong(self, "within", self.within, "a time: timedelta(hours=1)")
        if self.bound is not None:
            raise wrong(self, "bound", self.bound, "left out: `within` says how old the newest row may be")
        check_calendar(self, self.calendar)


@dataclass(frozen=True, slots=True)
class Gaps(QualityCheck):
    """Of every series, the bars that the exchange's calendar expects between its first and its last are there.

    Parameters
    ----------
    interval:
        The bars' length: '1d' (one bar a session), or seconds, minutes and hours ('1m'), which are expected at every
        step from open to close, breaks left out. Where the data type has a column `interval`, only its bars count.
    calendar:
        The exchange (ISO 10383: 'XNAS', or '24/7'); None is what the rows state as `exchange`.
    by:
        The columns whose values tell series apart; by default the key's columns of text.
    """

    interval: str = "1d"
    calendar: str | None = None
    by: Columns = ()
    kind: ClassVar[str] = "gaps"
    told_by: ClassVar[Columns] = ("interval",)

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        if not _INTERVAL.fullmatch(str(self.interval)):
            raise wrong(self, "interval", self.interval, "'1d', or seconds, minutes or hours such as '1m'")
        check_calendar(self, self.calendar)
        check_columns(self, self.by)


@dataclass(frozen=True, slots=True)
class Duplicates(QualityCheck):
    """No key is stored twice, across files; of a type that keeps revisions, no revision."""

    kind: ClassVar[str] = "duplicates"


@dataclass(frozen=True, slots=True)
class Outliers(QualityCheck):
    """Values are near those before them in their series, by a robust z-score.

    A value is held against median and MAD (median absolute deviation) of the values before it, at most `window` of
    them: ``z = |value - median| / max(1.4826 MAD, floor)``; where more than half of them are equal, so that the MAD is
    0, against 1.2533 of their mean deviation. A single bad price shows twice in returns, going and coming back.

    Parameters
    ----------
    column:
        The prices. Null, NaN and, for returns, what follows a price that is not positive are not judged.
    on:
        `returns` (``p / p_before - 1``) or `levels`.
    threshold:
        The greatest z.
    window, least:
        How many values before it a value is held against: at most, and at least for it to be judged.
    floor:
        The spread that is allowed for at least; of levels, as a share of the median.
    by:
        The columns whose values tell series apart; by default the key's columns of text.
    """

    column: str = "price"
    on: Literal["returns", "levels"] = "returns"
    threshold: float = 8.0
    window: int = 60
    least: int = 20
    floor: float = 0.001
    by: Columns = ()
    kind: ClassVar[str] = "outliers"
    told_by: ClassVar[Columns] = ("column", "on")
    numbers: ClassVar[Columns] = ("column",)
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        if self.on not in {"returns", "levels"}:
            raise wrong(self, "on", self.on, "'returns' or 'levels'")
        check_positive(self, "threshold", self.threshold)
        check_positive(self, "floor", self.floor)
        check_window(self, self.window, self.least)
        check_columns(self, (self.column, *self.by))


@dataclass(frozen=True, slots=True)
class StalePrices(QualityCheck):
    """No price stays the same for many rows one after another while volume trades.

    All rows of a run count as failed once it has `rows` of them; a row without price or volume ends it.

    Parameters
    ----------
    column, volume:
        The prices, and what traded at them.
    rows:
        How many equal prices in a row are stale.
    by:
        The columns whose values tell series apart; by default the key's columns of text.
    """

    column: str = "price"
    volume: str = "volume"
    rows: int = 5
    by: Columns = ()
    kind: ClassVar[str] = "stale_prices"
    told_by: ClassVar[Columns] = ("column",)
    numbers: ClassVar[Columns] = ("column", "volume")
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        if not (is_whole(self.rows) and self.rows >= 2):
            raise wrong(self, "rows", self.rows, "a whole number from 2")
        check_columns(self, (self.column, self.volume, *self.by))


@dataclass(frozen=True, slots=True)
class CrossedQuotes(QualityCheck):
    """No bid is above its ask, of the quotes that have both."""

    bid: str = "bid"
    ask: str = "ask"
    kind: ClassVar[str] = "crossed_quotes"
    numbers: ClassVar[Columns] = ("bid", "ask")
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        check_columns(self, (self.bid, self.ask))


@dataclass(frozen=True, slots=True)
class VolumeSpikes(QualityCheck):
    """No volume is many times the median of those before it in its series (of at most `window`, at least `least`)."""

    column: str = "volume"
    factor: float = 20.0
    window: int = 20
    least: int = 10
    by: Columns = ()
    kind: ClassVar[str] = "volume_spikes"
    told_by: ClassVar[Columns] = ("column",)
    numbers: ClassVar[Columns] = ("column",)
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        check_positive(self, "factor", self.factor)
        check_window(self, self.window, self.least)
        check_columns(self, (self.column, *self.by))


@dataclass(frozen=True, slots=True)
class Referential(QualityCheck):
    """What a column names is there, on that UTC day, in another data type. Counted are pairs of value and day.

    Parameters
    ----------
    column:
        `underlying_symbol`, say.
    refers_to, at:
        The other data type, and its column with the values.
    """

    column: str
    refers_to: str
    at: str = "symbol"
    kind: ClassVar[str] = "referential"
    told_by: ClassVar[Columns] = ("column",)
    columns: ClassVar[Columns] = ("column",)

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        check_columns(self, (self.column, self.refers_to, self.at))


@dataclass(frozen=True, slots=True)
class NullRate(QualityCheck):
    """At most the bound's share of a column is null (or NaN).

    Parameters
    ----------
    drift:
        Besides, no UTC day's share may be greater than the median of the days before it (`window` of them) by more
        than this; None does not compare days.
    """

    column: str
    drift: float | None = None
    window: int = 20
    least: int = 5
    kind: ClassVar[str] = "null_rate"
    told_by: ClassVar[Columns] = ("column",)
    columns: ClassVar[Columns] = ("column",)
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        if self.drift is not None:
            check_positive(self, "drift", self.drift)
        check_window(self, self.window, self.least)
        check_columns(self, (self.column,))


@dataclass(frozen=True, slots=True)
class InRange(QualityCheck):
    """Values lie from `low` to `high`, both allowed; null and NaN are not judged."""

    column: str
    low: float | None = None
    high: float | None = None
    kind: ClassVar[str] = "in_range"
    told_by: ClassVar[Columns] = ("column",)
    numbers: ClassVar[Columns] = ("column",)
    judges_batches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        check_columns(self, (self.column,))
        for edge, value in (("low", self.low), ("high", self.high)):
            if value is not None and not is_number(value):
                raise wrong(self, edge, value, "a number")
        if self.low is None and self.high is None:
            raise ConfigurationError(f"InRange({self.column!r}) has neither low nor high: every value is in it")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ConfigurationError(f"InRange({self.column!r}): low {self.low} is above high {self.high}")


@dataclass(frozen=True, slots=True)
class RowsPerDay(QualityCheck):
    """A UTC day has as many rows as the median of the days before it, give or take `tolerance` (a share).

    Days without a row are for `Gaps`; the day that is not over is not judged.
    """

    tolerance: float = 0.5
    window: int = 20
    least: int = 5
    kind: ClassVar[str] = "rows_per_day"

    def __post_init__(self) -> None:
        QualityCheck.__post_init__(self)
        check_positive(self, "tolerance", self.tolerance)
        check_window(self, self.window, self.least)


CHECKS: dict[str, type[QualityCheck]] = {
    check.kind: check
    for check in (
        *(Freshness, Gaps, Duplicates, Outliers, StalePrices, CrossedQuotes, VolumeSpikes, Referential, NullRate),
        *(InRange, RowsPerDay),
    )
}
"""Every kind of check, by its word in a stored contract."""


def faults_of(checks: Any, schema: pa.Schema) -> list[str]:
    """Return what is wrong with checks of a data type with these columns, in words."""
    if not isinstance(checks, tuple) or not all(isinstance(check, QualityCheck) for check in checks):
        return [f"quality is {checks!r}, not a tuple of checks: quality=(Freshness(), Gaps('1d'))"]
    labels = [check.label for check in checks]
    types = {column.name: column.type for column in schema}  # a document may name a column twice, which others refuse
    found = [f"two quality checks are called {label!r}: give one a name" for label in _repeated(labels)]
    for check in checks:
        for column, kind in check.reads():
            if column not in types:
                found.append(f"quality {check.label!r} names {column!r}, which is no column")
            elif kind == "number" and not _holds_numbers(types[column]):
                found.append(f"quality {check.label!r} needs numbers, {column!r} is {types[column]}")
    return found


def _is_time(value: Any) -> bool:
    return isinstance(value, timedelta) and value > timedelta(0)


def _holds_numbers(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _repeated(words: list[str]) -> list[str]:
    return sorted({word for word in words if words.count(word) > 1})
