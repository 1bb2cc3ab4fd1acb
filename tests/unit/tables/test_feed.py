"""The change feed: told once, from where it was left, as others tell it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from buffetstore.errors import (
    CorruptLogError,
    InvalidInputError,
    InvalidQueryError,
    NotFoundError,
    TableVersionNotFoundError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from buffetstore.expressions import And, Comparison
from buffetstore.formats import ParquetFormatter
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.tables import feed as feeding
from buffetstore.tables.actions import Metadata, Protocol, write_actions
from buffetstore.tables.deletion_vectors import _B85, _Z85
from buffetstore.tables.feed import Change, Cursor
from buffetstore.tables.log import commit_key
from buffetstore.tables.schema import schema_to_json
from buffetstore.testing import CountingStore, FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("p", pa.string())])
FEED = {"delta.enableChangeDataFeed": "true"}


def rows(*keys: int, v: int = 0, p: str = "x y") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys), "p": [p] * len(keys)}, schema=SCHEMA)


def in_ones(table: pa.Table) -> list[DataPart]:
    return [DataPart(table.slice(n, 1)) for n in range(len(table))]


def told(changes: list[Change]) -> list[tuple]:
    """Version, kind and values of each changed row, in no particular order within a version."""
    found = [
        (row["_commit_version"], row["_change_type"], *(value for name, value in row.items() if name[0] != "_"))
        for change in changes
        for row in change.rows.to_pylist()
    ]
    return sorted(found, key=repr)


async def feed(table, *arguments, **options) -> list[Change]:
    async with aclosing(table.changes(*arguments, **options)) as changes:
        return [change async for change in changes]


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


async def come(condition) -> None:
    while not condition():  # noqa: ASYNC110 - what others do makes it true
        await asyncio.sleep(0)


@pytest.fixture
async def table(store):
    return await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)


async def test_each_operation_tells_its_rows(table) -> None:
    await table.append(rows(1, 2, 3))
    await table.upsert(rows(3, 4, v=1), key=["k"])
    await table.delete(Comparison("k", "==", 1))
    await table.delete(Comparison("k", "==", 99))
    await table.overwrite(rows(4, 5, v=2), predicate=Comparison("k", ">", 3))
    await table.overwrite(rows(9))
    assert told(await feed(table)) == [
        (1, "insert", 1, 0, "x y"),
        (1, "insert", 2, 0, "x y"),
        (1, "insert", 3, 0, "x y"),
        (2, "insert", 4, 1, "x y"),
        (2, "update_postimage", 3, 1, "x y"),
        (2, "update_preimage", 3, 0, "x y"),
        (3, "delete", 1, 0, "x y"),
        (4, "delete", 4, 1, "x y"),
        (4, "insert", 4, 2, "x y"),
        (4, "insert", 5, 2, "x y"),
        (5, "delete", 2, 0, "x y"),
        (5, "delete", 3, 1, "x y"),
        (5, "delete", 4, 2, "x y"),
        (5, "delete", 5, 2, "x y"),
        (5, "insert", 9, 0, "x y"),
    ]


async def test_changes_say_when_and_where_to_go_on(table) -> None:
    await table.append(rows(1, 2), layout=in_ones)
    await table.append(rows(3))
    found = await feed(table)
    assert [(change.version, str(change.cursor)) for change in found] == [(1, "1:1"), (1, "1"), (2, "2")]
    assert [Cursor.parse(str(change.cursor)) for change in found] == [change.cursor for change in found]
    assert found[0].rows.schema.names == ["k", "v", "p", "_change_type", "_commit_version", "_commit_timestamp"]
    assert found[0].rows["_commit_timestamp"].to_pylist() == [found[0].timestamp]
    (record, *_) = [each for each in await table.history() if each.version == 1]
    assert found[0].timestamp == record.timestamp
    for at, change in enumerate(found):
        assert told(await feed(table, change.cursor)) == told(found[at + 1 :])
    for text in ("", "x", "1:", "1:x", ":1"):
        with pytest.raises(InvalidInputError, match="is no cursor"):
            Cursor.parse(text)


async def test_ranges(table, store) -> None:
    for key in range(4):
        await table.append(rows(key))
    for since, until in [(None, None), (-1, 2), (0, None), (2, None), (1, 3), (2, 2), (4, None), (3, 1)]:
        after, last = -1 if since is None else since, 4 if until is None else until
        assert [each.version for each in await feed(table, since, until=until)] == list(
            range(max(1, after + 1), last + 1)
        )
    past = await DeltaTable.open(store, "t", version=2)
    assert [each.version for each in await feed(past)] == [1, 2]
    for arguments, options in [((9,), {}), ((), {"until": 9}), ((Cursor(9, 1),), {})]:
        with pytest.raises(TableVersionNotFoundError, match="no version 9: the latest is 4"):
            await feed(table, *arguments, **options)
    for since in (-2, Cursor(-1, 1), Cursor(1, -1)):
        with pytest.raises(InvalidInputError, match="no version of a table"):
            await feed(table, since)
    with pytest.raises(UnsupportedOperationError, match="opened at version 2"):
        await feed(past, tail=True)


async def test_by_time(table) -> None:
    await table.append(rows(1))
    assert [each.version for each in await feed(table, timestamp=datetime(2000, 1, 1, tzinfo=UTC))] == [1]
    assert await feed(table, timestamp=datetime.now(UTC) + timedelta(days=1)) == []
    with pytest.raises(InvalidInputError, match="one of them"):
        await feed(table, 1, timestamp=datetime.now(UTC))


async def test_columns_and_predicates(table) -> None:
    await table.append(rows(*range(6)))
    await table.upsert(rows(2, 3, v=5), key=["k"])
    await table.delete(Comparison("k", "==", 4))
    wanted = And((Comparison("k", ">", 2), Comparison("v", ">=", 0)))
    assert told(await feed(table, columns=["k"], predicate=wanted)) == [
        (1, "insert", 3),
        (1, "insert", 4),
        (1, "insert", 5),
        (2, "update_postimage", 3),
        (2, "update_preimage", 3),
        (3, "delete", 4),
    ]
    assert told(await feed(table, columns=[], until=1)) == [(1, "insert")] * 6
    assert await feed(table, predicate=Comparison("k", ">", 99)) == []
    for ask in ({"columns": ["nope"]}, {"predicate": Comparison("nope", "==", 1)}):
        with pytest.raises(InvalidQueryError, match="nope"):
            await feed(table, **ask)


async def test_what_is_no_change_is_not_told(table, store) -> None:
    await table.append(rows(1, 2), layout=in_ones)
    await table.append(rows(3))
    (first, *_), adds = table.files()["path"].to_pylist(), []
    for line in (await raw(store, 1)).splitlines():
        adds += [json.loads(line)] if "add" in json.loads(line) else []
    again = next(add for add in adds if add["add"]["path"] == first)
    ghost = {"remove": {"path": "never.parquet", "dataChange": True, "partitionValues": {}, "size": 1}}
    await commit(store, 3, again, ghost)
    await commit(store, 4, *({"add": {**add["add"], "dataChange": False}} for add in adds))
    moved = [{"remove": {"path": first, "dataChange": False}}, {"add": {**again["add"], "dataChange": False}}]
    await commit(store, 5, *moved)
    await commit(store, 6, {"remove": {"path": first, "dataChange": True}})
    found = await feed(table)
    assert told(found) == told(await feed(table, 0)) == told(found[:3]) + told(found[3:])
    assert [(change.version, change.rows.num_rows) for change in found] == [(1, 1), (1, 1), (2, 1), (6, 1)]
    assert [each.version for each in await feed(table, 2)] == [6]
    assert (await feed(table, 5))[0].rows["k"].to_pylist() == [1]


async def test_compaction_is_not_told(table) -> None:
    await table.append(rows(*range(8)), layout=in_ones)
    before = table.version
    await table.compact()
    assert table.version > before
    assert await feed(table, before) == []


async def raw(store, version: int) -> bytes:
    async with await store.get(commit_key("t", version)) as result:
        return await result.read()


async def commit(store, version: int, *actions: dict) -> None:
    await store.put(commit_key("t", version), "\n".join(map(json.dumps, actions)).encode())


def vector(*positions: int) -> dict:
    """A deletion vector that stands in the log, by the format's specification."""
    head = struct.pack("<iqIIIHHI", 1681511377, 1, 0, 12346, 1, 0, len(positions) - 1, 0)
    data = head + struct.pack(f"<{len(positions)}H", *positions)
    text = base64.b85encode(data + bytes(-len(data) % 4)).translate(bytes.maketrans(_B85, _Z85)).decode()
    size = {"sizeInBytes": len(data), "cardinality": len(positions)}
    return {"deletionVector": {"storageType": "i", "pathOrInlineDv": text, **size}}


@pytest.mark.parametrize("since", [None, 2])
async def test_rows_that_deletion_vectors_take_and_give_back(store, since) -> None:
    writer = await DeltaTable.create(store, "t", SCHEMA)
    result = await writer.append(rows(*range(8)))
    (add,) = [each.to_json()["add"] for each in result.files]
    features = ("deletionVectors",)
    await commit(store, 2, Protocol(3, 7, features, features).to_json())
    states = [{}, vector(1, 2), vector(1, 2), vector(2, 5), {}, vector(0, 7)]
    for version, (before, after) in enumerate(pairwise(states), 3):
        removed = {"path": add["path"], "dataChange": True, "partitionValues": {}, "size": add["size"], **before}
        await commit(store, version, {"remove": removed}, {"add": {**add, **after}})
    await commit(store, 8, {"remove": {"path": add["path"], "dataChange": True, **states[-1]}})
    table = await DeltaTable.open(store, "t")
    if since is not None:  # then what the entries themselves say must do
        await store.delete([commit_key("t", version) for version in range(3)])
    expected = {
        1: [("insert", key) for key in range(8)],
        3: [("delete", 1), ("delete", 2)],
        5: [("delete", 5), ("insert", 1)],
        6: [("insert", 2), ("insert", 5)],
        7: [("delete", 0), ("delete", 7)],
        8: [("delete", key) for key in range(1, 7)],
    }
    assert told(await feed(table, since, columns=["k"])) == [
        (version, *change) for version, changes in expected.items() if version > (since or 0) for change in changes
    ]
    one = Comparison("k", "==", 1)
    assert told(await feed(table, 2, columns=["v"], predicate=one, until=5)) == [(3, "delete", 0), (5, "insert", 0)]


async def test_mapped_columns_and_partitions(store) -> None:
    def column(name: str, kind: str, identifier: int) -> dict:
        held = {"delta.columnMapping.id": identifier, "delta.columnMapping.physicalName": f"c{identifier}"}
        return {"name": name, "type": kind, "nullable": True, "metadata": held}

    def described(*names: str) -> dict:
        fields = [column(names[0], "long", 1), column(names[1], "string", 2)]
        schema = json.dumps({"type": "struct", "fields": fields})
        return Metadata("id", schema, (names[1],), {"delta.columnMapping.mode": "name"}).to_json()

    async def file(name: str, **columns: list) -> dict:
        data = ParquetFormatter().encode(pa.table(columns)).data
        await store.put(f"t/{name}", bytes(data))
        return {"path": name, "size": len(data), "partitionValues": {"c2": "a b"}, "dataChange": True}

    add = {"modificationTime": 0, **await file("f", c1=[1, 2])}
    cdc = await file("_change_data/c", c1=[1], _change_type=["delete"])
    await commit(store, 0, Protocol(2, 5).to_json(), described("old", "place"), {"add": add})
    await commit(store, 1, described("n", "part"))
    await commit(store, 2, {"cdc": cdc}, {"remove": {"path": "f", "dataChange": True}})
    assert told(await feed(await DeltaTable.open(store, "t"))) == [
        (0, "insert", 1, "a b"),
        (0, "insert", 2, "a b"),
        (2, "delete", 1, "a b"),
    ]


async def test_a_partitioned_file_of_which_only_its_name_is_known(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, partition_by=["p"])
    result = await table.append(rows(1, p="a"))
    await table.append(rows(2, p="b"))
    await commit(store, 3, {"remove": {"path": result.files[0].path, "dataChange": True}})
    again = await DeltaTable.open(store, "t")
    assert told(await feed(again, 2)) == [(3, "delete", 1, 0, "a")]
    await store.delete([commit_key("t", version) for version in range(3)])
    with pytest.raises(CorruptLogError, match=r"version 3 of table 't' removes .* without its partition values"):
        await feed(again, 2)


async def test_an_entry_without_commit_info_has_the_time_of_its_object(table, store) -> None:
    result = await table.append(rows(1))
    await commit(store, 1, result.files[0].to_json())
    (change,) = await feed(await DeltaTable.open(store, "t"))
    metas = {meta.key: meta.last_modified for meta in await list_all(store, "t/_delta_log/")}
    assert change.timestamp == metas[commit_key("t", 1)]


async def test_rows_have_the_schema_of_now(table, store) -> None:
    await table.append(rows(1))
    await table.add_columns([pa.field("w", pa.int64())])
    await table.append(pa.table({"k": [2], "w": [7]}))
    found = await feed(table, columns=["k", "w"])
    assert told(found) == [(1, "insert", 1, None), (3, "insert", 2, 7)]
    past = await DeltaTable.open(store, "t", version=1)
    assert (await feed(past))[0].rows.schema.names[:3] == ["k", "v", "p"]


async def test_another_type_is_refused_by_name(store) -> None:
    table = await DeltaTable.create(store, "t", pa.schema([("k", pa.int64()), ("v", pa.string())]))
    await table.append(pa.table({"k": [1], "v": ["a"]}))
    other = replace(table.metadata, schema_string=schema_to_json(pa.schema([("k", pa.int64()), ("v", pa.int64())])))
    await commit(store, 2, other.to_json(), {"remove": {"path": table.files()["path"][0].as_py(), "dataChange": True}})
    again = await DeltaTable.open(store, "t")
    await again.append(pa.table({"k": [1], "v": [2]}))
    for since in (None, 0, 1):
        with pytest.raises(UnsupportedOperationError, match=r"'v' of table 't' was string at version . and is int64"):
            await feed(again, since)
    assert told(await feed(again, 2)) == [(3, "insert", 1, 2)]
    assert told(await feed(again, columns=["k"])) == [(1, "insert", 1), (2, "delete", 1), (3, "insert", 1)]
    assert told(await feed(await DeltaTable.open(store, "t", version=1))) == [(1, "insert", 1, "a")]


async def test_columns_with_the_names_of_the_feed(store) -> None:
    schema = pa.schema([("k", pa.int64()), ("_change_type", pa.string())])
    with pytest.raises(InvalidInputError, match="'_change_type'"):
        await DeltaTable.create(store, "t", schema, configuration=FEED)
    plain = await DeltaTable.create(store, "t", schema)
    with pytest.raises(UnsupportedOperationError, match="'_change_type'"):
        await feed(plain)


async def test_a_vacuumed_file_is_named_with_its_version(table, store) -> None:
    await table.append(rows(1, 2))
    await table.upsert(rows(1, v=1), key=["k"])
    for meta in await list_all(store, "t/_change_data/"):
        await store.delete([meta.key])
        with pytest.raises(NotFoundError, match=rf"'{meta.key}' of version 2 of table 't' is gone"):
            await feed(table, 1)
    assert [each.version for each in await feed(table, 0, until=1)] == [1]


async def test_a_cleaned_log_is_said(table, store) -> None:
    for key in range(5):
        await table.append(rows(key))
    await table.checkpoint()
    await store.delete([commit_key("t", version) for version in range(3)])
    again = await DeltaTable.open(store, "t")
    for since in (None, 0, 1):
        with pytest.raises(TableVersionNotFoundError, match="cleaned up, the oldest that is left is of version 3"):
            await feed(again, since)
    assert [each.version for each in await feed(again, 2)] == [3, 4, 5]  # what was there before is not known
    await store.delete([commit_key("t", 4)])
    with pytest.raises(CorruptLogError, match="gap: entry 4 is missing"):
        await feed(again, 2)


async def test_files_outside_of_the_table_and_unknown_features_are_refused(table, store) -> None:
    await table.append(rows(1))
    await commit(store, 2, {"cdc": {"path": "s3://other/x", "size": 1, "partitionValues": {}, "dataChange": False}})
    with pytest.raises(UnsupportedFeatureError, match=r"version 2 .* absolute path"):
        await feed(table)
    protocol = Protocol(3, 7, ("catalogOwned",), ("catalogOwned",))
    tailing = (await DeltaTable.open(store, "t", version=1)).snapshot
    with pytest.raises(UnsupportedFeatureError, match="catalogOwned"):
        feeding._followed(tailing, feeding_entry(protocol), feeding._Asked(None, None, None, None, None, True, (0, 0)))


def feeding_entry(protocol: Protocol):
    from buffetstore.tables.log import parse_entry

    return parse_entry(write_actions([protocol]), "t", 2)


async def test_requests(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)
    for key in range(3):
        await table.append(rows(key))
    counting = CountingStore(store)
    again = await DeltaTable.open(counting, "t")
    counting.reset()
    await feed(again, 3)
    assert dict(counting.requests) == {"get": 1}  # is there news?
    counting.reset()
    await feed(again)
    assert dict(counting.requests) == {"get": 1 + 4 + 3}


async def test_many_windows(table, monkeypatch) -> None:
    monkeypatch.setattr(feeding, "_WINDOW", 3)
    for key in range(8):
        await table.append(rows(key))
    assert [each.rows["k"].to_pylist() for each in await feed(table)] == [[key] for key in range(8)]


async def test_following_what_comes(store) -> None:
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    writer = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)
    reader = await DeltaTable.open(counting := CountingStore(store), "t")
    reader._head.committer = replace(reader._head.committer, sleep=sleep)
    seen = []

    async def follow() -> None:
        async with aclosing(reader.changes(0, tail=True, until=6, poll_seconds=(0.5, 2.0))) as changes:
            async for change in changes:
                seen.append(change)  # noqa: PERF401 - is looked at while it grows

    task = asyncio.create_task(follow())
    await come(lambda: len(waits) >= 4)
    assert waits[:4] == [0.5, 1.0, 2.0, 2.0]
    assert counting.requests["get"] <= len(waits) + 3
    await writer.append(rows(1))
    await writer.add_columns([pa.field("w", pa.int64())])
    await writer.upsert(pa.table({"k": [1], "v": [2], "w": [3]}), key=["k"])
    await come(lambda: len(seen) >= 2)
    assert seen[0].rows.schema.names[:-3] == ["k", "v", "p"]
    assert seen[1].rows.schema.names[:-3] == ["k", "v", "p", "w"]
    for key in range(3):
        await writer.append(rows(10 + key))
    await asyncio.wait_for(task, 30)
    assert [change.version for change in seen] == [1, 3, 4, 5, 6]


async def test_following_is_cancelled_at_once(table) -> None:
    await table.append(rows(1))
    seen = []

    async def follow() -> None:
        async for change in table.changes(tail=True, poll_seconds=(1000, 1000)):
            seen.append(change)  # noqa: PERF401 - is looked at while it grows

    task = asyncio.create_task(follow())
    await come(lambda: seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [change.version for change in seen] == [1]


async def test_a_follower_that_slept_finds_out_what_was_cleaned(table, store) -> None:
    now = [0]

    async def sleep(_seconds: float) -> None:
        now[0] += 2 * feeding._STALE
        if now[0] == 6 * feeding._STALE:
            for key in range(4):
                await other.append(rows(key))
            await other.checkpoint()
            await store.delete([commit_key("t", version) for version in (1, 2)])
        await asyncio.sleep(0)

    other = await DeltaTable.open(store, "t")
    table._head.committer = replace(table._head.committer, sleep=sleep, now=lambda: now[0])
    with pytest.raises(CorruptLogError, match="gap: entry 1"):
        await feed(table, tail=True)
    await store.delete([commit_key("t", 0)])
    now[0] = 7 * feeding._STALE
    with pytest.raises(TableVersionNotFoundError, match=r"version 1 .* cleaned up, the oldest that is left"):
        await feed(table, 0, tail=True)


@pytest.mark.parametrize("seed", range(4))
async def test_left_anywhere_and_resumed_each_row_comes_once(store, seed) -> None:
    random = Random(seed)
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED, partition_by=["p"])
    await play(random, table, steps=8)
    whole = told(await feed(table))
    faulty = FaultyStore(store, source=random_faults(random, 0.1))
    shaky = await DeltaTable.open(RetryStore(faulty, RetryPolicy(attempts=40, sleep=instantly)), "t")
    cursor: Cursor | None = None
    found: list[Change] = []

    async def some() -> None:
        nonlocal cursor
        async with aclosing(shaky.changes(cursor)) as changes:
            async for change in changes:
                found.append(change)
                cursor = Cursor.parse(str(change.cursor))

    for _ in range(200):
        task = asyncio.create_task(some())
        for _ in range(random.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        if not (await asyncio.gather(task, return_exceptions=True))[0]:
            break
    await some()
    assert told(found) == whole


async def play(random: Random, table: DeltaTable, steps: int) -> None:
    for step in range(steps):
        keys = random.sample(range(12), random.randint(1, 5))
        new = rows(*keys, v=step, p=random.choice("ab"))
        bound = Comparison("k", "<", random.randrange(12))
        match random.choice(["append", "upsert", "upsert", "delete", "overwrite", "predicate", "restore"]):
            case "append":
                await table.append(new)
            case "upsert":
                await table.upsert(new, key=["k"], placed_by=["p"])
            case "delete":
                await table.delete(bound)
            case "overwrite":
                await table.overwrite(new)
            case "predicate":
                await table.overwrite(new.filter(pc.less(new["k"], bound.value)), predicate=bound)
            case _:
                await table.restore(random.randint(0, table.version))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("seed", range(6))
async def test_the_changes_make_the_table(seed, enabled) -> None:
    """Each version is the one before and its changes, whatever the store answered."""
    random = Random(seed)
    inner = MemoryStore()
    store = RetryStore(
        FaultyStore(inner, source=random_faults(random, 0.15)), RetryPolicy(attempts=40, sleep=instantly)
    )
    table = await DeltaTable.create(
        store, "t", SCHEMA, configuration=FEED if enabled else {}, partition_by=["p"][seed % 2 :]
    )
    table._head.committer = replace(table._head.committer, sleep=instantly)
    await play(random, table, steps=12)
    held: list[tuple] = []
    changes = await feed(await DeltaTable.open(inner, "t"))
    for version in range(table.version + 1):
        for change in (each for each in changes if each.version == version):
            for row in change.rows.to_pylist():
                values = (row["k"], row["v"], row["p"])
                if row["_change_type"] in {"delete", "update_preimage"}:
                    held.remove(values)
                else:
                    held.append(values)
        past = await DeltaTable.open(inner, "t", version=version)
        assert sorted(held) == sorted(tuple(row.values()) for row in (await past.to_arrow()).to_pylist())


def foreign_changes(folder: str) -> list[tuple]:
    deltalake = pytest.importorskip("deltalake")
    found = pa.table(deltalake.DeltaTable(folder).load_cdf(starting_version=0)).to_pylist()
    return sorted(
        ((row["_commit_version"], row["_change_type"], row["k"], row["v"], row["p"]) for row in found), key=repr
    )


@pytest.mark.parametrize("seed", range(6))
async def test_deltalake_and_we_tell_the_same_of_both(tmp_path, seed) -> None:
    deltalake = pytest.importorskip("deltalake")
    random = Random(seed)
    folder = str(tmp_path / "t")
    partitions = ["p"] if seed % 2 else []
    if seed < 3:
        table = await DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA, configuration=FEED, partition_by=partitions)
    else:
        schema = deltalake.Schema.from_arrow(SCHEMA)
        deltalake.DeltaTable.create(folder, schema, configuration=FEED, partition_by=partitions)
        table = await DeltaTable.open(LocalStore(tmp_path), "t")
    for step in range(12):
        await table.refresh()
        if random.random() < 0.5:
            await play(random, table, steps=1)
            continue
        new = rows(*random.sample(range(12), random.randint(1, 5)), v=step, p=random.choice("ab"))
        theirs = deltalake.DeltaTable(folder)
        match random.choice(["append", "merge", "delete", "update", "overwrite"]):
            case "append":
                deltalake.write_deltalake(folder, new, mode="append")
            case "merge":
                merging = theirs.merge(new, "t.k = s.k", source_alias="s", target_alias="t")
                merging.when_matched_update_all().when_not_matched_insert_all().execute()
            case "delete":
                theirs.delete(f"k < {random.randrange(12)}")
            case "update":
                theirs.update({"v": "v + 100"}, predicate=f"k < {random.randrange(12)}")
            case _:
                deltalake.write_deltalake(folder, new, mode="overwrite")
    changes = await feed(table)
    assert told(changes) == foreign_changes(folder)
    theirs = pa.table(deltalake.DeltaTable(folder).load_cdf(starting_version=0))
    stamps = {(row["_commit_version"], row["_commit_timestamp"].replace(tzinfo=UTC)) for row in theirs.to_pylist()}
    assert {(change.version, change.timestamp) for change in changes} == stamps
    found = sorted(tuple(row.values()) for row in (await table.to_arrow()).to_pylist())
    assert found == sorted(
        (row["k"], row["v"], row["p"]) for row in deltalake.DeltaTable(folder).to_pyarrow_table().to_pylist()
    )


async def test_a_doubled_key_that_goes_is_deleted(table) -> None:
    await table.append(rows(1, 1, 2))
    await table.upsert(rows(1, v=1), key=["k"])
    (change,) = await feed(table, 1)
    assert change.rows["_change_type"].to_pylist() == ["delete", "update_preimage", "update_postimage"]


async def test_files_are_made_where_they_are_needed_only(table, store) -> None:
    await table.append(rows(1, 2))
    await table.append(rows(5))
    await table.upsert(rows(9), key=["k"])  # inserts alone
    await table.delete(Comparison("k", "==", 5))  # a whole file
    await table.overwrite(rows(9, v=1), predicate=Comparison("k", "==", 9))  # a whole file
    assert await list_all(store, "t/_change_data/") == []
    await table.delete(Comparison("k", "==", 1))
    assert len(await list_all(store, "t/_change_data/")) == 1
    plain = await DeltaTable.create(store, "plain", SCHEMA)
    await plain.append(rows(1, 2))
    await plain.delete(Comparison("k", "==", 1))
    assert await list_all(store, "plain/_change_data/") == []


async def test_the_protocol_is_the_lowest_that_serves(table, store) -> None:
    assert table.snapshot.protocol == Protocol(1, 4)
    assert (await DeltaTable.create(store, "plain", SCHEMA)).snapshot.protocol == Protocol(1, 2)
    body = [Protocol(1, 7, (), ("changeDataFeed",)), Metadata("id", schema_to_json(SCHEMA), configuration=FEED)]
    await store.put(commit_key("seven", 0), write_actions(body))
    seven = await DeltaTable.open(store, "seven")
    await seven.append(rows(1, 2))
    await seven.delete(Comparison("k", "==", 1))
    assert len(await list_all(store, "seven/_change_data/")) == 1


async def test_a_lost_commit_leaves_no_change_files(table, store) -> None:
    await table.append(rows(1, 2))
    other = await DeltaTable.open(store, "t")
    await other.upsert(rows(2, v=1), key=["k"])
    await table.upsert(rows(2, v=2), key=["k"])  # planned on the version before, then anew
    told_of = {
        json.loads(line)["cdc"]["path"]
        for version in range(table.version + 1)
        for line in (await raw(store, version)).splitlines()
        if "cdc" in json.loads(line)
    }
    assert {meta.key.removeprefix("t/") for meta in await list_all(store, "t/_change_data/")} == told_of
    assert told(await feed(table, 2)) == [
        (3, "update_postimage", 2, 2, "x y"),
        (3, "update_preimage", 2, 1, "x y"),
    ]
