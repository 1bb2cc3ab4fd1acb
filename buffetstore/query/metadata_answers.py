"""Counts and extremes from what the log tells of files, so that only files which it does not tell enough of are read.

Pure: a bound plan and the files that it reads, with their statistics, to what is known of some of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.expressions import Aggregate, Bounds, Bucket, Column, columns_of, must_match
from buffetstore.query.stages import bucket_starts
from buffetstore.tables.operations.bins import BUCKET_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from buffetstore.expressions import Value
    from buffetstore.query.binding import BoundPlan

# Foreign writers pass decimals through binary floats, which hold 15 digits surely.
_EXACT_DIGITS: Final = 15
_EXTREMES: Final = ("min", "max")


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """What files come to, of which no row needs to be read; `groups`, `rows` and `known` as `Shaper.add_known` takes.

    `left` are the files that must be read, in their order.
    """

    groups: pa.Table
    rows: Any
    known: Mapping[tuple[str, Value], Any]
    left: pa.Table


def short_cuts_hold(bound: BoundPlan) -> bool:
    """Return whether statistics of stored files may stand for rows of the answer.

    Not where rows of several files become one (revisions), or are left out by what no statistic tells (`known_at`).
    This is the one place to ask for whatever else hides or changes rows between the files and the caller: a row filter
    or a mask of a caller's scope belongs here.
    """
    return not bound.merge and bound.known_at is None


def statistics_needed(bound: BoundPlan) -> tuple[str, ...]:
    """Return the columns whose statistics `from_statistics` asks for; none where it could tell nothing."""
    shape = bound.shape
    if shape is None or shape.aggregates is None or shape.latest is not None or not short_cuts_hold(bound):
        return ()
    if not all(_is_told(each) for each in shape.aggregates.values()):
        return ()
    used = {name for group in shape.groups for name in _group_column(group)} | columns_of(bound.predicate)
    used |= {each.value.name for each in shape.aggregates.values() if isinstance(each.value, Column)}
    converted = bound.conversion.affected if bound.conversion is not None else frozenset()
    if used & converted or not used <= bound.stored:
        return ()
    return tuple(name for name in bound.schema.names if name in used | {bound.contract.event_time})


def from_statistics(bound: BoundPlan, files: pa.Table, *, exact: bool) -> KnownFiles | None:
    """Return what is known of the files that the predicate takes whole; None where that is none of them.

    Parameters
    ----------
    files:
        With the statistics of the columns that `statistics_needed` names.
    exact:
        Bounds are as the writers of the files told them (`Snapshot.has_exact_statistics`).
    """
    shape = bound.shape
    if shape is None or shape.aggregates is None or not files.num_rows or not statistics_needed(bound):
        return None
    told = _Told(files, exact=exact)
    rows = files["num_records"]
    sure = [pc.fill_null(pc.greater(rows, 0), False), pc.is_null(files["deletion_vector"])]
    sure.append(must_match(bound.predicate, told.bounds(columns_of(bound.predicate)), rows))
    sure += [told.is_one_group(group) for group in shape.groups]
    known: dict[tuple[str, Value], Any] = {}
    for each in shape.aggregates.values():
        if isinstance(each.value, Column):
            known[each.function, each.value], certain = told.outcome(each.function, each.value.name)
            sure.append(certain)
    chosen = _numpy(reduce(pc.and_, sure))
    if not chosen.any():
        return None
    taken = pa.array(np.flatnonzero(chosen))
    columns = {name: told.lowest(name).take(taken) for group in shape.groups for name in _group_column(group)}
    return KnownFiles(
        pa.table(columns),
        rows.take(taken),
        {name: column.take(taken) for name, column in known.items()},
        files.filter(pa.array(~chosen)),
    )


def _is_told(aggregate: Aggregate) -> bool:
    if aggregate.value is None:
        return True
    return isinstance(aggregate.value, Column) and aggregate.function in {"count", *_EXTREMES}


def _group_column(group: str | Bucket) -> Iterator[str]:
    yield group.column if isinstance(group, Bucket) else group


@dataclass(frozen=True)
class _Told:
    """What the statistics of files tell of columns. Masks say of which files."""

    files: pa.Table
    exact: bool

    def bounds(self, names: frozenset[str]) -> dict[str, Bounds]:
        held = [name for name in names if self.has(name)]
        return {name: Bounds(self.lowest(name), self.highest(name), self.nulls(name)) for name in held}

    def has(self, name: str) -> bool:
        return f"min.{name}" in self.files.column_names

    def lowest(self, name: str) -> Any:
        return self.files[f"min.{name}"]

    def highest(self, name: str) -> Any:
        return self.files[f"max.{name}"]

    def nulls(self, name: str) -> Any:
        return self.files[f"null_count.{name}"]

    def is_empty(self, name: str) -> Any:
        """Return where every row is without a value."""
        return _certain(pc.equal(self.nulls(name), self.files["num_records"]))

    def is_full(self, name: str) -> Any:
        """Return where every row has a value."""
        return _certain(pc.equal(self.nulls(name), 0))

    def is_constant(self, name: str) -> Any:
        """Return where all values are the same: between equal bounds, however wide they were made, is nothing else."""
        return _certain(pc.equal(self.lowest(name), self.highest(name)))

    def is_one_group(self, group: str | Bucket) -> Any:
        (name,) = _group_column(group)
        if not self.has(name):
            return self._none()
        kind = self.lowest(name).type
        if pa.types.is_floating(kind) or pa.types.is_null(kind):  # NaN is a group, and in no bounds
            return self._none()
        if not isinstance(group, Bucket):
            return pc.or_(pc.and_(self.is_full(name), self.is_constant(name)), self.is_empty(name))
        if group.tz not in {None, "UTC"}:  # where clocks go back past midnight, days follow each other twice
            return self._none()
        if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return self._none()
        starts = [bucket_starts(bound, group) for bound in (self.lowest(name), self.highest(name))]
        return pc.and_(self.is_full(name), _certain(pc.equal(*starts)))

    def outcome(self, function: str, name: str) -> tuple[Any, Any]:
        """Return the aggregate of each file, and where it is sure."""
        if not self.has(name):
            return None, self._none()
        if function == "count":
            found = pc.subtract(self.files["num_records"], self.nulls(name))
            return found, pc.is_valid(found)
        found = self.lowest(name) if function == "min" else self.highest(name)
        if pa.types.is_null(found.type):
            return found, self._none()
        value = pc.and_(pc.is_valid(found), self._is_exact(found, name))
        return found, pc.or_(value, pc.and_(self.is_empty(name), pc.is_null(found)))

    def _is_exact(self, found: Any, name: str) -> Any:
        """Return where a bound is a value of the column, not one beyond it."""
        kind = found.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self.is_constant(name)  # longer text is cut, and what takes its place may be short
        if pa.types.is_timestamp(kind):
            return pc.or_(self.is_constant(name), self._is_own())
        if pa.types.is_decimal(kind) and kind.precision > _EXACT_DIGITS:
            limit = pa.scalar(Decimal(10) ** (_EXACT_DIGITS - kind.scale))
            return pc.or_(self.is_constant(name), _certain(pc.less(pc.abs(found), limit)))
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_date(kind):
            return self._every()
        return self._every() if pa.types.is_floating(kind) or pa.types.is_boolean(kind) else self._none()

    def _is_own(self) -> Any:
        """Return which files this library wrote: others cut moments to the millisecond."""
        if not self.exact:
            return self._none()
        return _certain(pc.is_valid(pc.map_lookup(self.files["tags"], pa.scalar(BUCKET_TAG, pa.string()), "first")))

    def _none(self) -> Any:
        return pa.repeat(pa.scalar(False), self.files.num_rows)

    def _every(self) -> Any:
        return pa.repeat(pa.scalar(True), self.files.num_rows)


def _certain(found: Any) -> Any:
    return pc.fill_null(found, False)


def _numpy(mask: Any) -> Any:
    return np.asarray(mask.to_numpy() if isinstance(mask, pa.ChunkedArray) else mask.to_numpy(zero_copy_only=False))
