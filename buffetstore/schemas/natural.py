"""Python values as Arrow arrays of the type that they have of themselves, where they have one."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from itertools import repeat
from operator import sub
from types import NoneType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from buffetstore.schemas.timestamps import EPOCH, LOCAL, MICROSECONDS
from buffetstore.schemas.values import is_missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

_MISFITS = (pa.ArrowException, TypeError, ValueError, OverflowError)
_UTC = {"UTC", "Etc/UTC"}
_REPEATED = {str, datetime}
_NUMBERS = {float, int, np.float64}


def natural(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Return Python values as Arrow values of their own type; None where they are mixed or need a closer look.

    A numpy float32 that hides among Python's floats is not seen: it counts as its exact value, not as it prints.
    """
    first = values[0]
    if type(first) in _REPEATED and _is_repeated(first, values):
        once = _natural(values[:1], kind)
        return None if once is None else pa.repeat(once[0], len(values))
    return _natural(values, kind)


def _is_repeated(first: Any, values: Sequence[Any]) -> bool:
    try:
        return bool(first == values[-1]) and values.count(first) == len(values)
    except TypeError:  # pandas' NA among them equals nothing, and says so by raising
        return False


def _natural(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    try:
        if pa.types.is_timestamp(kind):
            return _times(values)
        if pa.types.is_nested(kind):
            return None
        if pa.types.is_date(kind):  # a datetime's own zone says which day it is
            return pa.array(values) if _types(values) in ({date}, {str}) else None
        first = next((value for value in values if value is not None), None)
        return pa.nulls(len(values)) if first is None else _like_first(values, first, kind)
    except _MISFITS:
        return None


def _like_first(values: Sequence[Any], first: Any, kind: pa.DataType) -> pa.Array | None:
    # Types are stated where values may be mixed: pyarrow's own guess crashes on numpy.datetime64 among numbers, and
    # takes True for 1.
    if isinstance(first, str):
        found = pa.array(values)
        return found if pa.types.is_string(found.type) else None
    if isinstance(first, Decimal):
        return pa.array(values, kind) if pa.types.is_decimal(kind) else None
    if type(first) in _NUMBERS:
        if not _is_number(kind):
            return None
        found = pa.array(values, pa.float64())  # refuses integers that a double cannot hold
        numbers = found.to_numpy(zero_copy_only=False)
        hides_bools = ((numbers == 0) | (numbers == 1)).any() and not _types(values) <= _NUMBERS
        return None if hides_bools else found
    return pa.array(values) if len(_types(values)) == 1 else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _types(values: Sequence[Any]) -> set[type]:
    return set(map(type, values)) - {NoneType}


def _times(values: Sequence[Any]) -> pa.Array | None:
    kinds = _types(values)
    if kinds == {datetime}:
        return _datetimes(values)
    if kinds in ({str}, {date}, {np.datetime64}, set()):
        return pa.array(values)
    if not all(issubclass(kind, datetime) for kind in kinds):
        return None
    # pandas Timestamps: datetimes with a `nanosecond`
    present = [value for value in values if not is_missing(value)]
    if any(getattr(value, "nanosecond", 0) for value in present):
        return None
    zones = {value.tzinfo is None for value in present}
    if len(zones) > 1:
        return None
    return pa.array(values, LOCAL if zones == {True} else MICROSECONDS, from_pandas=True)


def _datetimes(values: Sequence[Any]) -> pa.Array | None:
    # Subtracting is three times as fast as Arrow's reading of aware datetimes, and refuses naive ones.
    try:
        elapsed = _since_epoch(values)
    except TypeError:
        naive = all(value is None or value.tzinfo is None for value in values)
        return pa.array(values, LOCAL) if naive else None
    return pa.array(elapsed, pa.duration("us")).view(MICROSECONDS)


def _since_epoch(values: Sequence[datetime | None]) -> list[timedelta | None]:
    zone = values[0].tzinfo if values[0] else None
    if isinstance(zone, timezone) or (isinstance(zone, ZoneInfo) and zone.key in _UTC):
        try:
            return list(map(sub, values, repeat(EPOCH.astimezone(zone))))  # one zone, of one offset: five times as fast
        except TypeError:
            pass  # there are nulls
    return [None if value is None else value - EPOCH for value in values]
