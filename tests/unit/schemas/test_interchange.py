from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import duckdb
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, ConfigDict, Field

from buffetstore.errors import CorruptFileError, InvalidInputError, NotFoundError
from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or
from buffetstore.schemas import (
    Aliases,
    Price,
    Record,
    Rule,
    SchemaManager,
    Sensitivity,
    ServiceLevels,
    Symbol,
    Timestamp,
    Unit,
    contract_of,
)
from buffetstore.schemas.interchange import EXPORTS, draft_from_document, export_contract
from buffetstore.schemas.interchange.inference import draft_from_arrow, draft_from_parquet
from buffetstore.schemas.interchange.odcs import odcs_document
from buffetstore.schemas.interchange.sql import to_sql
from buffetstore.schemas.interchange.yaml import to_yaml
from buffetstore.schemas.registry import BUILT_IN

if TYPE_CHECKING:
    from pathlib import Path

    from buffetstore.schemas.interchange.source import Draft

NOW = datetime(2024, 1, 2, tzinfo=UTC)
yaml = pytest.importorskip("yaml", reason="what is written is read back by PyYAML")


class Leg(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1)]
    ratio: float | None = None


class Order(
    Record,
    data_type="orders",
    version="1.2.0",
    key=("symbol", "timestamp"),
    owner="desk@example.com",
    partition_by=("symbol",),
    service_levels=ServiceLevels(freshness=timedelta(hours=1), completeness=0.99),
):
    """What clients want: "now", they say."""

    symbol: Symbol
    timestamp: Timestamp
    side: Literal["buy", "sell"]
    price: Annotated[Price, Field(gt=0, description="Limit | price"), Unit("USD"), Aliases("px")] | None = None
    quantity: Annotated[int, Field(ge=1, multiple_of=100)] = 100
    client: Annotated[str, Field(max_length=12, pattern="^[A-Z]+$"), Sensitivity.CONFIDENTIAL]
    tags: Annotated[list[str], Field(max_length=3)] | None = None
    legs: list[Leg] | None = None
    due: Annotated[date, Field(ge=date(2020, 1, 1))] | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("big_buy", "quantity", Or((Comparison("side", "==", "sell"), Comparison("quantity", "<", 10_000))), "big"),
        Rule("dear", "price", Comparison("price", "<", Decimal(1_000)), "price {price} is odd", severity="warning"),
    )


ORDER = contract_of(Order)
CONTRACTS = [*(contract_of(model) for model in BUILT_IN), ORDER]
IDS = [f"{contract.data_type}-{contract.version}" for contract in CONTRACTS]


def run(draft: Draft) -> type[Record]:
    """The class that the draft's source makes."""
    space: dict[str, Any] = {"__name__": f"drafted_{draft.data_type}"}
    module = type(sys)(space["__name__"])
    sys.modules[space["__name__"]] = module
    try:
        exec(compile(draft.source(), "<draft>", "exec"), module.__dict__)
        found = [
            item
            for item in vars(module).values()
            if isinstance(item, type) and issubclass(item, Record) and item is not Record
        ]
        contract_of(found[0])
    finally:
        del sys.modules[space["__name__"]]
    return found[0]


@pytest.mark.parametrize("contract", CONTRACTS, ids=IDS)
@pytest.mark.parametrize("form", EXPORTS)
def test_every_contract_has_every_form(contract: Any, form: str) -> None:
    text = export_contract(contract, form)
    assert all(name in text for name in contract.schema.names)


@pytest.mark.parametrize("contract", CONTRACTS, ids=IDS)
@pytest.mark.parametrize("form", ["avro", "json-schema"])
def test_what_is_exported_is_drafted_again(contract: Any, form: str) -> None:
    drafted = contract_of(run(draft_from_document(export_contract(contract, form), form, contract.data_type)))
    assert (drafted.data_type, drafted.version, drafted.key) == (contract.data_type, contract.version, contract.key)
    assert (drafted.schema, drafted.event_time, drafted.description) == (
        contract.schema,
        contract.event_time,
        contract.description or drafted.description,
    )
    said = [(spec.name, spec.unit, spec.sensitivity, spec.aliases, spec.choices) for spec in contract.fields]
    assert [(spec.name, spec.unit, spec.sensitivity, spec.aliases, spec.choices) for spec in drafted.fields] == said


def test_json_schema_says_what_json_can() -> None:
    schema = json.loads(export_contract(ORDER, "json-schema"))
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["properties"]["quantity"] == {"type": "integer", "minimum": 1, "multipleOf": 100, "default": 100}
    assert schema["properties"]["tags"] == {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "maxItems": 3,
    }
    assert schema["required"] == ["symbol", "timestamp", "side", "client"]
    assert schema["properties"]["legs"]["items"]["required"] == ["name"]


@pytest.mark.parametrize("contract", CONTRACTS, ids=IDS)
def test_json_schema_is_one(contract: Any) -> None:
    schema = json.loads(export_contract(contract, "json-schema"))
    jsonschema.Draft202012Validator.check_schema(schema)


def test_json_schema_judges_rows() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(export_contract(ORDER, "json-schema")))
    row = {"symbol": "A", "timestamp": "2024-01-02T00:00:00Z", "side": "buy", "client": "ABC", "price": "12.5"}
    assert validator.is_valid(row)
    for wrong in ({"side": "hold"}, {"price": "1.123456789"}, {"price": 0}, {"quantity": 150}, {"stray": 1}):
        assert not validator.is_valid(row | wrong), wrong


def test_avro_uses_its_own_words() -> None:
    fields = {field["name"]: field for field in json.loads(export_contract(ORDER, "avro"))["fields"]}
    assert fields["side"]["type"] == {"type": "enum", "name": "Orders_side", "symbols": ["buy", "sell"]}
    assert fields["price"]["type"] == [
        "null",
        {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 8},
    ]
    assert fields["price"]["aliases"] == ["px"]
    assert fields["due"]["type"][1] == {"type": "int", "logicalType": "date"}
    assert fields["timestamp"]["type"]["logicalType"] == "timestamp-micros"
    assert fields["quantity"]["default"] == 100


def test_names_that_avro_has_not_are_refused() -> None:
    class Sizes(Record, data_type="sizes", version="1.0.0", key=("timestamp",)):
        timestamp: Timestamp
        größe: float  # noqa: PLC2401 people have such columns

    with pytest.raises(InvalidInputError, match="'größe' is no name in Avro"):
        export_contract(contract_of(Sizes), "avro")
    assert "größe" in export_contract(contract_of(Sizes), "json-schema")


class Flat(Record, data_type="flat", version="1.0.0", key=("name", "timestamp")):
    """It's flat."""

    name: Annotated[str, Field(min_length=2, max_length=5)]
    timestamp: Timestamp
    low: Annotated[Price, Field(gt=0, multiple_of=Decimal("0.05"))]
    high: Price | None = None
    kind: Literal["it's", "b"] = "b"
    real: Annotated[float, Field(le=1.5)] | None = None
    day: Annotated[date, Field(lt=date(2030, 1, 1))] | None = None
    seen: Annotated[Timestamp, Field(ge=NOW)] | None = None
    flag: bool | None = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("upside_down", "low", Comparison("low", "<=", Column("high")), "wrong"),
        Rule("flagged", "flag", And((Not(IsNull("name")), Not(IsIn("name", ("xx", "yy"))))), "wrong"),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a"},
        {"name": "abcdef"},
        {"name": "xx"},
        {"low": "0.01"},
        {"low": "0"},
        {"high": "0.05"},
        {"kind": "c"},
        {"real": 2.0},
        {"day": "2031-01-01"},
        {"seen": "2023-01-01T00:00:00+00:00"},
    ],
    ids=str,
)
def test_sql_holds_rows_to_the_contract(change: dict[str, Any]) -> None:
    row = {"name": "ab", "timestamp": "2024-01-02T00:00:00+00:00", "low": "1.05", "kind": "it's"}
    row |= {"created_at": "2024-01-02T00:00:00+00:00", "version": "1.0.0"}
    with duckdb.connect() as engine:
        # DuckDB has no CHAR_LENGTH, the standard's name of what it calls LENGTH.
        engine.execute(to_sql(contract_of(Flat)).replace("CHAR_LENGTH", "LENGTH"))

        def insert(values: dict[str, Any]) -> None:
            places = ", ".join("?" * len(values))
            engine.execute(f"INSERT INTO flat ({', '.join(values)}) VALUES ({places})", [*values.values()])

        insert(row)
        with pytest.raises(duckdb.ConstraintException):
            insert(row | {"timestamp": "2024-01-03T00:00:00+00:00"} | change)
        with pytest.raises(duckdb.ConstraintException, match=r"[Pp]rimary|[Dd]uplicate"):
            insert(row)
        refused = SchemaManager([Flat]).validate_data([row | change], "flat")
    assert not refused.is_valid, "so does the contract"


def test_spark_makes_a_delta_table() -> None:
    text = export_contract(ORDER, "spark")
    assert "CREATE TABLE `orders` (" in text
    assert "USING DELTA\nPARTITIONED BY (`symbol`)" in text
    assert "`legs` ARRAY<STRUCT<`name`: STRING, `ratio`: DOUBLE>>" in text
    assert "`price` DECIMAL(18,8) COMMENT 'Limit | price, unit USD'" in text
    assert "ALTER TABLE `orders` ADD CONSTRAINT `price_gt` CHECK (`price` > 0);" in text
    assert "dear" not in text, "warnings do not refuse rows"
    assert "-- client must match ^[A-Z]+$" in text
    with pytest.raises(InvalidInputError, match="'oracle'"):
        to_sql(ORDER, "oracle")  # type: ignore[arg-type]


def test_yaml_is_read_as_it_was_meant() -> None:
    value = {
        "yes": "no",
        "a b": [1, 1.5, None, True, "1", "", "- x", 'say "ü"\n: #', [], {}],
        "n": [[1, [2]], {"k": {"deep": ["v"]}}],
    }
    assert yaml.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize("contract", CONTRACTS, ids=IDS)
def test_odcs_keeps_the_standards_schema(contract: Any) -> None:
    standard = pytest.importorskip("open_data_contract_standard", reason="its own JSON Schema is not installed")
    schema = json.loads(resources.files(standard).joinpath("schema.json").read_text())
    document = yaml.safe_load(export_contract(contract, "odcs"))
    assert document == odcs_document(contract)
    assert document["apiVersion"] in schema["properties"]["apiVersion"]["enum"]
    jsonschema.Draft201909Validator(schema).validate(document)


def test_odcs_says_who_and_how_fresh() -> None:
    document = odcs_document(ORDER)
    assert document["team"] == {"members": [{"username": "desk@example.com", "role": "owner"}]}
    assert document["slaProperties"] == [
        {"property": "freshness", "value": 3600.0, "unit": "s", "element": "orders.timestamp"},
        {"property": "completeness", "value": 99.0, "unit": "percent"},
    ]
    [table] = document["schema"]
    columns = {column["name"]: column for column in table["properties"]}
    assert columns["client"]["classification"] == "confidential"
    assert columns["symbol"]["primaryKeyPosition"] == columns["symbol"]["partitionKeyPosition"] == 1
    assert columns["side"]["quality"][0]["arguments"] == {"validValues": ["buy", "sell"]}
    assert {"property": "unit", "value": "USD"} in columns["price"]["customProperties"]
    assert table["quality"][0]["query"] == (
        'SELECT COUNT(*) FROM ${table} WHERE NOT (("side" = \'sell\') OR ("quantity" < 10000))'
    )


def test_markdown_shows_what_people_ask() -> None:
    page = export_contract(ORDER, "markdown")
    assert "| `price` | decimal(18,8) | yes | > 0 | USD |  | Limit \\| price (was px) |" in page
    assert "| `legs[].name` | string | no | length ≥ 1 |" in page
    assert "| `big_buy` |" in page
    assert "- Freshness: within 1:00:00" in page


@pytest.mark.parametrize(
    ("form", "document", "words"),
    [
        ("json-schema", [], "an object with properties"),
        ("json-schema", {"type": "object"}, "# has no properties"),
        ("json-schema", {"properties": {"a": True}}, "#/properties/a is True, which takes anything"),
        ("json-schema", {"properties": {"a": {"type": ["string", "integer"]}}}, "#/properties/a has type"),
        ("json-schema", {"properties": {"a": {"enum": [1, 2]}}}, "only choices of text"),
        ("json-schema", {"properties": {"a": {"$ref": "#/$defs/b"}}}, "which is not there"),
        ("json-schema", {"properties": {"a": {"$ref": "http://x/y"}}}, "only references inside"),
        ("json-schema", {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}, "2 alternatives"),
        ("json-schema", {"properties": {"a": {"type": "array"}}}, "#/properties/a/items is True"),
        ("json-schema", {"properties": {"a": {"type": "integer", "default": "x"}}}, "its default 'x' is not a number"),
        (
            "json-schema",
            {
                "properties": {"a": {"$ref": "#/$defs/n"}},
                "$defs": {"n": {"type": "object", "properties": {"b": {"$ref": "#/$defs/n"}}}},
            },
            "holds #/\\$defs/n inside itself",
        ),
        ("avro", {"type": "enum"}, "is a record"),
        ("avro", {"type": "record", "name": "R", "fields": []}, "R has no fields"),
        ("avro", {"type": "record", "name": "R", "fields": [{"name": "a", "type": "bytes"}]}, "R.a is 'bytes'"),
        ("avro", {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["int", "string"]}]}, "union of 2"),
        (
            "avro",
            {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "R"]}]},
            "R.a holds R inside itself",
        ),
    ],
    ids=str,
)
def test_what_no_column_can_hold_says_where(form: str, document: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        draft_from_document(json.dumps(document), form, "made")


def test_unknown_formats_and_broken_documents_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="'xml' is none of avro, json-schema, markdown"):
        export_contract(ORDER, "xml")
    with pytest.raises(InvalidInputError, match="'parquet' is none of avro, json-schema; files have"):
        draft_from_document("{}", "parquet", "made")
    with pytest.raises(InvalidInputError, match="is no JSON"):
        draft_from_document("{", "avro", "made")
    with pytest.raises(InvalidInputError, match="data type 'No Name' is no name"):
        draft_from_document('{"properties": {"a": {"type": "string"}}}', "json-schema", "No Name")


def test_foreign_json_schema_is_drafted() -> None:
    document = {
        "type": "object",
        "required": ["Adj Close", "class", "when"],
        "properties": {
            "Adj Close": {"type": "number", "exclusiveMinimum": 0},
            "class": {"oneOf": [{"$ref": "#/definitions/kind"}, {"type": "null"}]},
            "when": {"type": "string", "format": "date-time"},
            "code": {"type": "string", "pattern": "^(?=x)"},
            "inner": {"type": "object", "properties": {"2nd": {"type": "integer"}}},
        },
        "definitions": {"kind": {"enum": ["a", "b"]}},
    }
    draft = draft_from_document(json.dumps(document), "json-schema", "foreign")
    assert draft.event_time == "when"
    contract = contract_of(run(draft))
    specs = {spec.name: spec for spec in contract.fields}
    assert specs["adj_close"].aliases == ("Adj Close",)
    assert specs["class_"].nullable
    assert specs["class_"].choices == ("a", "b")
    assert specs["inner"].type == pa.struct([pa.field("c_2nd", pa.int64())])
    assert "pattern '^(?=x)' is none that pydantic's regex engine knows" in draft.source()


def bars(rows: int = 240) -> pa.Table:
    return pa.table(
        {
            "Ticker": [f"T{at % 40}" for at in range(rows)],
            "date": pa.array([NOW + timedelta(days=at // 40) for at in range(rows)], pa.timestamp("ns", "UTC")),
            "low": [1.0 + at for at in range(rows)],
            "high": [2.0 + at for at in range(rows)],
            "volume": pa.array([at or None for at in range(rows)], pa.int32()),
            "share": [at / rows for at in range(rows)],
            "side": ["buy" if at % 3 else "sell" for at in range(rows)],
            "blob": [b"x"] * rows,
            "gap": [float("nan")] * rows,
        }
    )


def test_data_proposes_its_contract() -> None:
    draft = draft_from_arrow(bars(), "bars")
    assert (draft.key, draft.event_time) == (("Ticker", "date"), "date")
    model = run(draft)
    specs = {spec.name: spec for spec in contract_of(model).fields}
    assert specs["side"].choices == ("buy", "sell")
    assert specs["volume"].nullable
    assert specs["gap"].nullable
    assert "blob" not in specs
    assert "# blob: left out: no column can hold binary" in draft.source()
    assert "# 1.0 to 240.0 in 240 rows" in draft.source()
    table = bars().drop_columns(["blob"])
    manager = SchemaManager([model])
    assert manager.validate_data(table, "bars").is_valid, "the data keeps the contract that it proposed"
    wrong = {"Ticker": "A", "date": NOW, "low": 3.0, "high": 2.0, "volume": -1, "share": 2.0, "side": "hold"}
    found = {finding.error_type for finding in manager.validate_data([wrong], "bars").errors}
    assert found == {"low_above_high", "greater_than", "less_than_equal", "literal_error"}


def test_a_parquet_file_proposes_its_contract(tmp_path: Path) -> None:
    pq.write_table(bars(), tmp_path / "bars.parquet")
    assert draft_from_parquet(tmp_path / "bars.parquet", "bars") == draft_from_arrow(bars(), "bars")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(CorruptFileError, match="is no Parquet file"):
        draft_from_parquet(tmp_path / "text.parquet", "bars")
    with pytest.raises(NotFoundError, match="there is no file"):
        draft_from_parquet(tmp_path / "none.parquet", "bars")


def test_a_schema_without_time_or_rows_is_drafted() -> None:
    draft = draft_from_arrow(pa.schema([("name", pa.string()), ("n", pa.uint64())]), "things")
    assert "# not in the source: every record has an event time" in draft.source()
    assert contract_of(run(draft)).key == ("timestamp",)
    with pytest.raises(InvalidInputError, match="no column can be held"):
        draft_from_arrow(pa.schema([("raw", pa.binary())]), "things")


def test_no_format_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, buffetstore.schemas, buffetstore.schemas.interchange as one; "
        "print([name for name in sys.modules if name.startswith(one.__name__ + '.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "['buffetstore.schemas.interchange.formats']"
