"""Rows of a stretch of time, in the forms that checks want, each made once: numbers, days, series, keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.schemas.columns import in_one_piece

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract

DAY = 86_400_000_000
WITHHELD = "(confidential)"


@dataclass(frozen=True, slots=True)
class Series:
    """The rows, series after series, each in order of time.

    Parameters
    ----------
    order:
        Positions of the window's rows.
    starts:
        Where in `order` each series begins, and where the last one ends.
    names:
        The values that tell each series from the others.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    names: Sequence[tuple[Any, ...]]

    @property
    def ids(self) -> NDArray[np.int64]:
        """The number of the series of each place in `order`."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))


class Window:
    """Rows to be judged together.

    Parameters
    ----------
    table:
        Any rows of the data type; columns that it does not have are null.
    withheld:
        Columns whose values nobody is shown.
    """

    def __init__(self, table: pa.Table, contract: Contract, withheld: frozenset[str] = frozenset()) -> None:
        self.table = table
        self.contract = contract
        self.rows = table.num_rows
        self.withheld = withheld
        self._arrays: dict[str, pa.Array] = {}
        self._series: dict[tuple[str, ...], Series] = {}

    def array(self, name: str) -> pa.Array:
        """Return a column in one piece; all null where the rows do not have it."""
        if name not in self._arrays:
            held = name in self.table.column_names
            self._arrays[name] = (
                in_one_piece(self.table[name]) if held else pa.nulls(self.rows, self.contract.schema.field(name).type)
            )
        return self._arrays[name]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as floats, null as NaN."""
        found = self.array(name).cast(pa.float64())
        return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)

    @property
    def times(self) -> NDArray[np.int64]:
        """Event times: microseconds, UTC."""
        instants = self.array(self.contract.event_time).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        return np.asarray(instants.to_numpy(zero_copy_only=False), np.int64)

    @property
    def days(self) -> NDArray[np.int64]:
        """UTC days since 1970."""
        return self.times // DAY

    def codes(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return whole numbers from 0 that are equal where all of these columns are (null equals null)."""
        found = np.zeros(self.rows, np.int64)
        for name in names:
            part = codes_of(self.array(name))
            found = np.unique(found * (int(part.max(initial=0)) + 1) + part, return_inverse=True)[1].reshape(-1)
        return found

    def series(self, by: Sequence[str]) -> Series:
        """Return the rows by series and time; rows of one moment in order of the rest of the key, then as stored."""
        wanted = tuple(by)
        if wanted not in self._series:
            rest = [name for name in self.contract.key if name not in {*by, self.contract.event_time}]
            ids = self.codes(by)
            ties = [codes_of(self.array(name)) for name in reversed(rest)]
            order = np.lexsort((*ties, self.times, ids))
            starts = np.append(np.flatnonzero(np.diff(ids[order], prepend=np.int64(-1))), self.rows)
            self._series[wanted] = Series(order, starts, self._values(by, order[starts[:-1]]))
        return self._series[wanted]

    def _values(self, names: Sequence[str], rows: NDArray[np.int64]) -> list[tuple[Any, ...]]:
        columns = [self.array(name).take(pa.array(rows)).to_pylist() for name in names]
        return list(zip(*columns, strict=True)) if columns else [()] * len(rows)

    def shown(self, names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
        """Return values as they may be shown."""
        return {
            name: WITHHELD if name in self.withheld and value is not None else plain(value)
            for name, value in zip(names, values, strict=True)
        }

    def keys(self, rows: Sequence[int] | NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the keys of some rows, as they may be shown."""
        names = list(self.contract.key)
        if self.contract.event_time not in names:
            names.append(self.contract.event_time)
        return [self.shown(names, values) for values in self._values(names, np.asarray(rows, np.int64))]


def series_columns(contract: Contract, by: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns that tell series apart: those given, or the key's columns of text."""
    text = [name for name in contract.key if pa.types.is_string(contract.schema.field(name).type)]
    return tuple(by) or tuple(text)


def codes_of(array: pa.Array) -> NDArray[np.int64]:
    """Return whole numbers from 0 with the order and the equality of the values; null comes last."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    values = encoded.dictionary
    ranks = np.empty(len(values) + 1, np.int64)
    ranks[np.asarray(pc.sort_indices(values))] = np.arange(len(values))
    ranks[-1] = len(values)
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), len(values))
    return ranks[np.asarray(indices.to_numpy(zero_copy_only=False), np.int64)]


def moment(microseconds: int) -> datetime:
    """Return the moment, in UTC."""
    found: datetime = pa.scalar(int(microseconds), pa.timestamp("us", "UTC")).as_py()
    return found.astimezone(UTC)


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
