"""Tables written anew in another version: whole or not at all, beside writers, and taken up where they broke off."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import deltalake
import pyarrow.compute as pc
import pytest
from pydantic import Field

from buffetstore.errors import CorruptFileError, IncompatibleSchemaError, InvalidInputError, StorageError
from buffetstore.objects import LocalStore, MemoryStore, list_all
from buffetstore.query import DataQuery
from buffetstore.schemas import Aliases, Record, SchemaManager, Upcast
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.storage import migration as module
from buffetstore.storage.gate import adopted_versions
from buffetstore.testing import Fault, FaultyStore


class Trade(Record, data_type="deals", version="1.0.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    cents: int
    size: int


class TradeInDollars(Record, data_type="deals", version="2.0.0", key=("site", "timestamp")):
    site: str
    timestamp: Timestamp
    dollars: Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
    size: Annotated[Decimal, Field(max_digits=22, decimal_places=2)]

    upcasts: ClassVar[tuple[Upcast, ...]] = (
        Upcast(
            "dollars", "dollars", before="2.0.0", function=lambda old: pc.divide(old["cents"].cast("double"), 100.0)
        ),
    )


class TradeByPlace(Record, data_type="deals", version="3.0.0", key=("place", "timestamp"), symbol="place"):
    place: Annotated[str, Aliases("site")]
    timestamp: Timestamp
    dollars: Annotated[Decimal, Field(max_digits=18, decimal_places=2)]
    size: Annotated[Decimal, Field(max_digits=22, decimal_places=2)]


def row(day: int, **fields: Any) -> dict[str, Any]:
    return {"site": "A", "timestamp": datetime(2024, 1, day, tzinfo=UTC), "cents": day * 100, "size": day} | fields


def lake_of(store: Any, *types: type[Record]) -> LakeStorage:
    return LakeStorage(store, SchemaManager(types))


async def filled(store: Any, days: range = range(1, 6)) -> None:
    async with lake_of(store, Trade) as lake:
        for day in days:
            await lake.store_data("deals", [row(day)])


async def dollars(lake: LakeStorage) -> list[Decimal]:
    found: list[Decimal] = (await lake.retrieve_data(DataQuery("deals"))).table["dollars"].to_pylist()
    return found


async def test_a_table_is_written_anew_in_one_commit(tmp_path: Any) -> None:
    store = LocalStore(tmp_path)
    await filled(store)
    async with lake_of(store, Trade, TradeInDollars) as lake:
        with pytest.raises(IncompatibleSchemaError, match=r"registry\.migrate"):
            await lake.store_data("deals", [{"site": "B", "timestamp": row(9)["timestamp"], "dollars": 1, "size": 1}])
        steps: list[tuple[int, int]] = []
        before = (await lake.table("deals")).version
        done = await lake.registry.migrate("deals", "2.0.0", progress=lambda *step: steps.append(step))
        assert (done.table_version, done.files_read, done.files_written, done.rows) == (before + 1, 5, 5, 5)
        assert steps[-1] == (5, 5)
        assert await dollars(lake) == [Decimal(day) for day in range(1, 6)]
        table = await lake.table("deals")
        assert list(adopted_versions(table.metadata.configuration)) == ["2.0.0"]
        assert "cents" not in table.schema.names
        assert set((await table.to_arrow())["version"].to_pylist()) == {"2.0.0"}
        assert await list_all(store, "metadata/migrations/") == []
        again = await lake.registry.migrate("deals", "2.0.0")
        assert (again.table_version, again.files_read) == (done.table_version, 0)
        await lake.store_data("deals", [{"site": "B", "timestamp": row(9)["timestamp"], "dollars": 1, "size": 1}])
        assert (await lake.verify("deals", deep=True)).ok
        earlier = await lake.retrieve_data(DataQuery("deals", table_version=before, version="1.0.0"))
        assert earlier.table["cents"].to_pylist() == [100, 200, 300, 400, 500]
    seen = deltalake.DeltaTable(str(tmp_path / "raw/deals")).to_pyarrow_table()
    assert sorted(seen["dollars"].to_pylist()) == [1, 1, 2, 3, 4, 5]


async def test_a_key_may_be_renamed_by_it() -> None:
    store = MemoryStore()
    await filled(store)
    async with lake_of(store, Trade, TradeInDollars, TradeByPlace) as lake:
        await lake.registry.migrate("deals", "2.0.0")
        with pytest.raises(IncompatibleSchemaError, match="place was 'site', by which stored files are laid out"):
            await lake.registry.register(TradeByPlace)
        await lake.registry.migrate("deals", "3.0.0")
        table = await lake.table("deals")
        assert table.metadata.configuration["buffetstore.key"] == "place,timestamp"
        again = {"place": "A", "timestamp": row(1)["timestamp"], "dollars": Decimal(1), "size": Decimal(1)}
        done = await lake.store_data("deals", [again])
        assert (done.inserted, done.unchanged) == (0, 1)
        with pytest.raises(InvalidInputError, match=r"3\.0\.0 could not follow it"):
            await lake.registry.migrate("deals", "1.0.0")


async def test_an_old_program_is_refused_afterwards() -> None:
    store = MemoryStore()
    await filled(store)
    async with lake_of(store, Trade) as old, lake_of(store, Trade, TradeInDollars) as lake:
        await old.table("deals")
        await lake.registry.migrate("deals", "2.0.0")
        for mode in ("append", "upsert"):
            with pytest.raises(IncompatibleSchemaError):
                await old.store_data("deals", [row(7)], mode=mode)
        assert (await old.retrieve_data(DataQuery("deals"))).table["dollars"].to_pylist()[0] == 1
        assert (await lake.retrieve_data(DataQuery("deals"))).rows == 5


async def test_rows_that_come_meanwhile_are_brought_up_too() -> None:
    store = MemoryStore()
    await filled(store)
    async with lake_of(store, Trade) as old, lake_of(store, Trade, TradeInDollars) as lake:
        late = iter(range(10, 13))

        async def write() -> None:
            for day in late:
                await old.store_data("deals", [row(day)])

        outcomes = await asyncio.gather(lake.registry.migrate("deals", "2.0.0"), write(), return_exceptions=True)
        assert not isinstance(outcomes[0], BaseException), outcomes
        assert outcomes[1] is None or isinstance(outcomes[1], IncompatibleSchemaError)
        stored = await dollars(lake)
        assert stored[:5] == [1, 2, 3, 4, 5]
        assert stored[5:] == [10, 11, 12][: len(stored) - 5]
        if outcomes[1] is None:
            assert len(stored) == 8


async def test_what_broke_off_is_taken_up() -> None:
    inner = MemoryStore()
    await filled(inner)
    faulty = FaultyStore(inner)
    async with lake_of(faulty, Trade, TradeInDollars) as lake:
        faulty.inject("put", *[None] * 6, Fault("before", ambiguous=False))
        with pytest.raises(StorageError, match="scripted fault"):
            await lake.registry.migrate("deals", "2.0.0")
        assert (await lake.retrieve_data(DataQuery("deals"))).table["cents"].to_pylist() == [100, 200, 300, 400, 500]
    noted = len(await list_all(inner, "metadata/migrations/"))
    assert noted > 0
    async with lake_of(inner, Trade, TradeInDollars) as lake:
        done = await lake.registry.migrate("deals", "2.0.0")
        assert (done.files_resumed, done.rows) == (noted, 5)
        assert await dollars(lake) == [1, 2, 3, 4, 5]


async def test_a_lost_answer_to_the_commit_is_settled() -> None:
    inner = MemoryStore()
    await filled(inner, range(1, 2))
    faulty = FaultyStore(inner)
    async with lake_of(faulty, Trade, TradeInDollars) as lake:
        await lake.table("deals")
        faulty.inject("put", None, None, None, Fault("after"))  # the file, its note, the registry, the commit
        done = await lake.registry.migrate("deals", "2.0.0")
        assert done.rows == 1
        assert await dollars(lake) == [1]
        assert [record.operation for record in await lake.history("deals")].count("REPLACE COLUMNS") == 1


async def test_a_rewrite_that_loses_rows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await filled(store)
    sums = iter(range(100))
    monkeypatch.setattr(module, "row_checksum", lambda _rows: next(sums))
    async with lake_of(store, Trade, TradeInDollars) as lake:
        with pytest.raises(CorruptFileError, match="the table was left as it is"):
            await lake.registry.migrate("deals", "2.0.0")
        assert (await lake.retrieve_data(DataQuery("deals"))).table["cents"].to_pylist() == [100, 200, 300, 400, 500]
