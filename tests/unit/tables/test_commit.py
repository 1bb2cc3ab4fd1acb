"""Commits under lost answers, races and cancellation: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import json
from itertools import product
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    CommitConflictError,
    CommitUnknownError,
    PermissionDeniedError,
    UnavailableError,
)
from buffetstore.expressions import Comparison
from buffetstore.objects import CREATE, MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable, Txn
from buffetstore.tables.log import commit_key
from buffetstore.testing import CountingStore

if TYPE_CHECKING:
    from buffetstore.monitoring.events import Operation

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


class CommitFaults(StoreWrapper):
    """Fails the puts of log entries as told; `held` stops them until it is set."""

    def __init__(self, inner, *faults) -> None:
        super().__init__(inner)
        self.faults = list(faults)
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def put(self, key, data, **options):
        if "_delta_log" not in key or (not self.faults and self.held is None):
            return await self.inner.put(key, data, **options)
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise UnavailableError("lost on the way", key=key, ambiguous=True)
        if fault == "plainly before":
            raise UnavailableError("503", key=key)
        if fault == "denied":
            raise PermissionDeniedError("no", key=key)
        answer = await self.inner.put(key, data, **options)
        if fault == "after":
            raise UnavailableError("answer lost", key=key, ambiguous=True)
        return answer


async def keys_of(store) -> list[int]:
    table = await DeltaTable.open(store, "t")
    return sorted((await table.to_arrow())["k"].to_pylist())


async def orphans(store) -> set[str]:
    """Return the data files that no version refers to."""
    referred = set()
    for meta in await list_all(store, "t/_delta_log/"):
        if not meta.key.endswith(".json"):
            continue  # a checkpoint
        async with await store.get(meta.key) as result:
            for line in (await result.read()).splitlines():
                if "add" in (entry := json.loads(line)):
                    referred.add("t/" + entry["add"]["path"])
    files = {meta.key for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")}
    return {key for key in files - referred if "/_delta_log/" not in key}


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


def quick(table: DeltaTable, **changes) -> DeltaTable:
    """Make the table's waits instant."""
    from dataclasses import replace

    table._head.committer = replace(table._head.committer, sleep=instantly, **changes)
    return table


@pytest.fixture
async def faulty(store):
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2, 3))
    return CommitFaults(store)


FAULTS = [["before"], ["after"], ["plainly before"], ["before", "before", "after"], ["after", "after"]]


@pytest.mark.parametrize(("operation", "faults"), list(product(["append", "upsert", "delete", "overwrite"], FAULTS)))
async def test_lost_answers_lose_and_double_nothing(faulty, operation, faults) -> None:
    table = quick(await DeltaTable.open(faulty, "t"))
    faulty.faults = list(faults)
    match operation:
        case "append":
            await table.append(rows(4))
            expected = [1, 2, 3, 4]
        case "upsert":
            result = await table.upsert(rows(3, 4, v="b"), key=["k"])
            assert (result.inserted, result.updated) == (1, 1)
            expected = [1, 2, 3, 4]
        case "delete":
            assert (await table.delete(Comparison("k", "==", 2))).deleted == 1
            expected = [1, 3]
        case _:
            await table.overwrite(rows(9))
            expected = [9]
    assert faulty.faults == []
    assert table.version == 2
    assert await keys_of(faulty) == expected
    assert await orphans(faulty) == set()


async def test_an_answer_lost_to_another_writer_is_known_as_lost(store, faulty) -> None:
    """The request fails before it is applied, and somebody else takes the version before it is repeated."""
    other = await DeltaTable.open(store, "t")

    async def meanwhile(_seconds: float) -> None:
        if other.version == 1:
            await other.append(rows(10))

    table = await DeltaTable.open(faulty, "t")
    quick(table)
    from dataclasses import replace

    table._head.committer = replace(table._head.committer, sleep=meanwhile)
    faulty.faults = ["before"]
    result = await table.append(rows(4))
    assert result.version == 3
    assert await keys_of(store) == [1, 2, 3, 4, 10]


async def test_what_cannot_be_settled_is_unknown_and_keeps_its_files(faulty) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    table = quick(await DeltaTable.open(faulty, "t"), clock=clock)
    faulty.faults = ["before"] * 100
    with pytest.raises(CommitUnknownError, match="version 2 of table 't'") as caught:
        await table.append(rows(4))
    assert caught.value.version == 2
    assert caught.value.commit_id in str(caught.value)
    assert len(await orphans(faulty)) == 1  # it may yet be committed
    assert len(faulty.faults) > 80  # ten seconds, not forever


async def test_what_is_refused_is_not_committed(faulty) -> None:
    table = quick(await DeltaTable.open(faulty, "t"))
    faulty.faults = ["denied"]
    with pytest.raises(PermissionDeniedError):
        await table.append(rows(4))
    assert await keys_of(faulty) == [1, 2, 3]
    assert (await table.append(rows(5))).version == 2


@pytest.mark.parametrize("shared", [True, False])
async def test_sixteen_concurrent_appends_all_land_once(store, shared) -> None:
    first = await DeltaTable.create(store, "t", SCHEMA)
    tables = [first if shared else await DeltaTable.open(store, "t") for _ in range(16)]
    results = await asyncio.gather(*(table.append(rows(n)) for n, table in enumerate(tables)))
    versions = sorted(result.version for result in results)
    if shared:
        assert versions[-1] < 16, "they share commits"
    else:
        assert versions == list(range(1, 17))
    assert await keys_of(store) == list(range(16))
    assert await orphans(store) == set()


async def test_a_writer_that_was_long_idle_catches_up_in_a_few_requests(store) -> None:
    first = await DeltaTable.create(store, "t", SCHEMA)
    counting = CountingStore(store, latency_seconds=0.001)
    idle = [await DeltaTable.open(counting, "t") for _ in range(2)]
    for number in range(100):
        await first.append(rows(number))
    counting.reset()
    assert (await idle[0].append(rows(100))).version == 101
    assert counting.requests["put"] == 4  # the file, two entries that lose, one that wins
    assert counting.round_trips < 15
    assert (await idle[1].upsert(rows(50, v="b"), key=["k"])).version == 102
    assert await keys_of(store) == list(range(101))
    assert await orphans(store) == set()


async def test_one_creates_the_table(store) -> None:
    answers = await asyncio.gather(*(DeltaTable.create(store, "t", SCHEMA) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, DeltaTable) for answer in answers) == 1
    assert sum(isinstance(answer, AlreadyExistsError) for answer in answers) == 7


@pytest.mark.parametrize("fault", [None, "before", "after"])
async def test_cancelled_while_committing_settles_first(faulty, fault) -> None:
    table = quick(await DeltaTable.open(faulty, "t"))
    faulty.held = asyncio.Event()
    faulty.faults = [fault]
    task = asyncio.ensure_future(table.append(rows(4)))
    await faulty.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    assert not task.done()
    faulty.held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    faulty.held = None
    assert await keys_of(faulty) == [1, 2, 3, 4]
    assert (await table.append(rows(5))).version == 3  # the table goes on
    assert await keys_of(faulty) == [1, 2, 3, 4, 5]


async def test_cancelled_and_overtaken_settles_before_it_returns(store, faulty) -> None:
    table = quick(await DeltaTable.open(faulty, "t"))
    faulty.held = asyncio.Event()
    task = asyncio.ensure_future(table.append(rows(4)))
    await faulty.reached.wait()
    await (await DeltaTable.open(store, "t")).append(rows(10))
    task.cancel()
    faulty.held.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys_of(store) == [1, 2, 3, 4, 10]
    assert await orphans(store) == set()


async def test_cancelled_anywhere_is_whole_or_nothing(store) -> None:
    """The append is cancelled after one step of the loop, after two, after three, ..."""
    await DeltaTable.create(store, "t", SCHEMA)
    expected: list[int] = []
    for steps in range(60):
        table = await DeltaTable.open(store, "t")
        task = asyncio.ensure_future(table.append(rows(steps)))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        else:
            assert steps in await keys_of(store)
        found = await keys_of(store)
        assert found in (expected, [*expected, steps])
        expected = found
    assert await orphans(store) == set()


async def test_upserts_conflict_and_are_planned_anew(store) -> None:
    await DeltaTable.create(store, "t", SCHEMA)
    tables = [await DeltaTable.open(store, "t") for _ in range(8)]
    results = await asyncio.gather(*(table.upsert(rows(1, n + 2), key=["k"]) for n, table in enumerate(tables)))
    assert await keys_of(store) == list(range(1, 10))
    assert sum(result.inserted for result in results) == 9
    assert sum(result.unchanged for result in results) == 7
    assert await orphans(store) == set()


async def test_an_upsert_of_other_keys_does_not_conflict(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2))
    other = await DeltaTable.open(store, "t")
    seen: list[Operation] = []
    stale = await DeltaTable.open(store, "t", hook=seen.append)
    await other.append(rows(100))
    assert (await stale.upsert(rows(2, 3, v="b"), key=["k"])).version == 3
    assert [(event.name, event.counts["version"]) for event in seen] == [("table.conflict", 2), ("table.commit", 3)]
    assert await keys_of(store) == [1, 2, 3, 100]


async def test_a_delete_of_files_that_went_is_planned_anew(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2, 3))
    stale = await DeltaTable.open(store, "t")
    await table.delete(Comparison("k", "==", 1))
    assert (await stale.delete(Comparison("k", "<=", 2))).deleted == 1
    assert await keys_of(store) == [3]
    assert await orphans(store) == set()


async def test_a_delete_of_what_others_deleted_finds_nothing(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2))
    stale = await DeltaTable.open(store, "t")
    await table.delete(Comparison("k", "==", 2))
    result = await stale.delete(Comparison("k", "==", 2))
    assert (result.deleted, result.version) == (0, 2)


async def test_nothing_to_change_holds_for_the_latest_version(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1))
    stale = await DeltaTable.open(store, "t")
    await table.delete(Comparison("k", "==", 1))
    result = await stale.upsert(rows(1), key=["k"])
    assert (result.inserted, result.unchanged, result.version) == (1, 0, 3)


async def test_appends_survive_new_columns_but_not_another_schema(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    stale, staler = await DeltaTable.open(store, "t"), await DeltaTable.open(store, "t")
    await table.add_columns([pa.field("w", pa.float64())])
    await stale.append(rows(1))
    assert (await stale.to_arrow()).to_pylist() == [{"k": 1, "v": "a", "w": None}]
    assert "w" not in staler.schema.names
    assert (await staler.add_columns([pa.field("x", pa.int32())])) == 3
    assert staler.schema.names == ["k", "v", "w", "x"]


async def test_metadata_changes_conflict(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    stale = await DeltaTable.open(store, "t")
    await table.add_columns([pa.field("w", pa.float64())])
    from buffetstore.tables.conflicts import Proposal

    with pytest.raises(CommitConflictError, match="metadata was changed"):
        await stale._head.commit(stale.snapshot, Proposal("SET", metadata=stale.metadata))


async def test_one_application_at_two_places_at_once_conflicts(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    stale = await DeltaTable.open(store, "t")
    await table.append(rows(1), txn=Txn("app", 6))
    with pytest.raises(CommitConflictError, match="application 'app'"):
        await stale.append(rows(2), txn=Txn("app", 7))
    assert await orphans(store) == set()


async def test_the_same_txn_lands_once(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    other = await DeltaTable.open(store, "t")
    assert (await table.append(rows(1), txn=Txn("app", 5))).rows == 1
    again = await other.append(rows(1), txn=Txn("app", 5))
    assert (again.rows, again.files, again.version) == (0, (), 1)
    assert (await other.append(rows(1), txn=Txn("app", 4))).rows == 0
    assert (await other.append(rows(2), txn=Txn("app", 6))).version == 2
    assert await keys_of(store) == [1, 2]
    assert await orphans(store) == set()
    await table.refresh()
    twice = await asyncio.gather(*(t.append(rows(3), txn=Txn("app", 7)) for t in (table, other, table)))
    assert sum(result.rows for result in twice) == 1
    assert (await other.upsert(rows(1, v="z"), key=["k"], txn=Txn("app", 7))).updated == 0


async def test_warm_append_takes_two_round_trips(store) -> None:
    counting = CountingStore(store, latency_seconds=0.005)
    table = await DeltaTable.create(counting, "t", SCHEMA)
    counting.reset()
    from buffetstore.tables import DataPart

    await table.append(rows(1, 2), layout=lambda t: [DataPart(t.slice(0, 1)), DataPart(t.slice(1, 1))])
    assert dict(counting.requests) == {"put": 3}
    assert counting.round_trips == 2


async def test_refresh_without_news_is_one_request(store) -> None:
    counting = CountingStore(store)
    table = await DeltaTable.create(store, "t", SCHEMA)
    reader = await DeltaTable.open(counting, "t")
    counting.reset()
    await reader.refresh()
    assert dict(counting.requests) == {"get": 1}
    for n in range(5):
        await table.append(rows(n))
    await reader.refresh()
    assert reader.version == 5
    assert counting.requests["list_objects"] == 0


async def test_an_old_snapshot_is_read_anew_before_a_commit(store) -> None:
    """The entry after it may have been cleaned up: to create it again would bury the commit."""
    table = await DeltaTable.create(store, "t", SCHEMA)
    sleeper = await DeltaTable.open(store, "t")
    for n in range(3):
        await table.append(rows(n))
    from buffetstore.tables.head import MAX_SNAPSHOT_AGE_SECONDS

    sleeper._head._checked -= MAX_SNAPSHOT_AGE_SECONDS + 1
    held = store._objects[commit_key("t", 1)]
    await store.delete([commit_key("t", 1)])
    with pytest.raises(Exception, match="gap"):
        await sleeper.append(rows(9))
    await store.put(commit_key("t", 1), held[1], mode=CREATE)
    assert (await sleeper.append(rows(9))).version == 4


async def test_the_work_is_right_in_a_plain_memory_store() -> None:
    store = MemoryStore()
    table = await DeltaTable.create(store, "", SCHEMA)
    await table.append(rows(1))
    assert (await (await DeltaTable.open(store, "")).to_arrow()).num_rows == 1
