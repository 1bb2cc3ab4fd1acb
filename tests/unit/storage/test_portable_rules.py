"""Every rule that is exported of a built-in contract is held by deltalake as by us; the others are named."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from buffetstore.errors import ConstraintViolationError
from buffetstore.expressions import And, Column, Comparison, IsIn, IsNull, Not, Or, evaluate
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import SchemaManager
from buffetstore.storage.portable_rules import portable_rules
from buffetstore.tables import DeltaTable
from buffetstore.tables.sql import parse_predicate

deltalake = pytest.importorskip("deltalake")
SCHEMAS = SchemaManager()
CONTRACTS = [
    SCHEMAS.contract(data_type, version)
    for data_type in SCHEMAS.data_types()
    for version in SCHEMAS.versions(data_type)
]


def good_row(contract) -> dict[str, Any]:
    """A row without anything that may be absent."""
    row = {}
    for spec in contract.fields:
        kind = contract.schema.field(spec.name).type
        if contract.schema.field(spec.name).nullable:
            row[spec.name] = None
        elif pa.types.is_string(kind) or pa.types.is_dictionary(kind):
            row[spec.name] = min(spec.choices) if spec.choices else "a"
        elif pa.types.is_timestamp(kind):
            row[spec.name] = datetime(2024, 1, 1, tzinfo=UTC)
        elif pa.types.is_date(kind):
            row[spec.name] = date(2024, 1, 1)
        else:
            row[spec.name] = 1.0 if pa.types.is_floating(kind) else Decimal(1) if pa.types.is_decimal(kind) else 1
    return row


def bad_values(predicate, row: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """What to put into the row so that the predicate is false of it."""
    match predicate:
        case And(parts) | Or(parts):
            found: dict[str, Any] = {}
            for part in parts if isinstance(predicate, Or) else parts[:1]:
                found |= bad_values(part, row, schema)
            return found
        case Comparison(column, op, Column(other)):
            above = {"<=": (2, 1), "<": (1, 1), ">=": (1, 2), ">": (1, 1)}[op]
            return {column: above[0], other: above[1]}
        case Comparison(column, op, bound):
            return {column: {">": bound, ">=": bound - 1, "<": bound, "<=": bound + 1}[op]}
        case IsIn(column):
            return {column: "no such choice"}
        case IsNull() | Not():
            return {}
    raise AssertionError(predicate)


def table_of(row: dict[str, Any], schema: pa.Schema) -> pa.Table:
    exact = {
        field.name: Decimal(row[field.name])
        if pa.types.is_decimal(field.type) and row[field.name] is not None
        else row[field.name]
        for field in schema
    }
    return pa.Table.from_pylist([exact], schema=schema)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: f"{contract.data_type}-{contract.version}")
async def test_deltalake_holds_rows_to_each_exported_rule(tmp_path, contract) -> None:
    rules = await in_thread(portable_rules, contract)
    assert rules.checks
    settings = {f"delta.constraints.{name}": sql for name, sql in rules.checks.items()}
    async with DeltaTable.create(LocalStore(tmp_path), "t", contract.schema, configuration=settings) as table:
        good = good_row(contract)
        deltalake.write_deltalake(tmp_path / "t", table_of(good, table.schema), mode="append")
        await table.refresh()
        await table.append(table_of(good, table.schema))
        for name, sql in rules.checks.items():
            predicate = parse_predicate(sql, table.schema)
            bad = good | bad_values(predicate, good, table.schema)
            assert evaluate(predicate, bad) is False, name
            with pytest.raises(deltalake.exceptions.DeltaError, match="failed validation"):
                deltalake.write_deltalake(tmp_path / "t", table_of(bad, table.schema), mode="append")
            with pytest.raises(ConstraintViolationError):
                await table.append(table_of(bad, table.schema))
        assert table.version == 2


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: f"{contract.data_type}-{contract.version}")
async def test_exported_rules_can_be_declared_later(contract) -> None:
    async with DeltaTable.create(MemoryStore(), "t", contract.schema) as table:
        await table.append(table_of(good_row(contract), table.schema))
        rules = await in_thread(portable_rules, contract)
        assert await table.add_constraints(rules.checks) == 2
        held = {name.removeprefix("delta.constraints."): sql for name, sql in table.metadata.configuration.items()}
        assert held == dict(rules.checks)


def test_what_is_exported_of_market_data_and_what_is_not() -> None:
    rules = portable_rules(SCHEMAS.contract("market_data"))
    assert rules.checks["price_gt"] == "`price` IS NULL OR `price` > 0"
    assert rules.checks["low_above_open"] == "`low` IS NULL OR `open` IS NULL OR `low` <= `open`"
    assert {"rsi_ge", "rsi_le", "volume_ge", "volatility_ge", "close_above_high"} <= set(rules.checks)
    assert "warning" in rules.kept["close_not_price"]
    assert "NaN" in rules.kept["rsi_finite"]
    assert not set(rules.checks) & set(rules.kept)
