"""An upsert equals a loop over rows in memory, however little of the table it may hold at a time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import aclosing
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buffetstore.objects import MemoryStore
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.tables.operations import upsert

SCHEMA = pa.schema(
    [
        ("s", pa.string()),
        ("x", pa.float64()),
        ("place", pa.string()),
        ("v", pa.int64()),
        ("created_at", pa.int64()),
    ]
)
KEY = ("s", "x")
FEED = {"delta.enableChangeDataFeed": "true"}
ROWS = st.fixed_dictionaries(
    {
        "s": st.sampled_from(["a", "b", "c", None]),
        "x": st.sampled_from([0.0, 1.5, math.nan, None]),
        "place": st.sampled_from(["here", "th ere", None]),
        "v": st.sampled_from([0, 1, None]),
        "created_at": st.integers(0, 3),
    }
)


def same(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def shown(rows: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(same(row[name]) for name in SCHEMA.names) for row in rows)


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(same(row[name]) for name in KEY)


class Model:
    """What an upsert does, row by row."""

    def __init__(self, stored: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
        wanted = {key_of(row): row for row in new}
        seen: set[tuple[Any, ...]] = set()
        touched: set[tuple[Any, ...]] = set()
        self.rows: list[dict[str, Any]] = []
        changes: list[tuple[str, dict[str, Any]]] = []
        for row in stored:
            key = key_of(row)
            if key not in wanted:
                self.rows.append(row)
            elif key in seen:
                touched.add(key)
                changes.append(("delete", row))
            else:
                seen.add(key)
                differs = any(row[name] != wanted[key][name] for name in ("place", "v"))
                self.rows.append(wanted[key] if differs else row)
                if differs:
                    touched.add(key)
                    changes += [("update_preimage", row), ("update_postimage", wanted[key])]
        come = [row for key, row in wanted.items() if key not in seen]
        self.rows += come
        changes += [("insert", row) for row in come]
        self.counts = len(come), len(touched), len(seen - touched)
        self.changes = Counter((kind, *shown([row])) for kind, row in changes)


def ranks(told: list[dict[str, Any]]) -> None:
    """Check that who takes the rows in turn ends with the row that stays."""
    order = ["delete", "update_preimage", "update_postimage", "insert"]
    last: dict[tuple[Any, ...], int] = {}
    for row in told:
        rank = order.index(row["_change_type"])
        assert last.get(key_of(row), 0) <= rank
        last[key_of(row)] = rank


async def check(
    files: list[list[dict[str, Any]]], upserts: list[tuple[list[dict[str, Any]], int]], *, partitioned: bool
) -> None:
    partition_by = ["place"] if partitioned else []
    table = await DeltaTable.create(MemoryStore(), "t", SCHEMA, partition_by=partition_by, configuration=FEED)
    for file in files:
        await table.append(pa.Table.from_pylist(file, schema=SCHEMA))
    for given_rows, budget in upserts:
        new = list({key_of(row): row for row in given_rows}.values())
        before, version = (await table.to_arrow()).to_pylist(), table.version
        model = Model(before, new)
        result = await table.upsert(
            pa.Table.from_pylist(new, schema=SCHEMA),
            key=KEY,
            placed_by=["place"],
            layout=None if partitioned else in_ones,
            bytes_in_flight=budget,
        )
        assert (result.inserted, result.updated, result.unchanged) == model.counts
        assert shown((await table.to_arrow()).to_pylist()) == shown(model.rows)
        assert table.version - version == bool(model.changes)
        async with aclosing(table.changes(version)) as changes:
            told = [row async for change in changes for row in change.rows.to_pylist()]
        kinds = [(row["_change_type"], *shown([row])) for row in told]
        assert Counter(kinds) == model.changes
        if not partitioned:  # files of the feed are of one partition each
            ranks(told)


def in_ones(table: pa.Table) -> list[DataPart]:
    return [DataPart(table.slice(n, 1)) for n in range(len(table))]


def a_row(v: int, place: str = "here") -> dict[str, Any]:
    return {"s": "a", "x": None, "place": place, "v": v, "created_at": 0}


FILES = st.lists(st.lists(ROWS, min_size=1, max_size=5), max_size=6)
UPSERTS = st.lists(st.tuples(st.lists(ROWS, max_size=8), st.sampled_from([1, 600, 2**20])), min_size=1, max_size=3)


@settings(max_examples=max(40, settings.default.max_examples))
@given(files=FILES, upserts=UPSERTS, partitioned=st.booleans())
@example(files=[[a_row(0)], [a_row(1)]], upserts=[([a_row(1)], 1)], partitioned=False)
@example(files=[[a_row(1), a_row(1)], [a_row(1)]], upserts=[([a_row(1)], 1)], partitioned=False)
@example(files=[[a_row(0, "th ere")], [a_row(0)]], upserts=[([a_row(0)], 1)], partitioned=True)
def test_an_upsert_equals_its_model(files, upserts, partitioned) -> None:
    with patch.object(upsert, "_GROUP_ROWS", 1):  # files are matched some at a time, as those of large tables are
        asyncio.run(check(files, upserts, partitioned=partitioned))
