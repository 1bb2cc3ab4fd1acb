"""Vacuum deletes what nobody can need, and nothing else."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest

from buffetstore.errors import (
    InvalidInputError,
    PermissionDeniedError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.tables.operations import vacuum as module
from buffetstore.testing import CountingStore, FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])
DAY = timedelta(days=1)


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


class Clock:
    """The store's time, which tests set."""

    def __init__(self) -> None:
        self.now = datetime(2024, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock) -> MemoryStore:
    return MemoryStore(now=clock)


async def data_files(store) -> set[str]:
    return {
        meta.key for meta in await list_all(store, "t/") if "_delta_log" not in meta.key and "clock" not in meta.key
    }


def paths(result) -> list[str]:
    return result.listing["path"].to_pylist()


@pytest.fixture
async def table(store, clock) -> DeltaTable:
    """One version a day: 1, 2, 3 appended; 2 replaced on the 5th, compacted on the 6th."""
    table = await DeltaTable.create(store, "t", SCHEMA)
    for key in (1, 2, 3):
        clock.now += DAY
        await table.append(rows(key))
    clock.now += DAY
    await table.upsert(rows(2, v="b"), key=["k"])
    clock.now += DAY
    await table.compact()
    return table


async def test_nothing_goes_within_retention(table, store, clock) -> None:
    before = await data_files(store)
    clock.now += 6 * DAY
    result = await table.vacuum()
    assert (result.files, result.bytes) == (0, 0)
    assert await data_files(store) == before
    for version in range(6):
        await (await DeltaTable.open(store, "t", version=version)).to_arrow()


async def test_what_retention_does_not_cover_goes(table, store, clock) -> None:
    clock.now += 7 * DAY + timedelta(hours=1)
    told = []
    result = await table.vacuum(progress=lambda *numbers: told.append(numbers))
    assert result.files == 4
    assert result.bytes > 0
    assert told == [(4, 4)]
    assert await data_files(store) == {f"t/{path}" for path in table.files()["path"].to_pylist()}
    assert (await table.to_arrow()).num_rows == 3
    assert (await table.vacuum()).files == 0


async def test_versions_within_retention_can_be_read(table, store, clock) -> None:
    clock.now += 6 * DAY + timedelta(hours=1)
    assert (await table.vacuum()).files == 1  # the file that the upsert replaced seven days ago
    for version in (4, 5):
        assert (await (await DeltaTable.open(store, "t", version=version)).to_arrow()).num_rows == 3


async def test_a_dry_run_lists_and_deletes_nothing(table, store, clock) -> None:
    clock.now += 8 * DAY
    before = await data_files(store)
    planned = await table.vacuum(dry_run=True)
    assert planned.dry_run
    assert await data_files(store) == before
    done = await table.vacuum()
    assert paths(done) == paths(planned)
    assert done.bytes == planned.bytes
    assert before - await data_files(store) == {f"t/{path}" for path in paths(done)}


async def test_files_that_nobody_refers_to_are_kept_while_they_are_young(table, store, clock) -> None:
    await store.put("t/year=2024/fresh.parquet", b"x")
    clock.now += 6 * DAY
    await table.vacuum()
    assert "t/year=2024/fresh.parquet" in await data_files(store)
    clock.now += 2 * DAY
    assert "year=2024/fresh.parquet" in paths(await table.vacuum())
    assert "t/year=2024/fresh.parquet" not in await data_files(store)


async def test_what_is_not_ours_is_left(table, store, clock) -> None:
    kept = [
        "t/_buffetstore/index.bin",
        "t/_SUCCESS",
        "t/.hidden/file.parquet",
        "t/a/_temporary/b.parquet",
        "t/inner/1.parquet",
        "t/inner/_delta_log/00000000000000000000.json",
        "t/inner/z.parquet",
        "tt/other.parquet",
    ]
    for key in [*kept, "t/_change_data/cdc-1.parquet", "t/innermost/x.parquet", "t/a_delta_log/x.parquet"]:
        await store.put(key, b"x")
    clock.now += 30 * DAY
    result = await table.vacuum()
    assert {"_change_data/cdc-1.parquet", "innermost/x.parquet", "a_delta_log/x.parquet"} < set(paths(result))
    there = {meta.key for meta in await list_all(store)}
    assert set(kept) <= there


async def test_partition_folders_may_begin_with_an_underscore(store, clock) -> None:
    schema = pa.schema([("_p", pa.string()), ("n", pa.int64())])
    table = await DeltaTable.create(store, "t", schema, partition_by=["_p"])
    await table.append(pa.table({"_p": ["a"], "n": [1]}))
    await table.overwrite(pa.table({"_p": ["a"], "n": [2]}))
    clock.now += 8 * DAY
    assert (await table.vacuum()).files == 1
    assert (await table.to_arrow())["n"].to_pylist() == [2]


class TestTheGuard:
    async def test_a_short_retention_is_refused(self, table, store) -> None:
        with pytest.raises(InvalidInputError, match=r"6 days.*168 hours.*allow_short_retention"):
            await table.vacuum(retention=timedelta(days=6))
        with pytest.raises(InvalidInputError, match="negative"):
            await table.vacuum(retention=-DAY, allow_short_retention=True)

    async def test_it_can_be_allowed(self, table, store, clock) -> None:
        clock.now += timedelta(seconds=1)
        assert (await table.vacuum(retention=timedelta(0), allow_short_retention=True)).files == 4
        assert (await table.to_arrow()).num_rows == 3

    async def test_the_tables_own_property_counts(self, store, clock) -> None:
        configuration = {"delta.deletedFileRetentionDuration": "interval 2 days"}
        table = await DeltaTable.create(store, "t", SCHEMA, configuration=configuration)
        await table.append(rows(1))
        await table.overwrite(rows(2))
        clock.now += 3 * DAY
        assert (await table.vacuum()).files == 1

    async def test_a_table_at_a_version_is_for_reading(self, table, store) -> None:
        pinned = await DeltaTable.open(store, "t", version=2)
        with pytest.raises(UnsupportedOperationError):
            await pinned.vacuum()

    async def test_an_unknown_feature_is_refused(self, table, store) -> None:
        protocol = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking"]}
        await store.put(f"t/_delta_log/{6:020}.json", json.dumps({"protocol": protocol}).encode())
        with pytest.raises(UnsupportedFeatureError, match="rowTracking"):
            await table.vacuum()


async def test_what_this_process_has_opened_at_a_version_is_kept(table, store, clock) -> None:
    pinned = await DeltaTable.open(store, "t", version=1)
    clock.now += 30 * DAY
    assert (await table.vacuum()).files == 3
    assert (await pinned.to_arrow())["k"].to_pylist() == [1]
    del pinned
    assert (await table.vacuum()).files == 1


async def test_tombstones_of_a_cleaned_log_are_in_its_checkpoint(table, store, clock) -> None:
    await table.checkpoint()
    for version in range(6):
        await store.delete([f"t/_delta_log/{version:020}.json"])
    await table.append(rows(4))
    # The stamps of removal are of this machine's clock, far after the store's.
    assert (await table.vacuum(retention=timedelta(0), allow_short_retention=True)).files == 0


async def test_stored_deletion_vectors_of_living_files_are_kept(store, clock) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2))
    (path,) = table.files()["path"].to_pylist()
    name = "ab^-aqEH.-t@S}K{vb[*k^"
    vector = {"storageType": "u", "pathOrInlineDv": name, "offset": 4, "sizeInBytes": 40, "cardinality": 6}
    from buffetstore.tables.deletion_vectors import DeletionVector, vector_key

    key = vector_key("t", DeletionVector.from_json(vector), "")
    await store.put(key, b"bits")
    await store.put("t/ab/deletion_vector_00000000-0000-0000-0000-000000000000.bin", b"old")
    features = {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    actions = [
        {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features},
        {"remove": {"path": path, "deletionTimestamp": 0, "dataChange": True}},
        {
            "add": {
                "path": path,
                "partitionValues": {},
                "size": table.files()["size"][0].as_py(),
                "modificationTime": 0,
                "dataChange": True,
                "deletionVector": vector,
            }
        },
    ]
    await store.put(f"t/_delta_log/{2:020}.json", "\n".join(map(json.dumps, actions)).encode())
    clock.now += 30 * DAY
    result = await table.vacuum()
    assert paths(result) == ["ab/deletion_vector_00000000-0000-0000-0000-000000000000.bin"]
    assert {key, f"t/{path}"} <= await data_files(store)


async def test_a_writers_fresh_files_survive(table, store, clock) -> None:
    """A commit that lands between the listing and the deletion refers to a file that was written before."""
    clock.now += 8 * DAY
    adds = await table._writer.write(table.snapshot, rows(9), lambda found: [DataPart(found)])
    assert (await table.vacuum()).files == 4
    from buffetstore.tables.conflicts import Proposal

    await table._head.commit(table.snapshot, Proposal("WRITE", adds))
    assert sorted((await table.to_arrow())["k"].to_pylist()) == [1, 2, 3, 9]


class Interrupting(StoreWrapper):
    """Does something before the first deletion."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.meanwhile = None

    async def list_objects(self, prefix="", *, after=""):
        async for meta in self.inner.list_objects(prefix, after=after):
            yield meta
        if self.meanwhile is not None and "_delta_log" not in prefix:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()


async def test_a_file_that_comes_back_after_the_listing_is_kept(table, store, clock) -> None:
    """Another process restores a version from before retention while vacuum is at work."""
    clock.now += 30 * DAY
    wrapped = Interrupting(store)
    vacuuming = await DeltaTable.open(wrapped, "t")
    other = await DeltaTable.open(store, "t")

    async def restore() -> None:
        await other.restore(1)

    wrapped.meanwhile = restore
    result = await vacuuming.vacuum()
    assert result.files == 3
    assert (await (await DeltaTable.open(store, "t")).to_arrow())["k"].to_pylist() == [1]


async def test_a_million_files_would_go_in_batches(store, clock, monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    monkeypatch.setattr(module, "ROUND", 6)
    monkeypatch.setattr(module, "_PIECE", 4)
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1))
    for n in range(20):
        await store.put(f"t/orphan-{n:02}.parquet", b"x" * n)
    clock.now += 8 * DAY
    counting = CountingStore(store)
    told = []
    vacuuming = await DeltaTable.open(counting, "t")
    counting.reset()
    result = await vacuuming.vacuum(progress=lambda *numbers: told.append(numbers))
    assert (result.files, result.bytes) == (20, sum(range(20)))
    assert told == [(6, 20), (12, 20), (18, 20), (20, 20)]
    assert counting.requests["delete"] == 7
    assert len(await data_files(store)) == 1


async def test_whoever_may_not_write_can_look(table, store, clock) -> None:
    class ReadOnly(StoreWrapper):
        async def put(self, key, data, **options):
            raise PermissionDeniedError("no", key=key)

    clock.now += 8 * DAY
    await table.append(rows(7))
    looking = await DeltaTable.open(ReadOnly(store), "t")
    assert (await looking.vacuum(dry_run=True)).files == 4


async def test_it_is_told_to_the_hook(store, clock) -> None:
    told = []
    table = await DeltaTable.create(store, "t", SCHEMA, hook=told.append)
    await store.put("t/orphan.parquet", b"12345")
    clock.now += 8 * DAY
    await table.vacuum()
    (operation,) = [each for each in told if each.name == "table.vacuum"]
    assert operation.counts == {"files": 1, "bytes": 5}


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories_with_faults_stay_whole(seed, clock) -> None:
    """Days pass between writes, compactions and vacuums on a failing store; every version within a week can be read."""
    random = Random(seed)
    inner = MemoryStore(now=clock)
    store = RetryStore(
        FaultyStore(inner, source=random_faults(random, 0.15)), RetryPolicy(attempts=30, sleep=instantly)
    )
    table = await DeltaTable.create(store, "t", SCHEMA)
    states: dict[int, tuple[datetime, list]] = {}
    for step in range(30):
        clock.now += timedelta(hours=random.choice([1, 20, 50]))
        match random.choice(["append", "append", "upsert", "delete", "compact", "vacuum"]):
            case "append":
                await table.append(rows(step))
            case "upsert":
                await table.upsert(rows(random.randrange(30), v=str(step)), key=["k"])
            case "delete":
                await table.delete(Comparison("k", "==", random.randrange(30)))
            case "compact":
                await table.compact()
            case _:
                await table.vacuum()
                for version, (until, expected) in states.items():
                    if until >= clock.now - 7 * DAY or version == table.version:
                        opened = await DeltaTable.open(inner, "t", version=version)
                        assert sorted((await opened.to_arrow())["k"].to_pylist()) == expected
        found = sorted((await table.to_arrow())["k"].to_pylist())
        for version in [version for version, (_, held) in states.items() if version == table.version]:
            assert states[version][1] == found
        if table.version not in states and states:
            last = max(states)
            states[last] = (clock.now, states[last][1])  # it was the newest until now
        states[table.version] = (clock.now, found)
    assert (await table.verify(deep=True)).ok


@pytest.mark.usefixtures("computing_at_once")
async def test_cancelled_at_every_await_it_leaves_the_table_whole(store, clock, table) -> None:
    clock.now += 8 * DAY
    for orphan in range(5):
        await store.put(f"t/{orphan}.parquet", b"")
    clock.now += 8 * DAY
    yielding = FaultyStore(store, latency_seconds=1e-9)
    vacuuming = await DeltaTable.open(yielding, "t")
    for steps in range(1, 200):
        task = asyncio.create_task(vacuuming.vacuum())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        assert (await vacuuming.verify(deep=True)).ok
        if not isinstance(done[0], asyncio.CancelledError):
            break
    else:
        pytest.fail("it never came to its end")
    assert (await vacuuming.vacuum()).files == 0
