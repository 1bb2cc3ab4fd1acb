"""Statistics texts of many files to typed columns, widened where their writers are known to cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from buffetstore.expressions import Bounds
from buffetstore.tables.arrays import whole
from buffetstore.tables.schema import stored_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCK = 1 << 20  # bytes that one thread parses at a time
INSTANT = r"(Z|[+-]\d\d:?\d\d)$"
_MICROSECONDS = r"\.\d{6}"
# Writers (deltalake among them) pass decimals through binary floats, which hold 15 digits surely.
_EXACT_DIGITS = 15
_FLOAT_ERROR = Decimal(2) ** -50


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """Rows and bounds of n files; null where a file's text says nothing."""

    rows: Any
    bounds: Mapping[str, Bounds]


def has_bounds(kind: pa.DataType) -> bool:
    """Return whether columns of this type are pruned by."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_boolean(kind)
    )


def parse_statistics(texts: Any, schema: pa.Schema) -> FileStatistics:
    """Return the statistics of the columns of `schema`, one row a text; what cannot be read is null."""
    flat = [field for field in schema if not pa.types.is_nested(field.type)]
    bounded = [field for field in flat if has_bounds(field.type)]
    layout = pa.schema(
        [
            ("numRecords", pa.int64()),
            ("minValues", pa.struct([(stored_name(field), _stored_type(field.type)) for field in bounded])),
            ("maxValues", pa.struct([(stored_name(field), _stored_type(field.type)) for field in bounded])),
            ("nullCount", pa.struct([(stored_name(field), pa.int64()) for field in flat])),
        ]
    )
    found = _read(texts, layout)
    low, high, nulls = (_children(found[name]) for name in ("minValues", "maxValues", "nullCount"))
    nothing = pa.nulls(len(texts))
    bounds = {
        field.name: Bounds(
            _typed(low[stored_name(field)], field.type, upward=False) if field in bounded else nothing,
            _typed(high[stored_name(field)], field.type, upward=True) if field in bounded else nothing,
            nulls[stored_name(field)],
        )
        for field in flat
    }
    return FileStatistics(whole(found["numRecords"]), bounds)


def statistics_struct(schema: pa.Schema) -> pa.StructType:
    """Return the type of a checkpoint's `stats_parsed` for the columns of `schema`."""
    flat = [field for field in schema if not pa.types.is_nested(field.type)]
    bounded = [(field.name, field.type) for field in flat if has_bounds(field.type)]
    sides = {"minValues": bounded, "maxValues": bounded, "nullCount": [(field.name, pa.int64()) for field in flat]}
    # Parquet has no structs without fields.
    return pa.struct([("numRecords", pa.int64()), *((name, pa.struct(held)) for name, held in sides.items() if held)])


def typed_statistics(parsed: Any, schema: pa.Schema, *, exact: bool = False) -> FileStatistics:
    """Return the statistics of a checkpoint's `stats_parsed`, whose values have types already.

    `exact` ones enclose all values; others may come from text that was cut to the millisecond.
    """
    held = _children(parsed)
    count = len(parsed)
    low, high, nulls = (_children_of(held.get(name)) for name in ("minValues", "maxValues", "nullCount"))

    def bound(values: Any, kind: pa.DataType, *, upward: bool) -> Any:
        if values is None or not has_bounds(kind):
            return pa.nulls(count, kind if has_bounds(kind) else pa.null())
        if upward and not exact and pa.types.is_timestamp(kind):
            values = pc.add(values.cast(pa.timestamp("us", tz=values.type.tz)), pa.scalar(999, pa.duration("us")))
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:
            return pa.nulls(count, kind)

    none = pa.nulls(count, pa.int64())
    bounds = {
        field.name: Bounds(
            bound(low.get(stored_name(field)), field.type, upward=False),
            bound(high.get(stored_name(field)), field.type, upward=True),
            nulls[stored_name(field)].cast(pa.int64()) if stored_name(field) in nulls else none,
        )
        for field in schema
        if not pa.types.is_nested(field.type)
    }
    rows = held.get("numRecords")
    return FileStatistics(none if rows is None else rows.cast(pa.int64()), bounds)


def _children_of(column: Any) -> dict[str, Any]:
    return {} if column is None else _children(column)


def without_deleted(known: FileStatistics, vectors: Any) -> FileStatistics:
    """Return what holds of the rows that are left: how many of them are null is known only where none was."""
    if vectors.null_count == len(vectors):
        return known
    gone = pa.array([json.loads(text)["cardinality"] if text else 0 for text in vectors.to_pylist()], pa.int64())
    doubtful = pc.greater(gone, 0)
    zero = pa.scalar(0, pa.int64())
    bounds = {
        name: Bounds(
            held.lowest,
            held.highest,
            pc.if_else(
                pc.and_(doubtful, pc.not_equal(held.null_count, zero)), pa.scalar(None, pa.int64()), held.null_count
            ),
        )
        for name, held in known.bounds.items()
    }
    return FileStatistics(pc.subtract(known.rows, gone), bounds)


def span_of(known: FileStatistics) -> FileStatistics:
    """Return what holds of the rows of all files together, as if they were one file; null where one is unknown."""
    rows = pc.sum(known.rows) if not known.rows.null_count else pa.scalar(None, pa.int64())
    bounds = {}
    for name, held in known.bounds.items():
        nulls = None
        if not held.null_count.null_count:
            # A writer may count wrongly: sums could be equal where the counts of no file are.
            if not pc.any(pc.not_equal(held.null_count, 0)).as_py():
                nulls = 0
            elif rows.is_valid and held.null_count.equals(known.rows):
                nulls = rows.as_py()
        bounds[name] = Bounds(
            _extreme(held.lowest, "min"), _extreme(held.highest, "max"), pa.array([nulls], pa.int64())
        )
    return FileStatistics(pa.array([rows.as_py()], pa.int64()), bounds)


def _extreme(values: pa.Array, side: str) -> pa.Array:
    if pa.types.is_floating(values.type):  # a NaN bounds nothing
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if values.null_count or not len(values):
        return pa.nulls(1, values.type)
    return pa.array([pc.min_max(values)[side]], values.type)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    return kind if pa.types.is_decimal(kind) or pa.types.is_boolean(kind) else pa.string()


def _read(texts: Any, layout: pa.Schema) -> pa.Table:
    if not len(texts):
        return layout.empty_table()
    # Inside JSON a raw line break is white space, so each text becomes one line.
    lines = pc.replace_substring(pc.fill_null(texts, "{}"), "\n", " ")
    lines = pc.if_else(pc.equal(lines, ""), "{}", lines).cast(pa.large_string())
    lines = whole(lines) if isinstance(lines, pa.ChunkedArray) else lines
    together = pa.LargeListArray.from_arrays(pa.array([0, len(lines)], pa.int64()), lines)
    _, ends, data = pc.binary_join(together, pa.scalar("\n", pa.large_string())).buffers()
    data = data.slice(0, int(np.frombuffer(ends, np.int64)[1]))  # its value would be copied
    longest = pc.max(pc.binary_length(lines)).as_py()
    try:
        found = pyarrow.json.read_json(
            pa.BufferReader(data),
            read_options=pyarrow.json.ReadOptions(block_size=max(_BLOCK, longest + 1), use_threads=data.size > _BLOCK),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=layout, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return _read_singly(lines.to_pylist(), layout)
    return found if found.num_rows == len(lines) else _read_singly(lines.to_pylist(), layout)


def _read_singly(lines: list[str], layout: pa.Schema) -> pa.Table:
    """Read text by text, for foreign writers whose values do not have the expected JSON types."""
    columns: dict[str, list[Any]] = {name: [] for name in layout.names}
    for line in lines:
        try:
            found = json.loads(line, parse_float=Decimal)
        except ValueError:
            found = {}
        for field in layout:
            held = found.get(field.name) if isinstance(found, dict) else None
            columns[field.name].append(_converted(held, field.type))
    return pa.table(columns, schema=layout)


def _converted(value: Any, kind: Any) -> Any:
    if pa.types.is_struct(kind):
        held = value if isinstance(value, dict) else {}
        fields = [kind.field(index) for index in range(kind.num_fields)]
        return {field.name: _converted(held.get(field.name), field.type) for field in fields}
    if isinstance(value, Decimal) and pa.types.is_floating(kind):
        value = float(value)
    try:
        return pa.scalar(value, kind).as_py()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _children(column: pa.ChunkedArray | pa.StructArray) -> dict[str, Any]:
    found = whole(column) if isinstance(column, pa.ChunkedArray) else column
    # `flatten` gives the nulls of the struct to its fields.
    return dict(zip([field.name for field in found.type], found.flatten(), strict=True))


def _typed(values: Any, kind: pa.DataType, *, upward: bool) -> Any:
    try:
        if pa.types.is_timestamp(kind):
            return _instants(values, kind, upward=upward)
        if pa.types.is_decimal(kind):
            return _decimals(values, kind, upward=upward)
        return values.cast(kind, safe=not pa.types.is_floating(kind))
    except pa.ArrowInvalid:
        return pa.nulls(len(values), kind)


def _instants(texts: Any, kind: pa.DataType, *, upward: bool) -> Any:
    zoned = pc.match_substring_regex(texts, INSTANT)
    found = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", "")).cast(pa.timestamp("us", tz="UTC"))
    if upward:
        # Text without microseconds may have been cut to the millisecond.
        later = found.cast(pa.int64())
        later = pc.if_else(pc.match_substring_regex(texts, _MICROSECONDS), later, pc.add(later, 999))
        found = later.cast(pa.timestamp("us", tz="UTC"))
    return found if kind.tz is not None else found.cast(pa.timestamp("us"))


def _decimals(values: Any, kind: Any, *, upward: bool) -> Any:
    if kind.precision <= _EXACT_DIGITS:
        return values
    limit = pa.scalar(Decimal(10) ** (_EXACT_DIGITS - kind.scale))
    doubtful = pc.fill_null(pc.greater_equal(pc.abs(values), limit), False)
    if not pc.any(doubtful).as_py():
        return values
    context = Context(prec=80, rounding=ROUND_CEILING if upward else ROUND_FLOOR)
    unit = Decimal(1).scaleb(-kind.scale)
    highest = Decimal(10) ** (kind.precision - kind.scale) - unit

    def widened(value: Decimal | None, *, doubt: bool) -> Decimal | None:
        if value is None or not doubt:
            return value
        error = context.multiply(abs(value), _FLOAT_ERROR)
        moved = context.add(value, error if upward else -error).quantize(unit, context=context)
        return moved if abs(moved) <= highest else None

    pairs = zip(values.to_pylist(), doubtful.to_pylist(), strict=True)
    return pa.array([widened(value, doubt=doubt) for value, doubt in pairs], kind)
