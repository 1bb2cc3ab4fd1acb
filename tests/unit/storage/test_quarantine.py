"""Refused rows: put aside, looked at, mended and replayed, discarded, purged."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import pytest

from buffetstore.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    InvalidQueryError,
    MappingError,
    SchemaValidationError,
    UnknownDataTypeError,
)
from buffetstore.objects import MemoryStore
from buffetstore.query import DataQuery
from buffetstore.schemas import Mapping, Record, SchemaManager, Sensitivity
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage, read_lineage
from buffetstore.storage.quarantine import QuarantineTables
from buffetstore.testing.data_storage import bar, bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.storage.base import StoreResult


class Tick(Record, data_type="ticks", version="1.0.0", key=("symbol", "timestamp"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    value: Price


class Client(Record, data_type="clients", version="1.0.0", key=("status", "timestamp")):
    status: Annotated[str, Sensitivity.CONFIDENTIAL]
    timestamp: Timestamp
    balance: Annotated[Price, Sensitivity.SECRET]


class Taken(Record, data_type="forecasts_quarantine", version="1.0.0", key=("symbol", "timestamp")):
    symbol: str
    timestamp: Timestamp


TYPES = [Tick, Client, Taken]
VENDOR = Mapping(columns={"price": "Close"}, scale=Decimal("0.0001"), tz="America/New_York", symbol="AAPL")
BAD = [bar("AAPL", 1, price=-1), bar("AAPL", 2, price="n/a"), bar("MSFT", 3, volume=None)]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def lake(store: MemoryStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, SchemaManager(TYPES)) as storage:
        yield storage


async def stored(lake: LakeStorage, data_type: str = "market_data") -> list[dict[str, Any]]:
    return (await lake.retrieve_data(DataQuery(data_type, revisions="all"))).to_pylist()


async def put(lake: LakeStorage, rows: Any, **options: Any) -> StoreResult:
    return await lake.store_data("market_data", rows, on_invalid="quarantine", **options)


def tick(symbol: str, value: Any, day: int = 1) -> dict[str, Any]:
    return {"symbol": symbol, "timestamp": datetime(2024, 1, day, tzinfo=UTC), "value": value}


async def test_good_rows_are_stored_and_bad_ones_kept_with_their_reasons(lake: LakeStorage) -> None:
    done = await put(lake, [bar("AAPL", 9), *BAD], job="nightly", inputs=["bars.csv"])
    assert (done.rows, done.inserted, done.rejected, done.quarantined) == (1, 1, 3, 3)
    rows = (await lake.quarantine.show("market_data")).to_pylist()
    assert [row["record_index"] for row in rows] == [1, 2, 3]
    assert [(row["field"], row["rule"]) for row in rows] == [
        ("price", "greater_than"),
        ("price", "decimal_parsing"),
        ("volume", "missing"),
    ]
    first = rows[0]
    assert first["reasons"] == [
        {"field": "price", "rule": "greater_than", "message": "price -1 must be greater than 0"}
    ]
    assert (first["symbol"], first["timestamp"], first["status"]) == ("AAPL", "2024-01-01T00:00:00+00:00", "open")
    assert (first["job"], first["inputs"], first["schema_version"]) == ("nightly", ["bars.csv"], "1.2.0")
    assert json.loads(rows[1]["record"])["price"] == "n/a"
    (told,) = read_lineage((await lake.history("market_data_quarantine"))[0].user_metadata)
    assert told.inputs == ("bars.csv",)


async def test_a_quarantine_is_a_data_type_like_any(lake: LakeStorage) -> None:
    await put(lake, BAD)
    name = "market_data_quarantine"
    assert await lake.list_data_types() == [name]
    found = await lake.retrieve_data(DataQuery(name, {"symbol": "AAPL", "rule": "greater_than"}))
    assert found.rows == 1
    recent = {"start": datetime.now(UTC) - timedelta(hours=1)}
    assert sum([b.num_rows async for b in lake.scan(DataQuery(name, date_range=recent, columns=["record"]))]) == 3
    told = await lake.describe(name)
    assert (told.rows, told.key, told.event_time) == (3, ("quarantine_id",), "quarantined_at")
    assert lake.schemas.versions(name) == ["1.0.0"]
    assert name not in lake.schemas.data_types()
    with pytest.raises(InvalidQueryError, match="did you mean 'symbol'"):
        await lake.retrieve_data(DataQuery(name, {"symbl": "AAPL"}))
    with pytest.raises(UnknownDataTypeError, match="weather"):
        await lake.retrieve_data(DataQuery("weather_quarantine"))


@pytest.mark.parametrize("key", [None, "monday"])
async def test_the_same_call_again_puts_nothing_aside_twice(lake: LakeStorage, key: str | None) -> None:
    rows = [bar("AAPL", 9), *BAD, BAD[0]]
    for _ in range(3):
        done = await put(lake, rows, idempotency_key=key)
        assert (done.rejected, done.quarantined) == (4, 4)
    found = await lake.quarantine.show("market_data", limit=None)
    assert found.num_rows == 4, "a row that is there twice in a batch is two rows"
    assert len(set(found["quarantine_id"].to_pylist())) == 4
    assert len(await stored(lake)) == 1


async def test_rows_that_are_all_bad(lake: LakeStorage) -> None:
    for fate, kept in (("drop", 0), ("quarantine", 3)):
        done = await lake.store_data("market_data", BAD, on_invalid=fate)
        assert (done.rows, done.rejected, done.quarantined, done.table_version) == (0, 3, kept, -1)
    assert "market_data" not in await lake.list_data_types()
    before = await lake.store_data("market_data", bars())
    done = await put(lake, BAD, mode="overwrite")
    assert done.table_version == before.table_version
    assert len(await stored(lake)) == 10, "an overwrite by nothing leaves what is there"


async def test_dropped_rows_are_counted(lake: LakeStorage) -> None:
    done = await lake.store_data("market_data", [bar("AAPL", 9), *BAD], on_invalid="drop")
    assert (done.rows, done.rejected, done.quarantined) == (1, 3, 0)
    assert await lake.list_data_types() == ["market_data"]


async def test_a_warning_lets_broken_rules_in_but_no_misfits(lake: LakeStorage) -> None:
    done = await lake.store_data("market_data", [bar("AAPL", 1, price=-1)], on_invalid="warn")
    assert (done.rows, done.rejected) == (1, 0)
    assert [each.error_type for each in done.warnings] == ["greater_than"]
    with pytest.raises(SchemaValidationError, match="n/a"):
        await lake.store_data("market_data", BAD, on_invalid="warn")
    # So it is with rows that were judged strictly before.
    verdict = await lake.validate([bar("AAPL", 2, price=-1)], "market_data")
    assert not verdict.is_valid
    assert (await lake.store_data("market_data", verdict, on_invalid="warn")).rows == 1
    with pytest.raises(SchemaValidationError):
        await lake.store_data("market_data", await lake.validate(BAD, "market_data"), on_invalid="warn")


async def test_a_verdict_in_the_place_of_data(lake: LakeStorage) -> None:
    verdict = await lake.validate([bar("AAPL", 9), *BAD], "market_data")
    with pytest.raises(SchemaValidationError):
        await lake.store_data("market_data", verdict)
    for _ in range(2):
        done = await put(lake, verdict)
        assert (done.rows, done.quarantined) == (1, 3)
    assert (await lake.quarantine.show("market_data")).num_rows == 3


@pytest.mark.parametrize("wrong", ["ignore", "", None, True])
async def test_a_fate_that_there_is_not(lake: LakeStorage, wrong: Any) -> None:
    with pytest.raises(InvalidInputError, match="'raise', 'quarantine', 'drop', 'warn'"):
        await lake.store_data("market_data", bars(), on_invalid=wrong)
    assert await lake.list_data_types() == []


async def test_a_name_that_is_taken(lake: LakeStorage) -> None:
    with pytest.raises(ConfigurationError, match="a data type of its own"):
        await lake.store_data("forecasts", [{"symbol": "A"}], on_invalid="quarantine", data_source="x")
    with pytest.raises(InvalidInputError, match="no quarantine of its own"):
        await lake.store_data("market_data_quarantine", [{"record": 1}], on_invalid="quarantine")


async def test_what_is_in_quarantine_is_summed_up(lake: LakeStorage) -> None:
    assert list(await lake.quarantine.list()) == []
    await put(lake, [*BAD, bar("TSLA", 4, price=-3, volume=-4)])
    await lake.store_data("ticks", [tick("A", "x")], on_invalid="quarantine")
    market, ticks = await lake.quarantine.list()
    assert (market.data_type, market.open, market.replayed, market.discarded) == ("market_data", 4, 0, 0)
    assert market.rules == {
        "price: greater_than": 2,
        "price: decimal_parsing": 1,
        "volume: greater_than_equal": 1,
        "volume: missing": 1,
    }
    assert market.oldest == market.newest
    assert (ticks.data_type, ticks.rules) == ("ticks", {"value: decimal_parsing": 1})


async def test_values_by_field_mend_rows(lake: LakeStorage) -> None:
    await put(lake, BAD)
    done = await lake.quarantine.replay("market_data", filters={"field": "price"}, fix={"price": "185.64"})
    assert (done.replayed, done.inserted, done.refused) == (2, 2, 0)
    assert [(row["symbol"], row["price"]) for row in await stored(lake)] == [("AAPL", Decimal("185.64"))] * 2
    left = await lake.quarantine.show("market_data")
    assert left["field"].to_pylist() == ["volume"]
    gone = (await lake.quarantine.show("market_data", status="replayed")).to_pylist()
    assert {row["note"] for row in gone} == {f"market_data@{done.table_version}"}
    assert all(row["decided_at"] is not None for row in gone)


async def test_a_function_mends_rows_as_they_were_given(lake: LakeStorage) -> None:
    given = pa.table({"timestamp": ["2024-01-02T09:30:00"] * 2, "Close": [-1856400, 1856500], "volume": [5, None]})
    options = {"mapping": VENDOR, "data_source": "vendor", "available_at": "timestamp+1d"}
    await put(lake, given, **options)
    seen: list[dict[str, Any]] = []

    def mend(row: dict[str, Any]) -> dict[str, Any] | None:
        seen.append(dict(row))
        return None if row["volume"] is None else row | {"Close": -row["Close"]}

    done = await lake.quarantine.replay("market_data", filters={}, fix=mend)
    assert (done.replayed, done.skipped) == (1, 1)
    assert seen[0] == {"timestamp": "2024-01-02T09:30:00", "Close": -1856400, "volume": 5}
    (row,) = await stored(lake)
    assert (row["price"], row["symbol"], row["data_source"]) == (Decimal("185.64"), "AAPL", "vendor")
    assert row["timestamp"] == datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
    assert row["available_at"] == row["timestamp"] + timedelta(days=1)
    # A value by field is in the field's own terms, not in the source's.
    done = await lake.quarantine.replay("market_data", filters={}, fix={"volume": 7, "price": 186, "symbol": "MSFT"})
    assert done.replayed == 1
    assert [(row["symbol"], row["price"], row["volume"]) for row in await stored(lake)][1:] == [("MSFT", 186, 7)]


async def test_a_replay_equals_storing_the_mended_rows(lake: LakeStorage) -> None:
    given = [*bars(), *(row | {"price": -row["price"]} for row in bars(["NVDA"]))]
    await put(lake, given)
    await lake.quarantine.replay("market_data", filters={}, fix=lambda row: row | {"price": -row["price"]})
    async with LakeStorage(MemoryStore()) as direct:
        await direct.store_data("market_data", [*bars(), *bars(["NVDA"])])
        ours = (await lake.retrieve_data(DataQuery("market_data"))).table
        theirs = (await direct.retrieve_data(DataQuery("market_data"))).table
        assert ours.drop_columns("created_at").equals(theirs.drop_columns("created_at"))


async def test_what_breaks_the_contract_still_stays(lake: LakeStorage) -> None:
    await put(lake, BAD)
    done = await lake.quarantine.replay("market_data", filters={})
    assert (done.replayed, done.refused, done.table_version) == (0, 3, None)
    assert next(iter(done.reasons.values())) == ("price: price -1 must be greater than 0",)
    assert (await lake.quarantine.list())[0].open == 3
    again = await lake.quarantine.replay("market_data", filters={}, fix={"price": 5})
    assert (again.replayed, again.refused) == (2, 1)


async def test_rows_are_chosen_by_id_and_by_key(lake: LakeStorage) -> None:
    await put(lake, BAD)
    one = (await lake.quarantine.show("market_data_quarantine", {"symbol": "MSFT"}))["quarantine_id"].to_pylist()
    assert (await lake.quarantine.replay("market_data", ids=one, fix={"volume": 1})).replayed == 1
    assert (await lake.quarantine.replay("market_data", ids=one, fix={"volume": 1})).replayed == 0
    assert (await lake.quarantine.replay("market_data", ids=["nosuch"])).replayed == 0
    for wrong in ({}, {"ids": "text"}, {"filters": {"status": "replayed"}}):
        with pytest.raises(InvalidInputError):
            await lake.quarantine.replay("market_data", **wrong)
    assert (await lake.quarantine.replay("ticks", filters={})).replayed == 0, "nothing was refused of it"
    with pytest.raises(UnknownDataTypeError):
        await lake.quarantine.replay("weather", filters={})


async def test_columns_that_are_no_fields_are_left_out_at_last(lake: LakeStorage) -> None:
    done = await put(lake, [bar("AAPL", 1, dividends=0), bar("AAPL", 2)])
    assert (done.rows, done.quarantined) == (0, 2)
    assert (await lake.quarantine.list())[0].rules == {"dividends: extra_forbidden": 2}
    assert (await lake.quarantine.replay("market_data", filters={}, extra="ignore")).replayed == 2


async def test_another_version_may_take_them(lake: LakeStorage) -> None:
    await put(lake, [bar("AAPL", 1, rsi=55, version="1.1.0")], version="1.1.0", extra="ignore")
    await put(lake, [bar("AAPL", 2, rsi=55)], version="1.1.0")
    assert (await lake.quarantine.show("market_data"))["schema_version"].to_pylist() == ["1.1.0"]
    assert (await lake.quarantine.replay("market_data", filters={}, version="1.2.0")).replayed == 1
    assert [row["rsi"] for row in await stored(lake)] == [None, 55.0]


@pytest.mark.parametrize(
    ("fix", "error", "shown"),
    [
        ({"prise": 1}, MappingError, "did you mean 'price'"),
        ({"price": "cheap"}, MappingError, "cheap"),
        (lambda row: row["nosuch"], InvalidInputError, "KeyError"),
        (lambda _row: 5, InvalidInputError, "a int"),
        ("price=5", InvalidInputError, "neither values by field nor a function"),
    ],
)
async def test_a_fix_that_cannot_be(lake: LakeStorage, fix: Any, error: type[Exception], shown: str) -> None:
    await put(lake, BAD)
    with pytest.raises(error, match=shown):
        await lake.quarantine.replay("market_data", filters={}, fix=fix)
    assert (await lake.quarantine.list())[0].open == 3
    assert await lake.list_data_types() == ["market_data_quarantine"]


async def test_rows_are_discarded_with_a_reason(lake: LakeStorage) -> None:
    await put(lake, BAD)
    assert await lake.quarantine.discard("market_data", filters={"field": "price"}, reason="vendor test rows") == 2
    summary = (await lake.quarantine.list())[0]
    assert (summary.open, summary.discarded, summary.rules) == (1, 2, {"volume: missing": 1})
    gone = await lake.quarantine.show("market_data", status="discarded")
    assert set(gone["note"].to_pylist()) == {"vendor test rows"}
    await put(lake, BAD)
    assert (await lake.quarantine.list())[0].discarded == 2, "sent again, they stay discarded"
    assert await lake.quarantine.discard("market_data", filters={"field": "price"}, reason="again") == 0
    for wrong in ({"filters": {}, "reason": ""}, {"reason": "which?"}):
        with pytest.raises(InvalidInputError):
            await lake.quarantine.discard("market_data", **wrong)
    with pytest.raises(InvalidInputError, match="none of 'open'"):
        await lake.quarantine.show("market_data", status="gone")  # type: ignore[arg-type]


async def test_old_rows_are_purged_when_they_have_been_dealt_with(lake: LakeStorage) -> None:
    await put(lake, BAD)
    await lake.quarantine.discard("market_data", filters={"field": "price"}, reason="x")
    assert await lake.quarantine.purge("market_data") == 0
    assert await lake.quarantine.purge("market_data", older_than=timedelta(0)) == 2
    assert await lake.quarantine.purge("market_data", older_than=timedelta(0), include_open=True) == 1
    assert await lake.quarantine.purge("ticks") == 0
    with pytest.raises(InvalidInputError, match="negative"):
        await lake.quarantine.purge("market_data", older_than=-timedelta(1))


async def test_confidential_values_are_in_no_message(lake: LakeStorage) -> None:
    rows = [{"status": "jane", "timestamp": datetime(2024, 1, 1, tzinfo=UTC), "balance": "1e99"}]
    await lake.store_data("clients", rows, on_invalid="quarantine")
    (row,) = (await lake.quarantine.show("clients")).to_pylist()
    assert "1e99" not in json.dumps(row["reasons"])
    assert "1e99" in row["record"], "the row itself is kept"
    assert (row["key_status"], row["status"]) == ("jane", "open"), "a key column of a name that is ours is told apart"
    fields = {spec.name: spec.sensitivity for spec in lake.schemas.contract("clients_quarantine").fields}
    assert (fields["record"], fields["key_status"]) == (Sensitivity.SECRET, Sensitivity.CONFIDENTIAL)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_replay_that_was_cut_off_is_finished_once(lake: LakeStorage, changed: bool) -> None:
    """The rows were stored, but nobody said so in the quarantine: a type that keeps all it is given shows it."""
    await lake.store_data("ticks", [tick("A", "x"), tick("B", "y")], on_invalid="quarantine")
    table = await lake.table("ticks_quarantine")
    real, calls = table.upsert, 0

    async def cut_off(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first takes the rows up, the second marks them
            raise ConnectionError("cut off")
        return await real(*arguments, **options)

    table.upsert = cut_off  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await lake.quarantine.replay("ticks", filters={}, fix={"value": 1})
    table.upsert = real  # type: ignore[method-assign]
    assert len(await stored(lake, "ticks")) == 2
    assert (await lake.quarantine.list())[0].open == 2
    ids = (await lake.quarantine.show("ticks", {"symbol": "A"}))["quarantine_id"].to_pylist()
    done = await lake.quarantine.replay("ticks", ids=ids, fix={"value": 2 if changed else 1})
    assert done.replayed == 2, "what had been stored together is finished together"
    assert [row["value"] for row in await stored(lake, "ticks")] == [1, 1]
    assert (await lake.quarantine.list())[0].open == 0


async def test_a_replay_that_was_cut_off_before_it_stored_is_free_again(lake: LakeStorage) -> None:
    await lake.store_data("ticks", [tick("A", "x"), tick("B", "y")], on_invalid="quarantine")
    real = lake.store_data

    async def cut_off(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("cut off")

    lake.store_data = cut_off  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await lake.quarantine.replay("ticks", filters={}, fix={"value": 1})
    lake.store_data = real  # type: ignore[method-assign]
    assert (await lake.quarantine.replay("ticks", filters={"symbol": "B"}, fix={"value": 2})).replayed == 1
    assert (await lake.quarantine.replay("ticks", filters={}, fix={"value": 3})).replayed == 1
    assert sorted(row["value"] for row in await stored(lake, "ticks")) == [2, 3]


async def test_replays_at_once_store_each_row_once(store: MemoryStore, lake: LakeStorage) -> None:
    await lake.store_data("ticks", [tick("A", "x", day) for day in range(1, 9)], on_invalid="quarantine")

    async def replay(value: int) -> int:
        async with LakeStorage(store, SchemaManager(TYPES)) as another:
            for _ in range(20):
                try:
                    return (await another.quarantine.replay("ticks", filters={}, fix={"value": value})).replayed
                except ConflictError:
                    continue
        return 0

    async with asyncio.TaskGroup() as group:
        for value in (1, 2, 3):
            group.create_task(replay(value))
    rows = await stored(lake, "ticks")
    assert sorted(row["timestamp"].day for row in rows) == list(range(1, 9))
    assert (await lake.quarantine.list())[0].replayed == 8


async def test_a_row_discarded_meanwhile_is_not_replayed(lake: LakeStorage) -> None:
    await put(lake, BAD)
    other = QuarantineTables(lake._self)

    def mend(row: dict[str, Any]) -> dict[str, Any]:
        asyncio.run_coroutine_threadsafe(
            other.discard("market_data", filters={"rule": "greater_than"}, reason="meanwhile"), loop
        ).result()
        return row | {"price": 5, "volume": 5}

    loop = asyncio.get_running_loop()
    done = await lake.quarantine.replay("market_data", filters={}, fix=mend)
    assert (done.replayed, done.refused) == (2, 0)
    summary = (await lake.quarantine.list())[0]
    assert (summary.open, summary.replayed, summary.discarded) == (0, 2, 1)


async def test_a_thousand_findings_are_not_all(lake: LakeStorage) -> None:
    given = pa.table(
        {
            "symbol": [f"S{number}" for number in range(3_000)],
            "timestamp": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 3_000),
            "price": [-1.5] * 3_000,
            "volume": [1] * 3_000,
        }
    )
    done = await put(lake, given, data_source="x")
    assert (done.rows, done.quarantined) == (0, 3_000)
    messages = (await lake.quarantine.show("market_data", {"symbol": "S2999"}))["reasons"].to_pylist()[0]
    assert messages == [{"field": "price", "rule": "greater_than", "message": "price -1.5 must be greater than 0"}]
    done = await lake.quarantine.replay("market_data", filters={}, fix=lambda row: row | {"price": -row["price"]})
    assert (done.replayed, done.refused) == (3_000, 0)
