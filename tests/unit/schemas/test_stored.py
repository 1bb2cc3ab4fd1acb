from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from buffetstore.errors import ConfigurationError, CorruptFileError, InvalidInputError, UnsupportedFeatureError
from buffetstore.expressions import ALWAYS, And, Column, Comparison, IsIn, IsNull, Not, Or
from buffetstore.schemas import (
    Aliases,
    Date,
    Fill,
    MarketData,
    Money,
    OptionType,
    Price,
    Record,
    Rule,
    SchemaManager,
    ServiceLevels,
    Timestamp,
    Unit,
    contract_of,
)
from buffetstore.schemas.changes import diff
from buffetstore.schemas.entry import SchemaEntry, schema_key
from buffetstore.schemas.fill import same_value
from buffetstore.schemas.json_values import NotJSONError, decode, decode_expression, encode, encode_expression
from buffetstore.schemas.registry import BUILT_IN
from buffetstore.schemas.stored import contract_document, document_bytes, fingerprint, load_contract
from buffetstore.schemas.types import Canonical

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Leg(BaseModel):
    name: str
    ratio: Annotated[float, Field(gt=0)] | None = None


class Everything(
    Record,
    data_type="everything",
    version="2.0.1",
    key=("name", "timestamp"),
    owner="desk",
    sort_by=("timestamp",),
    service_levels=ServiceLevels(freshness=timedelta(hours=1), completeness=0.99),
):
    """One of each."""

    name: Annotated[str, Field(min_length=1, max_length=9, pattern="^[A-Z]", description="what it is called")]
    timestamp: Annotated[Timestamp, Field(gt=datetime(2000, 1, 1, tzinfo=UTC))]
    number: Annotated[int, Field(ge=0, lt=10**15)] = 7
    real: Annotated[float, Field(le=1.5)] | None = None
    flag: bool | None = None
    day: Annotated[Date, Field(ge=date(2000, 1, 1))] = date(2024, 1, 19)
    price: Annotated[Price, Unit("USD"), Aliases("px", "last")]
    total: Annotated[Money, Field(ge=Decimal("0.50"))] = 2  # type: ignore[assignment]  # an int is a decimal, too
    side: Side = Side.BUY
    right: OptionType | None = None
    colour: Literal["red", "green"] | None = None
    tags: Annotated[list[str], Field(max_length=3)] | None = None
    legs: list[Leg] | None = None
    leg: Leg | None = None

    fills: ClassVar[tuple[Fill, ...]] = (same_value("price", "total"),)
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "odd",
            "price",
            Or(
                (
                    Comparison("price", "<=", Decimal("9.5")),
                    Not(IsIn("side", (Side.BUY,))),
                    And((IsNull("real"), ALWAYS)),
                )
            ),
            "price {price} of {side} is odd",
            severity="warning",
        ),
    )


def shout(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Custom(Record, data_type="custom", version="1.0.0", key=("name", "timestamp")):
    name: Annotated[str, Canonical(shout)]
    timestamp: Timestamp
    even: int
    low: float = 0.0
    fills: ClassVar[tuple[Fill, ...]] = (Fill("nothing", lambda table, _: table),)

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("odd")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Custom:
        return self


def row(**values: Any) -> dict[str, Any]:
    return {"name": "Ab", "timestamp": "2024-01-02T00:00:00Z", "price": "1.5", **values}


@pytest.mark.parametrize("model", [*BUILT_IN, Everything], ids=lambda model: model.__name__)
def test_a_document_reads_back_as_the_contract(model: type[Record]) -> None:
    contract = contract_of(model)
    loaded = load_contract(document_bytes(contract), origin="here")
    assert loaded.model is None
    assert loaded.unenforced == ()
    assert loaded.schema == contract.schema
    for fact in ("data_type", "version", "key", "revisions", "event_time", "availability", "symbol", "category"):
        assert getattr(loaded, fact) == getattr(contract, fact)
    for fact in ("partition_by", "sort_by", "owner", "service_levels", "description"):
        assert getattr(loaded, fact) == getattr(contract, fact)
    assert document_bytes(loaded) == document_bytes(contract)
    assert fingerprint(loaded) == fingerprint(contract)
    indented = json.dumps(contract_document(contract), indent=2)
    for stored in (contract_document(contract), indented, indented.encode()):
        assert document_bytes(load_contract(stored)) == document_bytes(contract)


@pytest.mark.parametrize("model", [*BUILT_IN, Everything, Custom], ids=lambda model: model.__name__)
def test_nothing_differs_between_a_class_and_its_document(model: type[Record]) -> None:
    contract = contract_of(model)
    loaded = load_contract(document_bytes(contract))
    assert diff(contract, loaded) == diff(loaded, contract) == []


def test_data_is_judged_without_the_class() -> None:
    with_class, without = SchemaManager([Everything]), SchemaManager()
    without.register_stored(document_bytes(contract_of(Everything)))
    rows = [
        row(),
        row(name="ab"),
        row(name="Abcdefghij"),
        row(number=-1),
        row(real=2),
        row(day="1999-12-31"),
        row(total="0.49"),
        row(side="hold"),
        row(right="C"),
        row(right="both"),
        row(tags=["a"] * 4),
        row(legs=[{"name": "x", "ratio": 0}]),
        row(leg={"ratio": 1}),
        row(price="12", side="sell", real=1),
        row(price="12", real=1),
        row(timestamp="1999-01-01T00:00:00Z"),
    ]
    for one in rows:
        mine, theirs = (m.validate_data([one], "everything", now=NOW) for m in (without, with_class))
        assert list(mine.errors) == list(theirs.errors), one
        assert list(mine.warnings) == list(theirs.warnings)
        assert mine.accepted.equals(theirs.accepted)
    assert without.validate_data([row(right="C")], "everything", now=NOW).accepted["right"].to_pylist() == ["call"]


def test_words_are_not_in_the_fingerprint_and_demands_are() -> None:
    document = contract_document(contract_of(Everything))
    base = fingerprint(load_contract(document))

    def changed(**facts: Any) -> str:
        return fingerprint(load_contract({**document, **facts}))

    rule = document["rules"][0]
    assert changed(description="other", owner="ours") == base
    assert changed(rules=[{**rule, "message": "odd"}]) == base
    assert changed(rules=[{**rule, "severity": "error"}]) != base
    assert changed(version="2.0.2") != base
    fields = document["fields"]
    assert changed(fields=[{**fields[0], "description": "a name"}, *fields[1:]]) == base
    assert changed(fields=[{**fields[0], "constraints": []}, *fields[1:]]) != base
    custom = {"kind": "upcast", "name": "f", "field": "price"}
    assert changed(custom=[custom]) == base
    assert changed(custom=[{**custom, "kind": "validator"}]) != base


class Tick(Record, data_type="ticks", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    price: Annotated[Price, Field(gt=0)]


def test_the_fingerprint_is_the_same_in_every_release() -> None:
    assert fingerprint(contract_of(Tick)) == "b89005ef912195086e082422784be38acde9efb516b91ee80bb537ddab86c71e"


def test_code_is_named_and_said_not_to_be_enforced() -> None:
    contract = contract_of(Custom)
    assert contract.unenforced == ()
    loaded = load_contract(document_bytes(contract))
    assert set(map(str, loaded.unenforced)) >= {
        "fill 'nothing'",
        "spelling 'shout' of field 'name'",
        "validator '_is_even' of field 'even'",
        "validator '_whole'",
    }
    assert document_bytes(loaded) == document_bytes(contract)
    manager = SchemaManager()
    manager.register_stored(loaded)
    odd = {"name": "a", "timestamp": NOW, "even": 1}
    assert manager.validate_data([odd], "custom", now=NOW).is_valid
    assert not SchemaManager([Custom]).validate_data([odd], "custom", now=NOW).is_valid


def test_a_version_that_is_registered_keeps_what_it_demands() -> None:
    manager = SchemaManager([Everything])
    document = contract_document(contract_of(Everything))
    assert manager.register_stored(document).model is Everything
    document["fields"][0]["constraints"] = []
    with pytest.raises(
        ConfigurationError, match=r"everything 2\.0\.1 is already registered and demands something else"
    ):
        manager.register_stored(document)
    other = SchemaManager()
    other.register_stored(document)
    with pytest.raises(ConfigurationError, match="a version never changes"):
        other.register(Everything)


def edited(**facts: Any) -> dict[str, Any]:
    return {**contract_document(contract_of(MarketData)), **facts}


def field(**words: Any) -> dict[str, Any]:
    document = contract_document(contract_of(MarketData))
    return {**document, "fields": [*document["fields"], {"name": "x", "type": "int64", "nullable": True, **words}]}


def rule(**words: Any) -> dict[str, Any]:
    base = {"name": "r", "field": "price", "holds": {"column": "price", "op": ">", "value": 1}, "message": "bad"}
    return edited(rules=[{**base, **words}])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "not JSON|recursion"),
        ("[1]", r"\$ \[1\]"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        (edited(format_version=0), r"\$.format_version 0"),
        (edited(colour="red"), r"\$.colour 'red'"),
        (edited(key="symbol"), r"\$.key 'symbol'"),
        (edited(key=[]), r"\$.key \[\]"),
        (edited(key=["ticker"]), "key names 'ticker', which is no field"),
        (edited(key=["rsi"]), "'rsi'"),
        (edited(version="1.2"), "version '1.2' is not of the form"),
        (edited(event_time="symbol"), "event_time 'symbol'"),
        (edited(revisions="never"), r"\$.revisions 'never'"),
        (edited(fields=[]), r"\$.fields \[\]"),
        (edited(completeness=7.0), "completeness 7.0 is no share"),
        (edited(fills=[{"built_in": "guess"}]), "fill 'guess' is none of"),
        (edited(fills=[{"same": ["price", "x"]}]), "names 'x', which is no field"),
        (field(name="price"), "two fields named 'price'"),
        (field(type="decimal(99,8)"), r"\('x'\): type 'decimal\(99,8\)' is none of"),
        (field(type="decimal(2,8)"), "is none of"),
        (field(type="INT"), "type 'INT' is none of"),
        (field(nullable="yes"), r"\$.fields\[\d+\].nullable 'yes'"),
        (field(default="one"), "default: 'one' is not a number"),
        (field(default={"decimal": "x"}), "default: 'x' is no decimal"),
        (field(constraints=[{"ge": "0"}]), "ge '0' is no bound of int64"),
        (field(constraints=[{"ge": {"float": "nan"}}]), "ge nan is no bound"),
        (field(constraints=[{"ge": True}]), "ge True is no bound"),
        (field(constraints=[{"above": 0}]), "constraint 'above' is not for int64"),
        (field(constraints=[{"ge": 0, "le": 1}]), "is not one"),
        (field(constraints=[{"min_length": 1}]), "constraint 'min_length' is not for int64"),
        (field(type="string", constraints=[{"min_length": -1}]), "min_length -1 is no length"),
        (field(type="string", constraints=[{"pattern": "("}]), r"pattern '\(' is no regular expression"),
        (field(type="string", constraints=[{"pattern": 5}]), "pattern 5 is not text"),
        (field(constraints=[{"multiple_of": 0}]), "multiple_of 0 is not above 0"),
        (field(type="date", constraints=[{"ge": {"timestamp": "2024-01-01T00:00:00Z"}}]), "is no bound of date32"),
        (field(choices=["a"]), "give a string some"),
        (field(type="string", choices=["a"], default="b"), "default 'b' of field 'x' is none of"),
        (field(type="list"), "without an element"),
        (field(type="struct"), "structs have fields"),
        (field(element={"name": "x", "type": "bool"}), "lists have an element"),
        (field(spellings=["loud"]), "spelling 'loud' is none of version"),
        (field(sensitivity="quite"), "sensitivity 'quite' is none of"),
        (field(aliases=["price"]), "'price' is an alias of 'x'"),
        (field(filled=True), "filled by the store"),
        (rule(holds={"column": "ticker", "op": ">", "value": 1}), "'ticker'"),
        (rule(holds={"column": "price", "op": "~", "value": 1}), "rule 'r': '~' is no comparison"),
        (rule(holds={"column": "price", "op": ">", "value": "dear"}), "cannot be compared"),
        (rule(holds={"column": "price", "op": ">", "value": {"money": 1}}), "'money' is no kind of value"),
        (rule(holds={"column": "price"}), "is no predicate"),
        (rule(holds={"and": [], "or": []}), "is no predicate"),
        (rule(message="{ticker} is bad"), "'ticker'"),
        (rule(message="{price.__class__}"), "names 'price.__class__', not price"),
        (rule(message="{"), "message '{'"),
        (rule(severity="fatal"), r"\$.rules\[0\].severity 'fatal'"),
    ],
)
def test_a_document_edited_by_hand_is_refused_with_the_place(document: Any, words: str) -> None:
    with pytest.raises(CorruptFileError, match=words) as caught:
        load_contract(document, origin="metadata/schemas/market_data/1.2.0.json")
    assert str(caught.value).startswith("metadata/schemas/market_data/1.2.0.json")


def test_every_record_has_its_own_three_fields() -> None:
    document = contract_document(contract_of(MarketData))
    for name in ("created_at", "available_at", "version"):
        fields = [one for one in document["fields"] if one["name"] != name]
        with pytest.raises(CorruptFileError, match=f"has no field '{name}'"):
            load_contract({**document, "fields": fields})


def test_a_newer_format_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedFeatureError, match="format_version 2, newer than 1"):
        load_contract(edited(format_version=2, shape="new"))


def test_a_contract_that_json_cannot_hold_is_refused() -> None:
    class Odd(Record, data_type="odd", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        x: float
        rules: ClassVar[tuple[Rule, ...]] = (Rule("r", "x", Comparison("x", ">", 1j), "bad"),)

    with pytest.raises(ConfigurationError, match=r"contract of odd 1\.0\.0 cannot be stored: 1j is a complex"):
        document_bytes(contract_of(Odd))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -(2**70),
        1.5,
        -0.0,
        float("inf"),
        "",
        "é\n",
        Decimal("1.50"),
        date(2024, 2, 29),
        NOW,
        [1, [2]],
        {"a": NOW},
    ],
)
def test_values_read_back_as_they_were(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value), allow_nan=False)))
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    "given",
    [[1], {"decimal": 1.5}, {"timestamp": "2024-01-01T00:00:00"}, {"date": 5}, {}, {"a": 1, "b": 2}, {"list": 1}],
)
def test_what_is_no_value_is_refused(given: Any) -> None:
    with pytest.raises(NotJSONError):
        decode(given)


def test_a_naive_time_has_no_form() -> None:
    with pytest.raises(NotJSONError, match="no time zone"):
        encode(datetime(2024, 1, 1))  # noqa: DTZ001 what is refused


def test_predicates_read_back_as_they_were() -> None:
    holds = Or((Not(And((Comparison("a", "!=", Column("b")), IsNull("c")))), IsIn("d", (Decimal(1), "x")), ALWAYS))
    assert decode_expression(json.loads(json.dumps(encode_expression(holds)))) == holds


def entry(**facts: Any) -> SchemaEntry:
    return SchemaEntry(**{"contract": contract_of(Everything), "registered_by": "me", "registered_at": NOW, **facts})


def test_an_entry_lies_under_its_version_and_says_who_when_and_why() -> None:
    made = entry(reason="first")
    assert made.key == "metadata/schemas/everything/2.0.1.json"
    back = SchemaEntry.from_bytes(made.to_bytes(), key=made.key)
    assert (back.registered_by, back.registered_at, back.reason) == ("me", NOW, "first")
    assert back.fingerprint == made.fingerprint
    assert back.to_bytes() == made.to_bytes()
    assert schema_key("a/b é", "v1.0.0") == "metadata/schemas/a%2Fb%20%C3%A9/1.0.0.json"
    assert schema_key("..", "1.0.0") == "metadata/schemas/%2E%2E/1.0.0.json"
    with pytest.raises(InvalidInputError, match="no time zone"):
        entry(registered_at=NOW.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contract": None}, "contract None is no document"),
        ({"fingerprint": "0" * 64}, "was changed after it was registered"),
        ({"fingerprint": 5}, "fingerprint 5 is not text"),
        ({"registered_at": "yesterday"}, "'yesterday' is no time"),
        ({"registered_at": "2024-01-01T00:00:00"}, "has no time zone"),
        ({"mood": "good"}, "mood: an entry has exactly"),
    ],
)
def test_an_entry_edited_by_hand_is_refused(change: dict[str, Any], words: str) -> None:
    stored = json.loads(entry().to_bytes()) | change
    with pytest.raises(CorruptFileError, match=words):
        SchemaEntry.from_bytes(json.dumps(stored).encode(), key=entry().key)


def test_an_entry_is_refused_where_it_does_not_belong() -> None:
    key = schema_key("everything", "2.0.2")
    with pytest.raises(CorruptFileError, match=r"holds everything 2\.0\.1"):
        SchemaEntry.from_bytes(entry().to_bytes(), key=key)
    with pytest.raises(CorruptFileError, match="is no registered schema but a list"):
        SchemaEntry.from_bytes(b"[]", key=key)
    with pytest.raises(CorruptFileError, match="is not JSON"):
        SchemaEntry.from_bytes(b"{", key=key)
    newer = json.loads(entry().to_bytes()) | {"format_version": 9}
    with pytest.raises(UnsupportedFeatureError, match="format_version 9"):
        SchemaEntry.from_bytes(json.dumps(newer).encode(), key=key)


def test_a_loaded_contract_makes_the_same_empty_table() -> None:
    loaded = load_contract(document_bytes(contract_of(Everything)))
    assert loaded.schema.empty_table().schema.field("legs").type == pa.list_(
        pa.field("element", pa.struct([pa.field("name", pa.string(), False), pa.field("ratio", pa.float64())]), False)
    )
