from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from buffetstore.caching import LRUCache
from buffetstore.errors import CorruptFileError, CorruptLogError, InvalidInputError, NotFoundError, StorageError
from buffetstore.objects import LocalStore, MemoryStore, list_all
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.testing import CountingStore
from buffetstore.testing.data_storage import bar, bars, keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from buffetstore.monitoring import Operation

JANUARY = {"start": "2024-01-01", "end": "2024-01-31"}


class Restated(
    Record,
    data_type="restated",
    version="1.0.0",
    key=("symbol", "timestamp"),
    revisions="keep",
    availability="asserted",
):
    symbol: str
    timestamp: Timestamp
    value: Price


class Tick(Record, data_type="ticks", version="1.0.0", key=("symbol", "timestamp"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    value: Price


class Grown(Restated, version="1.1.0"):
    note: str | None = None


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def lake(store: MemoryStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, SchemaManager([Restated, Tick])) as storage:
        yield storage


def value(symbol: str, day: int, amount: str) -> dict[str, Any]:
    return {"symbol": symbol, "timestamp": datetime(2024, 1, day, tzinfo=UTC), "value": Decimal(amount)}


async def test_files_have_names_for_people(lake: LakeStorage) -> None:
    stored = await lake.store_data("market_data", [bar("BTC/USD", 15)])
    assert stored.file_path is not None
    assert stored.file_path.startswith("raw/market_data/year=2024/month=01/day=15/BTC%2FUSD_market_20240115_000000_v1-")
    assert stored.bytes_written > 0


async def test_a_question_reads_only_what_may_answer_it(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(["AAPL", "MSFT"], range(1, 21)))
    answer = await lake.retrieve_data(
        DataQuery("market_data", {"symbol": "AAPL"}, {"start": "2024-01-05", "end": "2024-01-06"})
    )
    assert keys(answer.to_pylist()) == [("AAPL", 5), ("AAPL", 6)]
    assert (answer.files_scanned, answer.files_pruned) == (2, 18)
    assert (answer.partitions_scanned, answer.partitions_total, answer.partitions_pruned) == (2, 20, 18)
    nothing = await lake.retrieve_data(DataQuery("market_data", {"volume": {"gt": 5, "lt": 3}}))
    assert (nothing.rows, nothing.files_scanned, nothing.files_pruned, nothing.cache_hit) == (0, 0, 20, False)


async def test_a_limit_stops_reading(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(["AAPL"], range(1, 31)))
    answer = await lake.retrieve_data(DataQuery("market_data", limit=2))
    assert keys(answer.to_pylist()) == [("AAPL", 1), ("AAPL", 2)]
    assert answer.files_scanned <= 3
    batches = [batch async for batch in lake.scan(DataQuery("market_data", limit=2))]
    assert sum(batch.num_rows for batch in batches) == 2


async def test_a_cache_hit_means_that_no_byte_was_fetched(store: MemoryStore) -> None:
    counting = CountingStore(store)
    async with LakeStorage(counting) as lake:
        await lake.store_data("market_data", bars())
        query = DataQuery("market_data", date_range={"start": "2024-01-02", "end": "2024-01-03"})
        first = await lake.retrieve_data(query)
        assert (first.cache_hit, first.requests) == (False, 2)
        assert first.bytes_read > 0
        again = await lake.retrieve_data(query)
        assert (again.cache_hit, again.requests, again.bytes_read) == (True, 0, 0)
        partly = await lake.retrieve_data(DataQuery("market_data"))
        assert (partly.cache_hit, partly.requests) == (False, 3)
        assert partly.table.equals((await lake.retrieve_data(DataQuery("market_data"))).table)


async def test_a_cache_without_room_is_never_hit(store: MemoryStore) -> None:
    async with LakeStorage(store, cache=LRUCache(0)) as lake:
        await lake.store_data("market_data", bars())
        for _ in range(2):
            answer = await lake.retrieve_data(DataQuery("market_data"))
            assert (answer.cache_hit, answer.requests) == (False, 5)


async def test_equal_questions_at_once_fetch_each_file_once(store: MemoryStore) -> None:
    async with LakeStorage(store) as lake:
        await lake.store_data("market_data", bars())
        counting = CountingStore(store)
        async with LakeStorage(counting) as reader:
            await asyncio.gather(*(reader.retrieve_data(DataQuery("market_data")) for _ in range(6)))
            assert reader.files.cache.stats().entries == 5


async def test_another_process_sees_the_newest_version(store: MemoryStore, lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(days=[1]))
    async with LakeStorage(store) as other:
        assert (await other.retrieve_data(DataQuery("market_data"))).rows == 2
        await lake.store_data("market_data", bars(days=[2]))
        assert (await other.retrieve_data(DataQuery("market_data"))).rows == 4


async def test_two_creators_make_one_table(store: MemoryStore) -> None:
    async with LakeStorage(store) as one, LakeStorage(store) as two:
        await asyncio.gather(
            one.store_data("market_data", bars(["AAPL"])), two.store_data("market_data", bars(["MSFT"]))
        )
        assert (await one.retrieve_data(DataQuery("market_data"))).rows == 10


async def test_revisions_are_kept(lake: LakeStorage) -> None:
    first = await lake.store_data("restated", [value("A", 1, "1"), value("A", 2, "2")])
    second = await lake.store_data("restated", [value("A", 1, "1"), value("A", 2, "2.5"), value("B", 1, "9")])
    assert (first.inserted, second.inserted, second.updated, second.unchanged) == (2, 1, 1, 1)
    latest = await lake.retrieve_data(DataQuery("restated"))
    assert [(row["symbol"], row["value"]) for row in latest.to_pylist()] == [("A", 1), ("A", Decimal("2.5")), ("B", 9)]
    every = await lake.retrieve_data(DataQuery("restated", revisions="all"))
    assert every.rows == 4
    # A filter on a value must not bring an older revision back.
    assert (await lake.retrieve_data(DataQuery("restated", {"value": 2}))).rows == 0
    assert (await lake.retrieve_data(DataQuery("restated", {"value": 2}, revisions="all"))).rows == 1
    scanned = [row async for batch in lake.scan(DataQuery("restated")) for row in batch.to_pylist()]
    assert scanned == latest.to_pylist()


async def test_equal_again_after_a_change_is_a_revision(lake: LakeStorage) -> None:
    for amount in ("1", "2", "1"):
        await lake.store_data("restated", [value("A", 1, amount)])
    assert (await lake.retrieve_data(DataQuery("restated"))).to_pylist()[0]["value"] == 1
    assert (await lake.retrieve_data(DataQuery("restated", revisions="all"))).rows == 3


async def test_what_was_known_then(lake: LakeStorage) -> None:
    start = datetime(2024, 2, 1, tzinfo=UTC)
    for weeks, amount in enumerate(("1", "2", "3")):
        await lake.store_data("restated", [value("A", 1, amount)], available_at=start + timedelta(weeks=weeks))
    for days, expected in [(-1, []), (0, [1]), (8, [2]), (100, [3])]:
        answer = await lake.retrieve_data(DataQuery("restated", known_at=start + timedelta(days=days)))
        assert [row["value"] for row in answer.to_pylist()] == expected
        assert any("asserted" in note for note in answer.notes)


async def test_deleting_by_value_removes_all_revisions_of_the_keys(lake: LakeStorage) -> None:
    await lake.store_data("restated", [value("A", 1, "1"), value("B", 1, "1")])
    await lake.store_data("restated", [value("A", 1, "2")])
    assert (await lake.delete_data("restated", filters={"value": {"lt": 2}})).rows == 1, "A is 2 now"
    assert (await lake.delete_data("restated", filters={"value": 2})).rows == 2
    assert (await lake.retrieve_data(DataQuery("restated", revisions="all"))).rows == 0


async def test_ticks_are_appended(lake: LakeStorage) -> None:
    for _ in range(2):
        await lake.store_data("ticks", [value("A", 1, "1")])
    assert (await lake.retrieve_data(DataQuery("ticks"))).rows == 2


async def test_rows_known_to_be_new_are_appended(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(["AAPL"]))
    result = await lake.store_data("market_data", bars(["MSFT"]), mode="append")
    assert (result.inserted, result.rows) == (5, 5)
    with pytest.raises(InvalidInputError, match="mode='replace' is none of"):
        await lake.store_data("market_data", bars(["MSFT"]), mode="replace")  # type: ignore[arg-type]


async def test_a_newer_contract_adds_its_columns(store: MemoryStore, lake: LakeStorage) -> None:
    await lake.store_data("restated", [value("A", 1, "1")])
    async with LakeStorage(store, SchemaManager([Restated, Grown])) as newer:
        absent = await newer.retrieve_data(DataQuery("restated", {"note": None}, columns=["symbol", "note"]))
        assert absent.to_pylist() == [{"symbol": "A", "note": None}]
        assert (await newer.retrieve_data(DataQuery("restated", {"note": "x"}))).rows == 0
        assert (await newer.delete_data("restated", filters={"note": "x"})).rows == 0
        await newer.store_data("restated", [value("A", 2, "1") | {"note": "x"}])
        assert (await newer.retrieve_data(DataQuery("restated", {"note": "x"}))).rows == 1
    assert (await lake.retrieve_data(DataQuery("restated"))).rows == 2
    older = await lake.store_data("restated", [value("A", 3, "1")])
    assert older.inserted == 1


async def test_a_verdict_tells_when_options_come_too_late(lake: LakeStorage) -> None:
    check = await lake.validate(bars(), "market_data")
    with pytest.raises(InvalidInputError, match="give data_source, tz to the validation"):
        await lake.store_data("market_data", check, tz="UTC", data_source="x")
    with pytest.raises(InvalidInputError, match=r"1\.2\.0, not as version 1\.0\.0"):
        await lake.store_data("market_data", check, version="1.0.0")


async def test_what_happened_is_told(store: MemoryStore) -> None:
    told: list[Operation] = []
    async with LakeStorage(store, hook=told.append) as lake:
        await lake.store_data("market_data", bars())
        with pytest.raises(StorageError):
            await lake.store_data("market_data", [bar(price=-1)])
        await lake.retrieve_data(DataQuery("market_data", date_range=JANUARY | {"end": "2024-01-01"}))
        async with aclosing(lake.scan(DataQuery("market_data"))) as batches:
            await anext(batches)
    seen = [operation for operation in told if operation.name.startswith("storage.")]
    assert [(each.name, each.subject, each.error) for each in seen] == [
        ("storage.store", "market_data", None),
        ("storage.store", "market_data", "schema_validation"),
        ("storage.retrieve", "market_data", None),
        ("storage.scan", "market_data", None),
    ]
    assert seen[0].counts["rows_written"] == 10
    assert seen[1].counts["rows_rejected"] == 1
    assert {
        name: seen[2].counts[name] for name in ("rows_read", "files_scanned", "files_pruned", "partitions_pruned")
    } == {
        "rows_read": 2,
        "files_scanned": 1,
        "files_pruned": 4,
        "partitions_pruned": 4,
    }


async def test_a_damaged_data_file_is_named(tmp_path: Path) -> None:
    async with LocalStore(tmp_path) as store, LakeStorage(store, cache=LRUCache(0)) as lake:
        stored = await lake.store_data("market_data", bars(days=[1, 2]))
        damaged = tmp_path / stored.file_paths[1]
        whole = damaged.read_bytes()
        for content in (whole[:-20], whole[:40] + bytes(60) + whole[100:], b""):
            damaged.write_bytes(content)
            with pytest.raises(CorruptFileError, match="day=02"):
                await lake.retrieve_data(DataQuery("market_data"))
        assert (await lake.retrieve_data(DataQuery("market_data", date_range={"end": "2024-01-01"}))).rows == 2
        damaged.unlink()
        with pytest.raises(NotFoundError, match="day=02"):
            await lake.retrieve_data(DataQuery("market_data"))


async def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    async with LocalStore(tmp_path) as store:
        async with LakeStorage(store) as lake:
            await lake.store_data("market_data", bars())
        entry = tmp_path / "raw/market_data/_delta_log/00000000000000000001.json"
        entry.write_bytes(b'{"add": {"path"')
        async with LakeStorage(store) as lake:
            for work in (lake.retrieve_data(DataQuery("market_data")), lake.store_data("market_data", bars())):
                with pytest.raises(CorruptLogError, match="00000000000000000001"):
                    await work


async def test_a_failed_write_leaves_no_file(store: MemoryStore, lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars())
    before = [meta.key for meta in await list_all(store)]
    with pytest.raises(StorageError):
        await lake.store_data("market_data", [bar("AAPL", 2, price=Decimal("1e30"))])
    assert [meta.key for meta in await list_all(store)] == before


async def test_the_lines_for_other_tools_work(tmp_path: Path) -> None:
    async with LocalStore(tmp_path) as store, LakeStorage(store, SchemaManager([Restated])) as lake:
        await lake.store_data("restated", [value("A", 1, "1")])
        await lake.store_data("restated", [value("A", 1, "2")])
        lines = (await lake.describe("restated")).read_with
    frame = eval(lines["polars"], {"pl": pl}).collect()
    assert frame["value"].to_list() == [2]
    rows = frame.to_arrow()  # noqa: F841 - DuckDB finds it by its name
    line = lines["duckdb"].replace(f"delta_scan('{tmp_path}/raw/restated')", "rows")
    assert duckdb.sql(f"SELECT value FROM ({line})").fetchall() == [(2,)]


async def test_answers_as_frames(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars(["AAPL"], [1]))
    answer = await lake.retrieve_data(DataQuery("market_data"))
    assert answer.to_pandas()["price"].dtype == "float64"
    assert answer.to_pandas(decimals="exact")["price"][0] == Decimal("186.25")
    assert answer.to_polars()["price"].dtype == pl.Float64
    assert answer.to_polars(decimals="exact")["price"].dtype == pl.Decimal(18, 8)
    assert answer.to_pylist()[0]["price"] == Decimal("186.25")
    with pytest.raises(InvalidInputError, match="'float' nor 'exact'"):
        answer.to_pandas(decimals="string")  # type: ignore[arg-type]
    assert len(answer) == answer.rows == 1


async def test_nested_decimals_become_floats_too(lake: LakeStorage) -> None:
    forecast = {
        "symbol": "A",
        "model_name": "m",
        "model_version": "1",
        "timestamp": datetime(2024, 1, 1, tzinfo=UTC),
        "forecast_horizon_days": 1,
        "data_source": "t",
        "predicted_price": 5,
        "ensemble_predictions": [{"model_name": "a", "weight": 0.5, "predicted_price": Decimal("4.5")}],
    }
    await lake.store_data("forecasts", [forecast])
    answer = await lake.retrieve_data(DataQuery("forecasts"))
    assert answer.to_polars()["ensemble_predictions"][0][0]["predicted_price"] == 4.5
    assert not any(pa.types.is_decimal(field.type) for field in answer.to_polars().to_arrow().schema)


async def test_a_list_may_be_long(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars())
    many = DataQuery("market_data", {"symbol": [*(f"S{number}" for number in range(50_000)), "AAPL"]})
    answer = await lake.retrieve_data(many)
    assert answer.rows == 5
