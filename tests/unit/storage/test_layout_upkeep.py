"""The layout of a data type is judged, and mended: what was promised comes true, and no row changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from buffetstore.errors import InvalidInputError
from buffetstore.formats import ParquetFormatter
from buffetstore.formats.parquet import MIN_ROW_GROUP_ROWS
from buffetstore.objects import MemoryStore, list_all
from buffetstore.query import Compact, DataQuery, Vacuum
from buffetstore.storage import LakeStorage
from buffetstore.storage.layout_upkeep import known_row_groups
from buffetstore.testing.data_storage import bar, bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.monitoring import Operation

START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture
def told() -> list[Operation]:
    return []


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def lake(store: MemoryStore, told: list[Operation]) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, hook=told.append) as storage:
        yield storage


async def test_many_writes_are_put_together_as_was_said(lake: LakeStorage, told: list[Operation]) -> None:
    for symbol in ("AAPL", "MSFT", "TSLA"):
        for day in (1, 2, 15):
            await lake.store_data("market_data", [bar(symbol, day)])
    query = DataQuery("market_data", {"symbol": "MSFT"})
    before = await lake.retrieve_data(DataQuery("market_data"))
    await lake.retrieve_data(query)
    report = await lake.analyze("market_data")
    assert (report.files, report.rows, report.buckets, report.queries, report.table_version) == (9, 9, 3, 2, 9)
    small = report.finding("small_files")
    assert small is not None
    assert (small.numbers["files_after"], small.files_fewer > 0) == (3, True)
    fine = report.finding("fine_buckets")
    assert fine is not None
    assert fine.numbers["files_after"] == 1

    would = await lake.apply(report, dry_run=True)
    assert would.after is None
    assert [result.files_added for result in would.results] == [1]
    assert (await lake.table("market_data")).version == 9

    done = await lake.apply(report)
    assert done.actions == report.actions
    assert done.after is not None
    assert (done.before.files, done.after.files, done.after.rows) == (9, 1, 9)
    assert done.after.findings == ()
    assert (await lake.retrieve_data(DataQuery("market_data"))).table.equals(before.table)
    assert [each.counts["findings"] for each in told if each.name == "storage.analyze"] == [2, 0]
    assert [each.counts["actions"] for each in told if each.name == "storage.apply"] == [0, 1]


async def test_only_the_days_that_are_named(lake: LakeStorage) -> None:
    for day in range(1, 7):
        for symbol in ("AAPL", "MSFT"):
            await lake.store_data("market_data", [bar(symbol, day)])
    report = await lake.analyze("market_data")
    moment = datetime(2024, 1, 3, tzinfo=UTC)
    action = Compact(coarsening=None, start=moment, end=moment + timedelta(microseconds=1))
    done = await lake.apply(report, [action])
    (result,) = done.results
    assert (result.files_removed, result.files_added) == (2, 1)
    assert (await lake.apply(report, [action], dry_run=True)).results[0].files_removed == 0


async def test_files_that_nothing_needs(store: MemoryStore, lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars())
    table = await lake.table("market_data")
    await table.set_properties({"delta.deletedFileRetentionDuration": "interval 0 hours"})
    await lake.compact("market_data")
    assert (await lake.analyze("market_data")).findings == ()
    report = await lake.analyze("market_data", unneeded=True)
    found = report.finding("unneeded_files")
    assert found is not None
    assert (found.numbers["files"], report.actions) == (5, (Vacuum(),))
    count = len(await list_all(store))
    assert (await lake.apply(report, dry_run=True)).results[0].files == 5
    assert len(await list_all(store)) == count
    done = await lake.apply(report)
    assert done.after is not None
    assert done.after.findings == ()
    assert len(await list_all(store, "raw/market_data/year=2024/")) == 1


async def test_row_groups_are_known_where_footers_are(store: MemoryStore) -> None:
    count = 3 * MIN_ROW_GROUP_ROWS
    async with LakeStorage(store, formatter=ParquetFormatter(row_group_rows=MIN_ROW_GROUP_ROWS)) as lake:
        table = await lake.table_for(await lake.contract("trades"))
        given = {
            "symbol": pa.repeat(pa.scalar("A"), count),
            # Numbers that do not compress: a file of more than a mebibyte.
            "sequence": pa.array(np.random.default_rng(0).integers(0, 2**62, count)),
        }
        usual = {"timestamp": START, "created_at": START, "price": 1, "size": 1, "data_source": "test", "version": "1"}
        columns = [
            given.get(field.name, pa.repeat(pa.scalar(usual.get(field.name), field.type), count))
            for field in table.schema
        ]
        await table.append(pa.table(columns, schema=pa.schema([field.with_nullable(True) for field in table.schema])))
        groups = known_row_groups(table.snapshot)
        assert groups["rows"].to_pylist() == [MIN_ROW_GROUP_ROWS] * 3
        assert min(groups["bytes"].to_pylist()) > 0
        found = (await lake.analyze("trades")).finding("row_groups")
    assert found is not None
    assert found.numbers["row_groups"] == 3


@pytest.mark.parametrize("actions", [["compact"], [None]])
async def test_what_is_no_action(lake: LakeStorage, actions: Any) -> None:
    await lake.store_data("market_data", bars())
    with pytest.raises(InvalidInputError, match="is no action of a layout"):
        await lake.apply(await lake.analyze("market_data"), actions)


async def test_rows_of_one_key_all_stay(lake: LakeStorage) -> None:
    for price in (1, 2, 3):
        await lake.store_data("market_data", [bar("AAPL", 1) | {"price": price}], mode="append")
    before = await lake.retrieve_data(DataQuery("market_data"))
    done = await lake.apply(await lake.analyze("market_data"))
    assert done.after is not None
    assert done.after.files == 1
    assert sorted(map(repr, (await lake.retrieve_data(DataQuery("market_data"))).to_pylist())) == sorted(
        map(repr, before.to_pylist())
    )
