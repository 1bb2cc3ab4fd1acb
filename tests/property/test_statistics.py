"""Bounds enclose every value, as Delta's JSON and as the typed columns that are read from it."""

from __future__ import annotations

import json
import math
from datetime import UTC, date

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from buffetstore.formats import statistics_json
from buffetstore.tables.file_statistics import parse_statistics

TYPES = {
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "f": (pa.float64(), st.floats()),
    "h": (pa.float32(), st.floats(width=32)),
    "s": (pa.string(), st.text(max_size=50)),
    "p": (pa.decimal128(38, 8), st.decimals(-(10**29), 10**29, places=8)),
    "q": (pa.decimal128(18, 8), st.decimals(-(10**9), 10**9, places=8)),
    "d": (pa.date32(), st.dates()),
    "t": (pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(UTC))),
    "b": (pa.bool_(), st.booleans()),
    "r": (pa.binary(), st.binary(max_size=5)),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in TYPES.items()])
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in TYPES.items()}), max_size=5)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_bounds_enclose_every_value(rows) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    text = statistics_json(table)
    assert json.loads(text)["numRecords"] == len(rows)
    known = parse_statistics(pa.array([None, text]), SCHEMA)
    assert known.rows.to_pylist() == [None, len(rows)]
    for name, bounds in known.bounds.items():
        values = [value for value in table[name].to_pylist() if value is not None]
        assert bounds.null_count.to_pylist() == [None, len(rows) - len(values)]
        assert bounds.lowest[0].as_py() is bounds.highest[0].as_py() is None
        low, high = bounds.lowest[1].as_py(), bounds.highest[1].as_py()
        for value in values:
            if isinstance(value, float) and math.isnan(value):
                assert low is high is None
            else:
                assert low is None or low <= value
                assert high is None or high >= value


@settings(max_examples=100, deadline=None)
@given(st.lists(st.decimals(-(10**9) + 1, 10**9 - 1, places=6), min_size=1))
def test_decimals_of_up_to_fifteen_digits_are_exact(values) -> None:
    kind = pa.decimal128(15, 6)
    text = statistics_json(pa.table({"p": pa.array(values, kind)}))
    bounds = parse_statistics(pa.array([text]), pa.schema([("p", kind)])).bounds["p"]
    assert (bounds.lowest[0].as_py(), bounds.highest[0].as_py()) == (min(values), max(values))


@settings(max_examples=100, deadline=None)
@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: moment.year < 9999))
def test_a_foreign_maximum_cut_to_milliseconds_still_encloses(moment) -> None:
    cut = moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    text = json.dumps({"numRecords": 1, "minValues": {"t": cut}, "maxValues": {"t": cut}, "nullCount": {"t": 0}})
    bounds = parse_statistics(pa.array([text]), pa.schema([("t", pa.timestamp("us", tz="UTC"))])).bounds["t"]
    assert bounds.lowest[0].as_py() <= moment <= bounds.highest[0].as_py()


def test_what_cannot_be_read_is_unknown() -> None:
    schema = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("d", pa.date32())])
    texts = [
        '{"numRecords": 2, "minValues": {"n": 1, "x": 0.5, "d": "2024-01-01"}, "nullCount": {"n": 0}}',
        '{"numRecords": 2, "minValues": {"n": "one", "x": "NaN", "d": "2024-01-01"}}',
        "not json",
        "",
        "[]",
        '{\n "numRecords": 3,\n "unknown": {"a": [1]}}',
        None,
    ]
    known = parse_statistics(pa.array(texts), schema)
    assert known.rows.to_pylist() == [2, 2, None, None, None, 3, None]
    assert known.bounds["n"].lowest.to_pylist() == [1, None, None, None, None, None, None]
    assert known.bounds["x"].lowest.to_pylist() == [0.5, None, None, None, None, None, None]
    assert known.bounds["d"].lowest.to_pylist()[:3] == [date(2024, 1, 1), date(2024, 1, 1), None]
