from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field, ValidationError

from buffetstore.errors import ConfigurationError
from buffetstore.expressions import Column, Comparison
from buffetstore.schemas import (
    Date,
    MarketData,
    MarketDataV100,
    Money,
    Price,
    Record,
    Rule,
    Timestamp,
    contract_of,
    decimal,
)

UTC_MICROSECONDS = pa.timestamp("us", "UTC")


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Leg(BaseModel):
    name: str
    ratio: float | None = None


class Everything(Record, data_type="everything", version="v2.0.1", key=("name", "timestamp")):
    name: str
    timestamp: Timestamp
    number: int
    real: float | None = None
    flag: bool | None = None
    day: Date | None = None
    price: Price
    total: Annotated[Money, Field(ge=0)] | None = None
    exact: Annotated[Decimal, Field(max_digits=9, decimal_places=3)] | None = None
    rate: decimal(12, 6) | None = None
    colour: Literal["red", "green"] = "red"
    side: Side | None = None
    tags: list[str] | None = None
    legs: list[Leg] | None = None
    leg: Leg | None = None


def test_annotations_become_arrow_columns() -> None:
    leg = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("ratio", pa.float64())])
    expected = pa.schema(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("timestamp", UTC_MICROSECONDS, nullable=False),
            pa.field("number", pa.int64(), nullable=False),
            pa.field("real", pa.float64()),
            pa.field("flag", pa.bool_()),
            pa.field("day", pa.date32()),
            pa.field("price", pa.decimal128(18, 8), nullable=False),
            pa.field("total", pa.decimal128(22, 2)),
            pa.field("exact", pa.decimal128(9, 3)),
            pa.field("rate", pa.decimal128(12, 6)),
            pa.field("colour", pa.string(), nullable=False),
            pa.field("side", pa.string()),
            pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False))),
            pa.field("legs", pa.list_(pa.field("element", leg, nullable=False))),
            pa.field("leg", leg),
            pa.field("created_at", UTC_MICROSECONDS, nullable=False),
            pa.field("available_at", UTC_MICROSECONDS),
            pa.field("version", pa.string(), nullable=False),
        ]
    )
    assert contract_of(Everything).schema == expected


def test_class_keywords_become_the_contract() -> None:
    class Fundamentals(
        Record,
        data_type="fundamentals",
        version="1.0.0",
        key=["isin", "period_end", "item"],
        revisions="keep",
        event_time="period_end",
        availability="observed",
        symbol="isin",
        category="fundamental",
        partition_by=("item",),
    ):
        isin: str
        period_end: Timestamp
        item: str
        value: Money

    contract = contract_of(Fundamentals)
    assert (contract.data_type, contract.version, contract.model) == ("fundamentals", "1.0.0", Fundamentals)
    assert contract.key == ("isin", "period_end", "item")
    assert (contract.revisions, contract.event_time, contract.availability) == ("keep", "period_end", "observed")
    assert (contract.symbol, contract.category, contract.partition_by) == ("isin", "fundamental", ("item",))


def test_what_is_not_stated_has_a_default() -> None:
    contract = contract_of(Everything)
    assert (contract.version, contract.revisions, contract.category) == ("2.0.1", "replace", "everything")
    assert contract.symbol is None, "there is no field named symbol"
    assert contract.partition_by == ()


def test_a_subclass_inherits_and_extends() -> None:
    class Oil(MarketData):
        price: Price
        rules: ClassVar[tuple[Rule, ...]] = (
            Rule("cheap", "price", Comparison("price", ">", -50), "price {price} is a gift", "warning"),
            Rule("close_not_price", "close", Comparison("close", "<=", Column("price")), "{close} above {price}"),
        )

    contract, base = contract_of(Oil), contract_of(MarketData)
    assert (contract.data_type, contract.version, contract.key) == (base.data_type, base.version, base.key)
    rules = {rule.name: rule for rule in contract.rules}
    assert rules.keys() == {rule.name for rule in base.rules} | {"cheap"}
    assert rules["close_not_price"].severity == "error"
    assert contract_of(MarketData) is base, "the base is as it was"
    assert [fill.name for fill in Oil.fills] == [fill.name for fill in MarketData.fills]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"key": ("stationn",)}, "key names 'stationn'"),
        ({"key": ("height", "timestamp")}, "key column 'height' may be null"),
        ({"key": ("celsius",)}, "key column 'celsius' is double"),
        ({"key": ()}, "states no key"),
        ({"version": "1.0"}, "version '1.0' is not of the form"),
        ({"event_time": "station"}, "event_time 'station' is string"),
        ({"event_time": "seen_at"}, "event_time 'seen_at'"),
        ({"event_time": "when"}, "event_time names 'when'"),
        ({"symbol": "ticker"}, "symbol names 'ticker'"),
        ({"revisions": "sometimes"}, "revisions 'sometimes'"),
        ({"availability": "guessed"}, "availability 'guessed'"),
        ({"partition_by": ("month",)}, "partition_by names 'month'"),
        ({"primary_key": ("station",)}, r"unknown keywords \['primary_key'\]"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_is_written(keywords: dict[str, Any], words: str) -> None:
    facts = {"data_type": "weather", "version": "1.0.0", "key": ("station", "timestamp"), **keywords}
    with pytest.raises(ConfigurationError, match=words) as caught:

        class Weather(Record, **facts):
            station: str
            timestamp: Timestamp
            seen_at: Timestamp | None = None
            height: int | None = None
            celsius: float

    assert "Weather" in str(caught.value)


def test_a_rule_on_an_unknown_column_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="rule 'warm' names 'kelvin'"):

        class Weather(Record, data_type="weather", version="1.0.0", key=("timestamp",)):
            timestamp: Timestamp
            rules: ClassVar[tuple[Rule, ...]] = (Rule("warm", "timestamp", Comparison("kelvin", ">", 0), "cold"),)


@pytest.mark.parametrize(
    "annotation",
    [dict[str, int], bytes, complex, int | str, Any, Literal[1, 2], Decimal, timedelta, list[bytes], pa.Table],
    ids=str,
)
def test_a_type_that_no_column_can_hold_names_class_and_field(annotation: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Odd\.thing"):
        type(Record)(
            "Odd",
            (Record,),
            {
                "__annotations__": {"timestamp": Timestamp, "thing": annotation},
                "__qualname__": "Odd",
                "__module__": __name__,
            },
            data_type="odd",
            version="1.0.0",
            key=("timestamp",),
        )


def test_a_default_factory_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="default_factory"):

        class Tagged(Record, data_type="tagged", version="1.0.0", key=("timestamp",)):
            timestamp: Timestamp
            tags: list[str] = Field(default_factory=list)


def test_a_base_without_a_data_type_has_no_contract() -> None:
    class Base(Record):
        timestamp: Timestamp

    with pytest.raises(ConfigurationError, match="states no data_type"):
        contract_of(Base)


def row(**values: Any) -> dict[str, Any]:
    base = {"symbol": "AAPL", "timestamp": datetime(2024, 1, 2, tzinfo=UTC), "price": "187.2", "volume": 5}
    return base | {"data_source": "x"} | values


def test_a_row_takes_values_as_its_columns_do() -> None:
    made = MarketData(
        **row(
            timestamp=datetime(2024, 1, 2, 9, 30, tzinfo=timezone(timedelta(hours=-5))),
            price=0.123456785,
            volume=3.0,
            rsi=float("nan"),
            interval=None,
            version="v1.2.0",
        )
    )
    assert made.timestamp == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert made.timestamp.tzinfo is UTC
    assert made.price == Decimal("0.12345678"), "floats are rounded half-even to the scale"
    assert (made.volume, made.rsi, made.interval, made.version) == (3, None, "1d", "1.2.0")


@pytest.mark.parametrize(
    ("values", "error_type"),
    [
        ({"timestamp": datetime(2024, 1, 2)}, "timezone_aware"),  # noqa: DTZ001
        ({"timestamp": 1_704_153_600}, "datetime_type"),
        ({"price": Decimal("1.123456789")}, "decimal_max_places"),
        ({"price": "12345678901.5"}, "decimal_whole_digits"),
        ({"price": float("inf")}, "finite_number"),
        ({"price": float("nan")}, "decimal_type"),
        ({"price": 0}, "greater_than"),
        ({"volume": 1.5}, "int_from_float"),
        ({"volume": True}, "int_type"),
        ({"volume": 2**63}, "int_parsing_size"),
        ({"beta": float("inf")}, "finite_number"),
        ({"symbol": ""}, "string_too_short"),
        ({"symbol": 5}, "string_type"),
        ({"version": "latest"}, "string_pattern_mismatch"),
        ({"colour": "red"}, "extra_forbidden"),
    ],
)
def test_a_row_is_refused_as_its_column_would_be(values: dict[str, Any], error_type: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MarketData(**row(**values))
    assert [error["type"] for error in caught.value.errors()] == [error_type]


def test_later_versions_only_add_nullable_fields() -> None:
    old, new = contract_of(MarketDataV100), contract_of(MarketData)
    added = set(new.schema.names) - set(old.schema.names)
    assert added >= {"open", "market_cap", "rsi"}
    assert all(new.schema.field(name).nullable for name in added)
    assert all(new.schema.field(name) == old.schema.field(name) for name in old.schema.names)


def test_a_name_that_cannot_be_resolved_is_named() -> None:
    class Late(Record, data_type="late", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        thing: NowhereToBeFound  # noqa: F821

    with pytest.raises(ConfigurationError, match="Late has an annotation with the unknown name 'NowhereToBeFound'"):
        contract_of(Late)


def test_a_name_that_is_resolved_later_is_found() -> None:
    class Parent(Record, data_type="parent", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        child: LaterChild | None = None

    assert contract_of(Parent).schema.field("child").type == pa.struct([pa.field("name", pa.string(), nullable=False)])


class LaterChild(BaseModel):
    name: str


def test_columns_go_by_the_fields_name_not_by_its_alias() -> None:
    class Aliased(Record, data_type="aliased", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        price: Price = Field(alias="Close")

    assert Aliased(timestamp=datetime(2024, 1, 2, tzinfo=UTC), price=1).price == 1
    assert contract_of(Aliased).schema.names[:2] == ["timestamp", "price"]
