"""What a table tells of its commits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from buffetstore.errors import CorruptLogError, InvalidInputError
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable
from buffetstore.tables.history import CommitRecord
from buffetstore.tables.log import commit_key
from buffetstore.testing import CountingStore

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


@pytest.fixture
async def table(store):
    return await DeltaTable.create(store, "t", SCHEMA)


async def test_commits_newest_first(table) -> None:
    await table.append(rows(1, 2), user_metadata="note")
    await table.delete(Comparison("k", "==", 1))
    found = await table.history()
    assert [(each.version, each.operation) for each in found] == [(2, "DELETE"), (1, "WRITE"), (0, "CREATE TABLE")]
    assert [each.read_version for each in found] == [1, 0, None]
    assert [each.is_blind_append for each in found] == [False, True, False]
    assert found[1].user_metadata == "note"
    assert found[1].metrics["numOutputRows"] == "2"
    assert found[0].engine.startswith("buffetstore/")
    assert len({each.commit_id for each in found}) == 3
    assert all(abs(each.timestamp - datetime.now(UTC)) < timedelta(hours=1) for each in found)
    assert [each.version for each in await table.history(2)] == [2, 1]
    assert await table.history(0) == []
    assert [each.version async for each in table.history()] == [2, 1, 0]
    with pytest.raises(InvalidInputError, match="limit -1"):
        table.history(-1)


async def test_going_back_to_the_time_of_a_commit_gives_that_commit(table, store) -> None:
    for n in range(3):
        await table.append(rows(n))
    for record in await table.history():
        assert (await DeltaTable.open(store, "t", timestamp=record.committed_at)).version == record.version


async def test_what_others_committed_is_there_too(table, store) -> None:
    other = await DeltaTable.open(store, "t")
    await other.append(rows(1))
    assert [each.version for each in await table.history(1)] == [1]
    past = await DeltaTable.open(store, "t", version=0)
    assert [each.version for each in await past.history()] == [0]


async def test_hundreds_of_commits_are_read_in_windows(table, store) -> None:
    for version in range(1, 150):
        await store.put(commit_key("t", version), json.dumps({"commitInfo": {"timestamp": version}}).encode())
    assert [each.version for each in await table.history()] == list(range(149, -1, -1))
    counting = CountingStore(store)
    again = await DeltaTable.open(counting, "t")
    counting.reset()
    assert len(await again.history(3)) == 3
    # One looks for news, one for times that were kept, while the listing gives those of the log.
    assert dict(counting.requests) == {"get": 5, "list_objects": 1}
    async for record in table.history():
        assert record.version == 149
        break


async def test_commits_that_say_nothing_or_are_gone(table, store) -> None:
    for key in range(3):
        await table.append(rows(key))
    await store.put(commit_key("t", 2), b'{"txn":{"appId":"a","version":1}}\n')
    await store.delete([commit_key("t", 0)])
    found = await table.history()
    assert [each.version for each in found] == [3, 2, 1]
    assert found[1] == CommitRecord(2, committed_at=found[1].committed_at)


@pytest.mark.parametrize("line", [b'{"commitInfo": ', b'["commitInfo"]', b'{"commitInfo": {"timestamp": "x"}}'])
async def test_a_damaged_entry_is_named(table, store, line) -> None:
    await table.append(rows(1))
    await store.put(commit_key("t", 1), line)
    with pytest.raises(CorruptLogError, match="version 1 of table 't' cannot be read"):
        await table.history()


async def test_deltalake_tells_the_same(tmp_path) -> None:
    deltalake = pytest.importorskip("deltalake")
    table = await DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA)
    await table.append(rows(1, 2))
    deltalake.write_deltalake(str(tmp_path / "t"), rows(3), mode="append")
    await table.restore(1)
    theirs = deltalake.DeltaTable(str(tmp_path / "t")).history()
    ours = await table.history()
    assert [(each["version"], each["operation"]) for each in theirs] == [
        (each.version, each.operation) for each in ours
    ]
    assert [each["timestamp"] for each in theirs] == [int(each.timestamp.timestamp() * 1000) for each in ours]
    assert ours[1].engine.startswith("delta-rs")
    assert ours[1].is_blind_append is None
    assert theirs[0]["operationParameters"] == {"version": "1"} or theirs[0]["operationParameters"] == {"version": 1}
