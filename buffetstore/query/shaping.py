"""From rows that were found to rows of the answer: computed columns, groups, the latest, order, a part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from buffetstore.expressions import Bucket, Named, compute, names_in
from buffetstore.query.shape import checked_groups, checked_order, name_of
from buffetstore.query.stages import Aggregation, Distinct, Latest, Ordered
from buffetstore.query.stages.rows import distinct_rows, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from buffetstore.expressions import Aggregate, Value
    from buffetstore.query.model import DataQuery
    from buffetstore.query.shape import Order
    from buffetstore.query.stages import Stage
    from buffetstore.schemas.contract import Contract


@dataclass(frozen=True, slots=True)
class Shape:
    """What is made of rows, in this order: the latest, computed columns, groups or distinct rows, an order, a part.

    Parameters
    ----------
    columns:
        Of the answer; those of groups and aggregates where rows are grouped.
    key, event_time:
        Of the rows: `key` decides between rows that are equal in `order_by`, and orders the answer without it.
    latest:
        The columns of which the last row is wanted; None leaves all rows.
    aggregates:
        By their names; None where rows are not grouped.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    event_time: str
    computed: tuple[Named, ...] = ()
    latest: tuple[str, ...] | None = None
    groups: tuple[str | Bucket, ...] = ()
    aggregates: Mapping[str, Aggregate] | None = None
    distinct: bool = False
    order_by: tuple[Order, ...] = ()
    offset: int = 0
    limit: int | None = None

    @property
    def inputs(self) -> frozenset[str]:
        """The columns of rows that it reads."""
        made = {each.name for each in self.computed}
        values = [each.value for each in self.computed]
        values += [each.value for each in (self.aggregates or {}).values() if each.value is not None]
        read = {name for value in values for name in names_in(value)}
        if self.aggregates is None:
            read |= set(self.columns) - made
            read |= {order.column for order in self.order_by} - made
        read |= {group.column if isinstance(group, Bucket) else group for group in self.groups}
        if self.latest is not None:
            read |= {*self.latest, self.event_time, *self.key}
        if self.needs_order or not (self.distinct or self.is_grouped):
            read |= {*self.key, self.event_time}
        return frozenset(read)

    @property
    def is_grouped(self) -> bool:
        """Whether the answer has groups rather than rows."""
        return self.aggregates is not None

    @property
    def needs_order(self) -> bool:
        """Whether an aggregate depends on the order of rows."""
        return any(each.function in {"first", "last"} for each in (self.aggregates or {}).values())

    @property
    def streams(self) -> bool:
        """Whether rows can be given as they are found."""
        return self.latest is None and not (self.is_grouped or self.distinct or self.order_by)

    @property
    def row_limit(self) -> int | None:
        """How many rows have to be found at most."""
        return self.offset + self.limit if self.streams and self.limit is not None else None


def shape_of(query: DataQuery, contract: Contract, columns: tuple[str | Named, ...]) -> Shape | None:
    """Return what the query makes of rows; None where it is nothing but choosing columns and counting to a limit."""
    grouped = query.group_by is not None or query.aggregates is not None
    computed = tuple(each for each in columns if isinstance(each, Named)) if not grouped else ()
    latest = query.latest
    if not (grouped or computed or latest or query.distinct or query.order_by or query.offset):
        return None
    groups = checked_groups(query.group_by or ())
    aggregates = dict(query.aggregates or {})
    names = [name_of(group) for group in groups]
    others = tuple(name for name in contract.key if name != contract.event_time)
    return Shape(
        columns=(*names, *aggregates) if grouped else tuple(map(name_of, columns)),
        key=contract.key,
        event_time=contract.event_time,
        computed=computed,
        latest=others if latest is True else tuple(latest) if latest else None,
        groups=groups,
        aggregates=aggregates if grouped else None,
        distinct=query.distinct,
        order_by=checked_order(query.order_by or ()),
        offset=query.offset or 0,
        limit=query.limit,
    )


def shaped_schema(shape: Shape, rows: pa.Schema) -> pa.Schema:
    """Return the schema of what the shape makes of such rows.

    Raises
    ------
    InvalidQueryError
        It cannot be made of them: what is computed or aggregated is no number, say.
    """
    if shape.streams:
        return with_computed(rows.empty_table(), shape).select(list(shape.columns)).schema
    shaper = Shaper(shape)
    shaper.add(rows.empty_table())
    return shaper.finish().schema


class Shaper:
    """Carries a shape that does not stream out on rows as they are found."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._first = _first_stage(shape)

    def add(self, rows: pa.Table) -> None:
        """Take rows. An empty table must be given at least, for its columns.

        Raises
        ------
        InvalidQueryError
            A column has not the kind that is needed.
        """
        shape = self._shape
        made = rows if shape.latest is not None else with_computed(rows, shape)
        self._first.add(made.select(list(shape.columns)) if self._is_distinct_first else made)

    def add_known(self, groups: pa.Table, rows: Any, known: Mapping[tuple[str, Value], Any]) -> None:
        """Take rows by what they come to, where groups are made of rows as they are (see `Aggregation.add_known`)."""
        assert isinstance(self._first, Aggregation)
        self._first.add_known(groups, rows, known)

    @property
    def _is_distinct_first(self) -> bool:
        return self._shape.distinct and self._shape.latest is None

    def first(self) -> pa.Table:
        """Return what the first stage makes of the rows so far: under an order and a limit, the first of them."""
        return self._first.finish()

    def finish(self) -> pa.Table:
        """Return the answer."""
        shape, found = self._shape, self._first.finish()
        if shape.latest is not None:
            found = with_computed(found, shape)
            if shape.is_grouped:
                groups = _aggregation(shape)
                groups.add(found)
                found = groups.finish()
            elif shape.distinct:
                found = distinct_rows(found.select(list(shape.columns)))
        chosen = in_order(found, shape.order_by, _ties(shape)).slice(shape.offset, shape.limit)
        return chosen.select(list(shape.columns))


def with_computed(rows: pa.Table, shape: Shape) -> pa.Table:
    """Return the rows with the computed columns; one of a name that is there takes its place."""
    made = [(each.name, compute(rows, each.value)) for each in shape.computed]
    for name, column in made:
        at = rows.schema.get_field_index(name)
        rows = rows.append_column(name, column) if at < 0 else rows.set_column(at, name, column)
    return rows


def _first_stage(shape: Shape) -> Stage:
    if shape.latest is not None:
        return Latest(shape.latest, (shape.event_time, *shape.key))
    if shape.is_grouped:
        return _aggregation(shape)
    if shape.distinct:
        return Distinct()
    limit = None if shape.limit is None else shape.offset + shape.limit
    return Ordered(shape.order_by, _ties(shape), limit)


def _aggregation(shape: Shape) -> Aggregation:
    return Aggregation(shape.groups, shape.aggregates or {}, (shape.event_time, *shape.key))


def _ties(shape: Shape) -> tuple[str, ...]:
    """Return the columns that order what `order_by` leaves equal."""
    if shape.is_grouped:
        return shape.columns[: len(shape.groups)]
    return shape.columns if shape.distinct else shape.key
