"""As-of joins of data types: window after window of time, never looking ahead, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import And, Comparison, IsNull
from buffetstore.query.asof import EVENT, KNOWN, AsofJoin, AsofTerms
from buffetstore.query.binding import field_of
from buffetstore.query.ordering import sort_rows
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import availability

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from buffetstore.query import DataQuery
    from buffetstore.schemas import Contract
    from buffetstore.storage.versioned import VersionedStorage

WINDOW_ROWS = 1_000_000
"""How many rows of both sides a window has, about: what a join holds in memory."""
_AVAILABILITY = ("created_at", "available_at", "interval", "exchange")
_INSTANT = pa.timestamp("us", tz="UTC")
_END = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sides:
    """A join that can be carried out: both queries with all that it reads, and what is shown of them."""

    left: DataQuery
    right: DataQuery
    left_contract: Contract
    right_contract: Contract
    terms: AsofTerms
    columns: tuple[str, ...]


def sides_of(
    left: DataQuery,
    right: DataQuery,
    contracts: tuple[Contract, Contract],
    *,
    on: str | None,
    by: str | Sequence[str] | Mapping[str, str],
    tolerance: timedelta | None,
    suffix: str,
) -> Sides:
    """Return the join that is meant.

    Raises
    ------
    InvalidQueryError
        A query asks for more than rows and columns, or a column is not there.
    """
    mine, theirs = contracts
    for query in (left, right):
        _check_plain(query)
    pairs = dict(by) if isinstance(by, Mapping) else {name: name for name in ([by] if isinstance(by, str) else by)}
    moment = on or mine.event_time
    for name in (moment, *pairs):
        field_of(mine.schema, name, mine.data_type)
    for name in pairs.values():
        field_of(theirs.schema, name, theirs.data_type)
    if not pa.types.is_timestamp(mine.schema.field(moment).type):
        raise InvalidQueryError(f"on={moment!r} is {mine.schema.field(moment).type}: rows are joined on a timestamp")
    if tolerance is not None and tolerance < timedelta(0):
        raise InvalidQueryError(f"tolerance={tolerance} is negative: nothing is known before it happens")
    shown = _names(left, mine)
    wanted = [name for name in _names(right, theirs) if name not in pairs.values()]
    taken = {*shown, moment, *pairs}
    names = {name: f"{name}{suffix}" if name in taken else name for name in wanted}
    return Sides(
        left=replace(left, columns=_with(shown, [moment, *pairs])),
        right=replace(
            right,
            columns=_with(wanted, [theirs.event_time, *pairs.values(), *_AVAILABILITY], theirs),
            revisions="all" if theirs.revisions == "keep" else None,
        ),
        left_contract=mine,
        right_contract=theirs,
        terms=AsofTerms(moment, pairs, names, tolerance),
        columns=(*shown, *names.values()),
    )


async def joined(
    storage: VersionedStorage, sides: Sides, *, window_rows: int = WINDOW_ROWS
) -> AsyncGenerator[pa.Table, None]:
    """Yield the rows of the left side, in order of their moments, each with what it finds."""
    span = await _span(storage, sides)
    join: AsofJoin | None = None
    empty: pa.Table | None = None
    for window in await _windows(storage, sides, span, window_rows):
        left, right = await gather(
            [partial(_left_rows, storage, sides, window), partial(_right_rows, storage, sides, window)]
        )
        join = join or AsofJoin(sides.terms, right.schema)
        found = (await in_thread(_matched, join, left, right, window, span)).select(list(sides.columns))
        if found.num_rows:
            yield found
        empty = found.slice(0, 0)
    async for rows in _without_moment(storage, sides, join):
        yield rows
    if empty is not None:
        yield empty  # for its columns, where there was nothing else


class Window(NamedTuple):
    """Moments from `start` up to, and without, `end`; None is open."""

    start: datetime | None
    end: datetime | None

    def of(self, query: DataQuery, column: str) -> DataQuery:
        """Return the query for this window's rows alone."""
        low = () if self.start is None else (Comparison(column, ">=", self.start),)
        high = () if self.end is None else (Comparison(column, "<", self.end),)
        return replace(query, filters=And((query.predicate(), *low, *high)))


async def _left_rows(storage: VersionedStorage, sides: Sides, window: Window) -> pa.Table:
    rows = (await storage.retrieve_data(window.of(sides.left, sides.terms.on))).table
    return await in_thread(sort_rows, rows, [sides.terms.on])


async def _right_rows(storage: VersionedStorage, sides: Sides, window: Window) -> pa.Table:
    """Return the right side's rows of a window, with the moments at which they happened and became available."""
    event_time = sides.right_contract.event_time
    answer = await storage.retrieve_data(window.of(sides.right, event_time))

    def timed(rows: pa.Table) -> pa.Table:
        event = rows[event_time].cast(_INSTANT)
        # What is said to be known before it happens, is known when it happens.
        known = availability(rows, sides.right_contract).cast(_INSTANT)
        known = pc.if_else(pc.greater(known, event), known, event)
        return rows.append_column(EVENT, event).append_column(KNOWN, known)

    return await in_thread(timed, answer.table)


def _matched(join: AsofJoin, left: pa.Table, right: pa.Table, window: Window, span: Window) -> pa.Table:
    join.add(right)
    found = join.match(left)
    if window.end is not None:
        join.forget(window.end, span.end)
    return found


async def _without_moment(
    storage: VersionedStorage, sides: Sides, join: AsofJoin | None
) -> AsyncGenerator[pa.Table, None]:
    """Yield the left rows that have no moment, which find nothing."""
    on = sides.terms.on
    if not sides.left_contract.schema.field(on).nullable:
        return
    query = replace(sides.left, filters=And((sides.left.predicate(), IsNull(on))))
    left = (await storage.retrieve_data(query)).table
    if left.num_rows:
        if join is None:
            join = AsofJoin(sides.terms, (await _right_rows(storage, sides, Window(_END, None))).schema)
        yield (await in_thread(join.match, left)).select(list(sides.columns))


async def _span(storage: VersionedStorage, sides: Sides) -> Window:
    """Return from the first to the last moment of the left side, as its files and its query tell."""
    on = sides.terms.on
    files = await _statistics(storage, sides.left.data_type, on)
    low, high = _extreme(files, f"min.{on}", pc.min), _extreme(files, f"max.{on}", pc.max)
    if on == sides.left_contract.event_time:
        start, end = sides.left.time_range()
        low = start if low is None else max(low, start or low)
        high = end if high is None else min(high, end or high)
    return Window(low, high)


async def _windows(storage: VersionedStorage, sides: Sides, span: Window, rows: int) -> list[Window]:
    """Cut time so that a window has some `rows` of both sides; what no left row can find is in none."""
    on, event_time = sides.terms.on, sides.right_contract.event_time
    files = [
        *_pieces(await _statistics(storage, sides.left.data_type, on), on, rows),
        *_pieces(await _statistics(storage, sides.right.data_type, event_time), event_time, rows),
    ]
    cuts: list[datetime] = []
    held = 0
    for start, count in sorted(files):
        if held + count > rows and held and (not cuts or start > cuts[-1]):
            cuts.append(start)
            held = 0
        held += count
    tolerance = sides.terms.tolerance
    first = None if span.start is None or tolerance is None else span.start - tolerance
    last = None if span.end is None else span.end + timedelta(microseconds=1)
    inside = [cut for cut in cuts if (first is None or cut > first) and (last is None or cut < last)]
    return [Window(low, high) for low, high in pairwise([first, *inside, last])]


def _pieces(files: pa.Table, column: str, rows: int) -> Iterator[tuple[datetime, int]]:
    """Yield where files begin and how many rows they have; a large one as several, as though its rows were even."""
    if f"min.{column}" not in files.column_names:
        return
    columns = (files[f"min.{column}"], files[f"max.{column}"], files["num_records"])
    for low, high, count in zip(*(column.to_pylist() for column in columns), strict=True):
        if low is None or high is None or not count:
            continue
        parts = -(-count // rows)
        for part in range(parts):
            yield low + (high - low) / parts * part, count // parts


async def _statistics(storage: VersionedStorage, data_type: str, column: str) -> pa.Table:
    table = await storage.table(data_type)
    snapshot = await table.refresh()
    return await in_thread(snapshot.with_statistics, (column,))


def _extreme(files: pa.Table, name: str, choose: Any) -> datetime | None:
    found: datetime | None = choose(files[name]).as_py() if name in files.column_names else None
    return found


def _check_plain(query: DataQuery) -> None:
    for name in ("limit", "offset", "order_by", "group_by", "aggregates"):
        if getattr(query, name) is not None:
            raise InvalidQueryError(f"{name} in a side of a join: join first, then make more of the rows")
    if query.distinct or query.latest or any(not isinstance(each, str) for each in query.columns or ()):
        raise InvalidQueryError("a side of a join has rows and columns alone: join first, then make more of the rows")


def _names(query: DataQuery, contract: Contract) -> tuple[str, ...]:
    return tuple(str(name) for name in query.columns or contract.schema.names)


def _with(columns: Iterable[str], others: Iterable[str], contract: Contract | None = None) -> tuple[str, ...]:
    known = others if contract is None else (name for name in others if name in contract.schema.names)
    return tuple(dict.fromkeys([*columns, *known]))
