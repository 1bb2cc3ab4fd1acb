"""The gate in the commit: a version is adopted before its rows are let in, or refused without a trace."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import Field

from buffetstore.errors import ConflictError, IncompatibleSchemaError, StorageError, TableNotFoundError
from buffetstore.objects import LocalStore, MemoryStore, list_all
from buffetstore.objects.helpers import get_bytes
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.query import DataQuery
from buffetstore.schemas import Mode, Record, SchemaManager, contract_of, fingerprint, schema_key
from buffetstore.schemas.types import Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.storage.gate import COMPATIBILITY, adopted_versions, rewrites
from buffetstore.tables import DeltaTable
from buffetstore.tables.properties import SCHEMA_VERSIONS
from buffetstore.testing import CountingStore, Fault, FaultyStore

if TYPE_CHECKING:
    from buffetstore.objects.base import ObjectMeta

KEPT = Path(__file__).parents[2] / "kept" / "0.1.0"


class Reading(Record, data_type="readings", version="1.0.0", key=("site", "timestamp"), revisions="append"):
    site: str
    timestamp: Timestamp
    value: int


class ReadingWithNote(Reading, version="1.1.0"):
    note: str | None = None


class ReadingWithUnit(Reading, version="1.1.0"):
    scale: str | None = None


class ReadingWithDemand(Reading, version="1.2.0"):
    sensor: str


class ReadingOfSensor(Reading, version="2.0.0"):
    sensor: str


class WideReading(Reading, version="2.0.0"):
    value: Annotated[float, Field(ge=-1000, le=1000)]  # type: ignore[assignment]


class OtherReading(Record, data_type="readings", version="1.0.0", key=("site", "timestamp"), revisions="append"):
    site: str
    timestamp: Timestamp
    value: int
    more: str


def row(day: int, **fields: Any) -> dict[str, Any]:
    return {"site": "A", "timestamp": datetime(2024, 1, day, tzinfo=UTC), "value": day} | fields


def lake_of(store: Any, *types: type[Record]) -> LakeStorage:
    return LakeStorage(store, SchemaManager(types))


async def log_of(store: MemoryStore, data_type: str = "readings") -> list[str]:
    return sorted(found.key for found in await list_all(store, f"raw/{data_type}/_delta_log/"))


async def test_a_new_table_has_adopted_the_version_that_it_is_made_for() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
        configuration = (await lake.table("readings")).metadata.configuration
    mark = fingerprint(contract_of(Reading))
    assert configuration[SCHEMA_VERSIONS] == f"1.0.0:{mark}"
    assert configuration[COMPATIBILITY] == "BACKWARD"
    assert json.loads(await get_bytes(store, schema_key("readings", "1.0.0")))["fingerprint"] == mark


async def test_the_next_version_is_adopted_by_its_first_write() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    async with lake_of(store, Reading, ReadingWithNote) as lake:
        done = await lake.store_data("readings", [row(2, note="new")])
        assert done.table_version == 3, "made, written, adopted, written"
        table = await lake.table("readings")
        assert list(adopted_versions(table.metadata.configuration)) == ["1.0.0", "1.1.0"]
        history = await lake.history("readings")
        assert [record.operation for record in history] == ["WRITE", "ADD COLUMNS", "WRITE", "CREATE TABLE"]
        assert json.loads(history[1].user_metadata or "")["schemaVersion"] == "1.1.0"
        again = await lake.store_data("readings", [row(3)], version="1.0.0")
        assert again.table_version == 4, "both versions are let in"


async def test_a_warm_write_asks_for_nothing_more() -> None:
    counting = CountingStore(MemoryStore())
    async with lake_of(counting, Reading) as lake:
        await lake.store_data("readings", [row(1)])
        counting.reset()
        await lake.store_data("readings", [row(2)])
        assert counting.total == 2, "a data file and a commit"


async def test_a_first_write_puts_one_object_more() -> None:
    counting = CountingStore(MemoryStore(), latency_seconds=0.001)
    async with lake_of(counting, Reading) as lake:
        await lake.store_data("readings", [row(1)])
        assert counting.requests["put"] == 4, "the registry's entry; the table, a data file and its commit"
        looked = counting.round_trips - counting.requests["put"]
    counting.reset()
    with pytest.raises(TableNotFoundError):
        await DeltaTable.open(counting, "raw/readingz")
    assert looked == counting.round_trips, "the registry is looked at while the table is"
    async with lake_of(counting, Reading) as lake:
        counting.reset()
        await lake.store_data("readings", [row(2)])
        assert counting.requests["put"] == 2, "another program's first write finds it all there"


async def test_what_readers_could_not_read_is_refused_without_a_trace() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    before = {found.key for found in await list_all(store)}
    async with lake_of(store, Reading, ReadingWithDemand) as lake:
        with pytest.raises(IncompatibleSchemaError, match="sensor: is new and required") as caught:
            await lake.store_data("readings", [row(2, sensor="s")])
    assert any("sensor" in reason for reason in caught.value.reasons)
    assert {found.key for found in await list_all(store)} == before


async def test_a_version_never_changes() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    async with lake_of(store, OtherReading) as lake:
        with pytest.raises(IncompatibleSchemaError, match=r"1\.0\.0 was adopted with other demands: .*more"):
            await lake.store_data("readings", [row(2, more="x")])


async def test_what_stored_files_cannot_lie_beside_names_migrate() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
        await lake.registry.set_mode("readings", "NONE")
    async with lake_of(store, Reading, WideReading) as lake:
        with pytest.raises(IncompatibleSchemaError, match=r"value is double, stored is int64.*registry\.migrate"):
            await lake.store_data("readings", [row(2, value=0.5)])
        await lake.store_data("readings", [row(3)], version="1.0.0")
        assert (await lake.retrieve_data(DataQuery("readings"))).table["value"].to_pylist() == [1, 3]


def test_which_changes_need_a_rewrite() -> None:
    old = contract_of(Reading)
    assert rewrites(contract_of(ReadingWithNote), [old]) == []
    assert rewrites(old, [contract_of(ReadingWithNote)]) == []
    assert rewrites(contract_of(WideReading), [old]) == ["value is double, stored is int64"]


async def test_columns_that_a_version_leaves_out_become_nullable() -> None:
    class Short(Record, data_type="readings", version="2.0.0", key=("site", "timestamp"), revisions="append"):
        site: str
        timestamp: Timestamp

    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    async with lake_of(store, Reading, Short) as lake:
        rows = [{key: value for key, value in row(2).items() if key != "value"}]
        await lake.store_data("readings", rows)
        table = await (await lake.table("readings")).to_arrow()
        assert table.sort_by("timestamp")["value"].to_pylist() == [1, None]


async def test_a_table_that_is_older_than_gates_adopts_at_its_next_write(tmp_path: Path) -> None:
    shutil.copytree(KEPT, tmp_path / "kept")
    async with LakeStorage(LocalStore(tmp_path / "kept")) as lake:
        before = await lake.table("market_data")
        assert adopted_versions(before.metadata.configuration) == {}
        rows = (await lake.retrieve_data(DataQuery("market_data"))).rows
        bar = {"symbol": "NEW", "timestamp": datetime(2024, 5, 1, tzinfo=UTC), "price": 5, "volume": 1}
        await lake.store_data("market_data", [bar], data_source="test")
        table = await lake.table("market_data")
        assert list(adopted_versions(table.metadata.configuration)) == ["1.2.0"]
        assert (await lake.retrieve_data(DataQuery("market_data"))).rows == rows + 1
        assert [entry.contract.version for entry in await lake.registry.entries("market_data")] == ["1.2.0"]


async def test_writers_go_on_beside_an_adoption() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as old, lake_of(store, Reading, ReadingWithNote) as new:
        await old.store_data("readings", [row(1)])
        await new.store_data("readings", [row(2)], version="1.0.0")
        await new.store_data("readings", [row(3, note="x")])
        await old.store_data("readings", [row(4)], mode="append")
        await old.store_data("readings", [row(5)], mode="upsert")
        await asyncio.gather(
            *(old.store_data("readings", [row(day)], mode="append") for day in range(6, 12)),
            *(new.store_data("readings", [row(day, note="y")], mode="append") for day in range(12, 18)),
        )
        assert (await old.retrieve_data(DataQuery("readings"))).rows == 17


async def test_a_lost_answer_to_the_adoption_is_settled() -> None:
    inner = MemoryStore()
    async with lake_of(inner, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    faulty = FaultyStore(inner)
    async with lake_of(faulty, Reading, ReadingWithNote) as lake:
        await lake.table("readings")
        faulty.inject("put", None, Fault("after"))  # the registry's entry, then the adoption
        done = await lake.store_data("readings", [row(2, note="x")])
        assert done.table_version == 3
        history = await lake.history("readings")
        assert [record.operation for record in history].count("ADD COLUMNS") == 1


async def test_a_registry_that_cannot_be_written_fails_the_write() -> None:
    inner = MemoryStore()
    faulty = FaultyStore(inner)
    async with lake_of(faulty, Reading) as lake:
        faulty.inject("put", Fault("before", ambiguous=False))
        with pytest.raises(StorageError, match="scripted fault"):
            await lake.store_data("readings", [row(1)])
        assert await list_all(inner) == []
        await lake.store_data("readings", [row(1)])
        assert (await lake.retrieve_data(DataQuery("readings"))).rows == 1


class Stalling(StoreWrapper):
    """Holds every put until it is let go, one after the other by a plan."""

    forwards = frozenset(
        {"start_upload", "get", "get_ranges", "delete", "list_objects", "list_prefixes", "copy", "signed_url"}
    )

    def __init__(self, inner: Any, chance: random.Random) -> None:
        super().__init__(inner)
        self._chance = chance

    async def put(self, key: str, data: Any, **options: Any) -> ObjectMeta:  # type: ignore[override]
        for _ in range(self._chance.randrange(12)):
            await asyncio.sleep(0)
        done = await self.inner.put(key, data, **options)
        for _ in range(self._chance.randrange(12)):
            await asyncio.sleep(0)
        return done


@pytest.mark.parametrize("seed", range(50))
async def test_of_two_incompatible_versions_that_race_one_is_adopted(seed: int) -> None:
    class Third(Reading, version="1.2.0"):
        note: Annotated[str | None, Field(max_length=5)] = None

    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    chance = random.Random(seed)
    first = lake_of(Stalling(store, chance), Reading, ReadingWithNote)
    second = lake_of(Stalling(store, chance), Reading, Third)
    async with first, second:
        await asyncio.gather(first.table("readings"), second.table("readings"))
        outcomes = await asyncio.gather(
            first.store_data("readings", [row(2, note="too long for it")]),
            second.store_data("readings", [row(3, note="short")]),
            return_exceptions=True,
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    async with lake_of(store) as lake:
        table = await lake.table("readings")
        held = set(adopted_versions(table.metadata.configuration)) - {"1.0.0"}
        operations = [record.operation for record in await lake.history("readings")]
        assert all(isinstance(error, IncompatibleSchemaError) for error in refused), outcomes
        # 1.2.0 tightens what 1.1.0 lets in: only in that order, or alone, may they be there.
        assert len(held) == 1, held
        assert len(refused) == 1
        assert operations.count("ADD COLUMNS") == 1
        assert operations.count("WRITE") == 2
        for version in adopted_versions(table.metadata.configuration):
            await lake.known.stored.read("readings", version)


async def test_two_contents_of_one_version_that_race() -> None:
    store = MemoryStore()
    async with lake_of(store, Reading) as lake:
        await lake.store_data("readings", [row(1)])
    async with lake_of(store, Reading, ReadingWithNote) as one, lake_of(store, Reading, ReadingWithUnit) as other:
        await asyncio.gather(one.table("readings"), other.table("readings"))
        outcomes = await asyncio.gather(
            one.store_data("readings", [row(2, note="n")]),
            other.store_data("readings", [row(3, scale="s")]),
            return_exceptions=True,
        )
        (error,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert isinstance(error, ConflictError | IncompatibleSchemaError)
        assert (await one.retrieve_data(DataQuery("readings"))).rows == 2


async def test_a_cancelled_adoption_is_whole_or_nothing() -> None:
    for steps in range(1, 60, 3):
        store = MemoryStore()
        async with lake_of(store, Reading) as lake:
            await lake.store_data("readings", [row(1)])
        async with lake_of(store, Reading, ReadingWithNote) as lake:
            task = asyncio.ensure_future(lake.store_data("readings", [row(2, note="x")]))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            table = await (await lake.table("readings")).refresh()
            has = "1.1.0" in adopted_versions(table.metadata.configuration)
            assert has == ("note" in table.schema.names)
            if has:
                await lake.known.stored.read("readings", "1.1.0")
            await lake.store_data("readings", [row(2, note="x")], mode="upsert")
            assert (await lake.retrieve_data(DataQuery("readings"))).rows == 2


@pytest.mark.parametrize("mode", list(Mode))
async def test_each_mode_lets_in_what_it_promises(mode: Mode) -> None:
    """A required field may come where old data need not be read; it may go where new data need not be."""
    for old, new, rows, promised in (
        (Reading, ReadingOfSensor, row(2, sensor="s"), Mode.BACKWARD),
        (ReadingOfSensor, _Back, row(2), Mode.FORWARD),
    ):
        store = MemoryStore()
        async with lake_of(store, old) as lake:
            await lake.registry.set_mode("readings", mode, reason="a test", by="me")
            given = row(1, sensor="s") if old is ReadingOfSensor else row(1)
            await lake.store_data("readings", [given])
            assert await lake.registry.mode("readings") is mode
        breaks = promised.value in mode.value or mode.value.startswith("FULL")
        async with lake_of(store, old, new) as lake:
            if breaks:
                with pytest.raises(IncompatibleSchemaError):
                    await lake.store_data("readings", [rows])
            else:
                await lake.store_data("readings", [rows])
            assert (await lake.retrieve_data(DataQuery("readings", columns=["value"]))).rows == 2 - breaks


class _Back(Record, data_type="readings", version="3.0.0", key=("site", "timestamp"), revisions="append"):
    site: str
    timestamp: Timestamp
    value: int
