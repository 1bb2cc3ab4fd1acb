"""When a fact could be known: stated by its row, or derived from its bar."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.sessions import next_close
from buffetstore.schemas.timestamps import MICROSECONDS

if TYPE_CHECKING:
    from buffetstore.schemas.contract import Contract

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "H": 3_600, "d": 86_400, "D": 86_400, "w": 604_800, "W": 604_800}
_MONTHS = {"M": 1, "mo": 1, "mon": 1, "q": 3, "Q": 3, "y": 12, "Y": 12}
_INTERVAL = re.compile(r"(\d{1,5})([A-Za-z]+)")
_STATED = re.compile(r"([A-Za-z_]\w*)(?:\s*\+\s*(\d+[A-Za-z]+))?")


def length_of(interval: str) -> timedelta | None:
    """Return the length of an interval such as '1m', '4h' or '1d'; zero for 'tick', None for months and the unknown."""
    if interval == "tick":
        return timedelta(0)
    found = _INTERVAL.fullmatch(interval)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found and found[2] in _SECONDS else None


def _months_of(interval: str) -> int | None:
    found = _INTERVAL.fullmatch(interval)
    return int(found[1]) * _MONTHS[found[2]] if found and found[2] in _MONTHS else None


def availability(table: pa.Table, contract: Contract) -> pa.ChunkedArray:
    """Return when each row could be known (timestamp, microseconds, UTC).

    It is `available_at` where the row states it, else the end of the bar (event time + interval; for bars of a day or
    longer the end of the UTC day or month in which they end; for bars of one day whose `exchange` is known to the
    calendars, when they are installed, the close of its session), else `created_at`.
    """
    known = table["created_at"].cast(MICROSECONDS)
    if "interval" in table.column_names:
        times = table[contract.event_time]
        known = pc.coalesce(_ends(table["interval"], times), known)
        if "exchange" in table.column_names:
            known = pc.coalesce(_session_ends(table["interval"], table["exchange"], times), known)
    if "available_at" in table.column_names:
        known = pc.coalesce(table["available_at"], known)
    return known


def _ends(interval: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    codes, names = _coded(interval)
    starts = _starts(times)
    ends = np.full(len(starts), np.datetime64("NaT", "us"), "datetime64[us]")
    for code, name in enumerate(names):
        rows = codes == code
        ends[rows] = _end_of(name, starts[rows])
    return _moments(ends, times)


def _session_ends(interval: pa.ChunkedArray, exchange: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    codes, names = _coded(exchange)
    starts = _starts(times)
    daily = pc.fill_null(pc.equal(interval, "1d"), False).to_numpy()
    ends = np.full(len(starts), np.datetime64("NaT", "us"), "datetime64[us]")
    for code, name in enumerate(names):
        rows = daily & (codes == code)
        closes = next_close(name, starts[rows]) if rows.any() else None
        if closes is not None:
            ends[rows] = closes
    return _moments(ends, times)


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return a code for each row, -1 for null, and what the codes stand for."""
    encoded = pc.dictionary_encode(column).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], encoded.type)
    return pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def _starts(times: pa.ChunkedArray) -> np.ndarray:
    instants = times.cast(pa.int64()).combine_chunks()
    return np.asarray(pc.fill_null(instants, 0).to_numpy(zero_copy_only=False)).view("datetime64[us]")


def _moments(ends: np.ndarray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    valid = ~np.isnat(ends) & times.is_valid().to_numpy()
    whole = pa.array(np.where(valid, ends.view(np.int64), 0), mask=~valid)
    return pa.chunked_array([whole]).cast(MICROSECONDS)


def _end_of(interval: str, starts: np.ndarray) -> np.ndarray:
    months = _months_of(interval)
    if months is not None:
        return (starts.astype("datetime64[M]") + np.timedelta64(months, "M")).astype("datetime64[us]")
    length = length_of(interval)
    if length is None:
        return np.full(len(starts), np.datetime64("NaT", "us"), "datetime64[us]")
    if length >= timedelta(days=1):
        starts = starts.astype("datetime64[D]").astype("datetime64[us]")
    return starts + np.timedelta64(length)


def stated(table: pa.Table, available_at: str | datetime) -> pa.ChunkedArray:
    """Return what an `available_at` argument says of every row.

    Parameters
    ----------
    available_at:
        A column of times, with a length added or not (``'timestamp+1d'``), or one instant (aware datetime, ISO text).

    Raises
    ------
    InvalidInputError
        It is neither, or names a column that is no time.
    """
    if isinstance(available_at, str) and (found := _STATED.fullmatch(available_at.strip())):
        column, length = found[1], found[2]
        if column in table.column_names and pa.types.is_timestamp(table.schema.field(column).type):
            step = timedelta(0) if length is None else length_of(length)
            if step is not None:
                return pc.add(table[column], pa.scalar(step, pa.duration("us")))
    else:
        moment = _instant(available_at)
        if moment is not None:
            return pa.chunked_array([pa.repeat(pa.scalar(moment, MICROSECONDS), table.num_rows)])
    times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    raise InvalidInputError(
        f"available_at={available_at!r} is neither an aware time nor one of {', '.join(times)} with a length added, "
        "e.g. available_at='timestamp+1d'"
    )


def _instant(moment: str | datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
