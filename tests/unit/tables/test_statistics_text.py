from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.tables.statistics_text import statistics_texts

KINDS = {
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.date32(): st.dates(),
    pa.timestamp("us", tz="UTC"): st.datetimes(timezones=st.just(UTC)),
    pa.timestamp("us"): st.datetimes(),
    pa.decimal128(18, 8): st.decimals(-(10**9), 10**9, places=8),
    pa.decimal128(38, 2): st.decimals(-(10**30), 10**30, places=2),
}
NAMES = ["a", 'quoted "b"', "日"]
SIDES = ("min", "max", "null_count")


@st.composite
def files(draw) -> pa.Table:
    count = draw(st.integers(0, 5))
    columns = {
        "num_records": pa.array(
            draw(st.lists(st.none() | st.integers(0, 9), min_size=count, max_size=count)), pa.int64()
        ),
        "deletion_vector": pa.array(
            draw(st.lists(st.sampled_from([None, '{"cardinality": 2}']), min_size=count, max_size=count)), pa.string()
        ),
    }
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
        kind = draw(st.sampled_from(list(KINDS)))
        for side in SIDES:
            value, type_ = (KINDS[kind], kind) if side != "null_count" else (st.integers(0, 9), pa.int64())
            held = draw(st.lists(st.none() | value, min_size=count, max_size=count))
            columns[f"{side}.{name}"] = pa.array(held, type_)
    return pa.table(columns)


def plain(value):
    if isinstance(value, float):
        return None if math.isnan(value) else str(value).replace("inf", "1e999")
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        return json.dumps(text + ("Z" if value.tzinfo else ""))
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    return format(value, "f") if isinstance(value, Decimal) else json.dumps(value)


def rendered(*sides) -> str:
    groups = [
        "{" + ",".join(f"{json.dumps(name)}:{plain(value)}" for name, value in side.items() if plain(value)) + "}"
        for side in sides
    ]
    return '"minValues":{},"maxValues":{},"nullCount":{}'.format(*groups)


def one_by_one(found: pa.Table) -> list[str | None]:
    told = []
    for file in found.to_pylist():
        count = file["num_records"]
        sides = [
            {name: file[f"{side}.{name}"] for name in NAMES if file.get(f"{side}.{name}") is not None} for side in SIDES
        ]
        deleted = 2 if file["deletion_vector"] else 0
        told.append(None if count is None else f'{{"numRecords":{count + deleted},{rendered(*sides)}}}')
    return told


@given(files())
def test_they_are_those_of_the_files_one_by_one(found: pa.Table) -> None:
    batch = pa.record_batch(found.to_pydict(), schema=found.schema)
    ours = statistics_texts(batch, NAMES).to_pylist()
    assert [text and json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in ours] == [
        text and json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in one_by_one(found)
    ]


def test_what_json_cannot_say_is_left_out_or_out_of_range() -> None:
    columns = {
        "num_records": [1, 1, 1],
        "deletion_vector": pa.nulls(3, pa.string()),
        "min.x": [math.nan, -math.inf, -0.0],
        "max.x": [math.nan, math.inf, 1.5],
        "null_count.x": [0, 0, 0],
    }
    texts = statistics_texts(pa.record_batch(columns), ["x", "y"]).to_pylist()
    assert [json.loads(text)["minValues"] for text in texts] == [{}, {"x": -math.inf}, {"x": -0.0}]
    assert [json.loads(text)["maxValues"] for text in texts] == [{}, {"x": math.inf}, {"x": 1.5}]


def test_small_decimals_have_no_exponent() -> None:
    batch = pa.record_batch(
        {
            "num_records": [1],
            "deletion_vector": pa.nulls(1, pa.string()),
            "min.d": [date(2024, 1, 1)],
            "max.d": [date(2024, 1, 2)],
            "null_count.d": [0],
            "min.p": pa.array([Decimal("0.00000001")], pa.decimal128(18, 8)),
            "max.p": pa.array([Decimal("1.5")], pa.decimal128(18, 8)),
            "null_count.p": [0],
            "min.t": pa.array([datetime(2024, 1, 1)], pa.timestamp("us")),  # noqa: DTZ001 - it has no zone
            "max.t": pa.array([datetime(2024, 1, 1)], pa.timestamp("us")),  # noqa: DTZ001
            "null_count.t": [0],
        }
    )
    assert statistics_texts(batch, ["d", "p", "t"]).to_pylist() == [
        (
            '{"numRecords":1,"minValues":{"d":"2024-01-01","p":0.00000001,"t":"2024-01-01T00:00:00.000000"},'
            '"maxValues":{"d":"2024-01-02","p":1.50000000,"t":"2024-01-01T00:00:00.000000"},'
            '"nullCount":{"d":0,"p":0,"t":0}}'
        )
    ]
