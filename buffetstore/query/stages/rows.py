"""Stages that choose among rows. Each takes tables as they come and gives what is left in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import one_zero
from buffetstore.query.ordering import last_of_each, sort_rows
from buffetstore.tables.matching import first_rows, row_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.query.shape import Order

HELD_ROWS = 262_144  # rows that are gathered before those that cannot be in the answer are let go


class Stage(Protocol):
    """Takes rows, and gives what they come to. An empty table must be given at least, for its columns."""

    def add(self, table: pa.Table) -> None:
        """Take rows."""

    def finish(self) -> pa.Table:
        """Return the outcome."""


class Gathered:
    """Tables, reduced whenever enough have come: the reduction of reductions is that of all."""

    def __init__(self, reduce: Callable[[pa.Table], pa.Table], *, held_rows: int = HELD_ROWS) -> None:
        self._reduce = reduce
        self._least = held_rows
        self._limit = held_rows
        self._tables: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Take rows; memory is that of twice the reduction, and `held_rows`."""
        if table.num_rows or not self._tables:
            self._tables.append(table)
            self._rows += table.num_rows
        if self._rows > self._limit:
            reduced = self.finish()
            self._tables, self._rows = [reduced], reduced.num_rows
            self._limit = max(self._least, 2 * reduced.num_rows)

    def finish(self) -> pa.Table:
        """Return the reduction of all rows."""
        return self._reduce(pa.concat_tables(self._tables))


class Distinct(Gathered):
    """Each combination of values once. Memory is that of the distinct rows."""

    def __init__(self, *, held_rows: int = HELD_ROWS) -> None:
        super().__init__(distinct_rows, held_rows=held_rows)


class Latest(Gathered):
    """Of each group the last row in the order of `order`; of rows that are equal in it, the one that came last.

    With `earliest` the first, and of equal ones the one that came first.
    """

    def __init__(
        self, groups: Sequence[str], order: Sequence[str], *, earliest: bool = False, held_rows: int = HELD_ROWS
    ) -> None:
        def chosen(table: pa.Table) -> pa.Table:
            rows = sort_rows(table, list(order))
            return last_of_each(_reversed(rows) if earliest else rows, list(groups))

        super().__init__(chosen, held_rows=held_rows)


class Ordered(Gathered):
    """The first `limit` rows in an order, nulls last, ties in the order of `key`; None is all of them."""

    def __init__(
        self, order: Sequence[Order], key: Sequence[str], limit: int | None = None, *, held_rows: int = HELD_ROWS
    ) -> None:
        def ordered(table: pa.Table) -> pa.Table:
            return in_order(table, order, key).slice(0, limit)

        # Without a limit nothing can be let go, so nothing is sorted before the end.
        super().__init__(ordered, held_rows=held_rows if limit is not None else 2**62)


class Part:
    """Rows after the first `offset`, `limit` of them, as they come."""

    def __init__(self, offset: int = 0, limit: int | None = None) -> None:
        self._skip = offset
        self._left = limit

    @property
    def is_full(self) -> bool:
        """Whether further rows change nothing."""
        return self._left == 0

    def take(self, table: pa.Table) -> pa.Table:
        """Return the rows of the table that belong to the part."""
        found = table.slice(self._skip, self._left)
        self._skip = max(0, self._skip - table.num_rows)
        if self._left is not None:
            self._left -= found.num_rows
        return found


def distinct_rows(table: pa.Table) -> pa.Table:
    """Return the first row of each combination of values; nulls are alike, and NaNs are."""
    if table.num_rows < 2:
        return table
    (codes,) = row_codes([_with_one_zero(table)], table.column_names)
    first = first_rows(codes, int(codes.max()) + 1)
    return table if len(first) == table.num_rows else table.take(pa.array(np.sort(first)))


def _with_one_zero(table: pa.Table) -> pa.Table:
    for at, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            table = table.set_column(at, field, one_zero(table.column(at)))
    return table


def _reversed(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.arange(table.num_rows - 1, -1, -1)))


def in_order(table: pa.Table, order: Sequence[Order], key: Sequence[str]) -> pa.Table:
    """Return the rows in a stable order; no value comes last either way, and NaN is above all numbers."""
    if table.num_rows < 2:
        return table
    ties = [name for name in key if name in table.column_names and name not in {each.column for each in order}]
    table = sort_rows(table, ties)
    for column, descending in reversed(order):  # the least significant first: each sort keeps the order before it
        ranks = _ranks(table[column])
        places = np.where(ranks < 0, np.iinfo(np.int64).max, -ranks if descending else ranks)
        if not bool(np.all(places[1:] >= places[:-1])):
            table = table.take(pa.array(np.argsort(places, kind="stable")))
    return table


def _ranks(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return numbers from 1 in the order of the values, the same for equal ones; -1 where there is no value."""
    values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_floating(values.type):
        values = one_zero(values)
    ranks = pc.rank(values, "ascending", tiebreaker="dense")
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = np.asarray(ranks.to_numpy(), np.int64)
    return np.where(np.asarray(pc.is_null(values).to_numpy(), bool), -1, found)
