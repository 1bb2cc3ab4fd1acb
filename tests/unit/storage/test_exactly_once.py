"""Writes that are sent twice, the three modes, and what a commit says of its rows."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.errors import (
    CommitUnknownError,
    IdempotencyKeyReusedError,
    InvalidInputError,
    SchemaValidationError,
    UnavailableError,
)
from buffetstore.objects import MemoryStore, get_bytes, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.query import DataQuery
from buffetstore.schemas import Record, SchemaManager, fingerprint
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage, Lineage, read_lineage
from buffetstore.tables import DeltaTable
from buffetstore.tables.log import commit_key
from buffetstore.testing.data_storage import bar, bars, keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buffetstore.objects.base import ObjectVersion


class Revised(Record, data_type="revised", version="1.0.0", key=("symbol", "timestamp"), revisions="keep"):
    symbol: str
    timestamp: Timestamp
    value: Price


class Tick(Record, data_type="ticks", version="1.0.0", key=("symbol", "timestamp"), revisions="append"):
    symbol: str
    timestamp: Timestamp
    value: Price


class Seen(Record, data_type="seen", version="1.0.0", key=("symbol", "timestamp"), availability="observed"):
    symbol: str
    timestamp: Timestamp
    value: Price


class LostAnswers(StoreWrapper):
    """Applies the puts of log entries and says that it is unclear, while `lost` holds."""

    lost = False

    async def put(self, key: str, data: Any, **options: Any) -> ObjectVersion:
        done = await self.inner.put(key, data, **options)
        if self.lost and "_delta_log" in key:
            raise UnavailableError("the connection was lost", ambiguous=True)
        return done


TYPES = [Revised, Tick, Seen]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def lake(store: MemoryStore) -> AsyncIterator[LakeStorage]:
    async with LakeStorage(store, SchemaManager(TYPES)) as storage:
        yield storage


def value(symbol: str, day: int, amount: str) -> dict[str, Any]:
    return {"symbol": symbol, "timestamp": datetime(2024, 1, day, tzinfo=UTC), "value": Decimal(amount)}


async def count(lake: LakeStorage, data_type: str, **options: Any) -> int:
    return (await lake.retrieve_data(DataQuery(data_type, **options))).rows


@pytest.mark.parametrize("mode", [None, "upsert", "append", "overwrite"])
@pytest.mark.parametrize("data_type", ["revised", "ticks", "seen"])
@pytest.mark.parametrize("key", ["monday", ("feed", 7)])
async def test_the_same_write_lands_once(store: MemoryStore, lake: LakeStorage, data_type, mode, key) -> None:
    rows = [value("A", 1, "1"), value("B", 1, "2")]
    first = await lake.store_data(data_type, rows, mode=mode, idempotency_key=key)
    assert (first.rows, first.inserted, first.done_before) == (2, 2, False)
    objects = len(await list_all(store))
    for _ in range(2):
        # Load times are stamped anew, which makes it no other write.
        again = await lake.store_data(data_type, rows, mode=mode, idempotency_key=key)
        assert (again.rows, again.inserted, again.unchanged, again.done_before) == (2, 0, 2, True)
        assert (again.table_version, again.file_paths) == (first.table_version, ())
    async with LakeStorage(store, SchemaManager(TYPES)) as another:
        assert (await another.store_data(data_type, rows, mode=mode, idempotency_key=key)).done_before
    assert await count(lake, data_type, revisions="all") == 2
    assert len(await list_all(store)) == objects, "what was written in vain is deleted again"
    with pytest.raises(IdempotencyKeyReusedError, match="key of their own"):
        await lake.store_data(data_type, [value("A", 1, "3")], mode=mode, idempotency_key=key)
    assert await count(lake, data_type, revisions="all") == 2


async def test_a_write_that_changed_nothing_is_known_too(lake: LakeStorage) -> None:
    unchanged = await lake.store_data("market_data", bars())
    first = await lake.store_data("market_data", bars(), idempotency_key="k")
    assert (first.unchanged, first.done_before) == (10, False)
    assert first.table_version == unchanged.table_version + 1, "the key is in the log"
    await lake.store_data("market_data", [bar("AAPL", 1, volume=1)])
    again = await lake.store_data("market_data", bars(), idempotency_key="k")
    assert again.done_before, "it does not undo what came after it"
    assert await count(lake, "market_data", filters={"volume": 1}) == 1


async def test_a_source_counts_its_writes(lake: LakeStorage) -> None:
    for number in (1, 2, 3):
        stored = await lake.store_data("ticks", [value("A", number, "1")], idempotency_key=("feed", number))
        assert not stored.done_before
    assert (await lake.store_data("ticks", [value("A", 2, "1")], idempotency_key=("feed", 2))).done_before
    assert await count(lake, "ticks") == 3


async def test_two_at_once_under_one_key(lake: LakeStorage) -> None:
    await lake.store_data("ticks", [value("Z", 1, "1")])
    async with asyncio.TaskGroup() as group:
        writes = [
            group.create_task(lake.store_data("ticks", [value("A", 1, "1")], idempotency_key="k")) for _ in range(8)
        ]
    assert sorted(write.result().done_before for write in writes) == [False] + [True] * 7
    assert await count(lake, "ticks") == 2


@pytest.mark.parametrize("mode", ["append", "upsert", "overwrite"])
async def test_an_unknown_commit_names_the_key_and_is_sent_again(store: MemoryStore, mode, monkeypatch) -> None:
    monkeypatch.setattr("buffetstore.tables.commit._FIRST_WAIT", 20.0)  # which is beyond the time there is to settle
    losing = LostAnswers(store)
    async with LakeStorage(losing, SchemaManager(TYPES)) as lake:
        await lake.store_data("ticks", [value("Z", 1, "1")])
        losing.lost = True
        with pytest.raises(CommitUnknownError, match="idempotency_key='k'") as caught:
            await lake.store_data("ticks", [value("A", 1, "1")], mode=mode, idempotency_key="k")
        assert caught.value.idempotency_key == "k"
        losing.lost = False
        again = await lake.store_data("ticks", [value("A", 1, "1")], mode=mode, idempotency_key="k")
        assert again.done_before
        assert await count(lake, "ticks", filters={"symbol": "A"}) == 1


@pytest.mark.parametrize("key", ["", ("", 1), ("feed", -1), ("feed",), 5, ("feed", "1"), ("feed", True)])
async def test_a_key_that_cannot_be_one(lake: LakeStorage, key: Any) -> None:
    with pytest.raises(InvalidInputError, match="idempotency key"):
        await lake.store_data("ticks", [value("A", 1, "1")], idempotency_key=key)


async def test_keys_are_remembered_for_seven_days(lake: LakeStorage) -> None:
    await lake.store_data("ticks", [value("A", 1, "1")])
    configuration = (await lake.table("ticks")).metadata.configuration
    assert configuration["delta.setTransactionRetentionDuration"] == "interval 7 days"


async def test_overwriting(lake: LakeStorage) -> None:
    await lake.store_data("market_data", bars())
    done = await lake.store_data("market_data", [bar("TSLA", 9)], mode="overwrite")
    assert (done.inserted, done.rows) == (1, 1)
    assert keys((await lake.retrieve_data(DataQuery("market_data"))).to_pylist()) == [("TSLA", 9)]
    before = await lake.retrieve_data(DataQuery("market_data", table_version=done.table_version - 1))
    assert before.rows == 10
    with pytest.raises(InvalidInputError, match="store at least one"):
        await lake.store_data("market_data", [], mode="overwrite")
    with pytest.raises(SchemaValidationError, match="repeats row 0"):
        await lake.store_data("market_data", [bar("A"), bar("A", volume=1)], mode="overwrite")
    assert await count(lake, "market_data") == 1


async def test_an_upsert_leaves_one_revision(lake: LakeStorage) -> None:
    for amount in ("1", "2", "3"):
        await lake.store_data("revised", [value("A", 1, amount)])
    await lake.store_data("revised", [value("B", 1, "1")])
    assert await count(lake, "revised", revisions="all") == 4
    done = await lake.store_data("revised", [value("A", 1, "9")], mode="upsert")
    assert (done.updated, done.inserted) == (1, 0)
    rows = (await lake.retrieve_data(DataQuery("revised", revisions="all"))).to_pylist()
    assert [(row["symbol"], row["value"]) for row in rows] == [("A", 9), ("B", 1)]


async def test_the_commit_says_where_rows_come_from(store: MemoryStore, lake: LakeStorage) -> None:
    done = await lake.store_data(
        "ticks",
        [value("A", 1, "1")],
        inputs=["s3://vendor/a.csv", "https://me:secret@host/b.csv?X-Amz-Signature=5ecre7"],
        code_version="9f2c",
    )
    entry = (await get_bytes(store, commit_key("raw/ticks", done.table_version))).decode()
    assert "secret" not in entry
    assert "5ecre7" not in entry
    told = next(info["commitInfo"] for line in entry.splitlines() if "commitInfo" in (info := json.loads(line)))
    mark = fingerprint(lake.schemas.contract("ticks"))
    assert read_lineage(told["userMetadata"]) == (
        Lineage("1.0.0", ("s3://vendor/a.csv", "https://***@host/b.csv?***"), "9f2c", schema_fingerprint=mark),
    )
    both = f"{told['userMetadata']}\nwritten by hand\n[1]\n{Lineage('2.0.0').to_json()}"
    assert [each.schema_version for each in read_lineage(both)] == ["1.0.0", "2.0.0"]
    assert read_lineage(None) == ()


@pytest.mark.parametrize(
    ("lineage", "shown"),
    [({"inputs": "a.csv"}, "not a sequence"), ({"inputs": [5]}, "5"), ({"code_version": 5}, "code_version=5")],
)
async def test_lineage_that_cannot_be(lake: LakeStorage, lineage: Any, shown: str) -> None:
    with pytest.raises(InvalidInputError, match=shown):
        await lake.store_data("ticks", [value("A", 1, "1")], **lineage)


async def test_rows_that_others_doubled_are_shown_as_they_are_and_healed_by_storing_again(
    store: MemoryStore, lake: LakeStorage
) -> None:
    """Whoever appends past the contract makes duplicates that every engine sees; we do not hide what they see."""
    stored = await lake.store_data("market_data", bars())
    table = await lake.table("market_data")
    async with DeltaTable.open(store, "raw/market_data") as foreign:
        await foreign.append(await table.to_arrow())
    assert await count(lake, "market_data") == 20
    again = await lake.store_data("market_data", bars())
    assert (again.updated, again.inserted) == (10, 0)
    now = await lake.retrieve_data(DataQuery("market_data"))
    assert keys(now.to_pylist()) == keys(bars())
    assert isinstance(now.table, pa.Table)
    assert again.table_version == stored.table_version + 2
