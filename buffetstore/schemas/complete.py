"""The fields that every data type has in common are filled, and the data type's own fills applied."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.schemas.availability import stated
from buffetstore.schemas.columns import constant, decoded, in_one_piece
from buffetstore.schemas.defaults import default_of, fill_inside, fill_nulls, has_inner
from buffetstore.schemas.fill import replaced
from buffetstore.schemas.timestamps import rows_where

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.findings import Findings

SKEW = timedelta(minutes=1)
"""How far another machine's clock may be ahead."""


def complete(
    table: pa.Table,
    contract: Contract,
    *,
    constants: dict[str, Any],
    available_at: str | datetime | None,
    now: datetime,
    errors: Findings,
    warnings: Findings,
) -> pa.Table:
    """Return the typed rows with what they leave out: constants, defaults, load time, version, derived fields."""
    table = decoded(table, _touched(table, contract, constants))
    for spec in contract.fields:
        for spelling in spec.spellings:
            table = replaced(table, spec.name, _spelled(table[spec.name], spelling.spell))
    for name, value in constants.items():
        table = _agreed(table, name, value, "constant_conflict", "the mapping sets", errors)
    table = _agreed(table, "version", contract.version, "version_conflict", "the schema version is", errors)
    for spec in contract.fields:
        if spec.default is not None and table[spec.name].null_count:
            table = replaced(table, spec.name, _filled(table[spec.name], pa.scalar(default_of(spec), spec.type)))
        if has_inner(spec):
            table = replaced(table, spec.name, fill_inside(in_one_piece(table[spec.name]), spec))
    table = _stamp(table, contract, available_at, now, errors)
    for fill in contract.fills:
        table = fill.function(table, warnings)
    return table


def _touched(table: pa.Table, contract: Contract, constants: dict[str, Any]) -> set[str]:
    """Return the columns whose values are looked at; the others may stay codes."""
    if any(fill.same is None for fill in contract.fills):
        return set(table.column_names)
    lacking = (s.name for s in contract.fields if s.default is not None and table[s.name].null_count)
    spelled = (spec.name for spec in contract.fields if spec.spellings)
    same = (name for fill in contract.fills for name in fill.same or ())
    return {"version", *constants, *lacking, *spelled, *same}


def _spelled(column: pa.ChunkedArray, spell: Callable[[Any], Any]) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return column
    encoded = pc.dictionary_encode(pa.concat_arrays(column.chunks))
    words = encoded.dictionary.to_pylist()
    spelled = [spell(word) for word in words]
    return column if words == spelled else pa.chunked_array([pa.array(spelled, column.type).take(encoded.indices)])


def _agreed(table: pa.Table, name: str, value: Any, error_type: str, source: str, errors: Findings) -> pa.Table:
    """Fill a column with a value; a row that says otherwise is an error."""
    if name not in table.column_names:
        return table
    column = table[name]
    wanted = pa.scalar(value, column.type)
    if column.null_count < len(column):
        rows = rows_where(pc.not_equal(column, wanted))
        if len(rows):
            errors.add_rows(name, error_type, rows, lambda row: f"{name} is {column[row]}, {source} {value}")
    if column.null_count:
        table = replaced(table, name, _filled(column, wanted))
    return table


def _filled(column: pa.ChunkedArray, value: pa.Scalar) -> pa.ChunkedArray:
    if column.null_count == len(column):
        return constant(value, len(column))
    if pa.types.is_nested(column.type):
        return pa.chunked_array([fill_nulls(in_one_piece(column), value.as_py())])
    return pc.fill_null(column, value) if column.null_count else column


def _stamp(
    table: pa.Table, contract: Contract, available_at: str | datetime | None, now: datetime, errors: Findings
) -> pa.Table:
    present = pa.scalar(now, pa.timestamp("us", "UTC"))
    if "created_at" in table.column_names:
        given = table["created_at"].null_count < table.num_rows
        table = replaced(table, "created_at", _filled(table["created_at"], present))
        if given:
            _refuse_future(table, "created_at", now, errors)
    if "available_at" not in table.column_names:
        return table
    if contract.availability == "observed":
        if available_at is not None:
            raise InvalidInputError(
                f"available_at={available_at!r}: {contract.data_type} is stamped by the store when it is written"
            )
        return replaced(table, "available_at", constant(present, table.num_rows))
    if available_at is not None:
        said = stated(table, available_at)
        table = replaced(table, "available_at", pc.coalesce(table["available_at"], said))
    _refuse_future(table, "available_at", now, errors)
    return table


def _refuse_future(table: pa.Table, name: str, now: datetime, errors: Findings) -> None:
    column = table[name]
    if column.null_count == len(column):
        return
    limit = pa.scalar(now + SKEW, column.type)
    if not pc.greater(pc.max(column), limit).as_py():
        return
    errors.add_rows(
        name,
        "in_future",
        rows_where(pc.greater(column, limit)),
        lambda row: f"{name} {column[row]} is in the future: it is {now.isoformat()} now",
    )
