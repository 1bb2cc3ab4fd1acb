"""Bad input is a clear error or a right answer, from every source, and never a silent cast."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import Field

from buffetstore.errors import ConfigurationError, CorruptFileError, InvalidInputError
from buffetstore.expressions import Column, Comparison
from buffetstore.schemas import (
    Date,
    Price,
    Record,
    Rule,
    SchemaEntry,
    SchemaManager,
    Timestamp,
    contract_of,
)
from buffetstore.schemas.coerce import Column as Made
from buffetstore.schemas.coerce import Target
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.timestamps import MICROSECONDS
from buffetstore.schemas.values import UnfitValueError, converter

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2024, 1, 1, tzinfo=UTC)
NEW_YORK = "America/New_York"
MEBIBYTE = 1 << 20


class Odd(Record, data_type="odd", version="1.0.0", key=("name", "timestamp")):
    name: str
    timestamp: Timestamp
    price: Price
    ratio: float | None = None
    count: int | None = None
    flag: bool | None = None
    day: Date | None = None
    tags: list[str] | None = None


MANAGER = SchemaManager([Odd])


def columns(**given: Any) -> dict[str, Any]:
    count = len(next(iter(given.values())))
    base = {"name": ["a"] * count, "timestamp": [NOW + timedelta(at) for at in range(count)], "price": [1] * count}
    return base | given


SOURCES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dict of columns": lambda given: given,
    "rows": lambda given: [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)],
    "Arrow": pa.table,
    "reader": lambda given: pa.table(given).to_reader(),
    "batch": lambda given: pa.table(given).to_batches()[0],
    "pandas": lambda given: pa.table(given).to_pandas(),
    "polars": lambda given: pl.from_arrow(pa.table(given)),
}
EMPTY: list[Any] = [
    [],
    (),
    {},
    {"name": []},
    pa.table({}),
    pa.table({"name": pa.array([], pa.string())}),
    pa.record_batch({"name": pa.array([], pa.string())}),
    pa.table({"name": pa.array([], pa.string())}).to_reader(),
    pd.DataFrame(),
    pd.DataFrame({"name": []}),
    pl.DataFrame(),
    pl.DataFrame({"name": []}),
]
NO_SOURCE = ["text", None, 5, {1}, (row for row in ()), np.zeros((2, 2)), pd.Series([1]), pl.Series([1])]


@pytest.mark.parametrize("data", EMPTY, ids=lambda data: type(data).__name__)
def test_no_rows_are_an_error_from_every_source(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="there are no rows in the data"):
        MANAGER.validate_data(data, "odd")


@pytest.mark.parametrize("data", NO_SOURCE, ids=lambda data: type(data).__name__)
def test_what_is_no_source_is_named(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="cannot be taken in; give a list of dicts"):
        MANAGER.validate_data(data, "odd")


def test_a_lazy_frame_is_not_run() -> None:
    with pytest.raises(InvalidInputError, match=r"call \.collect\(\) first"):
        MANAGER.validate_data(pl.LazyFrame({"name": ["a"]}), "odd")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("price", "error_type"),
    [
        (Decimal(12345678901), "decimal_whole_digits"),
        (Decimal("-12345678901.5"), "decimal_whole_digits"),
        (Decimal("1.123456789"), "decimal_max_places"),
        (Decimal("1E-9"), "decimal_max_places"),
        (1e11, "decimal_whole_digits"),
        (10**11, "decimal_whole_digits"),
        ("12345678901", "decimal_whole_digits"),
        ("0.123456789", "decimal_max_places"),
        (float("inf"), "finite_number"),
        (float("nan"), "missing"),
        (None, "missing"),
        ("1,5", "decimal_parsing"),
        (True, "decimal_type"),
        (b"1.5", "decimal_type"),
    ],
)
def test_a_number_beyond_the_column_is_refused_from_every_source(source: str, price: Any, error_type: str) -> None:
    found = MANAGER.validate_data(SOURCES[source](columns(price=[price])), "odd", now=NOW)
    [error] = found.errors
    assert (error.field, error.error_type, error.record_index) == ("price", error_type, 0)
    assert found.accepted.num_rows == 0


@pytest.mark.parametrize("numbers", [[float("inf"), 1.5, 1e30, 2.0], [1.5, -float("inf"), 2.0, -1e300]])
def test_each_row_is_told_its_own_error(numbers: list[float]) -> None:
    kinds = {1.5: "int_from_float", 2.0: None, 1e30: "int_parsing_size", -1e300: "int_parsing_size"}
    for shape in (columns(count=numbers), SOURCES["rows"](columns(count=numbers)), pa.table(columns(count=numbers))):
        found = MANAGER.validate_data(shape, "odd", now=NOW)
        said = {error.record_index: error.error_type for error in found.errors}
        assert [said.get(at) for at in range(4)] == [kinds.get(number, "finite_number") for number in numbers]


@pytest.mark.parametrize("source", SOURCES)
def test_no_number_is_null_where_null_is_allowed(source: str) -> None:
    found = MANAGER.validate_data(SOURCES[source](columns(ratio=[float("nan"), 1.5])), "odd", now=NOW)
    assert found.accepted["ratio"].to_pylist() == [None, 1.5]


WRONG: list[tuple[str, Any, str]] = [
    ("name", pa.array([b"a"]), "string_type"),
    ("name", pa.array([["a"]]), "string_type"),
    ("name", pa.array([{"a": 1}]), "string_type"),
    ("name", np.array([b"a"]), "string_type"),
    ("name", pa.array([1]), "string_type"),
    ("count", pa.array([1.5]), "int_from_float"),
    ("count", pa.array([Decimal("1.5")]), "int_from_float"),
    ("count", pa.array([2**63], pa.uint64()), "int_parsing_size"),
    ("count", pa.array([timedelta(1)]), "int_type"),
    ("count", pa.array([NOW]), "int_type"),
    ("count", pa.array([True]), "int_type"),
    ("flag", pa.array([1]), "bool_type"),
    ("ratio", np.array([1 + 2j]), "float_type"),
    ("ratio", np.zeros((1, 2)), "float_type"),
    ("timestamp", pa.array([1_700_000_000]), "datetime_type"),
    ("timestamp", pa.array([1.7e9]), "datetime_type"),
    ("timestamp", pa.array([datetime(2024, 1, 1)]), "timezone_aware"),  # noqa: DTZ001 what must be refused
    ("timestamp", np.array(["2024-01-01"], "datetime64[D]"), "timezone_aware"),
    ("timestamp", pa.array([1], pa.timestamp("ns", "UTC")), "datetime_precision"),
    ("timestamp", pa.array([2**62], pa.timestamp("s", "UTC")), "datetime_range"),
    ("timestamp", pa.array([2**62], pa.timestamp("ms", "UTC")), "datetime_range"),
    ("timestamp", pa.array([253_402_300_800], pa.timestamp("s", "UTC")), "datetime_range"),
    ("timestamp", pa.array([253_402_300_800_000_000], MICROSECONDS), "datetime_range"),
    ("timestamp", pa.array([-62_135_596_800_000_001], MICROSECONDS), "datetime_range"),
    ("day", pa.array([1]), "date_type"),
    ("day", pa.array([NOW + timedelta(hours=1)]), "date_from_datetime_inexact"),
    ("day", pa.array([2_932_897], pa.date32()), "date_range"),
    ("tags", pa.array(["a"]), "list_type"),
    ("tags", pa.array([[1]]), "string_type"),
]


@pytest.mark.parametrize(("name", "values", "error_type"), WRONG, ids=[f"{name}-{kind}" for name, _, kind in WRONG])
def test_a_column_of_another_type_is_refused(name: str, values: Any, error_type: str) -> None:
    found = MANAGER.validate_data(columns(**{name: values}), "odd", now=NOW)
    assert [(error.field, error.error_type) for error in found.errors] == [(name, error_type)]
    assert found.errors[0].message


RIGHT: list[tuple[str, Any, Any]] = [
    ("price", pa.array([Decimal("1.5")], pa.decimal256(60, 10)), Decimal("1.5")),
    ("price", pa.array([Decimal("1.5")], pa.decimal32(5, 1)), Decimal("1.5")),
    ("price", pa.array(np.array([1.1], np.float16)), Decimal("1.1")),
    ("price", pa.array([1.1], pa.float32()), Decimal("1.1")),
    ("count", pa.array([5]).dictionary_encode(), 5),
    ("count", pa.RunEndEncodedArray.from_arrays([1], [5]), 5),
    ("count", pl.Series([5], dtype=pl.Int128), 5),
    ("count", pd.Series([pd.NA], dtype="Int64"), None),
    ("name", pa.array(["a"], pa.large_string()), "a"),
    ("name", pa.array(["a"], pa.string_view()), "a"),
    ("tags", pa.array([["a"]], pa.large_list(pa.large_string())), ["a"]),
    ("tags", pa.array([["a"]], pa.list_(pa.string(), 1)), ["a"]),
    ("day", pa.array([date(2024, 1, 1)], pa.date64()), date(2024, 1, 1)),
    ("day", pa.array([date.max]), date.max),
    ("timestamp", pa.array([datetime.max.replace(tzinfo=UTC)]), datetime.max.replace(tzinfo=UTC)),
]


@pytest.mark.parametrize(("name", "values", "expected"), RIGHT, ids=[f"{name}-{value}" for name, _, value in RIGHT])
def test_a_column_of_a_kindred_type_is_taken_for_what_it_says(name: str, values: Any, expected: Any) -> None:
    found = MANAGER.validate_data(columns(**{name: values}), "odd", now=NOW)
    assert found.is_valid, found.errors
    assert found.accepted[name].to_pylist() == [expected]


def test_times_beyond_the_years_are_null_among_others() -> None:
    stamps = pa.array([0, 253_402_300_800_000_000, None, 5], MICROSECONDS)
    column = Made(Target("x", MICROSECONDS), errors := Findings())
    column.add_array(stamps)
    assert column.finish().to_pylist() == [stamps[0].as_py(), None, None, stamps[3].as_py()]
    assert errors.rows.tolist() == [1]
    with pytest.raises(UnfitValueError, match="years 1 to 9999"):
        converter(MICROSECONDS)(datetime(1, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo")))


INSTANT = datetime(2024, 7, 1, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "stamps",
    [
        [INSTANT.astimezone(ZoneInfo(NEW_YORK))],
        ["2024-07-01T09:30:00-04:00"],
        ["2024-07-01T19:00:00+05:30"],
        pa.array([INSTANT], pa.timestamp("us", NEW_YORK)),
        pa.array([INSTANT], pa.timestamp("s", "Asia/Kolkata")),
        pa.array([INSTANT], pa.timestamp("ms", "+02:00")),
        pd.Series([pd.Timestamp(INSTANT).tz_convert(NEW_YORK)]),
        pl.Series([INSTANT]).dt.convert_time_zone(NEW_YORK),
        [pd.Timestamp(INSTANT).tz_convert("Asia/Kolkata")],
    ],
    ids=lambda stamps: type(stamps).__name__,
)
def test_times_of_other_zones_are_the_same_instant(stamps: Any) -> None:
    assert MANAGER.validate_data(columns(timestamp=stamps), "odd", now=NOW).accepted["timestamp"].to_pylist() == [
        INSTANT
    ]


def test_rows_of_several_zones_are_each_their_own_instant() -> None:
    zones = [UTC, ZoneInfo("UTC"), ZoneInfo(NEW_YORK), ZoneInfo("Asia/Tokyo"), UTC]
    given = [INSTANT.astimezone(zone) + timedelta(days=200 * at) for at, zone in enumerate(zones)]
    for stamps in (given, given[::-1], given[2:], [None, *given], [*given, None]):
        found = MANAGER.validate_data(columns(timestamp=stamps), "odd", now=NOW).accepted["timestamp"].to_pylist()
        assert found == [stamp for stamp in stamps if stamp is not None]


WORDS = ["日本株", "Ünïcode", "🂡" * 9, "a\u0000b", "\u202e", " ", "\n", "e\u0301", "x" * MEBIBYTE, "é" * MEBIBYTE]


@pytest.mark.parametrize("source", SOURCES)
def test_words_of_any_script_and_length_are_kept(source: str) -> None:
    found = MANAGER.validate_data(SOURCES[source](columns(name=WORDS)), "odd", now=NOW)
    assert found.accepted["name"].to_pylist() == WORDS


def test_a_long_word_makes_a_short_message() -> None:
    class Short(Odd, data_type="short"):
        name: Annotated[str, Field(max_length=10, pattern="^[a-z]+$")]

    words = ["X" * MEBIBYTE, "X" * MEBIBYTE, "ok"]
    data = columns(name=words, count=["y" * MEBIBYTE, 1, 2], timestamp=[NOW, NOW, NOW])
    for shape in (SOURCES["rows"](data), data):
        found = SchemaManager([Short]).validate_data(shape, "short", now=NOW)
        assert {error.error_type for error in found.errors} == {
            "int_parsing",
            "string_too_long",
            "string_pattern_mismatch",
            "duplicate_key",
        }
        assert max(len(error.message) for error in found.errors) < 400


def test_half_a_character_is_refused() -> None:
    found = MANAGER.validate_data(columns(name=["\ud800"]), "odd", now=NOW)
    assert [error.error_type for error in found.errors] == ["string_unicode"]


def test_two_classes_of_one_version_are_refused() -> None:
    class Other(Record, data_type="odd", version="v1.0.0", key="timestamp"):
        timestamp: Timestamp

    with pytest.raises(ConfigurationError, match=r"odd.*1\.0\.0"):
        SchemaManager([Odd, Other])


def test_a_rule_of_a_missing_column_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"rule 'high' names 'hihg', which is no field"):

        class Ruled(Odd, data_type="ruled"):
            rules = (Rule("high", "price", Comparison("price", "<=", Column("hihg")), "no"),)


@pytest.mark.parametrize("annotation", [dict[str, int], set[str], bytes, timedelta, complex, Any, int | str, Decimal])
def test_a_type_that_no_column_holds_names_the_field(annotation: Any) -> None:
    body = {"__annotations__": {"timestamp": Timestamp, "odd": annotation}, "__module__": __name__}
    with pytest.raises(ConfigurationError, match=r"Bad\.odd"):
        type(Record)("Bad", (Record,), body, data_type="bad", version="1.0.0", key=("timestamp",))


def test_a_registered_contract_that_was_edited_is_found_out() -> None:
    entry = SchemaEntry(contract_of(Odd), "me", NOW, "first")
    edited = entry.to_bytes().replace(b'"name":"ratio"', b'"name":"ration"')
    assert edited != entry.to_bytes()
    with pytest.raises(CorruptFileError, match="was changed after it was registered"):
        SchemaEntry.from_bytes(edited, key=entry.key)


def test_ten_thousand_columns_are_compiled_and_judged_in_bounded_time() -> None:
    names = [f"c{at}" for at in range(10_000)]
    kinds = [Annotated[float, Field(gt=0)] | None, Price | None, str | None, int | None]
    body: dict[str, Any] = dict.fromkeys(names)
    annotations = {name: kinds[at % 4] for at, name in enumerate(names)}
    body |= {"__annotations__": {"timestamp": Timestamp, **annotations}, "__module__": __name__}
    begun = time.process_time()
    wide = type(Record)("Wide", (Record,), body, data_type="wide", version="1.0.0", key=("timestamp",))
    manager = SchemaManager([wide])
    values = [1.5, Decimal("1.5"), "x", 1]
    row = {"timestamp": NOW, **{name: values[at % 4] for at, name in enumerate(names)}}
    good = manager.validate_data([row], "wide", now=NOW)
    assert good.is_valid
    assert good.accepted.num_columns == 10_004
    table = good.accepted.drop_columns(["created_at"])
    assert manager.validate_data(table, "wide", now=NOW).accepted.equals(good.accepted)
    bad = manager.validate_data([row | {"c0": -1, "c9999": "x"}], "wide", now=NOW)
    assert sorted(error.field for error in bad.errors) == ["c0", "c9999"]
    assert time.process_time() - begun < 200, "ten seconds of CPU is usual; columns times columns would be hours"
