from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator, model_validator

from buffetstore.expressions import Column, Comparison
from buffetstore.schemas import Price, Record, Rule, SchemaManager, Sensitivity, Timestamp, ValidationLevel, contract_of
from buffetstore.schemas.intake import take_in
from buffetstore.schemas.rowwise import validate_rows

NOW = datetime(2024, 1, 2, tzinfo=UTC)
FACTS: dict[str, Any] = {"data_type": "made", "version": "1.0.0", "key": ("seq", "timestamp")}


def rows(*values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"seq": at, "timestamp": NOW} | value for at, value in enumerate(values)]


def even(number: int) -> int:
    if number % 2:
        raise ValueError("is odd")
    return number


class ByColumn(Record, **FACTS):
    seq: int
    timestamp: Timestamp
    number: Annotated[int, AfterValidator(even)]
    name: Annotated[str, Field(max_length=4)]
    other: float | None = None

    @field_validator("name")
    @classmethod
    def check_name(cls, name: str) -> str:
        if cls is not ByColumn or name == "bad":
            raise ValueError("is a bad name")
        return name.upper()


def test_validators_see_their_own_columns_only_and_are_counted() -> None:
    data = rows({"number": 2, "name": "a"}, {"number": 3, "name": "bad"}, {"number": "x", "name": "abcde"})
    result = SchemaManager([ByColumn]).validate_data(data, "made")
    assert [(rule.name, rule.columns, rule.rows) for rule in result.rowwise] == [
        ("number: annotation", ("number",), 2),
        ("name: check_name", ("name",), 2),
    ]
    assert all(rule.seconds >= 0 for rule in result.rowwise)
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [
        (1, "number", "value_error"),
        (1, "name", "value_error"),
        (2, "number", "int_parsing"),
        (2, "name", "string_too_long"),
    ]
    assert result.accepted.column("name").to_pylist() == ["A"]


def test_time_is_by_the_clock_that_is_given() -> None:
    contract = contract_of(ByColumn)
    typed = take_in(rows({"number": 2, "name": "a"}), contract, now=NOW)
    ticks = count()
    verdict = validate_rows(contract, typed.table, {}, clock=lambda: float(next(ticks)))
    assert [rule.seconds for rule in verdict.rules] == [1.0, 1.0]


def test_a_contract_of_kernels_only_counts_nothing() -> None:
    class Plain(Record, **FACTS):
        seq: int
        timestamp: Timestamp
        price: Annotated[Price, Field(gt=0, multiple_of=Decimal("0.05"))]

    result = SchemaManager([Plain]).validate_data(rows({"price": 1.05}, {"price": 1.01}), "made")
    assert result.rowwise == ()
    assert [(f.record_index, f.error_type) for f in result.errors] == [(1, "multiple_of")]


class ByRow(Record, **FACTS):
    seq: int
    timestamp: Timestamp
    low: int
    high: int

    @field_validator("high")
    @classmethod
    def check_high(cls, high: int, info: ValidationInfo) -> int:
        if high < info.data.get("low", high):
            raise ValueError("is below low")
        return high

    @model_validator(mode="after")
    def check_span(self) -> Self:
        if self.high - self.low > 10:
            raise ValueError("is too wide")
        return self


def test_what_looks_at_the_row_is_given_the_row() -> None:
    data = rows({"low": 1, "high": 2}, {"low": 3, "high": 2}, {"low": 0, "high": 99}, {"low": "x", "high": 99})
    data.append(data[0])
    result = SchemaManager([ByRow]).validate_data(data, "made")
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [
        (1, "high", "value_error"),
        (2, "seq", "value_error"),
        (3, "low", "int_parsing"),
        (4, "seq", "duplicate_key"),
    ]
    assert [rule.name for rule in result.rowwise] == ["check_high, check_span"]


class Changing(Record, **FACTS):
    seq: int
    timestamp: Timestamp
    low: int
    high: int

    rules: ClassVar[tuple[Rule, ...]] = (Rule("low_above_high", "low", Comparison("low", "<=", Column("high")), "no"),)

    @field_validator("low")
    @classmethod
    def change(cls, low: int) -> Any:
        return {7: "seven", 8: None, 9: 99}.get(low, low)


def test_what_validators_make_is_held_to_the_contract() -> None:
    data = rows({"low": 1, "high": 20}, {"low": 7, "high": 20}, {"low": 8, "high": 20}, {"low": 9, "high": 20})
    result = SchemaManager([Changing]).validate_data(data, "made")
    assert [(f.record_index, f.error_type) for f in result.errors] == [
        (1, "int_parsing"),
        (2, "missing"),
        (3, "low_above_high"),
    ]
    assert "change made of it what does not fit: 'seven'" in result.errors[0].message


class Failing(Record, **FACTS):
    seq: int
    timestamp: Timestamp
    name: str | None = None

    @field_validator("name")
    @classmethod
    def shout(cls, name: Any) -> str:
        return str(name.upper())


@pytest.mark.parametrize("level", ValidationLevel)
def test_a_validator_that_fails_refuses_the_row_and_is_named(level: ValidationLevel) -> None:
    result = SchemaManager([Failing]).validate_data(rows({"name": "a"}, {}), "made", level=level)
    found = {ValidationLevel.STRICT: result.errors, ValidationLevel.WARNING: result.warnings}.get(level, [])
    assert [(f.record_index, f.field, f.error_type) for f in found] == (
        [] if level == ValidationLevel.DISABLED else [(1, "name", "validator_failed")]
    )
    if found:
        assert "name: shout failed: AttributeError: 'NoneType'" in found[0].message


def test_many_rows_keep_their_places() -> None:
    data = [{"seq": at, "timestamp": NOW, "number": 2, "name": "a" if at % 3 else "B"} for at in range(1_200)]
    result = SchemaManager([ByColumn]).validate_data(data, "made")
    assert result.accepted.column("name").to_pylist() == ["A" if at % 3 else "B" for at in range(1_200)]
    assert np.array_equal(result.accepted.column("seq").to_numpy(), np.arange(1_200))


class Person(BaseModel):
    tax_number: Annotated[str, Field(max_length=3), Sensitivity.SECRET]


def test_messages_leave_confidential_values_out() -> None:
    class Client(Record, **FACTS):
        seq: int
        timestamp: Timestamp
        iban: Annotated[str, Field(max_length=5), Sensitivity.CONFIDENTIAL]
        limit: int
        used: Annotated[int, Sensitivity.SECRET]
        people: list[Person] | None = None
        rules: ClassVar[tuple[Rule, ...]] = (
            Rule("over", "limit", Comparison("used", "<=", Column("limit")), "{used} is over {limit}"),
        )

    given = rows(
        {"iban": "DE4512345", "limit": 4711, "used": 815_000},
        {"iban": 815, "limit": "x4711", "used": 1, "people": [{"tax_number": "815815"}]},
    )
    result = SchemaManager([Client]).validate_data(given, "made")
    messages = {f.error_type: f.message for f in result.errors}
    assert messages["over"] == "limit: over (the value is confidential)"
    assert "x4711" in messages["int_parsing"]
    assert not any("DE45" in message or "815" in message for message in messages.values())
    assert len(result.errors) == 5


@pytest.mark.parametrize("step", [timedelta(0), timedelta(days=1)])
def test_bounds_of_text_are_python_and_still_hold(step: timedelta) -> None:
    class Texts(Record, **FACTS):
        seq: int
        timestamp: Timestamp
        word: Annotated[str, Field(gt="m")]

    data = rows({"word": "a", "timestamp": NOW + step}, {"word": "z"})
    result = SchemaManager([Texts]).validate_data(data, "made")
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [(0, "word", "greater_than")]
