from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from buffetstore.errors import (
    ConfigurationError,
    InvalidInputError,
    MappingError,
    UnknownDataTypeError,
    UnknownSchemaVersionError,
)
from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or
from buffetstore.schemas import (
    MarketData,
    Record,
    Rule,
    SchemaManager,
    Timestamp,
    ValidationLevel,
    contract_of,
)

if TYPE_CHECKING:
    from buffetstore.expressions import Expression

START = datetime(2024, 1, 2, tzinfo=UTC)


def bars(rows: int = 3, **values: Any) -> list[dict[str, Any]]:
    return [
        {"symbol": "AAPL", "timestamp": START + timedelta(days=day), "price": 187.5, "volume": 10, "data_source": "x"}
        | values
        for day in range(rows)
    ]


def test_names_and_versions() -> None:
    manager = SchemaManager()
    assert manager.data_types() == ["forecasts", "market_data", "options_data", "quality_results", "quotes", "trades"]
    assert manager.versions("market_data") == ["1.0.0", "1.1.0", "1.2.0"]
    assert manager.contract("market_data").version == "1.2.0"
    assert manager.contract("market_data", "v1.1.0") is manager.contract("market_data", "1.1.0")


def test_unknown_names_list_the_known_and_the_nearest() -> None:
    manager = SchemaManager()
    with pytest.raises(UnknownDataTypeError, match=r"'market_dat', did you mean 'market_data'\?; known are forecasts"):
        manager.contract("market_dat")
    with pytest.raises(UnknownDataTypeError, match="'prices'"):
        manager.versions("prices")
    with pytest.raises(UnknownSchemaVersionError, match=r"no schema version 'v1\.3\.0'.*known are 1\.0\.0"):
        manager.validate_data(bars(), "market_data", "v1.3.0")


def test_versions_are_ordered_as_numbers() -> None:
    class Old(Record, data_type="thing", version="1.9.0", key=("timestamp",)):
        timestamp: Timestamp

    class New(Old, version="1.10.0"):
        pass

    manager = SchemaManager([New, Old])
    assert manager.versions("thing") == ["1.9.0", "1.10.0"]
    assert manager.contract("thing").model is New


def test_another_class_cannot_take_a_data_type_over() -> None:
    class Mine(Record, data_type="market_data", version="1.2.0", key=("timestamp",)):
        timestamp: Timestamp

    with pytest.raises(ConfigurationError, match=r"market_data 1\.2\.0 is MarketData"):
        SchemaManager([Mine])
    with pytest.raises(ConfigurationError, match="is no record class"):
        SchemaManager().register(dict)  # type: ignore[arg-type]


def test_the_same_rows_in_any_form_give_the_same_table() -> None:
    manager, rows = SchemaManager(), bars()
    now = datetime(2025, 1, 1, tzinfo=UTC)
    expected = manager.validate_data(rows, "market_data", now=now).accepted
    frame = pd.DataFrame(rows)
    records = [MarketData(**row) for row in rows]
    for data in (records, pa.Table.from_pylist(rows), frame, pl.DataFrame(rows), frame.to_dict("list")):
        result = manager.validate_data(data=data, data_type="market_data", now=now)
        assert result.accepted.equals(expected), type(data)
    assert manager.validate_data(rows[0], "market_data", now=now).accepted.equals(expected.slice(0, 1))
    assert manager.validate_data(records[0], "market_data", now=now).rows == 1


@pytest.mark.parametrize(
    "data", [[], {}, pa.table({"symbol": pa.array([], pa.string())})], ids=["list", "dict", "arrow"]
)
def test_no_rows_are_an_error(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="no rows"):
        SchemaManager().validate_data(data, "market_data")


def test_constants_and_the_zone_come_as_arguments() -> None:
    rows = [{"timestamp": "2024-01-02T09:30:00", "price": 1, "volume": 1}]
    result = SchemaManager().validate_data(rows, "market_data", tz="America/New_York", symbol="AAPL", data_source="y")
    [row] = result.accepted.to_pylist()
    assert (row["symbol"], row["data_source"]) == ("AAPL", "y")
    assert row["timestamp"] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


@pytest.mark.parametrize("form", [list, pa.Table.from_pylist, pd.DataFrame, pl.DataFrame])
def test_rows_that_state_a_version_are_held_against_it(form: Any) -> None:
    manager = SchemaManager()
    assert manager.validate_data(form(bars(version="v1.0.0")), "market_data").schema_version == "1.0.0"
    with pytest.raises(UnknownSchemaVersionError, match=r"9\.0\.0"):
        manager.validate_data(form(bars(version="9.0.0")), "market_data")
    conflict = manager.validate_data(form(bars(version="1.0.0")), "market_data", "1.2.0")
    assert {(finding.field, finding.error_type) for finding in conflict.errors} == {("version", "version_conflict")}
    assert conflict.rejected == [0, 1, 2]


def test_findings_show_the_value_and_come_in_row_order() -> None:
    rows = bars(5)
    rows[1]["price"] = -5
    rows[3]["price"] = "abc"
    rows[2] |= {"rsi": 101, "low": 200.25, "high": 300}
    rows[4]["timestamp"] = rows[0]["timestamp"]
    result = SchemaManager().validate_data(rows, "market_data")
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [
        (1, "price", "greater_than"),
        (2, "rsi", "less_than_equal"),
        (2, "low", "low_above_close"),
        (3, "price", "decimal_parsing"),
        (4, "symbol", "duplicate_key"),
    ]
    texts = [finding.message for finding in result.errors]
    assert texts[0] == "price -5 must be greater than 0"
    assert texts[1] == "rsi 101.0 must be at most 100"
    assert texts[2] == "low 200.25 is above close 187.5"
    assert "'abc'" in texts[3]
    assert "symbol='AAPL'" in texts[4]
    assert "repeats row 0" in texts[4]
    assert result.rejected == [1, 2, 3, 4]
    assert result.accepted.num_rows == 1
    assert result.accepted.schema == contract_of(MarketData).schema


def test_a_value_that_does_not_fit_is_not_missing_as_well() -> None:
    rows = bars(2, price="abc")
    rows[1]["price"] = None
    result = SchemaManager().validate_data(rows, "market_data")
    assert [(f.record_index, f.error_type) for f in result.errors] == [(0, "decimal_parsing"), (1, "missing")]


def test_the_first_thousand_findings_and_an_exact_count() -> None:
    rows = bars(3_000, volume=-1)
    for row in rows[::2]:
        row["price"] = 0
    result = SchemaManager().validate_data(rows, "market_data")
    assert (result.error_count, len(result.errors), len(result.rejected)) == (4_500, 1_000, 3_000)
    indices = [finding.record_index for finding in result.errors]
    assert indices == sorted(indices)
    assert Counter(f.field for f in result.errors)["price"] in {333, 334}


def test_levels() -> None:
    rows = bars(4, rsi=150)
    rows[1]["symbol"] = None
    rows[2]["volume"] = "many"
    rows[3]["timestamp"] = rows[0]["timestamp"]
    manager = SchemaManager()
    strict = manager.validate_data(rows, "market_data", level=ValidationLevel.STRICT)
    assert (strict.rejected, strict.warning_count) == ([0, 1, 2, 3], 0)
    warning = manager.validate_data(rows, "market_data", level="warning")
    assert (warning.rejected, warning.warning_count) == ([1, 2, 3], 4)
    assert {finding.error_type for finding in warning.warnings} == {"less_than_equal"}
    assert {finding.error_type for finding in warning.errors} == {"missing", "int_parsing", "duplicate_key"}
    disabled = manager.validate_data(rows, "market_data", level=ValidationLevel.DISABLED)
    assert (disabled.rejected, disabled.warning_count) == ([1, 2], 0)


def test_a_stray_column_is_refused_or_named() -> None:
    rows = bars(2, pricee=1)
    refused = SchemaManager().validate_data(rows, "market_data")
    assert [finding.error_type for finding in refused.errors] == ["extra_forbidden"]
    assert "'price'" in refused.errors[0].message
    assert refused.accepted.num_rows == 0
    ignored = SchemaManager().validate_data(rows, "market_data", extra="ignore")
    assert (ignored.is_valid, tuple(ignored.ignored_columns)) == (True, ("pricee",))


def test_ticks_and_kept_revisions_may_repeat_a_key() -> None:
    class Kept(Record, data_type="kept", version="1.0.0", key=("timestamp",), revisions="keep"):
        timestamp: Timestamp

    trade = {"symbol": "A", "timestamp": START, "sequence": 1, "data_source": "x", "price": 1, "size": 1}
    assert SchemaManager().validate_data([trade, trade], "trades").is_valid
    assert SchemaManager([Kept]).validate_data([{"timestamp": START}] * 2, "kept").is_valid


RULES: dict[str, tuple[Expression, list[int]]] = {
    "between columns": (Comparison("a", "<=", Column("b")), [1]),
    "of two types": (Comparison("a", "<=", Column("c")), [2, 3]),
    "with a constant": (Comparison("a", "!=", 1), [0]),
    "one of": (IsIn("a", (1, 5)), [2]),
    "not null": (Not(IsNull("b")), [3]),
    "both": (And((Comparison("a", ">", 0), Comparison("b", ">", 1))), [1]),
    "either": (Or((Comparison("a", ">", 4), Not(IsNull("b")))), []),
    "never": (Or(()), [0, 1, 2, 3]),
    "always": (And(()), []),
}


@pytest.mark.parametrize(("holds", "broken"), RULES.values(), ids=RULES)
def test_rules_of_ones_own(holds: Expression, broken: list[int]) -> None:
    class Ruled(Record, data_type="ruled", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        a: int
        b: int | None = None
        c: float | None = None
        rules: ClassVar[tuple[Rule, ...]] = (Rule("own", "a", holds, "a is {a}"),)

    values = [(1, 2, None), (5, 1, 5.5), (3, 3, 2.5), (5, None, 4.5)]
    rows = [{"timestamp": START + timedelta(i), "a": a, "b": b, "c": c} for i, (a, b, c) in enumerate(values)]
    result = SchemaManager([Ruled]).validate_data(rows, "ruled")
    assert [finding.record_index for finding in result.errors] == broken
    assert result.rejected == broken


class Isin(Record, data_type="isin", version="1.0.0", key=("isin", "timestamp")):
    isin: Annotated[str, Field(pattern=r"^[A-Z]{2}[A-Z0-9]{9}\d$", max_length=12)]
    timestamp: Timestamp
    seen: Annotated[Timestamp, Field(ge=START)] | None = None
    weight: Annotated[Decimal, Field(max_digits=28, decimal_places=8, gt=0, lt=Decimal("0.5"))] | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=2)]], Field(max_length=2)] | None = None


@pytest.mark.parametrize(
    ("values", "error_types"),
    [
        ({}, []),
        ({"isin": "US03783310ö5"}, ["string_pattern_mismatch"]),
        ({"isin": "US0378331005X"}, ["string_pattern_mismatch", "string_too_long"]),
        ({"seen": START - timedelta(microseconds=1)}, ["greater_than_equal"]),
        ({"seen": START}, []),
        ({"weight": Decimal("0.49999999")}, []),
        ({"weight": Decimal("0.5")}, ["less_than"]),
        ({"weight": Decimal(0)}, ["greater_than"]),
        ({"weight": Decimal(-99999999999999999999)}, ["greater_than"]),
        ({"tags": ["ab", "cd"]}, []),
        ({"tags": ["ab", "c"]}, ["string_too_short"]),
        ({"tags": ["ab", "cd", "ef"]}, ["too_long"]),
        ({"tags": ["ab", None]}, ["missing"]),
    ],
)
def test_constraints_of_ones_own(values: dict[str, Any], error_types: list[str]) -> None:
    row = {"isin": "US0378331005", "timestamp": START} | values
    result = SchemaManager([Isin]).validate_data([row], "isin")
    assert sorted(finding.error_type for finding in result.errors) == error_types


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("is odd")
    return value


class Custom(Record, data_type="custom", version="1.0.0", key=("name", "timestamp")):
    name: Annotated[str, StringConstraints(to_upper=True)]
    timestamp: Timestamp
    number: Annotated[int, Field(ge=0), AfterValidator(_even)]
    limit: int = 10

    @field_validator("name")
    @classmethod
    def _no_digits(cls, value: str) -> str:
        if any(map(str.isdigit, value)):
            raise ValueError("has digits")
        return value

    @model_validator(mode="after")
    def _below_limit(self) -> Self:
        if self.number > self.limit:
            raise ValueError("is above the limit")
        return self


def test_validators_of_ones_own_run_row_by_row() -> None:
    values = [("a", 2), ("b1", 2), ("c", 3), ("d", 12), ("e", -2)]
    rows = [{"name": name, "timestamp": START, "number": number} for name, number in values]
    result = SchemaManager([Custom]).validate_data(rows, "custom")
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [
        (1, "name", "value_error"),
        (2, "number", "value_error"),
        (3, "name", "value_error"),
        (4, "number", "greater_than_equal"),
    ]
    assert "b1" in result.errors[0].message.lower()
    assert "has digits" in result.errors[0].message
    assert "above the limit" in result.errors[2].message
    assert result.accepted["name"].to_pylist() == ["A"], "what a validator made of a value is stored"
    assert (result.error_count, result.rejected) == (4, [1, 2, 3, 4])
    warned = SchemaManager([Custom]).validate_data(rows, "custom", level="warning")
    assert (warned.error_count, warned.warning_count, warned.accepted.num_rows) == (0, 4, 5)


def test_rows_wider_than_a_chunk_keep_their_places() -> None:
    rows = [
        {"name": "abc", "timestamp": START + timedelta(seconds=second), "number": 1 if second == 4_321 else 2}
        for second in range(5_000)
    ]
    result = SchemaManager([Custom]).validate_data(rows, "custom")
    assert result.rejected == [4_321]
    assert result.accepted["timestamp"].to_pylist() == [row["timestamp"] for row in rows if row["number"] == 2]


def test_now_is_an_argument() -> None:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    result = SchemaManager().validate_data(bars(1), "market_data", now=now)
    assert result.accepted["created_at"].to_pylist() == [now]
    future = SchemaManager().validate_data(bars(1), "market_data", now=now, available_at="2030-01-01T00:00:00Z")
    assert [finding.field for finding in future.errors] == ["available_at"]


@pytest.mark.parametrize("nulls", [False, True])
def test_slices_and_chunks_keep_their_rows_apart(nulls: bool) -> None:
    rows = bars(100)
    for day, row in enumerate(rows):
        row |= {"symbol": f"S{day}", "rsi": None if nulls and day % 2 else float(day), "price": Decimal(day % 5)}
        row["open"] = row["low"] = None if nulls and day % 3 else row["price"]
    table = pa.Table.from_pylist(rows)
    pieces = pa.concat_tables([table.slice(3, 30), table.slice(40, 20), table.slice(70)]).slice(4)
    result = SchemaManager().validate_data(pieces, "market_data")
    given = pieces.to_pylist()
    assert result.rejected == [position for position, row in enumerate(given) if row["price"] == 0]
    assert result.accepted["symbol"].to_pylist() == [row["symbol"] for row in given if row["price"]]


def test_dictionary_encoded_strings_are_strings() -> None:
    table = pa.Table.from_pylist(bars(4))
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0]), pa.array(["AAPL", "", "unused"]))
    result = SchemaManager().validate_data(table.set_column(0, "symbol", codes), "market_data")
    assert [(f.record_index, f.error_type) for f in result.errors] == [(1, "string_too_short"), (2, "missing")]
    assert result.accepted.schema.field("symbol").type == pa.string()


def test_arguments_that_cannot_be_right() -> None:
    with pytest.raises(InvalidInputError, match="level 'lenient' is none of strict, warning, disabled"):
        SchemaManager().validate_data(bars(), "market_data", level="lenient")
    with pytest.raises(MappingError, match=r"mapping is a dict: write Mapping\(columns="):
        SchemaManager().validate_data(bars(), "market_data", mapping={"price": "Close"})
