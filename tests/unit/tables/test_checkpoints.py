"""Checkpoints: what they keep, when they are written, and what may be cleaned up behind them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as Foreign
from deltalake import write_deltalake

from buffetstore.errors import CommitConflictError, InvalidInputError, TableVersionNotFoundError, UnavailableError
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore, MemoryStore, get_bytes, get_text, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable, Txn
from buffetstore.tables.checkpoint_writer import write_checkpoint
from buffetstore.tables.log import commit_key
from buffetstore.tables.log_cleanup import clean_log
from buffetstore.tables.properties import milliseconds

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string()), ("p", pa.string())])
LOG = "t/_delta_log/"
DAY = 86_400_000


def rows(*keys, v="a", p="x y/é"):
    return pa.table({"k": list(keys), "v": [v] * len(keys), "p": [p] * len(keys)}, schema=SCHEMA)


@pytest.fixture
def store():
    return MemoryStore()


async def forget_commits(store, until):
    await store.delete([commit_key("t", version) for version in range(until + 1)])


@pytest.mark.parametrize("seed", range(6))
async def test_state_from_a_checkpoint_is_state_from_the_log(store, seed) -> None:
    random = Random(seed)
    table = await DeltaTable.create(store, "t", SCHEMA, partition_by=["p"] if seed % 2 else [])
    for step in range(30):
        keys = random.sample(range(50), 5)
        match random.randrange(4):
            case 0 | 1:
                await table.append(rows(*keys, v=f"v{step}"), txn=Txn(f"app{step % 3}", step))
            case 2:
                await table.upsert(rows(*keys, v=f"u{step}"), key=["k", "p"])
            case _:
                await table.delete(Comparison("k", "<", random.randrange(20)))
        if random.random() < 0.2:
            await table.checkpoint()
    await table.checkpoint()
    expected = (await table.to_arrow()).sort_by([(name, "ascending") for name in SCHEMA.names])
    await forget_commits(store, table.version)
    again = await DeltaTable.open(store, "t")
    assert again.version == table.version
    assert (await again.to_arrow()).sort_by([(name, "ascending") for name in SCHEMA.names]).equals(expected)
    assert dict(again.snapshot.txns) == dict(table.snapshot.txns)
    # Nothing of the statistics got lost, so that as much is pruned as before.
    names = ["path", "size", "num_records", "min.k", "max.k", "null_count.k", "min.v", "max.v", "min.p", "max.p"]
    ours, theirs = (each.snapshot.with_statistics().select(names).sort_by("path") for each in (again, table))
    assert ours.equals(theirs)


async def test_other_engines_read_it_and_theirs_is_read(tmp_path) -> None:
    store = LocalStore(tmp_path)
    async with DeltaTable.create(store, "t", SCHEMA, partition_by=["p"]) as table:
        for n in range(5):
            await table.append(rows(n))
        await table.delete(Comparison("k", "==", 2))
        await table.checkpoint()
        await forget_commits(store, table.version - 1)
        theirs = Foreign(tmp_path / "t")
        assert theirs.version() == table.version
        assert sorted(theirs.to_pyarrow_table()["k"].to_pylist()) == [0, 1, 3, 4]
        write_deltalake(theirs, rows(9), mode="append")
        Foreign(tmp_path / "t").create_checkpoint()
        await table.refresh()
        await forget_commits(store, table.version - 1)
    again = await DeltaTable.open(store, "t")
    assert sorted((await again.to_arrow())["k"].to_pylist()) == [0, 1, 3, 4, 9]
    await again.append(rows(10))
    assert (await again.checkpoint()).files == 6
    assert Foreign(tmp_path / "t").to_pyarrow_table().num_rows == 6


async def test_tombstones_are_kept_as_long_as_files(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1))
    await table.append(rows(2))
    await table.overwrite(rows(3))
    await table.checkpoint()

    def removed(data):
        column = pq.read_table(pa.BufferReader(data))["remove"]
        return [body["path"] for body in column.to_pylist() if body is not None]

    key = f"{LOG}{table.version:020}.checkpoint.parquet"
    assert len(removed(await get_bytes(store, key))) == 2
    await table.append(rows(4))
    await table.checkpoint()
    assert len(removed(await get_bytes(store, f"{LOG}{table.version:020}.checkpoint.parquet"))) == 2
    short = await DeltaTable.create(
        store, "short", SCHEMA, configuration={"delta.deletedFileRetentionDuration": "interval 0 days"}
    )
    await short.append(rows(1))
    await short.overwrite(rows(3))
    await asyncio.sleep(0.002)
    await short.append(rows(4))
    await short.checkpoint()
    assert removed(await get_bytes(store, f"short/_delta_log/{short.version:020}.checkpoint.parquet")) == []


async def test_idempotency_keys_are_forgotten_after_their_window(store) -> None:
    window = {"delta.setTransactionRetentionDuration": "interval 1 hours"}
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=window)
    now = table._head.committer.now()
    table._head.committer = replace(table._head.committer, now=lambda: now - 2 * 3_600_000)
    await table.append(rows(1), idempotency_key="old")
    await table.append(rows(2), idempotency_key=("source", 1))
    table._head.committer = replace(table._head.committer, now=lambda: now)
    await table.append(rows(3), idempotency_key="new")
    await table.checkpoint()
    again = await DeltaTable.open(store, "t")
    assert sorted(again.snapshot.txns) == [
        "buffetstore/content/source",
        "buffetstore/key/new",
        "buffetstore/source/source",
    ]


async def test_they_are_written_in_the_background_as_the_interval_says(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA, configuration={"delta.checkpointInterval": "5"}) as table:
        for n in range(12):
            await table.append(rows(n))
    found = [meta.key for meta in await list_all(store, LOG) if "checkpoint.parquet" in meta.key]
    assert found[-1].endswith(f"{10:020}.checkpoint.parquet")
    hint = json.loads(await get_text(store, f"{LOG}_last_checkpoint"))
    assert (hint["version"], hint["numOfAddFiles"]) == (10, 10)
    with pytest.raises(InvalidInputError, match="checkpointInterval is '0'"):
        await DeltaTable.create(store, "u", SCHEMA, configuration={"delta.checkpointInterval": "0"})


async def test_a_large_log_does_not_wait_for_the_interval(store, monkeypatch) -> None:
    monkeypatch.setattr("buffetstore.tables.checkpointer.MOST_LOG_BYTES", 3000)
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        for n in range(12):
            await table.append(rows(n))
    assert [meta.key for meta in await list_all(store, LOG) if "checkpoint.parquet" in meta.key]


class NoCheckpoints(StoreWrapper):
    async def start_upload(self, key, **options):
        raise UnavailableError("no", key=key)


async def test_a_checkpoint_that_fails_fails_no_commit(store) -> None:
    told = []
    configuration = {"delta.checkpointInterval": "1"}
    async with DeltaTable.create(
        NoCheckpoints(store), "t", SCHEMA, configuration=configuration, hook=told.append
    ) as table:
        for n in range(3):
            await table.append(rows(n))
    assert {each.error for each in told if each.name == "table.checkpoint"} == {"unavailable"}
    assert (await (await DeltaTable.open(store, "t")).to_arrow()).num_rows == 3


async def test_writers_of_one_checkpoint_do_not_disturb_each_other(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1))
    written = await asyncio.gather(*(write_checkpoint(store, "t", 1) for _ in range(5)))
    assert sum(each is not None for each in written) == 1
    assert await write_checkpoint(store, "t", 1) is None
    assert await write_checkpoint(store, "t", 0) is not None
    assert json.loads(await get_text(store, f"{LOG}_last_checkpoint"))["version"] == 1
    await store.put(f"{LOG}_last_checkpoint", b"{junk")
    await table.append(rows(2))
    await table.checkpoint()
    assert json.loads(await get_text(store, f"{LOG}_last_checkpoint"))["version"] == 2


class Aged(StoreWrapper):
    """A store whose objects were written long ago: `days` before now, by key."""

    def __init__(self, inner):
        super().__init__(inner)
        self.days = {}

    def _aged(self, meta):
        return replace(meta, last_modified=datetime.now(UTC) - timedelta(days=self.days.get(meta.key, 0)))

    async def list_objects(self, prefix="", *, after=""):
        async for meta in self.inner.list_objects(prefix, after=after):
            yield self._aged(meta)


async def test_cleaning_leaves_every_later_version_readable(store) -> None:
    aged = Aged(store)
    table = await DeltaTable.create(aged, "t", SCHEMA)
    for n in range(1, 21):
        await table.append(rows(n))
        if n % 5 == 0:
            await table.checkpoint()
    for version in range(21):
        for key in (commit_key("t", version), f"{LOG}{version:020}.checkpoint.parquet"):
            aged.days[key] = 40 - 2 * version  # one entry every other day, the last one now
    assert await clean_log(aged, "t", 10 * DAY, table.metadata.id) == 15 + 2
    # Versions 15 to 20 are at most ten days old; the checkpoint of 15 is where they begin.
    for version in range(15, 21):
        assert (await (await DeltaTable.open(store, "t", version=version)).to_arrow()).num_rows == version
    with pytest.raises(TableVersionNotFoundError, match="there are versions 15 to 20"):
        await DeltaTable.open(store, "t", version=14)
    assert await clean_log(aged, "t", 10 * DAY, table.metadata.id) == 0


@pytest.mark.parametrize("retention", [0, DAY // 2])
async def test_entries_younger_than_a_day_stay_whatever_a_table_says(store, retention) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    for n in range(5):
        await table.append(rows(n))
    await table.checkpoint()
    assert await clean_log(store, "t", retention, table.metadata.id) == 0


async def test_a_commit_that_was_buried_is_not_acknowledged(store) -> None:
    """A writer is suspended between its look at the log and its commit, while the log goes on and is cleaned."""
    sleeper = await DeltaTable.create(store, "t", SCHEMA)
    other = await DeltaTable.open(store, "t")
    for n in range(1, 4):
        await other.append(rows(n))
    await other.checkpoint()
    await forget_commits(store, 2)
    times = iter([0.0, 0.0, 7200.0, 7200.0, 7200.0, 7200.0, 7200.0, 7200.0])
    sleeper._head._clock = lambda: next(times, 7200.0)
    sleeper._head._checked = 0.0
    done = await sleeper.append(rows(9))
    assert done.version == 4
    assert sorted((await (await DeltaTable.open(store, "t")).to_arrow())["k"].to_pylist()) == [1, 2, 3, 9]


async def test_a_buried_commit_by_itself_says_so(store) -> None:
    sleeper = await DeltaTable.create(store, "t", SCHEMA)
    other = await DeltaTable.open(store, "t")
    for n in range(1, 4):
        await other.append(rows(n))
    await other.checkpoint()
    await forget_commits(store, 2)
    from buffetstore.tables.conflicts import Proposal

    head = sleeper._head
    times = iter([7200.0])
    head._clock, head._checked = lambda: next(times, 7200.0), 0.0
    async with head.lock:
        with pytest.raises(CommitConflictError, match="version 1 had been cleaned up"):
            await head.commit(head.snapshot, Proposal("WRITE"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval 7 days", 7 * DAY),
        ("INTERVAL 1 week", 7 * DAY),
        ("2 hours 30 minutes", 9_000_000),
        ("interval 5 milliseconds", 5),
    ],
)
def test_intervals(text, expected) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "7", "interval", "interval 1 month", "days 7", "interval -1 days"])
def test_what_is_no_interval(text) -> None:
    with pytest.raises(InvalidInputError, match=r"interval|unit"):
        milliseconds(text)


async def test_files_of_revisions_keep_their_version_in_a_checkpoint(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, configuration={"buffetstore.revisions": "keep"})
    for n in range(3):
        await table.append(rows(n))
    await table.checkpoint()
    await table.append(rows(3))
    await table.checkpoint()
    again = await DeltaTable.open(store, "t")
    assert again.files()["commit_version"].to_pylist() == [1, 2, 3, 4]
    assert sorted((await again.to_arrow())["k"].to_pylist()) == [0, 1, 2, 3]
