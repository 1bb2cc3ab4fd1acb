"""What was asked, kept in memory: which columns were filtered and how, never for which values."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from buffetstore.expressions import (
    And,
    Column,
    Comparison,
    ComputedComparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    columns_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

    from buffetstore.query.binding import BoundPlan

FilterKind: TypeAlias = Literal["equal", "among", "range", "prefix", "null", "other"]
QUERIES: Final = 1000


@dataclass(frozen=True, slots=True)
class RecordedFilter:
    """How a column was filtered: by a value, by `members` of them, by bounds, by how its text begins, or otherwise."""

    column: str
    kind: FilterKind
    members: int = 1


@dataclass(frozen=True, slots=True)
class RecordedQuery:
    """A question that was answered, without the values that it named.

    Parameters
    ----------
    filters:
        What every row of the answer had to satisfy; the event time is in `span`.
    span:
        How long the asked time was; None where it was open at an end.
    columns:
        How many columns were read.
    files_scanned, files_pruned, bytes_read, rows, seconds:
        What it took; the time of a scan includes its consumer's.
    """

    data_type: str
    filters: tuple[RecordedFilter, ...] = ()
    span: timedelta | None = None
    columns: int = 0
    files_scanned: int = 0
    files_pruned: int = 0
    bytes_read: int = 0
    rows: int = 0
    seconds: float = 0.0

    def filters_by(self, column: str) -> bool:
        """Return whether files could be left out by what was asked of the column."""
        return any(each.column == column and each.kind not in {"null", "other"} for each in self.filters)


class QueryLog:
    """The last queries, at most so many; the oldest makes room.

    >>> log = QueryLog(size=1)
    >>> log.append(RecordedQuery("market_data"))
    >>> log.append(RecordedQuery("forecasts"))
    >>> [query.data_type for query in log.of()]
    ['forecasts']
    """

    def __init__(self, size: int = QUERIES) -> None:
        self._queries: deque[RecordedQuery] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._queries)

    def append(self, query: RecordedQuery) -> None:
        """Take a query."""
        self._queries.append(query)

    def add(self, bound: BoundPlan, counts: Mapping[str, Any], seconds: float) -> None:
        """Take a plan that was carried out, and what `counts_of` its answer is. One that read nothing is left out."""
        if not bound.is_empty:
            self._queries.append(recorded(bound, counts, seconds))

    def of(self, data_type: str | None = None) -> tuple[RecordedQuery, ...]:
        """Return the queries of a data type, or all, oldest first."""
        return tuple(each for each in self._queries.copy() if data_type in {None, each.data_type})

    def clear(self) -> None:
        """Forget all of them."""
        self._queries.clear()


def recorded(bound: BoundPlan, counts: Mapping[str, Any], seconds: float) -> RecordedQuery:
    """Return what is kept of a plan that was carried out."""
    parts = bound.predicate.parts if isinstance(bound.predicate, And) else (bound.predicate,)
    event_time = bound.contract.event_time
    timed = [part for part in parts if columns_of(part) == {event_time}]
    others = [part for part in parts if part not in timed]
    return RecordedQuery(
        bound.plan.data_type,
        _filters(others),
        _span(timed),
        len(bound.columns),
        counts.get("files_scanned", 0),
        counts.get("files_pruned", 0),
        counts.get("bytes_in", 0),
        counts.get("rows_read", 0),
        seconds,
    )


def _filters(parts: list[Expression]) -> tuple[RecordedFilter, ...]:
    found = [each for part in parts for each in _kinds(part)]
    return tuple(Counter(found))  # each once, in order


def _kinds(part: Expression) -> Iterator[RecordedFilter]:
    match part:
        case Comparison(column, "==", value) if not isinstance(value, Column):
            yield RecordedFilter(column, "equal")
        case Comparison(column, "<" | "<=" | ">" | ">=", value) if not isinstance(value, Column):
            yield RecordedFilter(column, "range")
        case IsIn(column, values):
            yield RecordedFilter(column, "among", len(values))
        case IsNull(column):
            yield RecordedFilter(column, "null")
        case Like(column, pattern) if pattern[:1] not in {"%", "_", ""}:
            yield RecordedFilter(column, "prefix")
        case Comparison() | ComputedComparison() | Like() | Or() | Not() | And():
            for column in sorted(columns_of(part)):
                yield RecordedFilter(column, "other")


def _span(parts: list[Expression]) -> timedelta | None:
    """Return how long the time is that comparisons with moments leave."""
    low: datetime | None = None
    high: datetime | None = None
    for part in parts:
        match part:
            case Comparison(_, op, value) if not isinstance(value, Column):
                if op in {"==", ">", ">="}:
                    low = value if low is None else max(low, value)
                if op in {"==", "<", "<="}:
                    high = value if high is None else min(high, value)
            case IsIn(_, values) if values:
                low = min(values) if low is None else max(low, min(values))
                high = max(values) if high is None else min(high, max(values))
    return None if low is None or high is None else high - low
