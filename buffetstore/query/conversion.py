"""Rows of several schema versions read as rows of one.

A table holds the columns of all its versions side by side, and each row says by its `version` which of them are its
own. A column that was renamed is read from its old name, a null that has a default becomes it, and what is declared as
an up-cast is computed. Filters are put to stored rows in the words of each row's own version, so that files are pruned
by them all the same.

`version` stays what it was: it says under which contract a row was stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import UnsupportedOperationError
from buffetstore.expressions import (
    ALWAYS,
    And,
    Column,
    Comparison,
    Expression,
    IsIn,
    IsNull,
    Like,
    Not,
    Or,
    columns_of,
    evaluate,
)
from buffetstore.query.rules import NEVER
from buffetstore.schemas.change import counterparts
from buffetstore.schemas.changes import is_upcast
from buffetstore.schemas.evolution import downcast, reads_alike, sources_of, upcast
from buffetstore.schemas.widening import numbers_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from buffetstore.schemas import Contract
    from buffetstore.schemas.arrow import FieldSpec

VERSION = "version"


@dataclass(frozen=True)
class Conversion:
    """How stored rows are read as rows of one version.

    Parameters
    ----------
    reader:
        The version that they are read as.
    writers:
        Versions whose rows are not its rows as they are, by version.
    """

    reader: Contract
    writers: Mapping[str, Contract]

    @cached_property
    def affected(self) -> frozenset[str]:
        """The reader's columns that some stored rows have not as they are."""
        found: set[str] = set()
        for writer in self.writers.values():
            sources = counterparts(writer.fields, self.reader.fields)
            found |= {spec.name for spec in self.reader.fields if _differs(spec, sources.get(spec.name), writer, self)}
        return frozenset(found)

    def needed(self, columns: Collection[str]) -> set[str]:
        """Return the stored columns that these columns of the answer are made of."""
        found = {VERSION, *columns}
        for writer in self.writers.values():
            found |= sources_of(columns, writer, self.reader)
        return found

    def on_stored(self, expression: Expression, stored: Collection[str]) -> Expression:
        """Return what holds for all stored rows that satisfy the expression once converted, maybe for others too."""
        kept = []
        for part in _conjuncts(expression):
            try:
                kept.append(self._translated(part, stored))
            except _UntranslatableError:
                continue
        return kept[0] if len(kept) == 1 else And(tuple(kept)) if kept else ALWAYS

    def exactly_on_stored(self, expression: Expression, stored: Collection[str]) -> Expression:
        """Return what holds for the stored rows that satisfy the expression once converted, and for no others.

        Raises
        ------
        UnsupportedOperationError
            It reads what is computed from stored rows.
        """
        try:
            return And(tuple(self._translated(part, stored) for part in _conjuncts(expression)))
        except _UntranslatableError as error:
            own = self.reader
            raise UnsupportedOperationError(
                f"{error}, so that stored rows of {own.data_type} cannot be found by it: migrate them first "
                f"(`await storage.registry.migrate({own.data_type!r}, {own.version!r})`)"
            ) from error

    def apply(self, rows: pa.Table, fields: Sequence[pa.Field]) -> pa.Table:
        """Return the rows with these columns, converted; it blocks.

        Raises
        ------
        UnsupportedOperationError
            Rows of some version cannot be read as the reader's; the message says why.
        """
        found = pc.unique(rows[VERSION]).to_pylist()
        if not any(version in self.writers for version in found):
            return self._part(rows, fields, None)
        if len(found) == 1:
            return self._part(rows, fields, self.writers[found[0]])
        parts, places = [], []
        foreign = pa.array([version for version in found if version not in self.writers], pa.string())
        groups: list[tuple[Contract | None, pa.Array]] = [(None, foreign)]
        groups += [(self.writers[version], pa.array([version])) for version in found if version in self.writers]
        for writer, versions in groups:
            at = np.flatnonzero(pc.is_in(rows[VERSION], value_set=versions).to_numpy())
            parts.append(self._part(rows.take(pa.array(at)), fields, writer))
            places.append(at)
        order = np.argsort(np.concatenate(places), kind="stable")
        return pa.concat_tables(parts).take(pa.array(order))

    def _part(self, rows: pa.Table, fields: Sequence[pa.Field], writer: Contract | None) -> pa.Table:
        converted = None
        if writer is not None:
            names = {field.name for field in fields} & set(self.reader.schema.names) - {VERSION}
            newer = numbers_of(writer.version) > numbers_of(self.reader.version)
            own = rows.select([name for name in rows.column_names if name in writer.schema.names])
            converted = (downcast if newer else upcast)(own, writer, self.reader, columns=names)
        columns = []
        for field in fields:
            if converted is not None and field.name in converted.column_names:
                column = converted[field.name]
            elif field.name in rows.column_names:
                column = rows[field.name]
            else:
                column = pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
            columns.append(column if column.type == field.type else column.cast(field.type))
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def _translated(self, part: Expression, stored: Collection[str]) -> Expression:
        names = columns_of(part)
        if names <= set(stored) and not names & self.affected:
            return part
        versions = tuple(self.writers)
        groups: list[Expression] = []
        for version, writer in self.writers.items():
            own = _rewritten(part, partial(self._leaf, writer=writer, stored=stored))
            groups.append(And((Comparison(VERSION, "==", version), own)))
        if not names <= set(stored):
            raise _UntranslatableError(f"{', '.join(sorted(names - set(stored)))} is not stored")
        others = Or((IsNull(VERSION), Not(IsIn(VERSION, versions))))
        return Or((*groups, And((others, part))))

    def _leaf(self, leaf: Expression, *, writer: Contract, stored: Collection[str]) -> Expression:
        """Return what of a row of the writer's version is true where the leaf is true of the converted row."""
        if not columns_of(leaf) & self.affected:
            return leaf
        if not isinstance(leaf, Comparison | IsIn | IsNull | Like) or (
            isinstance(leaf, Comparison) and isinstance(leaf.value, Column)
        ):
            raise _UntranslatableError(f"{', '.join(sorted(columns_of(leaf)))} is compared with other columns")
        spec = next(spec for spec in self.reader.fields if spec.name == leaf.column)
        source = counterparts(writer.fields, self.reader.fields).get(spec.name)
        if is_upcast(spec.name, writer, self.reader) or (source is not None and source.type != spec.type):
            raise _UntranslatableError(f"{spec.name} of {writer.version} is computed")
        default = None if spec.default is None else pa.scalar(spec.default, spec.type).as_py()
        constant = ALWAYS if evaluate(leaf, {spec.name: default}) else NEVER
        if source is None:
            if default is not None:
                return constant
            if spec.name not in stored:
                raise _UntranslatableError(f"{spec.name} is not stored")
            return leaf  # null in these rows, as it is once they are converted
        if source.name not in stored:
            raise _UntranslatableError(f"{source.name} is not stored")
        own = replace(leaf, column=source.name)
        if default is None:
            return own
        absent = IsNull(source.name)
        return Or((own, absent)) if constant == ALWAYS else And((own, Not(absent)))


class _UntranslatableError(Exception):
    """What is asked of converted rows cannot be asked of stored ones."""


def conversion_to(reader: Contract, writers: Iterable[Contract]) -> Conversion | None:
    """Return how rows of these versions are read as the reader's; None where all of them are as they are."""
    different = {each.version: each for each in writers if each.version != reader.version}
    different = {version: each for version, each in different.items() if not reads_alike(each, reader)}
    return Conversion(reader, different) if different else None


def _differs(spec: FieldSpec, source: FieldSpec | None, writer: Contract, conversion: Conversion) -> bool:
    if spec.name == VERSION:
        return False
    if source is None:
        return not spec.nullable or spec.default is not None or is_upcast(spec.name, writer, conversion.reader)
    renamed = source.name != spec.name or source.type != spec.type
    filled = source.nullable and (spec.default is not None or not spec.nullable)
    return renamed or filled or is_upcast(spec.name, writer, conversion.reader)


def _conjuncts(expression: Expression) -> tuple[Expression, ...]:
    return expression.parts if isinstance(expression, And) else (expression,)


def _rewritten(expression: Expression, leaf: Any) -> Expression:
    match expression:
        case And(parts):
            return And(tuple(_rewritten(part, leaf) for part in parts))
        case Or(parts):
            return Or(tuple(_rewritten(part, leaf) for part in parts))
        case Not(part):
            return Not(_rewritten(part, leaf))
        case _:
            found: Expression = leaf(expression)
            return found
