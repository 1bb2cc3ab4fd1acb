from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from buffetstore.errors import InvalidQueryError
from buffetstore.expressions import col, count
from buffetstore.objects import MemoryStore
from buffetstore.query import ClassPrices, DataQuery, QueryOptimizer, RegionPrices
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START = datetime(2024, 1, 1, tzinfo=UTC)
PRICES = {"memory": {"here": RegionPrices({"ONLY": ClassPrices(0.0, 1.0, 1.0, 0.0)}, 0.0)}}


class Bar(Record, data_type="bars", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp
    price: float | None = None


class Kept(Bar, data_type="kept", version="1.0.0", revisions="keep"):
    pass


@pytest.fixture
async def lake() -> AsyncIterator[LakeStorage]:
    async with MemoryStore() as store, LakeStorage(store, SchemaManager([Bar, Kept])) as lake:
        for day in range(4):
            for symbol in "AB":
                rows = [
                    {"symbol": symbol, "timestamp": START + timedelta(days=day, hours=hour), "price": float(day)}
                    for hour in range(3)
                ]
                await lake.store_data("bars", rows)
                await lake.store_data("kept", rows)
        yield lake


def left(explanation: Any) -> list[tuple[str, int, int]]:
    return [(step.after, step.partitions, step.files) for step in explanation.pruning]


async def test_what_leaves_files_out_is_told_step_by_step(lake: LakeStorage) -> None:
    query = DataQuery(
        "bars", {"symbol": "A", "price": {"gte": 0, "gt": -1}}, {"start": "2024-01-02", "end": "2024-01-03"}
    )
    found = await lake.explain(query)
    assert left(found) == [("all there are", 4, 8), ("time range", 2, 4), ("file statistics", 2, 2)]
    assert found.rules == ("flatten", "merge ranges")
    assert (found.table_version, found.short_cut, found.counted) == (8, None, None)
    work = found.estimated
    assert (work.files, work.requests, work.round_trips) == (2, 2, 1)
    assert work.bytes == found.pruning[-1].bytes
    assert "symbol == 'A'" in found.predicate
    assert any(step.startswith("filter") for step in found.plan)


async def test_what_was_estimated_is_what_is_counted(lake: LakeStorage) -> None:
    found = await lake.explain(DataQuery("bars", {"symbol": "B"}), analyze=True, prices=PRICES)
    told, counted = found.estimated, found.counted
    assert counted is not None
    assert (told.partitions, told.files, told.bytes, told.requests) == (
        counted.partitions,
        counted.files,
        counted.bytes,
        counted.requests,
    )
    assert (counted.rows, counted.cost.total) == (12, 0.0)
    assert counted.seconds is not None
    again = await lake.explain(DataQuery("bars", {"symbol": "B"}), analyze=True)
    assert again.counted is not None
    assert again.counted.requests == 0
    assert "every byte came from memory" in str(again)


async def test_answers_from_statistics_take_nothing(lake: LakeStorage) -> None:
    query = DataQuery("bars", {"symbol": "A"}, aggregates={"n": count()})
    found = await lake.explain(query, analyze=True)
    assert left(found)[-1] == ("answered from statistics", 0, 0)
    assert found.counted is not None
    assert (found.short_cut, found.estimated.requests, found.estimated.round_trips) == ("metadata", 0, 0)
    assert (found.counted.requests, found.counted.rows) == (0, 1)


async def test_contradictions_read_nothing(lake: LakeStorage) -> None:
    found = await lake.explain(DataQuery("bars", {"price": {"gt": 3, "lt": 1}}), analyze=True)
    assert left(found) == [("all there are", 4, 8), ("contradictory filters", 0, 0)]
    assert "no row can satisfy" in found.predicate
    assert found.counted is not None
    assert found.counted.requests == 0


async def test_revisions_leave_filters_above_them(lake: LakeStorage) -> None:
    found = await lake.explain(DataQuery("kept", col("price") > 2))
    assert left(found)[-1][2] == 8
    assert any("revisions are merged" in note for note in found.notes)


async def test_a_limit_is_read_in_rounds(lake: LakeStorage) -> None:
    found = await lake.explain(DataQuery("bars", limit=1), analyze=True)
    assert found.counted is not None
    assert (found.estimated.files, found.estimated.round_trips, found.counted.files) == (8, 4, 1)
    assert any("the estimate is the most" in note for note in found.notes)


async def test_an_explanation_as_json_and_as_text(lake: LakeStorage) -> None:
    plan = QueryOptimizer().optimize(DataQuery("bars", {"symbol": "A"}, limit=5))
    found = await lake.explain(plan, analyze=True, region="nowhere", prices=PRICES)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["estimated"]["cost"]["total"] == 0.0
    assert told["pruning"][0]["files"] == 8
    text = str(found)
    for part in ("bars, table version 8", "limit 5", "file statistics: 4 files in 4", "estimated: ", "counted: ", "$0"):
        assert part in text


async def test_what_cannot_be_asked_cannot_be_explained(lake: LakeStorage) -> None:
    with pytest.raises(InvalidQueryError, match="did you mean 'symbol'"):
        await lake.explain(DataQuery("bars", {"symbl": "A"}))


async def test_parts_of_a_large_file_are_told_before_they_are_read(lake: LakeStorage) -> None:
    count_of_rows = 300_000
    start = np.datetime64("2024-03-01", "us").astype(np.int64)
    rows = pa.table(
        {
            "symbol": pa.repeat("C", count_of_rows),
            "timestamp": pa.array(start + np.arange(count_of_rows), pa.timestamp("us", "UTC")),
            "price": np.random.default_rng(7).random(count_of_rows),
        }
    )
    await lake.store_data("bars", rows)
    found = await lake.explain(DataQuery("bars", {"symbol": "C"}, columns=["timestamp"], limit=1), analyze=True)
    told, counted = found.estimated, found.counted
    assert counted is not None
    assert (told.files, told.bytes, told.requests) == (counted.files, counted.bytes, counted.requests)
    assert told.row_groups is not None
    assert told.bytes < 0.9 * found.pruning[-1].bytes
