"""Writes acknowledged by one store and copied to others: never lost, never failed by a replica, always repairable."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    ConfigurationError,
    NotFoundError,
    PreconditionFailedError,
    StorageFullError,
    UnavailableError,
)
from buffetstore.objects import CREATE, MemoryStore, Update, get_bytes, head, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.replicate import ReplicateStore
from buffetstore.tables import DeltaTable
from buffetstore.testing import Fault, FaultyStore

LOG = "t/_delta_log/"


class Switch:
    """Makes every call to a store fail while it is on."""

    on = False

    def __call__(self, _verb):
        return Fault(ambiguous=False) if self.on else None


async def contents(store):
    return {meta.key: await get_bytes(store, meta.key) for meta in await list_all(store)}


@pytest.fixture
def down():
    """Switch the primary, or the replica, off."""
    return {"primary": Switch(), "replica": Switch()}


@pytest.fixture
def primary(down):
    return FaultyStore(MemoryStore(), source=down["primary"])


@pytest.fixture
def replica(down):
    return FaultyStore(MemoryStore(), source=down["replica"])


@pytest.fixture
def told():
    return []


@pytest.fixture
async def store(primary, replica, told):
    async with ReplicateStore(primary, [replica], hook=told.append, drain_seconds=5) as store:
        yield store


async def test_every_kind_of_write_arrives(store, primary, replica):
    await store.put("a", b"a")
    async with await store.start_upload("b") as upload:
        await upload.write(b"b")
        await upload.complete()
    await store.copy("a", "c")
    await store.put("d", b"d")
    await store.delete(["d", "never"])
    await store.drain()
    assert store.lag == [0]
    assert await contents(replica) == await contents(primary) == {"a": b"a", "b": b"b", "c": b"a"}
    assert "source-version" not in (await head(store, "a")).attributes.metadata


async def test_the_primary_alone_decides(store, replica):
    await replica.put("k", b"a stranger's")
    first = await store.put("k", b"one", mode=CREATE)
    with pytest.raises(AlreadyExistsError):
        await store.put("k", b"two", mode=CREATE)
    await store.put("k", b"three", mode=Update(first.version))
    with pytest.raises(PreconditionFailedError):
        await store.put("k", b"four", mode=Update(first.version))
    await store.drain()
    assert await get_bytes(replica, "k") == b"three"


async def test_a_replica_that_is_down_fails_no_write_and_is_repaired(store, primary, replica, down, told):
    await store.put("old", b"old")
    await store.drain()
    down["replica"].on = True
    await store.put("new", b"new")
    await store.delete(["old"])
    await store.drain()
    assert store.lag == [2]
    assert [(each.name, each.error) for each in told[1:]] == [("objects.replicate", "unavailable")] * 2
    with pytest.raises(UnavailableError):
        await store.repair()
    assert store.lag == [2]
    down["replica"].on = False
    assert await contents(replica) == {"old": b"old"}
    (report,) = await store.repair()
    assert (report.copied, report.deleted, report.failed) == (1, 1, ())
    assert store.lag == [0]
    assert await contents(replica) == await contents(primary) == {"new": b"new"}
    assert told[-1].name == "objects.repair"


async def test_reads_while_the_primary_is_down(store, down):
    written = await store.put("k", b"one")
    await store.drain()
    down["primary"].on = True
    with pytest.raises(UnavailableError):
        await store.put("k", b"two")
    assert await get_bytes(store, "k") == b"one"
    assert await get_bytes(store, "k", if_match=written.version) == b"one"
    seen = await head(store, "k")
    assert seen.version.startswith("other-1:")
    with pytest.raises(NotFoundError):
        await store.get("gone")
    down["primary"].on = False
    with pytest.raises(PreconditionFailedError):
        await store.put("k", b"three", mode=Update(seen.version))


async def test_a_replica_with_lag_is_not_believed_that_something_is_not_there(store, down):
    down["replica"].on = True
    await store.put("k", b"acknowledged")
    await store.drain()
    down["replica"].on, down["primary"].on = False, True
    with pytest.raises(UnavailableError):
        await store.get("k")


async def test_the_next_replica_answers_where_the_first_cannot(primary, replica, down):
    third = MemoryStore()
    store = ReplicateStore(primary, [replica, third], wait=True)
    await store.put("k", b"body")
    down["primary"].on = down["replica"].on = True
    assert (await head(store, "k")).version.startswith("other-2:")
    down["replica"].on = False
    assert (await head(store, "k")).version.startswith("other-1:")
    down["primary"].on = False
    await store.aclose()


async def test_a_write_whose_answer_was_lost_is_replicated_too(store, primary, replica):
    primary.inject("put", Fault("after"))
    primary.inject("complete", Fault("after"))
    primary.inject("copy", Fault("after"))
    primary.inject("delete", Fault("after"))
    with pytest.raises(UnavailableError):
        await store.put("k", b"there all the same")
    async with await store.start_upload("u") as upload:
        await upload.write(b"u")
        with pytest.raises(UnavailableError):
            await upload.complete()
    await store.drain()
    with pytest.raises(UnavailableError):
        await store.copy("k", "c")
    with pytest.raises(UnavailableError):
        await store.delete(["u"])
    await store.drain()
    assert await contents(replica) == await contents(primary) == dict.fromkeys("kc", b"there all the same")


async def test_a_write_that_surely_failed_asks_nothing_of_the_replica(store, primary, replica):
    primary.inject("put", Fault(ambiguous=False))
    with pytest.raises(UnavailableError):
        await store.put("k", b"")
    await store.drain()
    assert replica.calls == []


async def test_waiting_for_the_copies(primary, replica, down):
    async with ReplicateStore(primary, [replica], wait=True) as store:
        await store.put("a", b"a")
        assert await contents(replica) == {"a": b"a"}
        down["replica"].on = True
        await store.put("b", b"b")
        assert store.lag == [1]
        down["replica"].on = False


async def test_one_who_waits_is_not_held_by_those_who_come_later(primary):
    class Gate(StoreWrapper):
        def __init__(self, inner):
            super().__init__(inner)
            self.open = asyncio.Event()

        async def put(self, key, data, **options):
            if key.startswith("late"):
                await self.open.wait()
            return await super().put(key, data, **options)

    gate = Gate(MemoryStore())
    async with ReplicateStore(primary, [gate], wait=True, concurrency=1) as store:
        first = asyncio.create_task(store.put("first", b""))
        await asyncio.sleep(0)
        late = asyncio.create_task(store.put("late", b""))
        await first
        assert not late.done()
        gate.open.set()
        await late


async def test_a_full_queue_counts_and_holds_nothing_up(primary, replica, told):
    async with ReplicateStore(primary, [replica], queued_keys=3, hook=told.append) as store:
        primary_puts = [store.put(f"k{number}", b"") for number in range(10)]
        for put in primary_puts:  # none of them waits, so the copying has not begun
            await put
        assert store.lag == [10]
        await store.drain()
        assert store.lag == [7]
        assert [each.error for each in told].count("queue_full") == 7
        await store.repair()
        assert store.lag == [0]
        assert len(await contents(replica)) == 10


async def test_the_newest_state_is_copied_once(store, replica):
    for number in range(5):
        await store.put("k", b"%d" % number)
    await store.drain()
    assert await get_bytes(replica, "k") == b"4"
    assert replica.calls.count("put") == 1


async def test_closing_gives_the_copies_time_but_not_for_ever(primary):
    stuck = FaultyStore(MemoryStore(), latency_seconds=60)
    store = ReplicateStore(primary, [stuck], drain_seconds=0.01, concurrency=2)
    for number in range(4):
        await store.put(f"k{number}", b"")
    await store.aclose()
    assert store.lag == [4]
    await store.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    quick = MemoryStore()
    store = ReplicateStore(primary, [quick])
    await store.put("k", b"")
    await store.aclose()
    assert await contents(quick) == {"k": b""}


def rows(number):
    return pa.table({"id": pa.array([number], pa.int64())})


async def numbers(store):
    async with await DeltaTable.open(store, "t") as table:
        return sorted((await table.to_arrow()).column("id").to_pylist())


async def test_a_table_on_a_replica_can_be_read_at_every_moment(primary):
    seen = []

    class Recording(StoreWrapper):
        async def put(self, key, data, **options):
            meta = await super().put(key, data, **options)
            if key.startswith(LOG):
                seen.append(await numbers(self.inner))
            return meta

    store = ReplicateStore(primary, [Recording(MemoryStore())])
    async with await DeltaTable.create(store, "t", rows(0).schema) as table:
        for number in range(3):
            await table.append(rows(number))
    await store.aclose()
    assert seen == [[], [0], [0, 1], [0, 1, 2]]


async def test_no_log_entry_overtakes_a_file_that_failed(store, replica, down):
    async with await DeltaTable.create(store, "t", rows(0).schema) as table:
        await table.append(rows(0))
        await store.drain()
        replica.inject("put", Fault(ambiguous=False, error=StorageFullError))
        await table.append(rows(1))
        await table.append(rows(2))
        await store.drain()
        assert await numbers(replica) == [0]
        assert store.lag == [3], "the file, and both entries that came after it"
        await store.repair()
        assert (store.lag, await numbers(replica)) == ([0], [0, 1, 2])
        await table.append(rows(3))
        await store.drain()
        assert await numbers(replica) == [0, 1, 2, 3]


async def test_a_hint_that_is_written_again_is_copied_when_its_turn_comes(primary):
    written = []

    class Recording(StoreWrapper):
        async def put(self, key, data, **options):
            written.append((key.removeprefix(LOG), bytes(data)))
            return await super().put(key, data, **options)

    store = ReplicateStore(primary, [Recording(MemoryStore())])
    for version in (b"1", b"2"):
        await store.put(f"{LOG}{version.decode():0>20}.checkpoint.parquet", version)
        await store.put(f"{LOG}_last_checkpoint", version)
    await store.aclose()
    assert written == [
        (f"{1:020}.checkpoint.parquet", b"1"),
        (f"{2:020}.checkpoint.parquet", b"2"),
        ("_last_checkpoint", b"2"),
    ]


async def test_a_repair_lets_the_primarys_history_win(store, primary, replica):
    await replica.put(f"{LOG}{0:020}.json", b"another")
    await replica.put(f"{LOG}{1:020}.json", b"and more")
    await primary.put(f"{LOG}{0:020}.json", b"ours")
    (report,) = await store.repair()
    report.raise_for_failures()
    assert await contents(replica) == {f"{LOG}{0:020}.json": b"ours"}


async def test_a_repair_of_a_part_leaves_the_lag(store, replica, down):
    down["replica"].on = True
    await store.put("a/1", b"")
    await store.put("b/1", b"")
    await store.drain()
    down["replica"].on = False
    await store.repair("a/")
    assert store.lag == [2], "which keys they were is not kept"
    assert list(await contents(replica)) == ["a/1"]
    await store.repair()
    assert store.lag == [0]


async def test_writes_during_a_repair_arrive_after_it(store, primary, replica):
    for number in range(5):
        await primary.put(f"k{number}", b"")
    repair = asyncio.create_task(store.repair())
    for number in range(5):
        await asyncio.sleep(0)
        await store.put(f"n{number}", b"%d" % number)
    await repair
    await store.drain()
    assert await contents(replica) == await contents(primary)
    assert store.lag == [0]


@pytest.mark.parametrize("options", [{"queued_keys": 0}, {"concurrency": 0}])
def test_bad_options(options):
    with pytest.raises(ConfigurationError, match="at least 1"):
        ReplicateStore(MemoryStore(), [MemoryStore()], **options)


def test_no_replicas():
    with pytest.raises(ConfigurationError):
        ReplicateStore(MemoryStore(), [])
