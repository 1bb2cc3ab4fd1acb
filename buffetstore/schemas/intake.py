"""The door: data of any kind becomes one Arrow table of a contract's columns, and a list of what did not fit."""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import BaseModel

from buffetstore.errors import InvalidInputError
from buffetstore.resilience.threads import give_way
from buffetstore.schemas.coerce import CHUNK, Column, Target
from buffetstore.schemas.columns import constant
from buffetstore.schemas.complete import complete
from buffetstore.schemas.fill import replaced
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.mapping import Mapping, check_column, nearest
from buffetstore.schemas.nanoseconds import agreed, remainder, split_fields
from buffetstore.schemas.sources import ACCEPTED, Columns, Rows, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from buffetstore.schemas.columns import Range
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.findings import Finding

Extra = Literal["error", "ignore"]
_FEW = 500  # tuples alive at a time: below the garbage collector's threshold, or it looks at every row each time


@dataclass(frozen=True, slots=True)
class TypedRows:
    """Rows in a contract's types, not yet checked against its rules.

    Parameters
    ----------
    table:
        Exactly the contract's columns, in its order and types, all nullable. Strings that came as codes still are.
    errors, warnings:
        The first 1,000 findings of each severity; a value with an error is null in `table`.
    error_count, warning_count:
        All of them.
    rejected:
        The rows that have an error, ascending.
    misfits:
        For a field, the rows whose value has an error.
    rounded:
        Floats that were rounded half-even to their column's scale.
    ignored_columns:
        Columns of the source that are no fields, with ``extra='ignore'``.
    error_findings, warning_findings:
        All findings of each severity.
    ranges:
        Extremes of columns, where they were seen on the way.
    """

    table: pa.Table
    errors: list[Finding]
    warnings: list[Finding]
    error_count: int
    warning_count: int
    rejected: NDArray[np.int64]
    misfits: dict[str, NDArray[np.int64]]
    rounded: int
    ignored_columns: tuple[str, ...]
    error_findings: Findings
    warning_findings: Findings
    ranges: dict[str, Range]

    @property
    def findings(self) -> list[Finding]:
        """Errors, then warnings."""
        return [*self.errors, *self.warnings]


@dataclass(frozen=True, slots=True)
class _Extracted:
    """Columns of the source's values, in the contract's types, and what else the source has."""

    columns: dict[str, Column]
    seen: list[str]
    strays: dict[str, int]


def take_in(
    data: Any,
    contract: Contract,
    *,
    mapping: Mapping | None = None,
    extra: Extra = "error",
    available_at: str | datetime | None = None,
    now: datetime,
) -> TypedRows:
    """Return the data in the contract's types. It blocks: call it in a thread; other threads run meanwhile.

    Parameters
    ----------
    data:
        A list of dicts or pydantic models, one of them, a dict of columns, an Arrow table, record batch or reader, a
        pandas or polars DataFrame.
    mapping:
        How the source's columns become fields, where the names differ.
    extra:
        What to do about columns that are no fields: refuse every row, or leave them out and name them.
    available_at:
        When the facts could be known, for rows that do not say it: ``'timestamp+1d'``, ``'timestamp'`` or one instant.
    now:
        The time at which the write began.

    Raises
    ------
    InvalidInputError
        There are no rows, or the data is of a kind that is not taken in.
    MappingError
        The mapping does not fit the contract or the data.
    """
    mapping = mapping or Mapping()
    mapping.check(contract)
    constants = mapping.values(contract)
    source = open_source(data, mapping)
    errors, warnings = Findings(), Findings()
    wanted = _wanted(contract, mapping)
    intake = _Intake(contract, mapping, wanted, errors)
    found = intake.rows(source.rows) if isinstance(source, Rows) else intake.columns(source)
    for name, column in _sources(mapping, contract):
        check_column(name, column, found.seen)
    rows = len(source.rows) if isinstance(source, Rows) else source.rows
    if extra == "error":
        _refuse_strays(found.strays, [*wanted, *wanted.values()], rows, errors)
    table = _split(_assembled(found.columns, contract.schema, rows), found.columns, errors)
    table = complete(
        table, contract, constants=constants, available_at=available_at, now=now, errors=errors, warnings=warnings
    )
    return _typed(table, found, errors, warnings, ignored=tuple(found.strays) if extra == "ignore" else ())


def _typed(
    table: pa.Table, found: _Extracted, errors: Findings, warnings: Findings, *, ignored: tuple[str, ...]
) -> TypedRows:
    return TypedRows(
        table=table,
        errors=errors.kept,
        warnings=warnings.kept,
        error_count=errors.count,
        warning_count=warnings.count,
        rejected=errors.rows,
        misfits=errors.by_field,
        rounded=sum(column.rounded for column in found.columns.values()),
        ignored_columns=ignored,
        error_findings=errors,
        warning_findings=warnings,
        ranges={name: column.range for name, column in found.columns.items() if column.range is not None},
    )


def _sources(mapping: Mapping, contract: Contract) -> list[tuple[str, str]]:
    """Return field and source column of what the mapping names, all of which must be there."""
    clock = [] if mapping.milliseconds is None else [(contract.event_time, mapping.milliseconds)]
    return [*mapping.columns.items(), *clock]


def _assembled(columns: dict[str, Column], schema: pa.Schema, rows: int) -> pa.Table:
    absent = {field.type for field in schema if field.name not in columns}
    nulls = {kind: constant(pa.scalar(None, kind), rows) for kind in absent}  # one for all columns of a type
    arrays = [columns[field.name].finish() if field.name in columns else nulls[field.type] for field in schema]
    fields = [pa.field(field.name, array.type) for field, array in zip(schema, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, schema.metadata))


def _split(table: pa.Table, columns: dict[str, Column], errors: Findings) -> pa.Table:
    """Return the table with the nanoseconds of its times in the columns that keep them."""
    for name, extra in split_fields(table.schema).items():
        found = columns[name].nanoseconds() if name in columns else None
        if found is not None:
            rest = agreed(extra, table[extra], remainder(table[name], found), errors)
            table = replaced(table, extra, rest)
    return table


def _wanted(contract: Contract, mapping: Mapping) -> dict[str, str]:
    """Return field -> source column, for every field that the source may have."""
    taken = {*mapping.columns.values(), *([mapping.milliseconds] if mapping.milliseconds else [])}
    wanted: dict[str, str] = {}
    for name in contract.schema.names:
        if name in mapping.columns:
            wanted[name] = mapping.columns[name]
        elif mapping.milliseconds is not None and name == contract.event_time:
            wanted[name] = mapping.milliseconds
        elif name not in taken and name not in mapping.index_fields:
            wanted[name] = name
    return wanted


def _refuse_strays(strays: dict[str, int], known: Sequence[str], rows: int, errors: Findings) -> None:
    for name, row in strays.items():
        message = (
            f"column {name!r} is no field{nearest(name, known)}; rename it, map it, or leave it out with extra='ignore'"
        )
        errors.add_for_all(name, "extra_forbidden", message, row, rows)


class _Intake:
    """Brings a source's values to columns."""

    def __init__(self, contract: Contract, mapping: Mapping, wanted: dict[str, str], errors: Findings) -> None:
        self._mapping = mapping
        self._event_time = contract.event_time
        self._split = split_fields(contract.schema)
        self._kinds = {field.name: field.type for field in contract.schema}
        self._wanted = wanted
        self._errors = errors

    def _column(self, name: str) -> Column:
        kind, mapping = self._kinds[name], self._mapping
        day = mapping.day() if mapping.milliseconds is not None and name == self._event_time else None
        shift, splits = mapping.shift(name, kind), name in self._split
        target = Target(name, kind, tz=mapping.tz, shift=shift, day=day, splits=splits)
        return Column(target, self._errors)

    def columns(self, source: Columns) -> _Extracted:
        """Take whole columns."""
        given = {name: source.columns[column] for name, column in self._wanted.items() if column in source.columns}
        made: dict[str, Column] = {}
        for name, values in (given | source.from_index).items():
            made[name] = column = self._column(name)
            if isinstance(values, pa.Array | pa.ChunkedArray):
                column.add_array(values)
                continue
            for start in range(0, len(values), CHUNK):
                column.add_values(values[start : start + CHUNK])
                give_way()
        used = set(self._wanted.values())
        return _Extracted(made, list(source.columns), {name: 0 for name in source.columns if name not in used})

    def rows(self, rows: Sequence[Any]) -> _Extracted:
        """Take rows in chunks, other threads run in between."""
        fields: dict[str, list[str]] = {}
        for name, column in self._wanted.items():
            fields.setdefault(column, []).append(name)
        made: dict[str, Column] = {}
        seen: dict[str, None] = {}
        strays: dict[str, int] = {}
        for start in range(0, len(rows), CHUNK):
            chunk = _dicts(rows[start : start + CHUNK], start)
            values, others = _extract(chunk, fields)
            for other in others:
                if other not in strays:
                    strays[other] = start + next(row for row, record in enumerate(chunk) if other in record)
            seen.update(dict.fromkeys(values))
            for column, found in values.items():
                for name in fields[column]:
                    if name not in made:
                        made[name] = self._column(name)
                        made[name].add_nulls(start)
                    made[name].add_values(found)
            for name in made.keys() - {name for column in values for name in fields[column]}:
                made[name].add_nulls(len(chunk))
            give_way()
        return _Extracted(made, [*seen, *strays], strays)


def _dicts(chunk: Sequence[Any], start: int) -> Sequence[dict[str, Any]]:
    if set(map(type, chunk)) == {dict}:
        return chunk
    return [_as_dict(row, position) for position, row in enumerate(chunk, start)]


def _as_dict(row: Any, position: int) -> dict[str, Any]:
    if isinstance(row, BaseModel):
        return {**vars(row), **(row.model_extra or {})}
    if isinstance(row, Fields):
        return dict(row)
    raise InvalidInputError(f"row {position} is a {type(row).__name__}, not a dict or model; give {ACCEPTED}")


def _extract(chunk: Sequence[dict[str, Any]], fields: Fields[str, Any]) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the values of the wanted columns, and the names of the others."""
    names = [name for name in chunk[0] if name in fields]
    if len(names) > 1 and sum(map(len, chunk)) == len(names) * len(chunk):
        try:
            return _transposed(chunk, names), []
        except KeyError:
            pass  # as many keys in every row, but not the same ones
    seen = list(dict.fromkeys(name for record in chunk for name in record))
    found = {name: [record.get(name) for record in chunk] for name in seen if name in fields}
    return found, [name for name in seen if name not in fields]


def _transposed(chunk: Sequence[dict[str, Any]], names: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in names}
    pick = itemgetter(*names)
    for start in range(0, len(chunk), _FEW):
        for values, column in zip(
            found.values(), zip(*map(pick, chunk[start : start + _FEW]), strict=True), strict=True
        ):
            values.extend(column)
    return found
