"""A file of which only the needed ranges are there is read as the whole file is."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.errors import CorruptFileError
from buffetstore.expressions import Comparison, columns_of
from buffetstore.formats import COMPRESSIONS, ParquetFormatter
from buffetstore.formats.chunks import ChunkFile, Chunks, together, within
from buffetstore.formats.footer import contents_of, footer_bytes, parse_footer

KINDS = {
    "symbol": (pa.string(), st.sampled_from(["AAPL", "BTC/USD", "日経", "", None])),
    "text": (pa.string(), st.text(max_size=5) | st.none()),
    "n": (pa.int64(), st.integers(-5, 5) | st.none()),
    "x": (pa.float64(), st.floats(allow_infinity=False) | st.none()),
    "price": (pa.decimal128(18, 8), st.decimals("-9", "9", places=2, allow_nan=False) | st.none()),
    "when": (pa.timestamp("us", tz="UTC"), st.integers(0, 10**9) | st.none()),
    "flag": (pa.bool_(), st.booleans() | st.none()),
    "raw": (pa.binary(), st.binary(max_size=4) | st.none()),
    "none": (pa.string(), st.none()),
    "models": (pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())])), st.none() | st.just([{"name": "a"}])),
    "labels": (pa.map_(pa.string(), pa.int64()), st.none() | st.just([("k", 1)])),
    "s": (pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int32()))]), st.none() | st.just({"a": 1, "b": [2]})),
    "s.a": (pa.int32(), st.integers(0, 3)),
}


@st.composite
def files(draw: st.DrawFn) -> tuple[pa.Table, bytes]:
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True))
    rows = draw(st.integers(0, 60))
    columns = {
        name: pa.array(draw(st.lists(KINDS[name][1], min_size=rows, max_size=rows)), KINDS[name][0]) for name in names
    }
    table = pa.table(columns)
    if draw(st.booleans()):
        formatter = ParquetFormatter(compression=draw(st.sampled_from(COMPRESSIONS)))
        object.__setattr__(formatter, "row_group_rows", draw(st.integers(1, 40)))
        return table, bytes(formatter.encode(table).data)
    sink = pa.BufferOutputStream()
    version, pages = draw(st.sampled_from(["1.0", "2.0"])), draw(st.sampled_from([64, 1024 * 1024]))
    pq.write_table(
        table, sink, row_group_size=draw(st.integers(1, 40)), data_page_version=version, data_page_size=pages
    )
    return table, sink.getvalue().to_pybytes()


def parts_of(data: bytes, schema: pa.Schema, columns, predicate, *, stored=None, constants=None) -> Chunks:
    footer = data[-footer_bytes(data[-8:]) :]
    metadata = parse_footer(footer, len(data))
    contents = contents_of(metadata, schema, stored, constants)
    names = [*columns, *(sorted(columns_of(predicate) - set(columns)) if predicate is not None else ())]
    ranges = contents.ranges(names, contents.groups(predicate))
    spans = together(ranges)
    bodies = within(ranges, spans, [data[start:end] for start, end in spans])
    return Chunks(metadata, len(data), ranges, bodies)


@given(files(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_ranges_are_all_that_is_read(file, data) -> None:
    table, held = file
    columns = data.draw(st.lists(st.sampled_from(table.column_names), unique=True))
    predicate = None
    if "n" in table.column_names and data.draw(st.booleans()):
        predicate = Comparison("n", data.draw(st.sampled_from(["==", "<", ">="])), data.draw(st.integers(-6, 6)))
    gone = np.array(sorted(data.draw(st.sets(st.integers(0, max(table.num_rows - 1, 0))))), np.int64)
    deleted = gone if table.num_rows else None
    formatter = ParquetFormatter()
    whole = formatter.decode(held, columns, predicate, schema=table.schema, deleted=deleted)
    parts = parts_of(held, table.schema, columns, predicate)
    found = formatter.decode(parts, columns, predicate, schema=table.schema, deleted=deleted)
    assert found.schema == whole.schema
    assert found.num_rows == whole.num_rows
    assert str(found.to_pylist()) == str(whole.to_pylist())  # NaN is NaN


@given(st.lists(st.integers(0, 3_000_000), min_size=2, max_size=40, unique=True))
def test_what_is_read_together_holds_every_range_and_little_else(edges) -> None:
    edges = sorted(edges)[: len(edges) // 2 * 2]
    ranges = list(zip(edges[::2], edges[1::2], strict=True))
    spans = together(ranges)
    assert all(any(first <= start and end <= last for first, last in spans) for start, end in ranges)
    assert sum(end - start for start, end in spans) <= 1.5 * sum(end - start for start, end in ranges)
    data = np.arange(edges[-1], dtype=np.uint8).tobytes()
    bodies = within(ranges, spans, [data[start:end] for start, end in spans])
    assert [bytes(body) for body in bodies] == [data[start:end] for start, end in ranges]


def test_columns_by_other_names_and_constants_are_found() -> None:
    stored = pa.schema(
        [pa.field("col-7", pa.int64(), metadata={"PARQUET:field_id": "7"}), pa.field("col-8", pa.int64())]
    )
    physical = pa.table({"unused": ["x" * 50] * 90, "col-8": range(90), "col-7": range(90, 180)})
    physical = physical.cast(pa.schema([physical.schema.field(0), stored.field(1), stored.field(0)]))
    sink = pa.BufferOutputStream()
    pq.write_table(physical, sink, row_group_size=30)
    held = sink.getvalue().to_pybytes()
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("day", pa.string())])
    stored = stored.append(schema.field("day"))
    constants = {"day": pa.scalar("2024-01-01")}
    parts = parts_of(held, schema, ["a", "day"], Comparison("b", ">", 70), stored=stored, constants=constants)
    assert len(parts.spans) == 2, "two columns of the last row group"
    found = ParquetFormatter().decode(
        parts, ["a", "day"], Comparison("b", ">", 70), schema=schema, stored=stored, constants=constants
    )
    assert found.to_pydict() == {"a": list(range(161, 180)), "day": ["2024-01-01"] * 19}


def test_bytes_that_are_not_there_cannot_be_read() -> None:
    held = bytes(ParquetFormatter().encode(pa.table({"a": [Decimal(1)], "b": [2]})).data)
    schema = pa.schema([("a", pa.decimal128(1, 0)), ("b", pa.int64())])
    parts = parts_of(held, schema, ["a"], None)
    with pytest.raises(CorruptFileError, match="not in what the footer says"):
        ChunkFile(parts).read(4000)
    with pytest.raises(CorruptFileError):
        ParquetFormatter().decode(parts, ["b"], schema=schema)


@pytest.mark.parametrize("cut", [0, 3, 7, 20])
def test_a_footer_that_is_none_is_refused(cut) -> None:
    held = bytes(ParquetFormatter().encode(pa.table({"a": [1]})).data)
    footer = held[-footer_bytes(held) :]
    with pytest.raises(CorruptFileError):
        parse_footer(footer[:cut], len(held))
    with pytest.raises(CorruptFileError):
        parse_footer(footer[: len(footer) // 2] + footer[-8:], len(held))
    with pytest.raises(CorruptFileError, match="a column is at"):
        parse_footer(footer, len(footer) + 10)
