"""Defaults stand in for what is absent or null, also inside nested models and lists of them, as pydantic has it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict

from buffetstore.schemas import Price, Record, SchemaManager, Timestamp, contract_of, document_bytes, load_contract
from buffetstore.schemas.intake import take_in

NOW = datetime(2024, 1, 1, tzinfo=UTC)


class Venue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    mic: str = "XNAS"


class Leg(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    weight: float = 1.0
    note: str | None = "none"
    price: Price = Decimal("1.5")
    venue: Venue = Venue()
    tags: list[str] = ["a"]


# ruff: noqa: RUF012 pydantic copies defaults


class Spread(Record, data_type="spread", version="1.0.0", key="timestamp"):
    timestamp: Timestamp
    leg: Leg | None = None
    legs: list[Leg] = []
    whole: Leg = Leg(name="whole", weight=0.5)
    tags: list[str] = ["x"]


MANAGER = SchemaManager([Spread])
CONTRACT = contract_of(Spread)
FULL = {"weight": 1.0, "note": "none", "price": Decimal("1.5"), "venue": {"mic": "XNAS"}, "tags": ["a"]}
WHOLE = {**FULL, "name": "whole", "weight": 0.5}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"leg": None, "legs": [], "whole": WHOLE, "tags": ["x"]}),
    (
        {"leg": None, "legs": None, "whole": None, "tags": None},
        {"leg": None, "legs": [], "whole": WHOLE, "tags": ["x"]},
    ),
    ({"leg": {"name": "a"}}, {"leg": {**FULL, "name": "a"}}),
    ({"leg": {"name": "a", "weight": None, "venue": {}}}, {"leg": {**FULL, "name": "a"}}),
    ({"leg": Leg(name="a", tags=[])}, {"leg": {**FULL, "name": "a", "tags": []}}),
    (
        {"legs": [{"name": "a"}, {"name": "b", "weight": 2, "venue": {"mic": "XLON"}}]},
        {"legs": [{**FULL, "name": "a"}, {**FULL, "name": "b", "weight": 2.0, "venue": {"mic": "XLON"}}]},
    ),
    ({"whole": {"name": "mine"}}, {"whole": {**FULL, "name": "mine"}}),
]


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_kernels_and_records_fill_alike(given: dict[str, Any], expected: dict[str, Any]) -> None:
    row = {"timestamp": NOW, **given}
    found = MANAGER.validate_data([row], "spread", now=NOW)
    assert found.is_valid, found.errors
    [stored] = found.accepted.to_pylist()
    made = Spread(**row).model_dump()
    assert {name: stored[name] for name in expected} == expected
    assert {name: made[name] for name in expected} == expected
    [by_document] = take_in([row], load_contract(document_bytes(CONTRACT)), now=NOW).table.to_pylist()
    assert by_document == stored


def test_all_rows_of_a_batch_are_filled_each_by_itself() -> None:
    rows = [{"timestamp": NOW.replace(day=at + 1), **given} for at, (given, _) in enumerate(CASES)]
    for name in ("leg", "legs"):
        table = pa.Table.from_pylist(
            [
                {"timestamp": row["timestamp"], name: row.get(name)}
                for row in rows
                if not isinstance(row.get(name), Leg)
            ],
            schema=pa.schema([CONTRACT.schema.field("timestamp"), CONTRACT.schema.field(name).with_nullable(True)]),
        )
        for shape in (table, table.slice(1), pa.concat_tables([table.slice(2), table.slice(0, 2)])):
            found = MANAGER.validate_data(shape, "spread", now=NOW)
            expected = [Spread(**row).model_dump()[name] for row in shape.to_pylist()]
            assert found.accepted[name].to_pylist() == expected


def test_what_has_no_default_is_still_missing_inside() -> None:
    found = MANAGER.validate_data([{"timestamp": NOW, "legs": [{"weight": 2.0}]}], "spread", now=NOW)
    assert [(error.field, error.error_type) for error in found.errors] == [("legs[].name", "missing")]


def test_records_do_not_share_what_stands_in() -> None:
    first, second = Spread(timestamp=NOW, tags=None), Spread(timestamp=NOW, tags=None)
    first.tags.append("mine")
    assert second.tags == ["x"]
    assert Spread(timestamp=NOW, tags=None).tags == ["x"]
