"""Moments to the beginning of the span of time that they lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError

if TYPE_CHECKING:
    from buffetstore.expressions import Bucket

_MICROSECONDS = {"second": 1_000_000, "minute": 60_000_000, "hour": 3_600_000_000}
_INSTANT = pa.timestamp("us", tz="UTC")


def bucket_starts(times: pa.ChunkedArray, bucket: Bucket) -> pa.ChunkedArray:
    """Return for each moment where its span begins, in the type of the moments.

    Spans of seconds, minutes and hours begin anew at each midnight of the zone, so that no clock change makes one of
    them ambiguous; several days, weeks or months are counted from 1970. A date has spans of days and longer. Clock
    changes are known up to the year 2037, as Arrow knows them.

    Raises
    ------
    InvalidQueryError
        The column is no time, or a date in spans below a day.
    """
    kind = times.type
    if pa.types.is_date(kind):
        if bucket.unit in _MICROSECONDS:
            raise InvalidQueryError(f"column {bucket.column!r} is {kind}: it has no {bucket.unit}s, group it by days")
        return _floored(times.cast(pa.timestamp("us")), bucket.count, bucket.unit).cast(kind)
    if not pa.types.is_timestamp(kind):
        raise InvalidQueryError(f"column {bucket.column!r} is {kind}: spans are of timestamps and dates")
    local = times.cast(pa.timestamp("us", tz=bucket.tz or "UTC")) if kind.tz else times.cast(pa.timestamp("us"))
    if bucket.unit not in _MICROSECONDS:
        return _floored(local, bucket.count, bucket.unit).cast(kind)
    midnight = _floored(local, 1, "day").cast(pa.int64())
    span = pa.scalar(bucket.count * _MICROSECONDS[bucket.unit])
    passed = pc.subtract(local.cast(pa.int64()), midnight)
    start = pc.add(midnight, pc.multiply(pc.divide(passed, span), span))
    return start.cast(_INSTANT if kind.tz else pa.timestamp("us")).cast(kind)


def _floored(times: Any, count: int, unit: str) -> Any:
    return pc.floor_temporal(times, count, unit, week_starts_monday=True)
