"""A first draft of a record class from data: types as they are, limits as its ranges suggest."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError
from buffetstore.expressions import Column, Comparison
from buffetstore.schemas.contract import Rule
from buffetstore.schemas.interchange.draft import draft_of, identifier
from buffetstore.schemas.interchange.limits import Limits, field, list_field, struct_field
from buffetstore.schemas.timestamps import MICROSECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.interchange.source import Draft

SAMPLE = 100_000
_CHOICES = 8
_ROWS_PER_CHOICE = 20
_ORDERS = (("low", "open", "high"), ("low", "close", "high"), ("bid", "ask"), ("confidence_lower", "confidence_upper"))


def draft_from_parquet(path: str | Path, data_type: str, *, rows: int = SAMPLE) -> Draft:
    """Return the draft of a Parquet file's rows, from its first ones. It blocks: call it in a thread.

    Raises
    ------
    NotFoundError
        There is no such file.
    CorruptFileError
        It is no Parquet file.
    """
    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=rows)
            first = next(batches, None)
            table = pa.Table.from_batches([] if first is None else [first], file.schema_arrow)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except (pa.ArrowException, OSError) as error:
        raise CorruptFileError(f"{path} is no Parquet file that can be read: {error}") from error
    return draft_from_arrow(table, data_type)


def draft_from_arrow(data: pa.Table | pa.RecordBatch | pa.Schema, data_type: str) -> Draft:
    """Return the draft of Arrow data; of a schema alone, without limits. It blocks: call it in a thread.

    Raises
    ------
    InvalidInputError
        No column is of a type that a record can have.
    """
    if isinstance(data, pa.Schema):
        table = data.empty_table()
    else:
        table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data
    specs, notes = [], {}
    for column in table.schema:
        spec = _described(column.name, column.type, nullable=column.nullable)
        if spec is None:
            notes[column.name] = f"left out: no column can hold {column.type}"
            continue
        if table.num_rows:
            spec, note = _bounded(spec, table[column.name])
        else:
            note = ""
        note = ", ".join(filter(None, [_warning(column.type), note]))
        if note:
            notes[identifier(column.name)] = note
        specs.append(spec)
    if not specs:
        raise InvalidInputError(f"no column can be held; there are {table.schema.to_string(show_field_metadata=False)}")
    found = draft_of(data_type, specs, notes=notes, rules=_rules(table))
    return replace(found, key=_key(table, found)) if table.num_rows else found


def _described(name: str, kind: pa.DataType, *, nullable: bool) -> FieldSpec | None:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        element = _described(name, kind.value_type, nullable=kind.value_field.nullable)
        return None if element is None else list_field(name, element, nullable=nullable)
    if pa.types.is_struct(kind):
        parts = [_described(part.name, part.type, nullable=part.nullable) for part in kind]
        known = [part for part in parts if part is not None]
        return struct_field(name, known, nullable=nullable) if parts and len(known) == len(parts) else None
    plain = _plain(kind)
    return None if plain is None else field(name, plain, nullable=nullable)


def _plain(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 and kind.scale >= 0 else None
    tests: tuple[tuple[Any, pa.DataType], ...] = (
        (pa.types.is_boolean, pa.bool_()),
        (pa.types.is_integer, pa.int64()),
        (pa.types.is_floating, pa.float64()),
        (pa.types.is_timestamp, MICROSECONDS),
        (pa.types.is_date, pa.date32()),
        (pa.types.is_string, pa.string()),
        (pa.types.is_large_string, pa.string()),
        (pa.types.is_string_view, pa.string()),
        (pa.types.is_null, pa.string()),
    )
    return next((made for is_one, made in tests if is_one(kind)), None)


def _warning(kind: pa.DataType) -> str:
    if pa.types.is_null(kind):
        return "always null: its type is a guess"
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return "says no time zone: pass tz= when it is stored"
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return "in nanoseconds: what does not fit microseconds is refused"
    return "beyond 9,223,372,036,854,775,807 is refused" if pa.types.is_uint64(kind) else ""


def _bounded(spec: FieldSpec, values: pa.ChunkedArray) -> tuple[FieldSpec, str]:
    """Return the field with what its values suggest, and a word on them."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)  # as in a row: NaN is null
    present = values.drop_null()
    spec = replace(spec, nullable=len(present) < len(values))
    if not len(present) or pa.types.is_nested(spec.type):
        return spec, ""
    if pa.types.is_string(spec.type):
        return _text(spec, present)
    if pa.types.is_boolean(spec.type):
        return spec, ""
    ends = pc.min_max(present)
    low, high = ends["min"], ends["max"]
    note = f"{low} to {high} in {len(values):,} rows"
    if pa.types.is_temporal(spec.type):
        return spec, note
    found = Limits()
    if low.as_py() >= 0:
        found = Limits(gt=0) if low.as_py() > 0 else Limits(ge=0)
        if pa.types.is_floating(spec.type) and high.as_py() <= 1 and len(present) >= 100:
            found = replace(found, le=1)
    return replace(spec, constraints=found.constraints()), note


def _text(spec: FieldSpec, present: pa.ChunkedArray) -> tuple[FieldSpec, str]:
    words = pc.unique(present.cast(pa.string()))
    note = f"{len(words):,} different in {len(present):,} rows"
    if 2 <= len(words) <= _CHOICES and len(present) >= _ROWS_PER_CHOICE * len(words):
        return replace(spec, choices=tuple(sorted(words.to_pylist()))), note
    shortest = pc.min(pc.utf8_length(words)).as_py()
    return replace(spec, constraints=Limits(min_length=1).constraints() if shortest else ()), note


def _rules(table: pa.Table) -> list[Rule]:
    """Propose the orders that are usual between columns and hold in all rows."""
    found = []
    for low, high in dict.fromkeys(pair for order in _ORDERS for pair in combinations(order, 2)):
        if not {low, high} <= set(table.column_names) or not table.num_rows:
            continue
        left, right = table[low], table[high]
        if left.type == right.type and not pa.types.is_nested(left.type) and pc.all(pc.less_equal(left, right)).as_py():
            message = f"{low} {{{low}}} is above {high} {{{high}}}"
            found.append(Rule(f"{low}_above_{high}", low, Comparison(low, "<=", Column(high)), message))
    return found


def _key(table: pa.Table, found: Draft) -> tuple[str, ...]:
    """Add columns of text to the event time until no two rows have the same; where none do, leave the guess."""
    names = {identifier(name): name for name in table.column_names}
    if found.event_time not in names:
        return found.key
    texts = [spec.name for spec in found.fields if pa.types.is_string(spec.type) and not spec.nullable]
    for many in range(len(texts) + 1):
        chosen = (*texts[:many], found.event_time)
        columns = [names[name] for name in chosen]
        if table.group_by(columns).aggregate([]).num_rows == table.num_rows:
            return chosen
    return found.key
