"""One query over files of several versions is every row brought to the newest version by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import IncompatibleSchemaError, UnsupportedOperationError
from buffetstore.expressions import evaluate
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.query.model import filter_expression
from buffetstore.schemas import SchemaManager, load_contract
from buffetstore.schemas.evolution import upcast
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import pyarrow as pa

START = datetime(2024, 1, 1, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "format_version": 1,
    "data_type": "thing",
    "key": ["id", "timestamp"],
    "sort_by": ["id", "timestamp"],
    "event_time": "timestamp",
    "load_time": "created_at",
    "knowledge_time": "available_at",
    "availability": "asserted",
    "category": "thing",
}
EVERY = [
    {"name": "created_at", "type": "timestamp", "filled": True},
    {"name": "available_at", "type": "timestamp", "nullable": True},
    {"name": "version", "type": "string", "filled": True},
]
VALUES = {"int64": [0, 1, 5], "string": ["", "a", "zz"], "decimal(6,2)": [Decimal("0.25"), Decimal(1), Decimal(7)]}


@st.composite
def chains(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return the documents of a few versions, each of which follows the one before by one or two steps."""
    fields: list[dict[str, Any]] = [
        {"name": f"f{at}", "type": draw(st.sampled_from(sorted(VALUES))), "nullable": draw(st.booleans())}
        for at in range(draw(st.integers(1, 3)))
    ]
    fresh = iter(range(100))
    documents = []
    for number in range(draw(st.integers(2, 4))):
        if number:
            fields = [dict(field) for field in fields]
            for _ in range(draw(st.integers(1, 2))):
                _step(draw, fields, f"n{next(fresh)}")
        base = [{"name": "id", "type": "int64"}, {"name": "timestamp", "type": "timestamp"}]
        documents.append(
            {**FACTS, "version": f"{number + 1}.0.0", "revisions": "replace", "fields": [*base, *fields, *EVERY]}
        )
    return documents


def _step(draw: st.DrawFn, fields: list[dict[str, Any]], name: str) -> None:
    what = draw(st.sampled_from(["add", "default", "rename", "rename", "widen", "retype", "drop"]))
    if what in {"add", "default"} or not fields:
        kind = draw(st.sampled_from(sorted(VALUES)))
        field: dict[str, Any] = {"name": name, "type": kind, "nullable": True}
        if what == "default":
            default = draw(st.sampled_from(VALUES[kind]))
            field["default"] = {"decimal": str(default)} if isinstance(default, Decimal) else default
            field["nullable"] = draw(st.booleans())
        fields.append(field)
        return
    at = draw(st.integers(0, len(fields) - 1))
    old = fields[at]
    if what == "drop":
        if old["nullable"] and len(fields) > 1:
            del fields[at]
        return
    wider = what in {"widen", "retype"} and old["type"] == "int64" and "default" not in old
    if what == "retype":  # under its own name: files of both types cannot lie in one table
        fields[at] = {**old, "type": "decimal(21,2)" if wider else old["type"]}
        return
    kind = "decimal(21,2)" if wider else old["type"]
    fields[at] = {**old, "name": name, "type": kind, "aliases": [*old.get("aliases", []), old["name"]]}


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[tuple[int, list[dict[str, Any]]]], dict[str, Any]]:
    documents = draw(chains())
    batches = []
    day = 0
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(documents) - 1))
        rows = []
        for _ in range(draw(st.integers(1, 3))):
            day += 1
            rows.append({"id": day % 2, "timestamp": START + timedelta(days=draw(st.integers(0, 40)), seconds=day)})
            for field in documents[at]["fields"][2:-3]:
                known = VALUES.get(field["type"], VALUES["decimal(6,2)"])
                choice = [*known, None] if field["nullable"] or "default" in field else known
                rows[-1][field["name"]] = draw(st.sampled_from(choice))
        batches.append((at, rows))
    filters = {}
    newest = documents[-1]["fields"][2:-3]
    for field in newest:
        if draw(st.integers(0, 2)) == 0:
            value = draw(st.sampled_from(VALUES.get(field["type"], VALUES["decimal(6,2)"])))
            word = draw(st.sampled_from(["eq", "gte", "lt", "ne", "in", "null", "some"]))
            filters[field["name"]] = {"eq": value, "in": [value, value], "null": None, "some": {"ne": None}}.get(
                word, {word: value}
            )
    return documents, batches, filters


@given(case=cases(), compact=st.booleans(), materialised=st.booleans())
def test_one_query_is_every_row_brought_up_by_hand(case: Any, compact: bool, materialised: bool) -> None:
    asyncio.run(_hold(*case, compact=compact, materialised=materialised))


async def _hold(documents: Any, batches: Any, filters: Any, *, compact: bool, materialised: bool) -> None:
    contracts = [load_contract(document) for document in documents]
    newest = contracts[-1]
    async with LakeStorage(MemoryStore(), SchemaManager()) as lake:
        await lake.registry.set_mode("thing", "NONE")
        expected, migrated = await _stored(lake, contracts, batches)
        if compact:
            await lake.compact("thing")
        fits = await _lets_in(lake.registry.register(newest))
        if materialised or migrated or not fits:
            await lake.registry.migrate("thing", newest.version)
            table = await lake.table("thing")
            assert set(table.schema.names) == set(newest.schema.names)
            expected = [{**row, "version": newest.version} for row in expected]
        chosen = [row for row in expected if all(_holds(name, value, row) for name, value in filters.items())]
        chosen.sort(key=lambda row: (row["id"], row["timestamp"]))
        answer = await lake.retrieve_data(DataQuery("thing", filters))
        names = newest.schema.names
        assert answer.table.column_names == names
        assert answer.table.to_pylist() == [{name: row[name] for name in names} for row in chosen]
        streamed = [batch async for batch in lake.scan(DataQuery("thing", filters, columns=["id", *filters]))]
        assert sum(batch.num_rows for batch in streamed) == len(chosen)
        if filters:
            try:
                gone = await lake.delete_data("thing", filters=filters)
            except UnsupportedOperationError:  # of what is computed from stored rows
                assert any(field["type"] == "decimal(21,2)" for field in documents[-1]["fields"])
                return
            assert gone.rows == len(chosen)
            left = await lake.retrieve_data(DataQuery("thing"))
            assert left.rows == len(expected) - len(chosen)


async def _stored(lake: LakeStorage, contracts: Any, batches: Any) -> tuple[list[dict[str, Any]], bool]:
    """Store the batches, oldest version first; return the rows brought up by hand, and whether a rewrite was needed."""
    expected: list[dict[str, Any]] = []
    migrated = False
    for at, contract in enumerate(contracts):
        lake.schemas.register_stored(contract)
        for rows in [rows for batch, rows in batches if batch == at]:
            verdict = await lake.validate(rows, "thing", contract.version)
            assert verdict.is_valid, verdict.errors
            if not await _lets_in(lake.store_data("thing", verdict)):
                migrated = True
                await lake.registry.migrate("thing", contract.version)
                await lake.store_data("thing", verdict)
            for index in range(verdict.accepted.num_rows):
                expected += by_hand(verdict.accepted.slice(index, 1), contract, contracts[-1])
    return expected, migrated


async def _lets_in(call: Awaitable[Any]) -> bool:
    """Tell whether the gate lets a version in; where it does not, only a rewrite may stand against it."""
    try:
        await call
    except IncompatibleSchemaError as error:
        if "registry.migrate" not in str(error):
            raise
        return False
    return True


def by_hand(row: pa.Table, writer: Any, reader: Any) -> list[dict[str, Any]]:
    """Return the row as the reader's; its version stays that under which it was stored."""
    return [{**found, "version": writer.version} for found in upcast(row, writer, reader).to_pylist()]


def _holds(name: str, value: Any, row: dict[str, Any]) -> bool:
    return evaluate(filter_expression(name, value), row) is True
