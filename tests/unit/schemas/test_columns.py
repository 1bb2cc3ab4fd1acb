"""Columns keep the form that they came in, and what is known of them, and are judged as any other form is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import Field, field_validator

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas import Price, Record, Rule, SchemaManager, Timestamp
from buffetstore.schemas.columns import Columns, Range, bounds, constant, decoded, repeats_block
from buffetstore.schemas.fill import Fill, replaced

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2024, 1, 2, tzinfo=UTC)


class Coded(Record, data_type="coded", version="1.0.0", key=("symbol", "timestamp", "venue")):
    symbol: Annotated[str, Field(pattern="^[A-Z]+$")]
    timestamp: Timestamp
    venue: Annotated[str, Field(min_length=2)] = "XNAS"
    other: str | None = None
    price: Annotated[float, Field(gt=0)]
    exact: Price | None = None
    rules = (Rule("self_trade", "other", Comparison("other", "!=", Column("symbol")), "{other} is {symbol}"),)


MANAGER = SchemaManager([Coded])


def rows(count: int = 12, **columns: Any) -> dict[str, Any]:
    return {
        "symbol": ["AAPL", "MSFT"] * (count // 2),
        "timestamp": [START + timedelta(minutes=at) for at in range(count)],
        "price": [1.5 + at for at in range(count)],
        **columns,
    }


def codes(values: list[str | None], index: pa.DataType | None = None) -> pa.Array:
    encoded = pa.array(values).dictionary_encode()
    return encoded if index is None else encoded.cast(pa.dictionary(index, pa.string()))


FORMS: dict[str, Callable[[list[str | None]], Any]] = {
    "codes": codes,
    "small unsigned codes": lambda values: codes(values, pa.uint8()),
    "large words": lambda values: codes(values).cast(pa.dictionary(pa.int64(), pa.large_string())),
    "a word twice": lambda values: pa.DictionaryArray.from_arrays(
        [None if value is None else at for at, value in enumerate(values)], [value or "" for value in values]
    ),
    "null among the words": lambda values: pa.DictionaryArray.from_arrays(list(range(len(values))), values),
    "words that no row has": lambda values: pa.DictionaryArray.from_arrays(
        [None if value is None else at + 1 for at, value in enumerate(values)], ["not one", *[v or "" for v in values]]
    ),
    "chunks with their own words": lambda values: pa.chunked_array([codes(values[:3]), codes(values[3:])]),
    "pandas strings": lambda values: pd.Series(values, dtype="string"),
    "pandas categories": lambda values: pd.Series(values, dtype="category"),
    "polars categories": lambda values: pl.Series(values, dtype=pl.Categorical),
    "views": lambda values: pa.array(values, pa.string_view()),
}
SYMBOLS: dict[str, list[str | None]] = {
    "good": ["AAPL", "MSFT"] * 6,
    "bad": ["AAPL", "msft", *["TSLA"] * 9, ""],
    "null": ["AAPL", None, *["TSLA"] * 10],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("symbols", SYMBOLS)
def test_strings_are_judged_alike_in_every_form(form: str, symbols: str) -> None:
    values = SYMBOLS[symbols]
    others = [*values[1:], "IBM"]
    expected = MANAGER.validate_data(rows(symbol=values, other=others), "coded", now=START + timedelta(1))
    made = FORMS[form]
    found = MANAGER.validate_data(rows(symbol=made(values), other=made(others)), "coded", now=START + timedelta(1))
    assert found.errors == expected.errors
    assert found.rejected == expected.rejected
    assert found.accepted.equals(expected.accepted)
    assert found.accepted.schema == found.contract.schema
    assert found.counts == expected.counts


def test_codes_stay_codes_until_the_rows_are_asked_for() -> None:
    found = MANAGER.validate_data(rows(symbol=codes(["AAPL", "MSFT"] * 6)), "coded")
    assert pa.types.is_dictionary(found.encoded["symbol"].type)
    assert found.accepted is found.accepted
    assert found.accepted["symbol"].to_pylist() == ["AAPL", "MSFT"] * 6


def test_a_key_that_repeats_is_named_whatever_form_it_has() -> None:
    data = rows(symbol=codes(["AAPL"] * 12), timestamp=[START] * 2 + [START + timedelta(minutes=m) for m in range(10)])
    found = MANAGER.validate_data(data, "coded")
    assert found.rejected == [1, 2]
    assert "symbol='AAPL'" in found.errors[0].message


def test_constraints_hold_for_codes_across_fills_validators_and_defaults() -> None:
    class Custom(Coded, data_type="custom"):
        symbol: Annotated[str, Field(pattern="^[A-Z]+$")]

        @field_validator("symbol")
        @classmethod
        def upper(cls, value: str) -> str:
            return value if value != "MSFT" else "MSF"

    def mark(table: pa.Table, _: Any) -> pa.Table:
        assert table.schema.field("symbol").type == pa.string()
        return replaced(table, "other", pa.array([f"{word}x" for word in table["symbol"].to_pylist()]))

    class Filled(Coded, data_type="filled"):
        fills = (Fill("mark", mark),)

    manager = SchemaManager([Custom, Filled])
    data = rows(symbol=codes(["AAPL", "MSFT"] * 6), venue=codes([None, "XLON"] * 6))
    custom = manager.validate_data(data, "custom").accepted
    assert custom["symbol"].to_pylist() == ["AAPL", "MSF"] * 6
    assert custom["venue"].to_pylist() == ["XNAS", "XLON"] * 6
    assert manager.validate_data(data, "filled").accepted["other"].to_pylist() == ["AAPLx", "MSFTx"] * 6


@pytest.mark.parametrize("count", [1, 2, 65_535, 65_536, 65_537, 131_072, 200_001])
def test_a_constant_column_costs_one_block(count: int) -> None:
    column = constant(pa.scalar("1.2.0"), count)
    assert len(column) == count
    assert set(column.unique().to_pylist()) == {"1.2.0"}
    assert column.get_total_buffer_size() < 1_000_000
    assert repeats_block(column) == (count > 65_536)


def test_what_repeats_a_block_is_judged_by_the_block_alone() -> None:
    block = pa.array(np.arange(65_536, dtype=float) + 1)
    columns = Columns(pa.table({"x": pa.chunked_array([block, block, block.slice(0, 9)])}))
    assert columns.representative("x") is not None
    assert len(columns.representative("x")) == 65_536
    apart = Columns(pa.table({"x": pa.chunked_array([block, pa.array([1.0])])}))
    assert len(apart.representative("x")) == 65_537
    shifted = Columns(pa.table({"x": pa.chunked_array([block.slice(0, 9), block.slice(9)])}))
    assert len(shifted.representative("x")) == 65_536


def test_a_column_that_repeats_a_bad_block_is_refused_in_every_row() -> None:
    block = pa.array([1.0, -1.0])
    data = {
        "symbol": ["AAPL"] * 4,
        "timestamp": [START + timedelta(minutes=at) for at in range(4)],
        "price": pa.chunked_array([block, block]),
    }
    assert MANAGER.validate_data(data, "coded").rejected == [1, 3]


def test_many_rows_of_constants_keep_their_contract() -> None:
    count = 70_000
    data = {
        "symbol": pa.array(["AAPL"] * count).dictionary_encode(),
        "timestamp": pa.array(np.arange(count) * 1_000_000, pa.timestamp("us", "UTC")),
        "price": np.ones(count),
    }
    now = datetime(2024, 5, 1, tzinfo=UTC)
    found = MANAGER.validate_data(data, "coded", now=now)
    assert found.is_valid
    assert found.accepted.select(["venue", "version", "created_at"]).slice(count - 1).to_pylist() == [
        {"venue": "XNAS", "version": "1.0.0", "created_at": now}
    ]
    data["price"][7] = -1
    refused = MANAGER.validate_data(data, "coded", now=now)
    assert refused.rejected == [7]
    assert refused.accepted.num_rows == count - 1
    assert refused.accepted["venue"].unique().to_pylist() == ["XNAS"]


def test_a_range_is_forgotten_when_the_column_changes() -> None:
    array = pa.array([1.0, 2.0])
    known = {"x": Range(array, 1.0, 2.0)}
    assert Columns(pa.table({"x": array}), known).range("x") is not None
    assert Columns(pa.table({"x": pa.array([1.0, 2.0])}), known).range("x") is None
    assert Columns(pa.table({"x": array.slice(1)}), known).range("x") is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), -1.0])
@pytest.mark.parametrize("nulls", [False, True])
def test_numbers_under_a_null_are_no_findings(bad: float, *, nulls: bool) -> None:
    numbers = np.array([1.0, bad, 3.0])
    column = pa.array(numbers, mask=np.array([False, nulls, False]))
    data = rows(2, symbol=["A", "B", "C"], timestamp=[START + timedelta(at) for at in range(3)], price=column)
    found = MANAGER.validate_data(data, "coded")
    [error] = found.errors
    is_absent = nulls or bad != bad  # noqa: PLR0124 NaN
    assert error.error_type == ("missing" if is_absent else "greater_than" if bad == -1 else "finite_number")
    assert error.record_index == 1


def test_decoding_names_columns() -> None:
    table = pa.table({"a": codes(["x"]), "b": codes(["y"]), "c": [1]})
    assert decoded(table, {"a"}).schema.types == [pa.string(), table.schema.field("b").type, pa.int64()]
    assert decoded(table).schema.types == [pa.string(), pa.string(), pa.int64()]


@pytest.mark.parametrize(
    "numbers", [[0.0, 1.5], [5e-324], [-0.0, 3.0], [-2.0, 7.0], [-3.0], [1e308, 2.0], [float("inf"), 1.0]]
)
def test_bounds_hold_every_number(numbers: list[float]) -> None:
    low, high = bounds(np.array(numbers))
    assert low <= min(numbers)
    assert high == max(numbers)


@pytest.mark.parametrize("odd", [float("nan"), -float("nan"), float("-inf")])
def test_bounds_show_what_is_no_number(odd: float) -> None:
    assert not all(np.isfinite(bounds(np.array([1.0, odd, 2.0]))))
