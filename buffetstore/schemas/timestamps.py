"""Columns of times: zones, units and text, by kernels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.columns import valid, whole_numbers
from buffetstore.schemas.values import UnfitValueError, localised

if TYPE_CHECKING:
    from numpy.typing import NDArray

MICROSECONDS = pa.timestamp("us", "UTC")
LOCAL = pa.timestamp("us")
_RULES_END = 2_145_830_400_000_000  # 2037-12-31: Arrow does not apply the daylight saving rules of later years
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = (date.min - EPOCH.date()).days, (date.max - EPOCH.date()).days
_YEARS = {MICROSECONDS: (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1), pa.date32(): _DAYS}


@dataclass(frozen=True, slots=True)
class Localised:
    """Local times as instants, and the rows that are none or two."""

    values: pa.Array
    ambiguous: NDArray[np.int64]
    nonexistent: NDArray[np.int64]


def rows_where(mask: Any) -> NDArray[np.int64]:
    """Return the positions at which the mask is true (null is not)."""
    return np.flatnonzero(pc.fill_null(mask, False).to_numpy(zero_copy_only=False))


def beyond_years(times: pa.Array) -> NDArray[np.int64]:
    """Return the rows of times or dates, in a column's own type, that are outside the years 1 to 9999."""
    low, high = _YEARS[times.type]
    counts = whole_numbers(times)
    if counts is None or not len(counts) or (counts.min() >= low and counts.max() <= high):
        return np.empty(0, np.int64)
    return np.flatnonzero(((counts < low) | (counts > high)) & valid(times))


def nulled(values: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Return the values with null in these rows."""
    if not len(rows):
        return values
    mask = np.zeros(len(values), bool)
    mask[rows] = True
    return pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)


def knows_rules(times: pa.Array) -> bool:
    """Tell whether Arrow's zones can be trusted with these times (microseconds)."""
    latest = pc.max(times)
    return not latest.is_valid or latest.value < _RULES_END


def localise(local: pa.Array, tz: str) -> Localised:
    """Return the wall-clock times (microseconds) of a zone as instants."""
    if not knows_rules(local):
        return _localise_by_zoneinfo(local, tz)
    try:
        plain = pc.assume_timezone(local, tz, ambiguous="raise", nonexistent="raise")
    except pa.ArrowInvalid:
        return _localise_each(local, tz)
    none = np.empty(0, np.int64)
    return Localised(plain.cast(MICROSECONDS), none, none)


def _localise_each(local: pa.Array, tz: str) -> Localised:
    early = pc.assume_timezone(local, tz, ambiguous="earliest", nonexistent="earliest")
    late = pc.assume_timezone(local, tz, ambiguous="latest", nonexistent="latest")
    differ = pc.not_equal(early, late)
    # The earliest instant around a gap is the moment before it, whose wall clock shows another time.
    same_clock = pc.equal(pc.local_timestamp(early), local)
    ambiguous = rows_where(pc.and_(differ, same_clock))
    nonexistent = rows_where(pc.and_(differ, pc.invert(same_clock)))
    values = nulled(nulled(early.cast(MICROSECONDS), ambiguous), nonexistent)
    return Localised(values, ambiguous, nonexistent)


def _localise_by_zoneinfo(local: pa.Array, tz: str) -> Localised:
    made: list[datetime | None] = []
    odd: dict[str, list[int]] = {"ambiguous_time": [], "nonexistent_time": []}
    for row, value in enumerate(local.to_pylist()):
        try:
            made.append(value and localised(value, tz, value))
        except UnfitValueError as error:
            odd[error.error_type].append(row)
            made.append(None)
    ambiguous, nonexistent = (np.array(rows, np.int64) for rows in odd.values())
    return Localised(pa.array(made, MICROSECONDS), ambiguous, nonexistent)


def microseconds(times: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return timestamps of any unit in microseconds, and the rows that lose by it (null in the answer)."""
    target = pa.timestamp("us", times.type.tz)
    try:
        return times.cast(target), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        rough = times.cast(target, safe=False)
        lossy = rows_where(pc.not_equal(rough.cast(times.type, safe=False), times))
        return nulled(rough, lossy), lossy
