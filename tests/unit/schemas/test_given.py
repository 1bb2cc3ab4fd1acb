"""Refused rows as they were given, what is wrong with each, and how often."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel

from buffetstore.errors import CorruptFileError
from buffetstore.schemas import Mapping, MarketData, Record, SchemaManager, Sensitivity
from buffetstore.schemas.exact_json import FineTime, Opaque, from_json, to_json
from buffetstore.schemas.given import Reading, column_of, values_of
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations

MANAGER = SchemaManager()
NOON = datetime(2024, 1, 19, 12, tzinfo=UTC)


class Side(StrEnum):
    BUY = "buy"


class Lot(IntEnum):
    ROUND = 100


class Leg(BaseModel):
    name: str
    weight: float


def bar(**fields: Any) -> dict[str, Any]:
    return {"symbol": "AAPL", "timestamp": NOON, "price": 185.64, "volume": 5, "data_source": "test"} | fields


def distinct(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows at moments of their own."""
    return [row | {"timestamp": NOON + timedelta(minutes=number)} for number, row in enumerate(rows)]


EASTERN = timezone(timedelta(hours=-5))
ROUND_TRIPS: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    10**5_000,
    1.5,
    -0.0,
    1e-320,
    float("inf"),
    "",
    '日経 \N{GRINNING FACE} \x00 \\ "',
    "\ud800 half a pair",
    "x" * 1_000_000,
    Decimal("1.50"),
    Decimal("1E+30"),
    Decimal("-Infinity"),
    NOON,
    datetime(2024, 1, 19, 9, 30, 0, 123456, EASTERN),
    datetime(2024, 1, 19, 9, 30),  # noqa: DTZ001 - naive on purpose
    datetime(1, 1, 1, tzinfo=UTC),
    date(2024, 1, 19),
    time(9, 30),
    timedelta(days=-1, microseconds=5),
    b"\x00\xff",
    [],
    [1, "a", None, [2.5]],
    {},
    {"a": 1, "b": [{"c": Decimal(1)}]},
    {"decimal": "1.5"},
    {"struct": {"float": "nan"}},
    np.float32(0.1),
]


@pytest.mark.parametrize(
    "value",
    ROUND_TRIPS,
    ids=lambda value: (
        f"{type(value).__name__} {value!r}"[:40] if not isinstance(value, int) or value < 2**64 else "huge"
    ),
)
def test_values_read_back_as_what_was_given(value: Any) -> None:
    text = to_json({"value": value, "other": [value]})
    text.encode()
    found = from_json(text)
    assert list(found) == ["value", "other"]
    assert type(found["value"]) is type(value)
    assert found == {"value": value, "other": [value]}
    if isinstance(value, datetime):
        assert found["value"].utcoffset() == value.utcoffset()
    if isinstance(value, float | Decimal):
        assert str(found["value"]) == str(value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (float("nan"), "nan"),
        (Decimal("NaN"), "NaN"),
        (pd.NA, None),
        (pd.NaT, None),
        (np.datetime64("NaT"), None),
        (np.int32(5), 5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.float64(1.5), 1.5),
        (np.array([1, 2]), [1, 2]),
        ((1, 2), [1, 2]),
        (Side.BUY, "buy"),
        (Lot.ROUND, 100),
        (Leg(name="a", weight=1), {"name": "a", "weight": 1.0}),
        (pd.Timestamp("2024-01-19 12:00", tz="UTC"), NOON),
        (np.datetime64("1970-01-19T12:00:00.000000000001"), Opaque("datetime64", "1970-01-19T12:00:00.000000000001")),
        (np.datetime64("2024-01-19"), datetime(2024, 1, 19)),  # noqa: DTZ001
        (UUID(int=5), Opaque("UUID", "00000000-0000-0000-0000-000000000005")),
        ({1: 2}, Opaque("dict", "{1: 2}")),
        (Opaque("UUID", "5"), Opaque("UUID", "5")),
        (1 + 2j, Opaque("complex", "(1+2j)")),
    ],
    ids=repr,
)
def test_what_stands_for_values_that_json_has_no_form_for(given: Any, found: Any) -> None:
    (made,) = from_json(to_json({"value": given})).values()
    assert (str(made) if isinstance(made, float | Decimal) and made != made else made) == found  # noqa: PLR0124


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_nanoseconds_stay(zone: str | None) -> None:
    moment = pd.Timestamp("1969-12-31 12:00:00.123456789", tz=zone)
    (found,) = from_json(to_json({"value": moment})).values()
    assert isinstance(found, FineTime)
    assert (found.isoformat(), found.nanosecond) == (moment.isoformat(), 789)
    assert from_json(to_json({"value": found})) == {"value": found}
    if zone is None:
        assert from_json(to_json({"value": moment.to_datetime64()})) == {"value": found}


class Spiteful:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_written_is_named() -> None:
    ring: list[Any] = []
    ring.append(ring)
    found = from_json(to_json({"ring": ring, "spiteful": Spiteful(), "price": 5, 7: "seven"}))
    assert found["price"] == 5
    assert found["7"] == "seven"
    assert (found["ring"].kind, found["spiteful"].kind) == ("list", "Spiteful")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": {"decimal": "x"}}', '{"a": {"object": [1]}}', "null"])
def test_json_that_is_no_row(text: str) -> None:
    with pytest.raises(CorruptFileError, match="no row"):
        from_json(text)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "b"], pa.string()),
        ([1, 2], pa.int64()),
        ([1.5, float("nan")], pa.float64()),
        ([Decimal("1.5"), Decimal("10.25")], pa.decimal128(4, 2)),
        ([b"x"], pa.binary()),
        ([True, None], pa.bool_()),
        ([date(2024, 1, 1)], pa.date32()),
        ([NOON, None], pa.timestamp("us", "UTC")),
        ([{"a": 1}, None], pa.struct({"a": pa.int64()})),
        ([None, None], pa.null()),
        ([1, "a"], pa.string()),
        ([1, 2.5], pa.string()),
        ([1, True], pa.string()),
        ([2**70], pa.string()),
        (["\ud800"], pa.string()),
        ([{"a": 1}, {"b": 1}], pa.string()),
        ([UUID(int=1)], pa.string()),
    ],
    ids=repr,
)
def test_a_column_of_one_type_keeps_it_and_any_other_is_json(values: list[Any], kind: pa.DataType) -> None:
    found = column_of(values)
    assert found.type == kind
    if kind == pa.string() and not all(value is None or isinstance(value, str) for value in values):
        read = [from_json(f'{{"v": {text}}}')["v"] for text in found.to_pylist()]
        assert [type(each) for each in read] == [Opaque if isinstance(each, UUID) else type(each) for each in values]


def test_arrow_values_are_not_changed() -> None:
    moments = pa.array([1, 1_000, None], pa.timestamp("ns", "UTC"))
    fine, plain, none = values_of(moments)
    assert (fine.isoformat(), fine.nanosecond) == ("1970-01-01T00:00:00.000000001+00:00", 1)
    assert (plain, type(plain), none) == (datetime(1970, 1, 1, 0, 0, 0, 1, UTC), datetime, None)
    before = pa.array([-1], pa.timestamp("ns"))
    assert values_of(before)[0].isoformat() == "1969-12-31T23:59:59.999999999"
    singles = values_of(pa.array([0.1, None], pa.float32()))
    assert (str(singles[0]), type(singles[0]), singles[1]) == ("0.1", np.float32, None)
    nested = pa.array([{"at": [1, None]}, None, {"at": None}], pa.struct({"at": pa.list_(pa.timestamp("ns"))}))
    assert values_of(nested)[0]["at"][0].nanosecond == 1
    assert values_of(nested)[1:] == [None, {"at": None}]
    assert values_of(nested.slice(1)) == [None, {"at": None}]
    coded = pa.array(["a", "b", "a"]).dictionary_encode()
    assert values_of(pa.chunked_array([coded, coded])) == ["a", "b", "a"] * 2
    for kind in (pa.duration("ns"), pa.time64("ns"), pa.map_(pa.string(), pa.int64())):
        assert len(values_of(pa.array([None], kind))) == 1
    assert values_of(pa.array([5, 5_000], pa.time64("ns"))) == [Opaque("time64[ns]", "5 ns"), time(0, 0, 0, 5)]
    assert values_of(pa.array([-5], pa.duration("ns"))) == [Opaque("duration[ns]", "-5 ns")]


ROWS = distinct(bar(), bar(price=-1.5), bar(volume=-5), bar(price=1e30), bar())
SOURCES: dict[str, Any] = {
    "dicts": ROWS,
    "arrow": pa.Table.from_pylist(ROWS),
    "reader": None,
    "pandas": pd.DataFrame(ROWS),
    "polars": pl.DataFrame(ROWS),
    "columns": {name: [row[name] for row in ROWS] for name in ROWS[0]},
}


@pytest.mark.parametrize("kind", SOURCES)
def test_refused_rows_of_any_source(kind: str) -> None:
    data = pa.Table.from_pylist(ROWS).to_reader() if kind == "reader" else SOURCES[kind]
    found = MANAGER.validate_data(data, "market_data")
    assert list(found.rejected) == [1, 2, 3]
    assert found.refused.column_names == list(ROWS[0])
    assert found.refused["price"].to_pylist() == [-1.5, 185.64, 1e30]
    assert found.refused["volume"].to_pylist() == [5, -5, 5]
    assert found.refused is found.refused, "it is made once"
    assert [(each.field, each.error_type, each.rows) for each in found.counts] == [
        ("price", "decimal_whole_digits", 1),
        ("price", "greater_than", 1),
        ("volume", "greater_than_equal", 1),
    ]
    assert [[each.error_type for each in found.errors_of(row)] for row in range(5)] == [
        [],
        ["greater_than"],
        ["greater_than_equal"],
        ["decimal_whole_digits"],
        [],
    ]


def test_refused_records_and_models() -> None:
    models = [MarketData.model_construct(**bar(price=price)) for price in (Decimal(1), "x")]
    found = MANAGER.validate_data(models, "market_data")
    assert found.refused["price"].to_pylist() == ["x"]


def test_a_mapping_leaves_the_source_its_names() -> None:
    mapping = Mapping(header=("when", "Close", "n"), columns={"timestamp": "when", "price": "Close", "volume": "n"})
    given = pa.table({"a": ["2024-01-02T00:00:00Z", "not then"], "b": ["1.5", "2.5"], "c": [1, 2]})
    found = MANAGER.validate_data(given, "market_data", mapping=mapping, symbol=None, data_source="x", tz="UTC")
    assert found.refused.column_names == ["when", "Close", "n"]
    assert found.refused["when"].to_pylist()[-1] == "not then"
    frame = pd.DataFrame({"price": ["x"], "volume": [1]}, index=pd.DatetimeIndex([NOON]))
    indexed = MANAGER.validate_data(
        frame, "market_data", mapping=Mapping(index="timestamp"), symbol="A", data_source="x"
    )
    assert indexed.refused.column_names == ["price", "volume", "timestamp"]


def test_nothing_refused_has_no_columns_and_holds_nothing() -> None:
    found = MANAGER.validate_data([bar()], "market_data")
    assert (found.refused.num_columns, found.counts, found.errors_of(0), found.detail) == (0, (), [], None)


def test_every_row_has_its_reasons_past_the_thousandth() -> None:
    rows = [bar(symbol=f"S{number}", price="x", volume=-1) for number in range(1_500)]
    found = MANAGER.validate_data(rows, "market_data")
    assert (len(found.errors), found.error_count) == (1_000, 3_000)
    assert [(each.error_type, each.rows) for each in found.counts] == [
        ("decimal_parsing", 1_500),
        ("greater_than_equal", 1_500),
    ]
    last = {each.error_type: each.message for each in found.errors_of(1_499)}
    assert last == {
        "decimal_parsing": "price: decimal_parsing",
        "greater_than_equal": "volume -1 must be at least 0",
    }
    assert json.loads(json.dumps(found.summary()))["counts"][0]["rows"] == 1_500


def test_a_column_that_is_no_field_stands_against_every_row() -> None:
    found = MANAGER.validate_data(distinct(bar(), bar(extra=1)), "market_data")
    assert (found.error_count, list(found.rejected)) == (1, [0, 1])
    assert found.errors_of(0)[0].error_type == "extra_forbidden"
    assert found.counts[0].rows == 2


def test_warnings_are_counted_apart() -> None:
    found = MANAGER.validate_data(distinct(bar(price=-1), bar(price="x")), "market_data", level="warning")
    assert [(each.severity, each.error_type, each.rows) for each in found.counts] == [
        ("error", "decimal_parsing", 1),
        ("warning", "greater_than", 1),
    ]


@pytest.mark.parametrize("kind", ["dicts", "pandas", "arrow"])
def test_nanoseconds_that_a_contract_has_room_for(kind: str) -> None:
    moment = pd.Timestamp("2024-01-02T00:00:00.000000789", tz="UTC")
    row = {"symbol": "A", "timestamp": moment, "sequence": 1, "price": -1, "size": 1, "data_source": "x"}
    frame = pd.DataFrame([row])
    data: dict[str, Any] = {"dicts": [row], "pandas": frame, "arrow": pa.Table.from_pandas(frame)}
    found = MANAGER.validate_data(data[kind], "trades")
    assert found.detail is not None
    assert found.detail.given is not None
    (kept,) = found.detail.given.records(np.array([0]))
    again = MANAGER.validate_data([from_json(to_json(kept)) | {"price": 1}], "trades")
    assert again.accepted["timestamp_nanoseconds"].to_pylist() == [789]


class Person(Record, data_type="people", version="1.0.0", key=("name", "timestamp")):
    name: str
    timestamp: Timestamp
    income: Annotated[Price, Sensitivity.SECRET]


def test_secrets_are_in_no_reason() -> None:
    rows = [{"name": f"n{number}", "timestamp": NOON, "income": "hidden"} for number in range(1_200)]
    found = SchemaManager([Person]).validate_data(rows, "people")
    assert all("hidden" not in str(found.errors_of(row)) for row in (0, 1_199))


def test_how_rows_were_read_is_kept() -> None:
    mapping = Mapping(
        columns={"price": "Close"},
        constants={"data_source": "x", "available_at": NOON},
        symbol="A",
        tz="America/New_York",
        scale={"price": Decimal("0.01")},
        milliseconds="ms",
        date=date(2024, 1, 19),
        from_name={"exchange": "XNAS"},
    )
    reading = Reading(mapping, "ignore", NOON, "warning")
    assert Reading.from_json(reading.to_json()) == reading
    assert Reading(Mapping()).to_json() == "{}"
    done = Mapping(header=("a",), index="timestamp", file_pattern="(?P<symbol>.)")
    assert Reading(done).to_json() == "{}", "names of columns and files have done their work"
