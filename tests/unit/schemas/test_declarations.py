from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from buffetstore.errors import ConfigurationError
from buffetstore.schemas import (
    Aliases,
    Price,
    Record,
    SchemaManager,
    Sensitivity,
    ServiceLevels,
    Symbol,
    Timestamp,
    Unit,
    contract_of,
    data_type,
)
from buffetstore.schemas.arrow import fields_of

NOW = datetime(2024, 1, 2, tzinfo=UTC)


@data_type(
    "fills",
    version="v1.2.0",
    key=("symbol", "timestamp"),
    sort_by=("timestamp", "symbol"),
    owner="desk@example.com",
    service_levels=ServiceLevels(freshness=timedelta(hours=1), completeness=0.99),
)
class Filled(Record):
    """What was traded.

    One row for each fill.
    """

    symbol: Symbol
    timestamp: Timestamp
    price: Annotated[Price, Unit("USD"), Aliases("px", "px_last")] = Field(description="Paid for one share")
    account: Annotated[str, Field(description="Whose", min_length=2), Sensitivity.SECRET] | None = None
    fee: float | None = Field(None, json_schema_extra={"unit": "bp", "sensitivity": "internal"})


def test_the_decorator_states_the_contract() -> None:
    contract = contract_of(Filled)
    assert (contract.data_type, contract.version, contract.key) == ("fills", "1.2.0", ("symbol", "timestamp"))
    assert contract.sort_by == ("timestamp", "symbol")
    assert contract.owner == "desk@example.com"
    assert contract.service_levels == ServiceLevels(timedelta(hours=1), 0.99)
    assert contract.description == "What was traded.\n\nOne row for each fill."
    assert SchemaManager([Filled]).contract("fills") is contract


def test_fields_say_what_they_are() -> None:
    said = {spec.name: (spec.description, spec.unit, spec.sensitivity, spec.aliases) for spec in fields_of(Filled)}
    assert said["price"] == ("Paid for one share", "USD", None, ("px", "px_last"))
    assert said["account"] == ("Whose", None, Sensitivity.SECRET, ())
    assert said["fee"] == ("", "bp", Sensitivity.INTERNAL, ())
    assert said["symbol"] == ("", None, None, ())


def test_rows_are_sorted_by_the_key_unless_it_is_said() -> None:
    class Plain(Record, data_type="plain", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp

    contract = contract_of(Plain)
    assert (contract.sort_by, contract.owner, contract.description) == (("timestamp",), None, "")
    assert contract.service_levels == ServiceLevels()


def test_a_subclass_is_its_own_contract() -> None:
    class Later(Filled, version="1.3.0"):
        venue: str | None = None

    assert contract_of(Later).owner == "desk@example.com"
    assert contract_of(Later).version == "1.3.0"
    assert contract_of(Filled).version == "1.2.0"


def test_only_record_classes_are_decorated() -> None:
    with pytest.raises(ConfigurationError, match="Other', which is no record class"):

        @data_type("other", version="1.0.0", key=("timestamp",))
        class Other(BaseModel):
            timestamp: Timestamp


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"sort_by": ("when",)}, "sort_by names 'when'"),
        ({"sort_by": ("tags",)}, "nested column"),
        ({"service_levels": {"freshness": 1}}, "write ServiceLevels"),
        ({"colour": "red"}, r"unknown keywords \['colour'\]"),
    ],
)
def test_a_wrong_word_is_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):

        @data_type("odd", version="1.0.0", key=("timestamp",), **facts)
        class Odd(Record):
            timestamp: Timestamp
            tags: list[str] | None = None


def test_markers_refuse_what_they_cannot_mean() -> None:
    with pytest.raises(ConfigurationError, match="'top' is none of public, internal, confidential, secret"):
        Sensitivity("top")
    with pytest.raises(ConfigurationError, match="names no unit"):
        Unit("")
    with pytest.raises(ConfigurationError, match="names no column"):
        Aliases()
    with pytest.raises(ConfigurationError, match=r"1\.5 is no share"):
        ServiceLevels(completeness=1.5)
    with pytest.raises(ConfigurationError, match="is no time"):
        ServiceLevels(freshness=timedelta(0))


def test_a_name_means_one_column() -> None:
    with pytest.raises(ConfigurationError, match="'open' is an alias of 'price' and a name of 'open'"):

        class Twice(Record, data_type="twice", version="1.0.0", key=("timestamp",)):
            timestamp: Timestamp
            price: Annotated[Price, Aliases("open")]
            open: Price


class Side(str, Enum):  # noqa: UP042 what people write who came before StrEnum
    BUY = "buy"
    SELL = "sell"


class Colour(Enum):
    RED = "red"


class Node(BaseModel):
    name: str
    children: list[Node] | None = None


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str


class Exact(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (dict[str, int], "a pydantic model with these fields"),
        (bytes, "in hex or base64"),
        (set[str], r"list\[\.\.\.\]"),
        (tuple[int, int], r"list\[\.\.\.\]"),
        (list, "with the type of its elements"),
        (timedelta, r"int, with Unit\('seconds'\)"),
        (time, "or a Timestamp"),
        (UUID, "use str"),
        (Colour, "StrEnum"),
        (Literal[1, 2], "Literal of strings only, or int with ge= and le="),
        (int | str, "one type"),
        (Any, "the type that the values have"),
        (Node, r"Odd\.thing\.children\[\]|Node\.children\[\] holds Node inside itself"),
        (Loose, "takes any extra field"),
        (Exact, "class Exact is strict, which no column can be"),
        (Annotated[int, Field(strict=True)], r"Odd\.thing is strict"),
    ],
    ids=str,
)
def test_a_type_that_no_column_can_hold_says_what_to_use(annotation: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
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


def test_choices_nested_models_and_lists_are_columns() -> None:
    class Order(Record, data_type="orders", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        side: Side
        kind: StrEnum("Kind", {"LIMIT": "limit"})
        node: list[Loosely] | None = None

    manager = SchemaManager([Order])
    rows = [
        {"timestamp": NOW, "side": Side.BUY, "kind": "limit", "node": [{"name": "a", "tags": ["x"]}]},
        {"timestamp": NOW + timedelta(1), "side": "hold", "kind": "limit", "node": [{"name": "", "tags": []}]},
    ]
    result = manager.validate_data(rows, "orders")
    assert result.accepted.to_pylist()[0]["side"] == "buy"
    assert [(f.record_index, f.field, f.error_type) for f in result.errors] == [
        (1, "side", "literal_error"),
        (1, "node[].name", "string_too_short"),
    ]


class Loosely(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    tags: list[str]


def test_ten_thousand_columns() -> None:
    names = [f"c{number}" for number in range(10_000)]
    wide = type(Record)(
        "Wide",
        (Record,),
        {
            "__annotations__": {"timestamp": Timestamp, **dict.fromkeys(names, float | None)},
            "__module__": __name__,
            "__qualname__": "Wide",
            **dict.fromkeys(names),
        },
        data_type="wide",
        version="1.0.0",
        key=("timestamp",),
    )
    row = {"timestamp": NOW, **dict.fromkeys(names, 1.0)}
    result = SchemaManager([wide]).validate_data([row, row | {"timestamp": NOW + timedelta(1), "c9999": "x"}], "wide")
    assert result.accepted.num_columns == 10_004
    assert [(finding.record_index, finding.field) for finding in result.errors] == [(1, "c9999")]
