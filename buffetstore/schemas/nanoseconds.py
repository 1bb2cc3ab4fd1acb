"""Times finer than a column holds: microseconds, and the nanoseconds beyond them in a column of their own.

The field ``timestamp_nanoseconds: Nanoseconds | None = None`` keeps what `timestamp` cannot: 0 to 999, null where there
is nothing to keep. Validation splits, `with_nanoseconds` joins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.findings import Findings

SUFFIX = "_nanoseconds"
REMAINDER = pa.int16()
_FINE = re.compile(r"([.,]\d{6})(\d{1,3})0*(?!\d)")
_FINE_COLUMN = r"[.,]\d{6}(?P<extra>\d{1,3})(?:\D|$)"
_CUT = r"([.,]\d{6})\d{1,3}(\D|$)"
_UTC_NANOSECONDS = pa.timestamp("ns", "UTC")


def split_fields(schema: Iterable[pa.Field]) -> dict[str, str]:
    """Return for each column of times the column that keeps its nanoseconds, where there is one."""
    kinds = {field.name: field.type for field in schema}
    return {
        name: f"{name}{SUFFIX}"
        for name, kind in kinds.items()
        if pa.types.is_timestamp(kind) and kinds.get(f"{name}{SUFFIX}") == REMAINDER
    }


def split_value(value: Any) -> tuple[Any, int]:
    """Return a time that microseconds hold, and the nanoseconds beyond; what is finer still is left as it is."""
    if isinstance(value, str):
        found = _FINE.search(value)
        if found is None:
            return value, 0
        return value[: found.start()] + found[1] + value[found.end() :], int(found[2].ljust(3, "0"))
    if isinstance(value, np.datetime64):
        rough = value.astype("datetime64[us]")
        rest = (value - rough) / np.timedelta64(1, "ns") if not np.isnat(value) else 0.0
        return (rough, int(rest)) if rest == int(rest) else (value, 0)
    extra = getattr(value, "nanosecond", 0)
    return (value.to_pydatetime(warn=False), extra) if extra else (value, 0)  # a pandas Timestamp


def split_times(times: pa.Array) -> tuple[pa.Array, NDArray[np.int16]]:
    """Return timestamps in nanoseconds as microseconds, and what they lose by it."""
    counts = pc.fill_null(times.cast(pa.int64()), 0).to_numpy()
    whole = counts // 1_000
    mask = None if not times.null_count else times.is_null().to_numpy(zero_copy_only=False)
    return pa.array(whole, mask=mask).cast(pa.timestamp("us", times.type.tz)), (counts - whole * 1_000).astype(np.int16)


def split_texts(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int16]]:
    """Return texts of times with six digits of a second at most, and the nanoseconds that the others name."""
    extra = pc.struct_field(pc.extract_regex(texts, _FINE_COLUMN), "extra")
    digits = pc.utf8_rpad(pc.fill_null(extra, "0"), 3, "0")
    return pc.replace_substring_regex(texts, _CUT, r"\1\2"), digits.cast(REMAINDER).to_numpy()


def remainder(times: pa.ChunkedArray, found: NDArray[np.int16]) -> pa.ChunkedArray:
    """Return the column of nanoseconds: null where there are none, or no time."""
    absent = found == 0
    if times.null_count:
        absent |= times.is_null().to_numpy()
    return pa.chunked_array([pa.array(found, REMAINDER, mask=absent)])


def agreed(name: str, given: pa.ChunkedArray, found: pa.ChunkedArray, errors: Findings) -> pa.ChunkedArray:
    """Return the nanoseconds that a column gives and those that its times have; where they differ is an error."""
    rows = np.flatnonzero(pc.fill_null(pc.not_equal(given, found), False).to_numpy())
    if len(rows):
        errors.add_rows(
            name, "nanoseconds_conflict", rows, lambda row: f"{name} is {given[row]}, the time itself has {found[row]}"
        )
    return pc.coalesce(given, found)


def with_nanoseconds(table: pa.Table, contract: Contract | None = None) -> pa.Table:
    """Return rows with their times whole: `timestamp[ns]` in the place of microseconds and the column of the rest.

    Parameters
    ----------
    table:
        Any of the contract's columns. A time whose column of nanoseconds is not among them stays as it is.
    contract:
        Says which columns belong together; None goes by their names and types.

    Raises
    ------
    InvalidInputError
        A time is outside the years 1677 to 2262, which nanoseconds can count.
    """
    for name, extra in split_fields(table.schema if contract is None else contract.schema).items():
        if not {name, extra} <= set(table.column_names):
            continue
        counts = table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        rest = pc.fill_null(table[extra].cast(pa.int64()), 0)
        late = pc.if_else(pc.less(counts, 0), 1, 0)  # towards zero, or the least time of all would overflow on the way
        try:
            whole = pc.multiply_checked(pc.add(counts, late), 1_000)
            fine = pc.add_checked(whole, pc.subtract(rest, pc.multiply(late, 1_000))).cast(_UTC_NANOSECONDS)
        except pa.ArrowInvalid:
            low, high = pc.min_max(table[name]).as_py().values()
            raise InvalidInputError(
                f"{name} is from {low} to {high}: nanoseconds count from 1677 to 2262; leave {extra} apart"
            ) from None
        at = table.schema.get_field_index(name)
        field = table.schema.field(at)
        table = table.set_column(at, pa.field(name, _UTC_NANOSECONDS, field.nullable, field.metadata), fine)
        table = table.drop_columns([extra])
    return table
