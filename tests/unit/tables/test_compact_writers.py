"""Compaction beside writers, failing stores and interruptions; and the order of revisions, which it keeps."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from buffetstore.errors import CommitConflictError, InvalidInputError, NotFoundError
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.query import DataQuery
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.schemas import Record, SchemaManager
from buffetstore.schemas.types import Price, Timestamp  # noqa: TC001 - pydantic evaluates the annotations
from buffetstore.storage import LakeStorage
from buffetstore.tables import DeltaTable
from buffetstore.tables.operations import compact as module
from buffetstore.tables.operations.bins import Coarsening, row_width
from buffetstore.testing import FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


async def pairs(store) -> list[tuple[int, str]]:
    table = await DeltaTable.open(store, "t")
    return sorted((row["k"], row["v"]) for row in (await table.to_arrow()).to_pylist())


async def small_files(store, count: int = 12) -> DeltaTable:
    table = await DeltaTable.create(store, "t", SCHEMA)
    for key in range(count):
        await table.append(rows(key))
    return table


async def unreferenced(store) -> set[str]:
    """Return the data files that no version refers to."""
    newest = await DeltaTable.open(store, "t")
    referred = set()
    for version in range(newest.version + 1):
        held = await DeltaTable.open(store, "t", version=version)
        referred |= {f"t/{path}" for path in held.files()["path"].to_pylist()}
    return {meta.key for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")} - referred


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


class Meanwhile(StoreWrapper):
    """Does something once, before a data file is put."""

    def __init__(self, inner, *acts) -> None:
        super().__init__(inner)
        self.acts = list(acts)

    async def put(self, key, data, **options):
        if self.acts and "_delta_log" not in key:
            await self.acts.pop(0)()
        return await self.inner.put(key, data, **options)


class TestConflicts:
    async def test_appends_meanwhile_are_no_conflict(self, store) -> None:
        other = await small_files(store)
        wrapped = Meanwhile(store, lambda: other.append(rows(50)))
        table = await DeltaTable.open(wrapped, "t")
        done = await table.compact()
        assert (done.version, done.commits) == (14, 1)
        assert await pairs(store) == sorted((key, "a") for key in [*range(12), 50])
        assert await unreferenced(store) == set()

    async def test_files_removed_meanwhile_are_left_out_of_a_new_plan(self, store) -> None:
        other = await small_files(store)
        wrapped = Meanwhile(store, lambda: other.delete(Comparison("k", "<", 3)))
        table = await DeltaTable.open(wrapped, "t")
        done = await table.compact()
        assert (done.files_removed, done.rows, done.commits) == (9, 9, 1)
        assert await pairs(store) == [(key, "a") for key in range(3, 12)]
        assert await unreferenced(store) == set()

    async def test_what_is_committed_already_stays(self, store, monkeypatch) -> None:
        monkeypatch.setattr(module, "COMMIT_FILES", 4)
        other = await small_files(store)

        async def nothing() -> None:
            pass

        wrapped = Meanwhile(store, nothing, lambda: other.upsert(rows(5, v="b"), key=["k"]))
        table = await DeltaTable.open(wrapped, "t")
        done = await table.compact(bytes_in_flight=4 * row_width(SCHEMA))
        assert done.commits >= 2
        assert await pairs(store) == [(key, "b" if key == 5 else "a") for key in range(12)]
        assert await unreferenced(store) == set()

    async def test_new_columns_meanwhile_are_kept(self, store) -> None:
        other = await small_files(store, 4)
        wrapped = Meanwhile(store, lambda: other.add_columns([pa.field("more", pa.int64())]))
        table = await DeltaTable.open(wrapped, "t")
        assert (await table.compact()).rows == 4
        assert table.schema.names == ["k", "v", "more"]

    async def test_it_gives_up_when_others_always_come_first(self, store) -> None:
        other = await small_files(store, 4)
        count = 0

        async def overwrite() -> None:
            nonlocal count
            count += 1
            await other.overwrite(rows(1, v=str(count)))
            await other.append(rows(2))

        table = await DeltaTable.open(Meanwhile(store, *[overwrite] * 20), "t")
        with pytest.raises(CommitConflictError, match="16 plans"):
            await table.compact()
        assert await pairs(store) == [(1, "16"), (2, "a")]
        assert await unreferenced(store) == set()

    async def test_files_that_another_process_replaced_and_vacuumed_are_planned_anew(self, store) -> None:
        other = await small_files(store, 6)
        table = await DeltaTable.open(store, "t")
        stale = table.snapshot

        class Stale(StoreWrapper):
            async def get(self, key, **options):
                if key.endswith(".parquet") and other.version == 6:
                    await other.compact()
                    await store.delete([f"t/{path}" for path in stale.files["path"].to_pylist()])
                return await self.inner.get(key, **options)

        done = await (await DeltaTable.open(Stale(store), "t")).compact()
        assert (done.commits, done.version) == (0, 7)
        assert len(await pairs(store)) == 6

    async def test_a_file_that_is_gone_is_an_error(self, store) -> None:
        table = await small_files(store, 3)
        await store.delete([f"t/{table.files()['path'][1].as_py()}"])
        with pytest.raises(NotFoundError, match="is gone"):
            await table.compact()
        assert table.version == 3


@pytest.mark.parametrize("shared", [True, False])
async def test_beside_eight_appenders_and_upserts_nothing_is_lost_or_doubled(shared) -> None:
    store = MemoryStore()
    table = await small_files(store, 8)
    slow = FaultyStore(store, latency_seconds=0.0005)
    running = True

    async def opened() -> DeltaTable:
        return table if shared else await DeltaTable.open(slow, "t")

    async def append(writer: int) -> None:
        mine = await opened()
        for turn in range(6):
            await mine.append(rows(1000 * (writer + 1) + turn))

    async def upsert() -> None:
        mine = await opened()
        for turn in range(6):
            await mine.upsert(rows(turn, 500 + turn, v="b"), key=["k"])

    async def compact() -> int:
        mine, commits = await opened(), 0
        while running:
            commits += (await mine.compact(sort_by=["k"])).commits
            await asyncio.sleep(0)
        return commits

    compacting = asyncio.create_task(compact())
    await asyncio.gather(*(append(writer) for writer in range(8)), upsert())
    running = False
    assert await compacting > 0
    expected = {(key, "a") for key in range(8)} | {(1000 * (n + 1) + turn, "a") for n in range(8) for turn in range(6)}
    changed = {(key, "b") for turn in range(6) for key in (turn, 500 + turn)}
    expected = {(key, value) for key, value in expected if (key, "b") not in changed} | changed
    assert await pairs(store) == sorted(expected)
    assert await unreferenced(store) == set()
    assert (await (await DeltaTable.open(store, "t")).verify(deep=True)).ok


@pytest.mark.parametrize("seed", range(8))
async def test_random_faults_change_nothing_but_the_files(seed) -> None:
    random = Random(seed)
    inner = MemoryStore()
    await small_files(inner)
    before = await pairs(inner)
    store = RetryStore(FaultyStore(inner, source=random_faults(random, 0.3)), RetryPolicy(attempts=40, sleep=instantly))
    table = await DeltaTable.open(store, "t")
    done = await table.compact(bytes_in_flight=random.randrange(50, 500))
    assert done.rows <= 12
    assert await pairs(inner) == before
    assert await unreferenced(inner) == set()


class Cancelling:
    """Cancels a task at its n-th step: before or after a request, or while a thread works for it."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.task: asyncio.Task[Any] | None = None

    async def step(self) -> None:
        self.left -= 1
        if self.left == 0 and self.task is not None:
            self.task.cancel()
        await asyncio.sleep(0)

    def around(self, function):
        async def call(*args, **options):
            await self.step()
            answer = await function(*args, **options)
            await self.step()
            return answer

        return call

    def store(self, inner) -> StoreWrapper:
        wrapped = StoreWrapper(inner)
        for verb in ("put", "get", "delete"):
            setattr(wrapped, verb, self.around(getattr(inner, verb)))
        return wrapped


async def test_cancelled_at_every_step_it_leaves_nothing_half_done(monkeypatch) -> None:
    real = module.in_thread
    for steps in range(1, 200):
        inner = MemoryStore()
        await small_files(inner, 3)
        cancelling = Cancelling(steps)
        table = await DeltaTable.open(cancelling.store(inner), "t")
        cancelling.left = steps
        monkeypatch.setattr(module, "in_thread", cancelling.around(real))
        cancelling.task = asyncio.create_task(table.compact())
        await asyncio.gather(cancelling.task, return_exceptions=True)
        found = await DeltaTable.open(inner, "t")
        assert found.version in {3, 4}
        assert await pairs(inner) == [(0, "a"), (1, "a"), (2, "a")]
        assert await unreferenced(inner) == set(), steps
        if not cancelling.task.cancelled():
            break
    else:
        pytest.fail("it never came to its end")
    assert found.version == 4
    assert steps > 10


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


LOADED = datetime(2024, 6, 1, tzinfo=UTC)
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def record(symbol: str, day: int, value: int) -> dict[str, Any]:
    """A revision; all of a history have the same load time."""
    moment = FIRST + timedelta(days=day)
    return {"symbol": symbol, "timestamp": moment, "value": Decimal(value), "created_at": LOADED}


async def latest(store) -> dict[tuple[str, int], int]:
    async with LakeStorage(store, SchemaManager([Restated])) as lake:
        found = (await lake.retrieve_data(DataQuery("restated"))).table.to_pylist()
    return {(row["symbol"], (row["timestamp"] - FIRST).days): int(row["value"]) for row in found}


class TestRevisions:
    @pytest.mark.parametrize("seed", range(10))
    async def test_the_latest_stays_the_latest(self, store, seed) -> None:
        """Revisions of equal load time, in files of days and of months, compacted and checkpointed now and then."""
        random = Random(seed)
        oracle: dict[tuple[str, int], int] = {}
        compacted = 0
        async with LakeStorage(store, SchemaManager([Restated])) as lake:
            for step in range(1, 26):
                wide = random.random() < 0.3
                days = range(0, 40, 1) if wide else [random.randrange(40)]
                written = {("ABC"[random.randrange(3)], day): step for day in days}
                await lake.store_data("restated", [record(*key, value) for key, value in written.items()])
                oracle |= written
                table = await lake.table("restated")
                match random.randrange(5):
                    case 0 | 1:
                        memory, coarsening = random.choice([500, 5000, 10**9]), random.choice([None, Coarsening()])
                        compacted += (await table.compact(bytes_in_flight=memory, coarsening=coarsening)).commits
                    case 2:
                        await table.checkpoint()
                    case 3:
                        await table.delete(Comparison("value", "==", Decimal(0)))  # rewrites nothing, reads all
                assert await latest(store) == oracle
            assert (await table.verify(deep=True)).ok
        assert compacted > 0

    async def test_an_append_that_lands_while_files_are_rewritten_comes_after_them(self, store) -> None:
        async with LakeStorage(store, SchemaManager([Restated])) as lake:
            for value in (1, 2, 3):
                await lake.store_data("restated", [record("A", 0, value)])

            wrapped = Meanwhile(store, lambda: lake.store_data("restated", [record("A", 0, 4)]))
            table = await DeltaTable.open(wrapped, "raw/restated")
            done = await table.compact()
            assert done.files_removed == 3
        assert await latest(store) == {("A", 0): 4}

    async def test_rewriting_a_file_does_not_make_its_rows_newer(self, store) -> None:
        async with LakeStorage(store, SchemaManager([Restated])) as lake:
            await lake.store_data("restated", [record("A", 0, 1), record("B", 0, 1)])
            await lake.store_data("restated", [record("A", 0, 2)])
            await lake.delete_data("restated", filters={"symbol": "B"})
            assert await latest(store) == {("A", 0): 2}
            table = await lake.table("restated")
            await table.checkpoint()
            assert await latest(store) == {("A", 0): 2}
            await table.delete(Comparison("value", "==", Decimal(1)))
            await table.restore(2)
            assert await latest(store) == {("A", 0): 2, ("B", 0): 1}

    async def test_rows_cannot_be_sorted_by_what_is_not_of_the_key(self, store) -> None:
        async with LakeStorage(store, SchemaManager([Restated])) as lake:
            await lake.store_data("restated", [record("A", 0, 1)])
            table = await lake.table("restated")
            with pytest.raises(InvalidInputError, match=r"keeps revisions.*value"):
                await table.compact(sort_by=["symbol", "value"])
            assert (await table.compact(sort_by=["timestamp"])).commits == 0

    async def test_a_table_whose_key_is_not_known_keeps_the_order_of_all(self, store) -> None:
        table = await DeltaTable.create(store, "t", SCHEMA, configuration={"buffetstore.revisions": "keep"})
        random = Random(1)
        large = pa.table({"k": range(3000), "v": [random.randbytes(10).hex() for _ in range(3000)]})
        for n in range(6):
            await table.append(large if n == 2 else rows(*range(100), v=str(n)))
        done = await table.compact(target_bytes=20_000)
        assert done.files_removed == 5
        assert sorted(table.files()["commit_version"].to_pylist()) == [2, 3, 6]
