"""Times in nanoseconds are split, kept and joined again, whatever form they come in; rows and columns alike."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from buffetstore.errors import ConfigurationError, InvalidInputError
from buffetstore.schemas import (
    Mapping,
    Nanoseconds,
    Record,
    SchemaManager,
    Timestamp,
    Trade,
    contract_of,
    document_bytes,
    load_contract,
    with_nanoseconds,
)
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.nanoseconds import split_value

MANAGER = SchemaManager()
CONTRACT = contract_of(Trade)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEAST, MOST = -(2**63) + 1, 2**63 - 1
counts = st.one_of(
    st.integers(1_600_000_000 * 10**9, 1_800_000_000 * 10**9),
    st.integers(LEAST, MOST),
    st.integers(-2_000, 2_000),
    st.integers(-(10**9), 10**9).map(lambda micros: micros * 1_000),
)


def trades(stamps: Any, **columns: Any) -> dict[str, Any]:
    count = len(stamps)
    return {
        "symbol": ["AAPL"] * count,
        "timestamp": stamps,
        "sequence": list(range(count)),
        "data_source": ["feed"] * count,
        "price": [1.5] * count,
        "size": [1] * count,
        **columns,
    }


def text(count: int) -> str:
    seconds, rest = divmod(count, 10**9)
    return f"{np.datetime64(seconds, 's')}.{rest:09}Z"


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def shapes(stamps: list[int]) -> dict[str, Any]:
    arrow = pa.array(stamps, pa.timestamp("ns", "UTC"))
    texts = [text(count) for count in stamps]
    pandas = pd.to_datetime(pd.Series(stamps, dtype="int64"), utc=True, unit="ns")
    return {
        "Arrow": trades(arrow),
        "Arrow table": pa.table(trades(arrow)),
        "pandas": pd.DataFrame(trades(pandas)),
        "polars": pl.from_arrow(pa.table(trades(arrow))),
        "texts": trades(pa.array(texts)),
        "rows of texts": rows_of(trades(texts)),
        "rows of pandas": rows_of(trades(list(pandas))),
    }


@given(st.lists(counts, min_size=1, max_size=6))
def test_every_form_keeps_every_nanosecond(stamps: list[int]) -> None:
    expected = [divmod(count, 1_000) for count in stamps]
    for name, data in shapes(stamps).items():
        found = MANAGER.validate_data(data, "trades", now=NOW)
        assert found.is_valid, (name, found.errors)
        assert found.accepted.schema == CONTRACT.schema
        assert found.accepted["timestamp"].cast(pa.int64()).to_pylist() == [micros for micros, _ in expected], name
        kept = found.accepted["timestamp_nanoseconds"].to_pylist()
        assert kept == [rest or None for _, rest in expected], name
        joined = with_nanoseconds(found.accepted, CONTRACT)
        assert joined["timestamp"].cast(pa.int64()).to_pylist() == stamps, name
        assert joined.column_names == [n for n in CONTRACT.schema.names if n != "timestamp_nanoseconds"]
        again = MANAGER.validate_data(joined.drop_columns(["created_at"]), "trades", now=NOW)
        assert again.accepted.equals(found.accepted), name


@given(st.lists(counts, min_size=1, max_size=4))
def test_records_take_times_as_columns_do(stamps: list[int]) -> None:
    for row in rows_of(trades([text(count) for count in stamps])):
        made = Trade(**row)
        [found] = take_in([row], CONTRACT, now=NOW).table.to_pylist()
        assert made.timestamp == found["timestamp"]
        assert made.timestamp_nanoseconds == found["timestamp_nanoseconds"]
        assert (
            take_in([made], CONTRACT, now=NOW).table.to_pylist()[0]["timestamp_nanoseconds"]
            == (found["timestamp_nanoseconds"])
        )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-02T03:04:05.123456789Z", ("2024-01-02T03:04:05.123456Z", 789)),
        ("2024-01-02T03:04:05,1234567+02:00", ("2024-01-02T03:04:05,123456+02:00", 700)),
        ("2024-01-02T03:04:05.123456000Z", ("2024-01-02T03:04:05.123456Z", 0)),
        ("2024-01-02T03:04:05.123456789000Z", ("2024-01-02T03:04:05.123456Z", 789)),
        ("2024-01-02T03:04:05.1234567891Z", ("2024-01-02T03:04:05.1234567891Z", 0)),
        ("2024-01-02T03:04:05.5Z", ("2024-01-02T03:04:05.5Z", 0)),
        ("", ("", 0)),
        (None, (None, 0)),
        (np.datetime64("1969-12-31T23:59:59.999999999"), (np.datetime64("1969-12-31T23:59:59.999999"), 999)),
        (np.datetime64("NaT"), None),
        (np.datetime64("2024-01-02T03:04:05.123456789123", "ps"), None),
    ],
)
def test_a_value_is_split(value: Any, expected: Any) -> None:
    found, extra = split_value(value)
    assert (str(found), extra) == ((str(value), 0) if expected is None else (str(expected[0]), expected[1]))


MIXED = [
    "2024-01-02T03:04:05.000000001Z",
    "2024-01-02T03:04:05Z",
    None,
    "2024-01-02T03:04:05.1234567891Z",
    "soon",
    "2024-01-02T03:04:06.5-05:00",
    "2024-01-02T03:04:06.000000017-05:00",
]


@pytest.mark.parametrize("make", [lambda columns: columns, rows_of])
def test_what_is_finer_than_nanoseconds_is_refused(make: Any) -> None:
    found = MANAGER.validate_data(make(trades(MIXED)), "trades", now=NOW)
    assert [(e.record_index, e.error_type) for e in found.errors] == [
        (2, "missing"),
        (3, "datetime_precision"),
        (4, "datetime_parsing"),
    ]
    assert found.accepted["timestamp_nanoseconds"].to_pylist() == [1, None, None, 17]


def test_local_times_keep_their_nanoseconds() -> None:
    stamps = pa.array([1_704_164_645_123_456_789], pa.timestamp("ns"))
    found = MANAGER.validate_data(trades(stamps), "trades", tz="America/New_York", now=NOW)
    assert with_nanoseconds(found.accepted, CONTRACT)["timestamp"][0].value == 1_704_182_645_123_456_789


def test_nanoseconds_may_come_in_their_own_column() -> None:
    stamps = [datetime(2024, 1, 2, tzinfo=UTC)] * 3
    found = MANAGER.validate_data(trades(stamps, timestamp_nanoseconds=[0, 999, None]), "trades", now=NOW)
    assert found.accepted["timestamp_nanoseconds"].to_pylist() == [0, 999, None]
    refused = MANAGER.validate_data(trades(stamps, timestamp_nanoseconds=[-1, 1_000, 40_000]), "trades", now=NOW)
    assert [e.error_type for e in refused.errors] == ["greater_than_equal", "less_than_equal", "int_parsing_size"]


def test_two_opinions_of_one_nanosecond_are_an_error() -> None:
    stamps = pa.array([1, 1_001, 2_000], pa.timestamp("ns", "UTC"))
    data = trades(stamps, timestamp_nanoseconds=[1, 2, 3])
    found = MANAGER.validate_data(data, "trades", now=NOW)
    [error] = found.errors
    assert (error.record_index, error.error_type) == (1, "nanoseconds_conflict")
    assert error.message == "timestamp_nanoseconds is 2, the time itself has 1"
    assert found.accepted["timestamp_nanoseconds"].to_pylist() == [1, 3]
    row = rows_of(trades(["2024-01-02T00:00:00.000000001Z"], timestamp_nanoseconds=[2]))[0]
    with pytest.raises(ValidationError, match="timestamp_nanoseconds is 2, the time itself has 1"):
        Trade(**row)


def test_types_without_the_field_refuse_nanoseconds_as_before() -> None:
    data = {"symbol": ["A"], "timestamp": pa.array([1], pa.timestamp("ns", "UTC")), "price": [1.0], "volume": [1]}
    found = MANAGER.validate_data(data, "market_data", data_source="x", now=NOW)
    assert [error.error_type for error in found.errors] == ["datetime_precision"]


def test_the_field_belongs_to_a_time() -> None:
    with pytest.raises(ConfigurationError, match="'nanos' keeps Nanoseconds, but of no Timestamp field"):

        class Stray(Record, data_type="stray", version="1.0.0", key="timestamp"):
            timestamp: Timestamp
            nanos: Nanoseconds | None = None


def test_any_time_may_have_one_and_a_default_of_zero() -> None:
    class Fill(Record, data_type="fill", version="1.0.0", key="timestamp"):
        timestamp: Timestamp
        sent: Timestamp | None = None
        sent_nanoseconds: Nanoseconds = 0

    sent = pa.array([5, None, 3_000], pa.timestamp("ns", "UTC"))
    data = {"timestamp": [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)], "sent": sent}
    found = SchemaManager([Fill]).validate_data(data, "fill", now=NOW)
    assert found.accepted["sent_nanoseconds"].to_pylist() == [5, 0, 0]
    assert with_nanoseconds(found.accepted, contract_of(Fill))["sent"].equals(pa.chunked_array([sent]))
    stored = load_contract(document_bytes(contract_of(Fill)))
    assert take_in(data, stored, now=NOW).table["sent_nanoseconds"].to_pylist() == [5, 0, 0]


def test_joining_is_for_what_is_there_and_for_the_years_that_fit() -> None:
    table = MANAGER.validate_data(trades(["2300-01-01T00:00:00.000000001Z"]), "trades", now=NOW).accepted
    assert with_nanoseconds(table.select(["symbol", "timestamp"]), CONTRACT).equals(
        table.select(["symbol", "timestamp"])
    )
    with pytest.raises(InvalidInputError, match="nanoseconds count from 1677 to 2262"):
        with_nanoseconds(table, CONTRACT)
    assert with_nanoseconds(table.slice(1), CONTRACT).num_rows == 0


def test_a_count_of_milliseconds_has_no_nanoseconds() -> None:
    mapping = Mapping(milliseconds="ms", date=date(2024, 1, 2), tz="UTC")
    data = {name: value for name, value in trades([0]).items() if name != "timestamp"} | {"ms": [1]}
    found = MANAGER.validate_data(data, "trades", mapping=mapping, now=NOW)
    assert found.accepted["timestamp_nanoseconds"].to_pylist() == [None]
