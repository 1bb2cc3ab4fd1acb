"""Rows of one version read as rows of another: whole columns at a time, and never a value changed without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError, UnsupportedOperationError
from buffetstore.schemas.change import Direction, counterparts
from buffetstore.schemas.changes import diff, is_upcast
from buffetstore.schemas.coerce import Column, Target
from buffetstore.schemas.columns import in_one_piece
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.widening import Fit, fit_of, numbers_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract


def upcast(
    table: pa.Table, from_contract: Contract, to_contract: Contract, *, columns: Collection[str] | None = None
) -> pa.Table:
    """Return rows that were stored under an older version as rows of a newer one. It blocks: call it in a thread.

    Columns go by name, else by alias; a column that is new is its default or null, null is the default where there is
    one; types are widened. What no cast does is left to the up-casts that the newer class declares. `version` becomes
    the newer version. Rules are not looked at: `check` tells beforehand whether they can break.

    Parameters
    ----------
    table:
        Columns of the older version; one that may be null may be absent, others are left out of the answer.
    columns:
        Those of the newer version that are wanted, which need the columns that `sources_of` names; None is all.

    Raises
    ------
    InvalidInputError
        The versions are of two data types or in the wrong order, or a value does not fit; the message names it.
    UnsupportedOperationError
        A column cannot be made without an up-cast, and none is declared (or the newer contract was loaded without the
        class that declares it).
    """
    _check_pair(from_contract, to_contract)
    wanted = _wanted(to_contract, columns)
    has_steps = any(is_upcast(name, from_contract, to_contract) for name in wanted)
    stepped = _stepped(table, from_contract, to_contract) if has_steps else {}
    return _read(table, from_contract, to_contract, stepped, wanted)


def downcast(
    table: pa.Table, from_contract: Contract, to_contract: Contract, *, columns: Collection[str] | None = None
) -> pa.Table:
    """Return rows of a newer version as rows of an older one, where every reader of the older one could (FORWARD).

    Raises
    ------
    InvalidInputError
        The versions are of two data types or in the wrong order.
    UnsupportedOperationError
        The newer version's rows are not all rows of the older one; the message lists why.
    """
    _check_pair(to_contract, from_contract)
    broken = [change for change in diff(to_contract, from_contract) if Direction.FORWARD in change.breaks]
    if broken:
        raise UnsupportedOperationError(
            f"{from_contract.data_type} {from_contract.version} cannot be read as {to_contract.version}: "
            + "; ".join(map(str, broken))
        )
    return _read(table, from_contract, to_contract, {}, _wanted(to_contract, columns))


def sources_of(columns: Collection[str], writer: Contract, reader: Contract) -> set[str]:
    """Return the columns of the writer's rows that these columns of the reader are made of."""
    wanted = _wanted(reader, columns)
    if any(is_upcast(name, writer, reader) for name in wanted):
        return {spec.name for spec in writer.fields}  # a step may look at all of them
    sources = counterparts(writer.fields, reader.fields)
    return {sources[name].name for name in wanted if name in sources}


def reads_alike(writer: Contract, reader: Contract) -> bool:
    """Tell whether rows of the writer's version, with null for what they have not, are the reader's as they are.

    False too where they cannot be read at all.
    """
    is_newer = numbers_of(writer.version) > numbers_of(reader.version)
    if is_newer and any(Direction.FORWARD in change.breaks for change in diff(reader, writer)):
        return False
    sources = counterparts(writer.fields, reader.fields)
    return all(_is_alike(spec, sources.get(spec.name), writer, reader) for spec in reader.fields)


def _is_alike(spec: FieldSpec, source: FieldSpec | None, writer: Contract, reader: Contract) -> bool:
    if spec.name == "version":
        return True
    if source is None:
        return spec.nullable and spec.default is None and not _is_step(spec.name, writer, reader)
    units = source.unit is None or spec.unit is None or source.unit == spec.unit
    same = source.name == spec.name and source.type == spec.type and units
    return (
        same
        and not is_upcast(spec.name, writer, reader)
        and (spec.nullable >= source.nullable)
        and not (source.nullable and spec.default is not None)
    )


def _is_step(name: str, writer: Contract, reader: Contract) -> bool:
    """Tell whether a declared up-cast makes the field, or would if the reader's class were at hand."""
    return is_upcast(name, writer, reader) or name in _lost(reader)


def _lost(reader: Contract) -> set[str]:
    return {custom.field for custom in reader.unenforced if custom.kind == "upcast"}


def _wanted(reader: Contract, columns: Collection[str] | None) -> tuple[str, ...]:
    return tuple(spec.name for spec in reader.fields if columns is None or spec.name in columns)


def _check_pair(older: Contract, newer: Contract) -> None:
    if older.data_type != newer.data_type:
        raise InvalidInputError(f"{older.data_type} and {newer.data_type} are two data types")
    if numbers_of(older.version) > numbers_of(newer.version):
        raise InvalidInputError(f"{older.data_type} {older.version} is newer than {newer.version}")


def _stepped(table: pa.Table, old: Contract, new: Contract) -> dict[str, pa.ChunkedArray]:
    """Return the columns that declared up-casts make, steps of older versions first."""
    made: dict[str, pa.ChunkedArray] = {}
    steps = [step for step in new.upcasts if numbers_of(old.version) < numbers_of(step.before)]
    rows = table
    for step in sorted(steps, key=lambda step: numbers_of(step.before)):
        if not is_upcast(step.field, old, new):
            continue
        spec = next(spec for spec in new.fields if spec.name == step.field)
        column = _fitted(step.function(rows), spec, f"up-cast {step.name!r}", table.num_rows)
        at = rows.schema.get_field_index(step.field)
        rows = rows.append_column(step.field, column) if at < 0 else rows.set_column(at, step.field, column)
        made[step.field] = column
    return made


def _fitted(values: Any, spec: FieldSpec, place: str, rows: int) -> pa.ChunkedArray:
    """Return values in the field's type, as those of any source are brought to it."""
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        raise InvalidInputError(f"{place} gives a {type(values).__name__}, not an Arrow column of {spec.type}")
    if len(values) != rows:
        raise InvalidInputError(f"{place} gives {len(values)} values for {rows} rows")
    errors = Findings()
    column = Column(Target(spec.name, spec.type), errors)
    column.add_array(values)
    made = column.finish() if rows else pa.chunked_array([], spec.type)
    if errors.count:
        first = errors.kept[0]
        raise InvalidInputError(f"{place}, row {first.record_index}: {first.message} ({spec.type})")
    return made


def _read(
    table: pa.Table, writer: Contract, reader: Contract, made: dict[str, pa.ChunkedArray], wanted: Sequence[str]
) -> pa.Table:
    sources = counterparts(writer.fields, reader.fields)
    lost = _lost(reader) if numbers_of(writer.version) < numbers_of(reader.version) else set()
    columns = []
    for spec in reader.fields:
        if spec.name not in wanted:
            continue
        source = sources.get(spec.name)
        place = f"{reader.data_type} {reader.version}.{spec.name}"
        if spec.name == "version":
            column = pa.chunked_array([pa.repeat(pa.scalar(reader.version, spec.type), table.num_rows)])
        elif spec.name in made:
            column = made[spec.name]
        elif spec.name in lost:
            raise UnsupportedOperationError(f"{place}: rows of {writer.version} need an up-cast: give its class")
        elif source is None or (source.name not in table.column_names and source.nullable):
            column = pa.chunked_array([pa.nulls(table.num_rows, spec.type)])
        else:
            column = _converted(_column(table, source, writer), source, spec, place)
        columns.append(_complete(column, spec, place, writer))
    return pa.Table.from_arrays(columns, schema=pa.schema([reader.schema.field(name) for name in wanted]))


def _column(table: pa.Table, spec: FieldSpec, writer: Contract) -> pa.ChunkedArray:
    if spec.name not in table.column_names:
        raise InvalidInputError(f"there is no column {spec.name!r}, which {writer.data_type} {writer.version} requires")
    column = table[spec.name]
    return column if column.type == spec.type else column.cast(spec.type)


def _converted(column: pa.ChunkedArray, old: FieldSpec, new: FieldSpec, place: str) -> pa.ChunkedArray:
    if old.unit is not None and new.unit is not None and old.unit != new.unit:
        raise UnsupportedOperationError(
            f"{place} counts {new.unit}, stored is {old.unit}: declare an Upcast for {new.name!r}"
        )
    if old.type == new.type:
        return column
    return pa.chunked_array([_cast(in_one_piece(column), old, new, place)], new.type)


def _cast(array: pa.Array, old: FieldSpec, new: FieldSpec, place: str) -> pa.Array:
    if array.type == new.type:
        return array
    fit = fit_of(old, new)
    if fit is Fit.OTHER:
        raise UnsupportedOperationError(f"{place} is {new.type}, stored is {old.type}: declare an Upcast for it")
    if fit is Fit.NESTED:
        whole = array.take(pa.array(np.arange(len(array))))  # without offsets, which masks cannot have
        return (
            _cast_list(whole, old, new, place) if pa.types.is_list(new.type) else _cast_struct(whole, old, new, place)
        )
    try:
        if pa.types.is_integer(array.type) and pa.types.is_decimal(new.type):
            array = array.cast(pa.decimal128(38, new.type.scale))
        return array.cast(new.type)
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"{place} is {new.type}, which does not hold every stored {old.type}: {error}"
        ) from error


def _cast_list(array: pa.Array, old: FieldSpec, new: FieldSpec, place: str) -> pa.Array:
    inner = _cast(array.values, old.children[0], new.children[0], f"{place}[]")
    mask = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(array.offsets, inner, type=new.type, mask=mask)


def _cast_struct(array: pa.Array, old: FieldSpec, new: FieldSpec, place: str) -> pa.Array:
    sources = counterparts(old.children, new.children)
    parts = []
    for child in new.children:
        source = sources.get(child.name)
        if source is None and not child.nullable and array.null_count < len(array):
            raise UnsupportedOperationError(f"{place}.{child.name} is required, and stored rows have none")
        if source is None:
            parts.append(pa.nulls(len(array), child.type))
        else:
            parts.append(_cast(pc.struct_field(array, source.name), source, child, f"{place}.{child.name}"))
    if not parts:
        return pa.array([None if gone else {} for gone in array.is_null().to_pylist()], new.type)
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(parts, fields=list(new.type), mask=mask)


def _complete(column: pa.ChunkedArray, spec: FieldSpec, place: str, writer: Contract) -> pa.ChunkedArray:
    if not column.null_count:
        return column
    if spec.default is not None:
        default = pa.scalar(spec.default, spec.type)
        if column.null_count == len(column):
            return pa.chunked_array([pa.repeat(default, len(column))])
        return column.fill_null(default)
    if not spec.nullable:
        raise UnsupportedOperationError(
            f"{place} is required, and {column.null_count} of {len(column)} rows of {writer.version} have none: give "
            "it a default, or declare an Upcast for it"
        )
    return column
