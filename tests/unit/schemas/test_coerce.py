# ruff: noqa: DTZ001 naive times are among what is tested
from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from buffetstore.schemas.coerce import Column, Target
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.natural import natural

MICROSECONDS = pa.timestamp("us", "UTC")
NEW_YORK = "America/New_York"


def coerce(array, kind, tz=None):
    errors = Findings()
    column = Column(Target("x", kind, tz=tz), errors)
    column.add_array(array)
    return column.finish().to_pylist(), [(error.error_type, error.record_index) for error in errors.kept]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_unit_and_zone_of_time(unit):
    moment = datetime(2024, 7, 1, 12, tzinfo=UTC)
    array = pa.array([moment, None], MICROSECONDS).cast(pa.timestamp(unit, "Asia/Tokyo"))
    assert coerce(array, MICROSECONDS) == ([moment, None], [])


def test_nanoseconds_that_do_not_fit_are_found():
    made, errors = coerce(pa.array([1_000, 1_001, None], pa.timestamp("ns", "UTC")), MICROSECONDS)
    assert made == [datetime(1970, 1, 1, microsecond=1, tzinfo=UTC), None, None]
    assert errors == [("datetime_precision", 1)]


def test_clocks_that_are_put_forward_and_back():
    local = pa.array([datetime(2024, 3, 10, 2, 30), datetime(2024, 11, 3, 1, 30), datetime(2024, 7, 1)])
    made, errors = coerce(local, MICROSECONDS, NEW_YORK)
    assert made == [None, None, datetime(2024, 7, 1, 4, tzinfo=UTC)]
    assert sorted(errors) == [("ambiguous_time", 1), ("nonexistent_time", 0)]


def test_zones_after_2037_keep_their_rules():
    made, _ = coerce(pa.array([datetime(2040, 7, 1)]), MICROSECONDS, NEW_YORK)
    assert made == [datetime(2040, 7, 1, 4, tzinfo=UTC)]


def test_days_come_from_the_times_own_zone():
    midnight = pa.array([datetime(2024, 1, 19, 5, tzinfo=UTC)], pa.timestamp("s", NEW_YORK))
    assert coerce(midnight, pa.date32()) == ([date(2024, 1, 19)], [])
    assert coerce(midnight.cast(MICROSECONDS), pa.date32()) == ([None], [("date_from_datetime_inexact", 0)])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal256(40, 2), pa.large_string()])
def test_numbers_of_other_types(kind):
    values = pa.array(["3"] if kind == pa.large_string() else [3]).cast(kind)
    encoded = values.dictionary_encode()
    for target, expected in ((pa.decimal128(18, 8), Decimal(3)), (pa.int64(), 3), (pa.float64(), 3.0)):
        assert coerce(values, target) == ([expected], [])
        assert coerce(encoded, target) == ([expected], [])


def test_a_type_that_never_fits_is_refused_at_every_value():
    made, errors = coerce(pa.array([1, None, 3]), pa.string())
    assert made == [None] * 3
    assert errors == [("string_type", 0), ("string_type", 2)]


def test_a_sliced_column():
    array = pa.array([None, 1.5, float("nan"), 2.5, None]).slice(1, 3)
    assert coerce(array, pa.decimal128(18, 8))[0] == [Decimal("1.5"), None, Decimal("2.5")]


@pytest.mark.parametrize(
    "values", [[1.0, True], [True, 1.0], [1, np.True_], ["a", b"a"], [5, np.datetime64("2024-01-01")]]
)
def test_mixed_values_are_not_taken_for_one_type(values):
    assert natural(values, pa.decimal128(18, 8)) is None


def test_findings_keep_their_rows_across_pieces():
    errors = Findings()
    column = Column(Target("x", pa.int64()), errors)
    column.add_values([1, 2])
    column.add_values([1.5, "x"])
    column.add_nulls(2)
    column.add_array(pa.array([2.5, 3.0]))
    assert column.finish().to_pylist() == [1, 2, None, None, None, None, None, 3]
    assert errors.rows.tolist() == [2, 3, 6]


@pytest.mark.parametrize("text", ["2.2e-311", f"0.{'0' * 60}1", f"1.{'0' * 40}1"])
def test_digits_that_arrow_would_lose_are_found(text):
    made, errors = coerce(pa.array(["1.5", text]), pa.decimal128(22, 2))
    assert made == [Decimal("1.5"), None]
    assert errors == [("decimal_max_places", 1)]


@pytest.mark.parametrize("chunked", [False, True])
def test_codes_of_views_of_text_are_numbers_too(chunked: bool) -> None:
    words = pa.array(["1.5", "2"]).cast(pa.string_view())
    codes = pa.DictionaryArray.from_arrays(pa.array([0, None, 1], pa.uint32()), words)
    column = Column(Target("x", pa.float64()), Findings())
    column.add_array(pa.chunked_array([codes, codes]) if chunked else codes)
    assert column.finish().to_pylist() == [1.5, None, 2.0] * (1 + chunked)
