"""The registry that lies with the data, and stores that hold more than a program knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from buffetstore.errors import (
    ConflictError,
    CorruptFileError,
    IncompatibleSchemaError,
    InvalidInputError,
    NotFoundError,
    SchemaValidationError,
    UnknownDataTypeError,
    UnknownSchemaVersionError,
)
from buffetstore.objects import MemoryStore
from buffetstore.objects.helpers import get_bytes, put_text
from buffetstore.query import DataQuery
from buffetstore.schemas import Mode, Record, SchemaManager, contract_document, contract_of, schema_key
from buffetstore.schemas.types import Timestamp
from buffetstore.storage import LakeStorage


class Weather(Record, data_type="weather", version="1.0.0", key=("station", "timestamp"), symbol="station"):
    station: str
    timestamp: Timestamp
    celsius: float


class WeatherWithWind(Weather, version="1.1.0"):
    wind: float | None = None


class WeatherInWords(Weather, version="2.0.0"):
    words: str


class Another(Record, data_type="weather", version="1.0.0", key=("station", "timestamp"), symbol="station"):
    station: str
    timestamp: Timestamp
    fahrenheit: float


def row(day: int, **fields: Any) -> dict[str, Any]:
    return {"station": "A", "timestamp": datetime(2024, 1, day, tzinfo=UTC), "celsius": float(day)} | fields


def lake_of(store: MemoryStore, *types: type[Record]) -> LakeStorage:
    return LakeStorage(store, SchemaManager(types), by="ada@host")


async def test_versions_are_registered_by_name_and_with_a_reason() -> None:
    async with lake_of(MemoryStore()) as lake:
        made = await lake.registry.register(Weather, reason="first")
        again = await lake.registry.register(contract_document(contract_of(Weather)), by="somebody else")
        assert (again.registered_at, again.registered_by) == (made.registered_at, made.registered_by)
        assert (made.registered_by, made.reason) == ("ada@host", "first")
        assert await lake.registry.data_types() == ["weather"]
        assert await lake.registry.entries("market_data") == []
        await lake.registry.register(WeatherWithWind, by="bob@host")
        entries = await lake.registry.entries("weather")
        assert [(entry.contract.version, entry.registered_by) for entry in entries] == [
            ("1.0.0", "ada@host"),
            ("1.1.0", "bob@host"),
        ]
        await lake.store_data("weather", [row(1, wind=2.0)])
        assert (await lake.describe("weather")).schema_version == "1.1.0"


async def test_a_class_that_is_defined_again_is_the_same_version() -> None:
    again = type(Weather)(
        "Weather",
        (Record,),
        {"__module__": __name__, "__annotations__": {"station": str, "timestamp": Timestamp, "celsius": float}},
        data_type="weather",
        version="1.0.0",
        key=("station", "timestamp"),
        symbol="station",
    )
    async with lake_of(MemoryStore(), Weather) as lake:
        made = await lake.registry.register(Weather)
        assert (await lake.registry.register(again)).registered_at == made.registered_at
        assert lake.schemas.contract("weather").model is Weather


async def test_other_demands_under_a_version_say_who_and_when() -> None:
    async with lake_of(MemoryStore()) as lake:
        made = await lake.registry.register(Weather, reason="first")
        with pytest.raises(ConflictError, match=r"registered by ada@host at .*\(first\).*fahrenheit") as caught:
            await lake.registry.register(Another)
        assert f"{made.registered_at:%Y-%m-%d}" in str(caught.value)
        with pytest.raises(ConflictError, match="registered by ada@host"):
            async with lake_of(lake.store, Another) as other:  # type: ignore[arg-type]  # the same store
                await other.store_data("weather", [{**row(1), "fahrenheit": 1.0} | {"celsius": 1.0}], extra="ignore")


async def test_the_mode_is_asked_of_registered_versions() -> None:
    async with lake_of(MemoryStore(), Weather) as lake:
        await lake.registry.register(Weather)
        report = await lake.registry.check(WeatherInWords)
        assert not report.ok
        assert (await lake.registry.check(WeatherInWords, "NONE")).ok
        assert (await lake.registry.check(WeatherWithWind)).ok
        assert (await lake.registry.check(Weather)).ok
        with pytest.raises(IncompatibleSchemaError, match="other demands"):
            await lake.registry.check(Another)
        with pytest.raises(IncompatibleSchemaError, match="words: is new and required"):
            await lake.registry.register(WeatherInWords)
        with pytest.raises(IncompatibleSchemaError):
            async with lake_of(lake.store, Weather, WeatherInWords) as other:  # type: ignore[arg-type]
                await other.store_data("weather", [row(1, words="cold")])
        assert await lake.list_data_types() == []
        await lake.registry.set_mode("weather", "none", reason="a new start")
        await lake.registry.register(WeatherInWords)
        assert [entry.contract.version for entry in await lake.registry.entries("weather")] == ["1.0.0", "2.0.0"]


async def test_a_mode_is_kept_with_who_and_why() -> None:
    async with lake_of(MemoryStore(), Weather) as lake:
        assert await lake.registry.mode("weather") is Mode.BACKWARD
        await lake.registry.set_mode("weather", Mode.FULL, reason="two teams", by="eve")
        assert await lake.registry.mode("weather") is Mode.FULL
        await lake.store_data("weather", [row(1)])
        assert await lake.registry.mode("weather") is Mode.FULL, "the table was made with it"
        version = (await lake.table("weather")).version
        await lake.registry.set_mode("weather", "FULL")
        assert (await lake.table("weather")).version == version, "nothing changed"
        await lake.registry.set_mode("weather", "forward_transitive")
        assert await lake.registry.mode("weather") is Mode.FORWARD_TRANSITIVE
        told = await lake.registry.modes("weather")
        assert [(change.mode.value, change.set_by, change.reason) for change in told] == [
            ("FULL", "eve", "two teams"),
            ("FULL", "ada@host", ""),
            ("FORWARD_TRANSITIVE", "ada@host", ""),
        ]
        with pytest.raises(InvalidInputError, match="'sideways' is none of"):
            await lake.registry.set_mode("weather", "sideways")


async def test_evolving_is_adopted_by_the_table() -> None:
    async with lake_of(MemoryStore(), Weather) as lake:
        step: dict[str, Any] = {"data_type": "weather", "current_version": "1.0.0", "new_version": "v1.1.0"}
        with pytest.raises(UnknownDataTypeError, match="register it first"):
            await lake.registry.evolve(**step, new_schema=WeatherWithWind)
        await lake.store_data("weather", [row(1)])
        made = await lake.registry.evolve(**step, new_schema=WeatherWithWind, reason="wind matters", by="bob")
        assert (made.registered_by, made.reason) == ("bob", "wind matters")
        table = await lake.table("weather")
        assert "wind" in table.schema.names
        done = await lake.store_data("weather", [row(2, wind=3.0)])
        assert (done.schema_version, done.table_version) == ("1.1.0", 3)
        again = await lake.registry.evolve(**step, new_schema=WeatherWithWind, by="carol")
        assert again.registered_by == "bob", "it is there already"
        with pytest.raises(ConflictError, match=r"at 1\.1\.0 by now, not at 1\.0\.0"):
            await lake.registry.evolve(
                data_type="weather", current_version="1.0.0", new_schema=WeatherInWords, new_version="2.0.0"
            )
        with pytest.raises(InvalidInputError, match=r"states weather 2\.0\.0"):
            await lake.registry.evolve(**step, new_schema=WeatherInWords)


async def test_evolving_in_memory_is_adopted_by_the_first_write() -> None:
    store = MemoryStore()
    async with lake_of(store, Weather) as lake:
        await lake.store_data("weather", [row(1)])
        lake.schemas.evolve_schema(
            data_type="weather", current_version="1.0.0", new_schema=WeatherWithWind, new_version="1.1.0"
        )
        assert [entry.contract.version for entry in await lake.registry.entries("weather")] == ["1.0.0"]
        await lake.store_data("weather", [row(2, wind=1.0)])
        assert [entry.contract.version for entry in await lake.registry.entries("weather")] == ["1.0.0", "1.1.0"]


async def test_a_type_without_a_class_is_read_written_and_described() -> None:
    store = MemoryStore()
    async with lake_of(store, Weather, WeatherWithWind) as lake:
        await lake.store_data("weather", [row(1, wind=5.0)])
    async with lake_of(store) as lake:
        answer = await lake.retrieve_data(DataQuery("weather", {"celsius": {"gte": 1}}))
        assert answer.table["wind"].to_pylist() == [5.0]
    async with lake_of(store) as lake:
        assert [batch.num_rows async for batch in lake.scan(DataQuery("weather"))] == [1]
    async with lake_of(store) as lake:
        found = await lake.describe("weather")
        assert (found.rows, found.schema_version, found.key) == (1, "1.1.0", ("station", "timestamp"))
        assert await lake.list_data_types() == ["weather"]
    async with lake_of(store) as lake:
        assert (await lake.validate([row(1)], "weather")).is_valid
        assert not (await lake.validate([row(1, celsius="cold")], "weather")).is_valid
    async with lake_of(store) as lake:
        with pytest.raises(SchemaValidationError):
            await lake.store_data("weather", [row(2, celsius=None)])
        assert (await lake.store_data("weather", [row(2)])).inserted == 1
        with pytest.raises(UnknownSchemaVersionError, match=r"9\.9\.9"):
            await lake.store_data("weather", [row(3)], version="9.9.9")
        with pytest.raises(UnknownDataTypeError, match="weathr"):
            await lake.store_data("weathr", [row(3)])
    async with lake_of(store) as lake:
        assert (await lake.list_files("weather"))[0].rows == 1
        assert (await lake.compact("weather")).files_added in {0, 1}
        assert (await lake.delete_data("weather", filters={"station": "A"})).rows == 2


async def test_a_version_without_a_class_is_not_written_unasked() -> None:
    store = MemoryStore()
    async with lake_of(store, Weather, WeatherWithWind) as lake:
        await lake.store_data("weather", [row(1, wind=5.0)])
    async with lake_of(store, Weather) as lake:
        answer = await lake.retrieve_data(DataQuery("weather"))
        assert "wind" in answer.table.column_names
        assert (await lake.store_data("weather", [row(2)])).schema_version == "1.0.0", "its own newest"
        assert (await lake.store_data("weather", [row(3, wind=1.0)], version="1.1.0")).schema_version == "1.1.0"
        assert (await lake.retrieve_data(DataQuery("weather", version="1.1.0"))).rows == 3
        assert await lake.registry.load("weather") == []


async def test_an_entry_edited_by_hand_is_named() -> None:
    store = MemoryStore()
    async with lake_of(store, Weather) as lake:
        await lake.store_data("weather", [row(1)])
    key = schema_key("weather", "1.0.0")
    told = json.loads(await get_bytes(store, key))
    told["contract"]["key"] = ["station"]
    await put_text(store, key, json.dumps(told))
    async with lake_of(store) as lake:
        with pytest.raises(CorruptFileError, match="was changed after it was registered"):
            await lake.retrieve_data(DataQuery("weather"))
        with pytest.raises(CorruptFileError, match=key):
            await lake.registry.entries("weather")


async def test_a_missing_entry_is_named_and_the_table_still_reads() -> None:
    store = MemoryStore()
    async with lake_of(store, Weather) as lake:
        await lake.store_data("weather", [row(1)])
    key = schema_key("weather", "1.0.0")
    await store.delete([key])
    async with lake_of(store) as lake:
        with pytest.raises(NotFoundError, match=key):
            await lake.retrieve_data(DataQuery("weather"))
        assert (await (await lake.table("weather")).to_arrow()).num_rows == 1
    async with lake_of(store, Weather) as lake:
        assert (await lake.retrieve_data(DataQuery("weather"))).rows == 1, "a program that has the class needs no entry"
        await lake.registry.register(Weather, reason="it was lost")
    async with lake_of(store) as lake:
        assert (await lake.retrieve_data(DataQuery("weather"))).rows == 1
