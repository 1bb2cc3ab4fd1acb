from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa

from buffetstore.formats import statistics_json


def stats(values, kind=None) -> tuple:
    found = json.loads(statistics_json(pa.table({"c": pa.array(values, kind)})), parse_float=Decimal)
    return found["minValues"].get("c"), found["maxValues"].get("c"), found["nullCount"].get("c")


def test_numbers() -> None:
    assert stats([3, None, 1]) == (1, 3, 1)
    assert stats([0.5, -1.5]) == (Decimal("-1.5"), Decimal("0.5"), 0)


def test_decimals_keep_every_digit() -> None:
    large = Decimal("1234567890123456789012345678.12345678")
    text = statistics_json(pa.table({"c": pa.array([large, Decimal("-0.00000001")], pa.decimal128(38, 8))}))
    assert '"maxValues":{"c":1234567890123456789012345678.12345678}' in text
    assert '"minValues":{"c":-0.00000001}' in text


def test_instants_are_utc_microseconds_and_enclose_nanoseconds() -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert stats([moment], pa.timestamp("us", tz="America/New_York"))[0] == "2024-01-01T12:00:00.000000Z"
    assert stats([1_999], pa.timestamp("ns", tz="UTC"))[:2] == (
        "1970-01-01T00:00:00.000001Z",
        "1970-01-01T00:00:00.000002Z",
    )
    assert stats([-1], pa.timestamp("ns", tz="UTC"))[:2] == (
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00.000000Z",
    )
    assert stats([7], pa.timestamp("s", tz="UTC"))[0] == "1970-01-01T00:00:07.000000Z"
    assert stats([2**62], pa.timestamp("us", tz="UTC"))[:2] == (None, None)


def test_dates() -> None:
    assert stats([date(1999, 12, 31), date(2024, 1, 2)])[:2] == ("1999-12-31", "2024-01-02")


def test_long_text_is_enclosed() -> None:
    low, high, _ = stats(["a" * 40, "z" * 40])
    assert low == "a" * 32
    assert high == "z" * 31 + "{"
    assert stats(["a" * 32])[:2] == ("a" * 32, "a" * 32)
    assert stats(["\U0010ffff" * 40])[1] == "\U0010ffff" * 40
    assert stats(["x" + "\U0010ffff" * 40])[1] == "y"
    assert stats(["\ud7ff" * 40])[1] == "\ud7ff" * 31 + "\ue000"


def test_nan_leaves_bounds_out_and_infinity_is_a_bound() -> None:
    assert stats([1.0, math.nan]) == (None, None, 0)
    assert stats([1.0, math.inf]) == (1, Decimal("1e999"), 0)
    assert stats([-math.inf, 1.0]) == (Decimal("-1e999"), 1, 0)
    assert '"maxValues":{"x":1e999}' in statistics_json(pa.table({"x": [math.inf]}))


def test_either_zero_encloses_both() -> None:
    for zeros in ([0.0], [-0.0], [0.0, -0.0]):
        low, high, _ = stats(zeros)
        assert (math.copysign(1, low), math.copysign(1, high)) == (-1, 1)


def test_dates_that_have_no_text_leave_bounds_out() -> None:
    far = pa.array([-800_000, 0, 3_000_000], pa.int32()).cast(pa.date32())
    assert stats(far) == (None, None, 0)
    assert stats(far.slice(1, 1)) == ("1970-01-01", "1970-01-01", 0)


def test_text_is_written_as_it_is() -> None:
    assert "\U0010ffff" in statistics_json(pa.table({"日本": ["\U0010ffff"]}))
    assert "日本" in statistics_json(pa.table({"日本": ["\U0010ffff"]}))


def test_columns_without_bounds() -> None:
    assert stats([None, None], pa.int64()) == (None, None, 2)
    assert stats([True, None]) == (True, True, 1)
    assert stats([b"a"]) == (None, None, 0)
    assert stats([[1]], pa.list_(pa.int64())) == (None, None, None)
    assert stats([{"a": 1}]) == (None, None, None)


def test_dictionaries_and_only_the_first_columns() -> None:
    assert stats(pa.array(["b", "a"]).dictionary_encode())[:2] == ("a", "b")
    wide = pa.table({f"c{n}": [n] for n in range(40)})
    assert len(json.loads(statistics_json(wide))["minValues"]) == 32
    assert json.loads(statistics_json(wide, columns=2))["nullCount"] == {"c0": 0, "c1": 0}
