"""What will be done for a query: everything that can be said without the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.expressions import Aggregate, Bucket, Expression, Named, render, render_value
from buffetstore.query.rules import NEVER
from buffetstore.query.shape import checked_groups, checked_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buffetstore.query.model import DataQuery
    from buffetstore.query.times import TimeRange


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A query, normalised. Files are pruned when it is retrieved, against the snapshot read then (see `QueryAnswer`).

    Parameters
    ----------
    query:
        What was asked.
    predicate:
        All filters as one expression; `time_range` binds to the data type's event time besides.
    time_range:
        The moments asked for, in UTC, the end not included.
    columns:
        The columns of the answer; None is all.
    rules:
        The rules that made the filters simpler.
    """

    query: DataQuery
    predicate: Expression
    time_range: TimeRange
    columns: tuple[str | Named, ...] | None
    rules: tuple[str, ...] = ()

    @property
    def data_type(self) -> str:
        """The data type that is asked."""
        return self.query.data_type

    @property
    def limit(self) -> int | None:
        """The most rows that the answer may have."""
        return self.query.limit

    @property
    def is_empty(self) -> bool:
        """True when no row can satisfy it, whatever the table holds: nothing will be read."""
        start, end = self.time_range
        return self.predicate == NEVER or self.limit == 0 or (start is not None and end is not None and start >= end)

    def explain(self) -> str:
        """Return the plan in words, a line for each step, innermost last."""
        query = self.query
        steps = list(_shape_in_words(query, self.columns))
        if self.is_empty:
            return "\n".join([*steps, "nothing to read: no row can satisfy the filters"])
        steps.append(
            "every revision" if query.revisions == "all" else "latest revision of each key (where revisions are kept)"
        )
        if query.known_at is not None:
            steps.append(f"known at {query.known_at}")
        steps.append(f"filter {render(self.predicate)}")
        start, end = self.time_range
        if start is not None or end is not None:
            steps.append(f"event time from {start or 'the first'} until {end or 'the last'}")
        version = "newest version" if query.table_version is None else f"version {query.table_version}"
        steps.append(f"prune partitions and files of {query.data_type}, {version}, when retrieved")
        if self.rules:
            steps.append(f"(simplified by: {', '.join(self.rules)})")
        return "\n".join(steps)


def _shape_in_words(query: DataQuery, columns: tuple[str | Named, ...] | None) -> Iterator[str]:
    """Yield what is made of rows, outermost first."""
    if query.offset:
        yield f"after the first {query.offset}"
    if query.limit is not None:
        yield f"limit {query.limit}"
    if query.order_by:
        orders = checked_order(query.order_by)
        yield "order by " + ", ".join(f"{order.column}{' descending' * order.descending}" for order in orders)
    if query.group_by is not None or query.aggregates is not None:
        groups = ", ".join(map(_group_in_words, checked_groups(query.group_by or ()))) or "all rows"
        made = ", ".join(f"{name} = {_aggregate_in_words(each)}" for name, each in (query.aggregates or {}).items())
        yield f"group by {groups}" + (f": {made}" if made else "")
    else:
        shown = "all" if columns is None else ", ".join(map(_column_in_words, columns))
        yield ("distinct " if query.distinct else "") + f"columns {shown}"
    if query.latest:
        yield "latest row of each " + ("key without event time" if query.latest is True else ", ".join(query.latest))


def _column_in_words(column: str | Named) -> str:
    return column if isinstance(column, str) else f"{column.name} = {render_value(column.value)}"


def _group_in_words(group: str | Bucket) -> str:
    if isinstance(group, str):
        return group
    zone = f" in {group.tz}" if group.tz else ""
    return f"{group.column} by {group.count} {group.unit}{'s' * (group.count > 1)}{zone}"


def _aggregate_in_words(aggregate: Aggregate) -> str:
    return f"{aggregate.function}({'' if aggregate.value is None else render_value(aggregate.value)})"
