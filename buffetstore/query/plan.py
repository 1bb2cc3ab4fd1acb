"""What will be done for a query: everything that can be said without the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from buffetstore.expressions import Expression, render
from buffetstore.query.rules import NEVER

if TYPE_CHECKING:
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
    columns: tuple[str, ...] | None
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
        steps = [] if query.limit is None else [f"limit {query.limit}"]
        steps.append("columns " + ("all" if self.columns is None else ", ".join(self.columns)))
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
