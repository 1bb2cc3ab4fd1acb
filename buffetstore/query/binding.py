"""A plan's names and values, bound to the columns that a data type and its table have."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import (
    ALWAYS,
    And,
    Column,
    Comparison,
    ComputedComparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Named,
    Not,
    Or,
    columns_of,
    filter_rows,
)
from buffetstore.query.coerce import comparison, membership
from buffetstore.query.rules import NEVER, simplify
from buffetstore.query.shaping import Shape, shape_of, shaped_schema

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from buffetstore.query.conversion import Conversion
    from buffetstore.query.plan import QueryPlan
    from buffetstore.schemas.contract import Contract


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """A plan that can be executed on one table.

    Parameters
    ----------
    plan:
        What was bound.
    schema:
        Every column that may be named: those of the table, and those of the contract that it does not have yet.
    stored:
        The table's columns; the others are null in every row.
    predicate:
        All filters and the time range, typed and simplified.
    below:
        What of the predicate may be tested before revisions are merged: all of it where they are not.
    columns:
        The columns of the rows that are looked for: those of the answer, or what its shape reads.
    contract:
        What the data type promises: rows are sorted by its key and, where `merge` is true, merged by it.
    merge:
        Only the latest revision of each key is wanted, and several may be stored.
    known_at:
        Only rows that were available then.
    conversion:
        How rows of other schema versions become rows of the one that is read.
    shape:
        What is made of the rows; None where they are the answer.
    """

    plan: QueryPlan
    schema: pa.Schema
    stored: frozenset[str]
    predicate: Expression
    below: Expression
    columns: tuple[str, ...]
    contract: Contract
    merge: bool
    known_at: datetime | None = None
    conversion: Conversion | None = None
    shape: Shape | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a fact, and order the answer."""
        return self.contract.key

    @property
    def limit(self) -> int | None:
        """How many rows have to be found at most."""
        return self.plan.limit if self.shape is None else self.shape.row_limit

    @property
    def tested(self) -> Expression:
        """What stored rows may be tested by, of what is tested before revisions are merged."""
        if self.conversion is None:
            return only_columns(self.below, self.stored)
        return self.conversion.on_stored(self.below, self.stored)

    @property
    def is_empty(self) -> bool:
        """True when no row can satisfy it: nothing need be read."""
        return self.plan.is_empty or self.predicate == NEVER

    def output_schema(self) -> pa.Schema:
        """Return the schema of the answer's table."""
        return self.row_schema() if self.shape is None else shaped_schema(self.shape, self.row_schema())

    def row_schema(self) -> pa.Schema:
        """Return the schema of the rows that are looked for."""
        return pa.schema([self.schema.field(name) for name in self.columns])


def bind(
    plan: QueryPlan,
    contract: Contract,
    table_schema: pa.Schema,
    *,
    projection: Contract | None = None,
    conversion: Conversion | None = None,
    hidden: Collection[str] = (),
) -> BoundPlan:
    """Bind `plan` to the newest contract of its data type and to its table.

    Parameters
    ----------
    projection:
        The contract whose columns are the answer's where the query names none; None is all that the table has.
    conversion:
        How rows of other schema versions are read; None reads all rows as they are stored.
    hidden:
        Columns of the table that are the answer's only where the query names them: those of earlier versions.

    Raises
    ------
    InvalidQueryError
        A column is unknown, or a constant does not have its column's type; the message names the nearest column.
    """
    schema = _all_columns(contract.schema, table_schema)
    asked = plan.columns
    if asked is None:
        made = frozenset() if conversion is None else conversion.affected
        shown = ({*table_schema.names} | made) - {*hidden} if projection is None else {*projection.schema.names}
        asked = tuple(name for name in schema.names if name in shown)
    shape = shape_of(plan.query, contract, asked)
    columns = _columns_read(asked, shape, schema, contract.data_type)
    predicate = bind_expression(And((plan.predicate, _in_range(plan, contract.event_time))), schema, contract.data_type)
    merge = contract.revisions == "keep" and plan.query.revisions != "all"
    known_at = plan.query.known_at
    assert not isinstance(known_at, str)
    return BoundPlan(
        plan=plan,
        schema=schema,
        stored=frozenset(table_schema.names),
        predicate=predicate,
        below=only_columns(predicate, contract.key) if merge else predicate,
        columns=columns,
        contract=contract,
        merge=merge,
        known_at=known_at,
        conversion=conversion,
        shape=shape,
    )


def _columns_read(
    asked: tuple[str | Named, ...], shape: Shape | None, schema: pa.Schema, data_type: str
) -> tuple[str, ...]:
    """Return the columns that rows must have, after a look at whether the shape can be made of them."""
    if shape is None:
        found = tuple(name for name in asked if isinstance(name, str))
        for name in found:
            field_of(schema, name, data_type)
        return found
    read = tuple(field_of(schema, name, data_type).name for name in sorted(shape.inputs))
    shaped_schema(shape, pa.schema([schema.field(name) for name in read]))
    return read


def bind_expression(expression: Expression, schema: pa.Schema, data_type: str) -> Expression:
    """Return the expression with every constant of its column's type, simplified.

    Raises
    ------
    InvalidQueryError
        As `bind` does.
    """
    return simplify(_typed(expression, schema, data_type))[0]


def _typed(expression: Expression, schema: pa.Schema, data_type: str) -> Expression:
    match expression:
        case Comparison(column, op, value):
            field = field_of(schema, column, data_type)
            if isinstance(value, Column):
                field_of(schema, value.name, data_type)
                return expression
            return comparison(field, op, value)
        case IsIn(column, values):
            return membership(field_of(schema, column, data_type), values)
        case IsNull(column):
            field_of(schema, column, data_type)
            return expression
        case Like(column, pattern):
            kind = field_of(schema, column, data_type).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InvalidQueryError(f"column {column!r} is {kind}: only text is like {pattern!r}")
            return expression
        case ComputedComparison():
            for name in sorted(columns_of(expression)):
                field_of(schema, name, data_type)
            filter_rows(schema.empty_table(), expression)  # says what cannot be computed or compared
            return expression
        case And(parts):
            return And(tuple(_typed(part, schema, data_type) for part in parts))
        case Or(parts):
            return Or(tuple(_typed(part, schema, data_type) for part in parts))
        case Not(part):
            return Not(_typed(part, schema, data_type))


def only_columns(expression: Expression, columns: Iterable[str]) -> Expression:
    """Return the conjuncts that read no other columns: what every satisfying row satisfies too."""
    allowed = frozenset(columns)
    parts = expression.parts if isinstance(expression, And) else (expression,)
    kept = tuple(part for part in parts if columns_of(part) <= allowed)
    return kept[0] if len(kept) == 1 else And(kept) if kept else ALWAYS


def _in_range(plan: QueryPlan, event_time: str) -> Expression:
    start, end = plan.time_range
    after = () if start is None else (Comparison(event_time, ">=", start),)
    before = () if end is None else (Comparison(event_time, "<", end),)
    return And((*after, *before))


def _all_columns(contract: pa.Schema, table: pa.Schema) -> pa.Schema:
    """Return the contract's columns in its order, typed as the table has them, then the table's others."""
    stored = {field.name: field for field in table}
    known = [stored.get(field.name, field.with_nullable(True)) for field in contract]
    return pa.schema([*known, *(field for field in table if field.name not in contract.names)])


def field_of(schema: pa.Schema, name: str, data_type: str) -> pa.Field:
    """Return a column of a data type.

    Raises
    ------
    InvalidQueryError
        There is none of this name; the message names the nearest.
    """
    if name in schema.names:
        return schema.field(name)
    near = get_close_matches(name, schema.names, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InvalidQueryError(f"{data_type} has no column {name!r}: {hint}it has {', '.join(schema.names)}")
