"""No engine that prunes by our statistics loses a row: each value is found by what it equals and lies between."""

from __future__ import annotations

import asyncio
import math
import operator
import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable

deltalake = pytest.importorskip("deltalake")
polars = pytest.importorskip("polars")

OPERATORS = {"==": operator.eq, ">=": operator.ge, "<=": operator.le}
UTC_INSTANT = pa.timestamp("us", tz="UTC")
EDGES = [
    (pa.decimal128(38, 8), [["-123456789012345678901234567890.12345678"], ["0.00000001", "-0.00000001"]]),
    (pa.decimal128(18, 8), [["9999999999.99999998", "9999999999.99999999"], ["1234567890.12345678"], ["0.1"]]),
    (pa.int64(), [[2**63 - 1, 2**63 - 2], [-(2**63)], [2**53 + 1]]),
    (pa.float32(), [[0.1, 0.2], [16777216.0]]),
    (pa.float64(), [[0.1, 0.3], [1e308, 5e-324], [math.inf], [-math.inf, 1.0]]),
    (pa.string(), [["a" * 40, "b" * 40], ["\U0010ffff" * 40], ["\ud7ff" * 32 + "x"], ['"\\\n\u2028\x00', ""], ["😀"]]),
    (pa.bool_(), [[True], [False], [True, False]]),
    (pa.date32(), [[date(1, 1, 1)], [date(9999, 12, 31)], [date(1969, 12, 31)]]),
    (UTC_INSTANT, [
        [datetime(2024, 1, 1, 0, 0, 0, 1, UTC)], [datetime(2024, 1, 1, 0, 0, 0, 999, UTC)],
        [datetime(1, 1, 1, tzinfo=UTC)],
        [datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)], [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)],
    ]),
]  # fmt: skip
CHARACTERS = st.text(st.sampled_from("a\U0010ffff\U0010fffe\ud7ff\ue000\uffff😀é\x00"), max_size=40)
VALUES = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.float64(), st.floats(allow_nan=False).filter(lambda value: value != 0)),
    (pa.string(), CHARACTERS | st.text(max_size=40)),
    (pa.decimal128(38, 8), st.decimals(-(10**29), 10**29, places=8)),
    (pa.decimal128(18, 8), st.decimals(-(10**9), 10**9, places=8)),
    (pa.date32(), st.dates()),
    (UTC_INSTANT, st.datetimes(timezones=st.just(UTC))),
    (pa.bool_(), st.booleans()),
]


def literal(value: Any, kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"arrow_cast('{value:f}', 'Decimal128({kind.precision}, {kind.scale})')"
    if pa.types.is_timestamp(kind):
        return f"arrow_cast('{value.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
    if pa.types.is_floating(kind):
        return f"arrow_cast('{value!r}', '{'Float32' if kind == pa.float32() else 'Float64'}')"
    if pa.types.is_date(kind):
        return f"DATE '{value.isoformat()}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def counts(folder: Path, kind: pa.DataType, op: str, value: Any) -> dict[str, int]:
    """Return how many rows each engine finds."""
    table = deltalake.DeltaTable(folder)
    sql = "=" if op == "==" else op
    batches = (
        deltalake.QueryBuilder().register("t", table).execute(f"SELECT x FROM t WHERE x {sql} {literal(value, kind)}")
    )
    wanted = pa.array([value], kind)
    frame = polars.scan_delta(str(folder))
    column, given_value = polars.col("x"), polars.from_arrow(wanted).item()
    if pa.types.is_decimal(kind):
        given_value = polars.lit(given_value, dtype=polars.Decimal(kind.precision, kind.scale))
    return {
        "deltalake": table.to_pyarrow_table(filters=[("x", sql, value)]).num_rows,
        "DataFusion": sum(batch.num_rows for batch in batches),
        "Polars": frame.filter(OPERATORS[op](column, given_value)).collect().height,
    }


async def check(files: list[list[Any]], kind: pa.DataType) -> None:
    """Write a file for each list, and look for every value."""
    arrays = [
        pa.array([Decimal(value) if pa.types.is_decimal(kind) else value for value in file], kind) for file in files
    ]
    stored = [value for array in arrays for value in array.to_pylist()]
    with tempfile.TemporaryDirectory() as folder:
        async with DeltaTable.create(LocalStore(folder), "t", pa.schema([("x", kind)])) as table:
            for array in arrays:
                await table.append(pa.table({"x": array}))
            for value in dict.fromkeys(stored):
                for op, holds in OPERATORS.items():
                    expected = sum(holds(each, value) for each in stored)
                    ours = await table.to_arrow(filters=Comparison("x", op, value))
                    found = {"ours": ours.num_rows} | await asyncio.to_thread(
                        counts, Path(folder, "t"), kind, op, value
                    )
                    assert found == dict.fromkeys(found, expected), (op, value)


@pytest.mark.parametrize(("kind", "files"), EDGES, ids=str)
async def test_rows_at_the_edges_are_found_by_every_engine(kind, files) -> None:
    await check(files, kind)


@settings(max_examples=30)
@given(st.data())
def test_every_value_is_found_by_every_engine(data) -> None:
    kind, values = data.draw(st.sampled_from(VALUES))
    files = data.draw(st.lists(st.lists(values, min_size=1, max_size=2), min_size=1, max_size=3))
    asyncio.run(check(files, kind))
