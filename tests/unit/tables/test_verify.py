"""What is wrong with a table is told by name; what needs no guess is mended."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest

from buffetstore.errors import NotFoundError, UnsupportedOperationError
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.tables import DeltaTable
from buffetstore.tables.log import commit_key
from buffetstore.testing import CountingStore

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])
HINT = "t/_delta_log/_last_checkpoint"


def rows(*keys: int, v: str | None = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


@pytest.fixture
async def table(store) -> DeltaTable:
    table = await DeltaTable.create(store, "t", SCHEMA)
    for key in range(5):
        await table.append(rows(2 * key, 2 * key + 1))
    return table


async def path_of(table: DeltaTable, key: int) -> str:
    return (await table.find_files(Comparison("k", "==", key)))["path"][0].as_py()


async def put(store, key: str, data: bytes) -> None:
    await store.put(key, data)


async def test_a_whole_table_is_ok(table) -> None:
    told: list[tuple[int, int]] = []
    report = await table.verify()
    deep = await table.verify(deep=True, progress=lambda *numbers: told.append(numbers))
    for each in (report, deep):
        assert each.ok
        assert (each.version, each.files, each.orphans.num_rows) == (5, 5, 0)
        assert str(each).endswith(": ok")
    assert told[-1] == (deep.bytes, deep.bytes)
    assert len(told) == 5


async def test_every_type_is_within_its_bounds(store, every_type) -> None:
    table = await DeltaTable.create(store, "t", every_type.schema)
    await table.append(every_type)
    await table.append(every_type.slice(0, 1))
    assert (await table.verify(deep=True)).ok
    await table.checkpoint()
    assert (await (await DeltaTable.open(store, "t")).verify(deep=True)).ok


async def test_it_takes_one_listing_and_nothing_for_each_file(store, table) -> None:
    await table.checkpoint()
    counting = CountingStore(store)
    verified = await DeltaTable.open(counting, "t")
    counting.reset()
    assert (await verified.verify()).ok
    assert counting.requests["list_objects"] == 1
    # the next entry, the hint, the checkpoint, and the six entries that it is compared with
    assert counting.requests["get"] == 9
    counting.reset()
    await verified.verify(deep=True)
    assert counting.requests["get"] == 9 + 5


async def test_missing_and_truncated_files_are_named(store, table) -> None:
    gone, cut = await path_of(table, 1), await path_of(table, 2)
    await store.delete([f"t/{gone}"])
    whole = await get_bytes(store, f"t/{cut}")
    await put(store, f"t/{cut}", whole[:-10])
    report = await table.verify()
    assert not report.ok
    assert report.missing == (gone,)
    assert report.wrong_size == {cut: (len(whole), len(whole) - 10)}
    text = str(report)
    assert "NOT ok" in text
    assert f"missing: {gone}" in text
    assert f"wrong size: {cut}: {len(whole) - 10} bytes, the log says {len(whole)}" in text
    deep = await table.verify(deep=True)
    assert list(deep.corrupt) == [cut]


async def test_a_flipped_byte_is_found_by_reading(store, table) -> None:
    path = await path_of(table, 3)
    data = bytearray(await get_bytes(store, f"t/{path}"))
    for at in range(4, 60):
        data[at] ^= 0xFF
    await put(store, f"t/{path}", bytes(data))
    assert (await table.verify()).ok
    report = await table.verify(deep=True)
    assert list(report.corrupt) == [path]
    assert "cannot be read" in str(report)


async def edited(store, version: int, change) -> None:
    """Write an entry of the log again with other actions."""
    key = commit_key("t", version)
    actions = [json.loads(line) for line in (await get_bytes(store, key)).splitlines()]
    for action in actions:
        change(action)
    await put(store, key, "\n".join(map(json.dumps, actions)).encode())


async def test_rows_and_bounds_that_the_log_tells_wrongly_are_found(store, table) -> None:
    def lie(action) -> None:
        if "add" in action:
            told = json.loads(action["add"]["stats"])
            told["numRecords"] += 1
            told["maxValues"]["k"] -= 1
            told["nullCount"]["v"] += 1
            action["add"]["stats"] = json.dumps(told)

    await edited(store, 2, lie)
    table = await DeltaTable.open(store, "t")
    path = table.files()["path"][1].as_py()
    assert (await table.verify()).ok
    report = await table.verify(deep=True)
    assert report.rows_mismatch == {path: (3, 2)}
    assert report.bounds_mismatch == {path: ("k", "v")}
    assert f"outside of its bounds: {path}: k, v" in str(report)
    unmended = (await table.repair(deep=True)).unmended
    assert len(unmended) == 2
    assert all(path in each for each in unmended)


async def test_orphans_are_listed_with_their_age_and_are_no_fault() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    store = MemoryStore(now=lambda: now)
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1))
    await store.put("t/left/over.parquet", b"123")
    await store.put("t/_hidden/file", b"123")
    report = await table.verify()
    assert report.ok
    assert report.orphans["path"].to_pylist() == ["left/over.parquet"]
    assert report.orphan_ages(now + timedelta(hours=3)) == {"left/over.parquet": timedelta(hours=3)}
    assert "1 files that this version does not refer to" in str(report)


async def test_a_version_can_be_verified(store, table) -> None:
    await table.compact()
    pinned = await DeltaTable.open(store, "t", version=3)
    report = await pinned.verify(deep=True)
    assert (report.ok, report.version, report.files) == (True, 3, 3)


async def test_a_hole_in_the_log_is_told(store, table) -> None:
    await table.checkpoint()
    await table.append(rows(99))
    await store.delete([commit_key("t", 3)])
    table = await DeltaTable.open(store, "t")
    report = await table.verify()
    assert report.gaps == (3,)
    assert "entry of the log missing: 3" in str(report)
    assert any("entry 3" in each for each in (await table.repair()).unmended)


@pytest.mark.parametrize(
    ("hint", "fault"),
    [
        (b"{", "is not JSON"),
        (b"[]", "names no version"),
        (b'{"version": 3, "size": 1}', "names version 3, of which there is no complete checkpoint"),
        (None, "is missing, the newest checkpoint is of version 5"),
    ],
)
async def test_a_damaged_hint_is_written_anew(store, table, hint, fault) -> None:
    await table.checkpoint()
    whole = json.loads(await get_bytes(store, HINT))
    await (store.delete([HINT]) if hint is None else put(store, HINT, hint))
    assert fault in ((await table.verify()).last_checkpoint or "")
    planned = await table.repair()
    assert (planned.last_checkpoint, planned.dry_run) == (True, True)
    assert not (await table.verify()).ok
    done = await table.repair(dry_run=False)
    assert (done.last_checkpoint, done.version, done.removed) == (True, 5, ())
    mended = json.loads(await get_bytes(store, HINT))
    assert mended == {name: whole[name] for name in ("version", "size", "sizeInBytes")}
    assert (await table.verify()).ok


async def test_a_hint_to_nothing_is_deleted(store, table) -> None:
    await put(store, HINT, b'{"version": 77}')
    assert (await table.repair(dry_run=False)).last_checkpoint
    with pytest.raises(NotFoundError):
        await get_bytes(store, HINT)
    assert (await table.verify()).ok


async def test_a_checkpoint_that_differs_from_the_log_is_told(store, table) -> None:
    await table.checkpoint()

    def rename(action) -> None:
        if "add" in action:
            action["add"]["path"] = "other.parquet"

    await edited(store, 2, rename)
    report = await table.verify()
    assert "it differs from the log in 2 data files" in report.checkpoints[5]
    assert any("checkpoint of version 5" in each for each in (await table.repair()).unmended)


async def test_a_damaged_checkpoint_is_told(store, table) -> None:
    await table.checkpoint()
    await put(store, f"t/_delta_log/{5:020}.checkpoint.parquet", b"PAR1 no")
    report = await table.verify()
    assert "cannot be read" in report.checkpoints[5]


class TestRepair:
    async def test_missing_files_are_taken_out(self, store, table) -> None:
        gone = await path_of(table, 1)
        await store.delete([f"t/{gone}"])
        planned = await table.repair()
        assert (planned.removed, planned.version) == ((gone,), 5)
        assert table.version == 5
        with pytest.raises(NotFoundError):
            await table.to_arrow()
        done = await table.repair(dry_run=False)
        assert (done.removed, done.version, done.unmended) == ((gone,), 6, ())
        assert sorted((await table.to_arrow())["k"].to_pylist()) == list(range(2, 10))
        assert (await table.verify(deep=True)).ok
        entry = (await get_bytes(store, commit_key("t", 6))).decode()
        assert '"operation":"FSCK"' in entry
        assert '"dataChange":true' in entry
        assert (await table.repair(dry_run=False)).version == 6

    async def test_a_file_that_is_back_stays(self, store, table) -> None:
        gone = f"t/{await path_of(table, 1)}"
        data = await get_bytes(store, gone)
        await store.delete([gone])
        report = await table.verify()
        await put(store, gone, data)
        from buffetstore.tables.operations.repair import repair

        assert (await repair(table._head, report, dry_run=False)).removed == ()
        assert (await table.to_arrow()).num_rows == 10

    async def test_other_writers_may_write_meanwhile(self, store, table) -> None:
        gone = f"t/{await path_of(table, 1)}"
        await store.delete([gone])
        other = await DeltaTable.open(store, "t")
        await other.append(rows(50))
        await other.delete(Comparison("k", "==", 3))
        done = await table.repair(dry_run=False)
        assert done.version == 8
        assert sorted((await table.to_arrow())["k"].to_pylist()) == [2, 4, 5, 6, 7, 8, 9, 50]

    async def test_what_cannot_be_mended_is_told(self, store, table) -> None:
        cut = await path_of(table, 2)
        await put(store, f"t/{cut}", b"short")
        done = await table.repair(dry_run=False)
        assert (done.removed, done.version) == ((), 5)
        assert any("restore the file from a backup" in each for each in done.unmended)

    async def test_an_append_only_table_loses_no_file(self, store) -> None:
        table = await DeltaTable.create(store, "t", SCHEMA, configuration={"delta.appendOnly": "true"})
        await table.append(rows(1))
        await store.delete([f"t/{await path_of(table, 1)}"])
        assert len((await table.repair()).removed) == 1
        with pytest.raises(UnsupportedOperationError, match="append-only"):
            await table.repair(dry_run=False)


async def test_it_is_told_to_the_hook(store) -> None:
    told = []
    table = await DeltaTable.create(store, "t", SCHEMA, hook=told.append)
    await table.verify()
    assert [each.counts["ok"] for each in told if each.name == "table.verify"] == [1]


async def test_random_damage_is_found(store) -> None:
    """Whatever files are lost or cut, exactly those are named."""
    random = Random(7)
    table = await DeltaTable.create(store, "t", SCHEMA)
    for key in range(40):
        await table.append(rows(key))
    paths = table.files()["path"].to_pylist()
    hurt = random.sample(paths, 12)
    for path in hurt[:6]:
        await store.delete([f"t/{path}"])
    for path in hurt[6:]:
        await put(store, f"t/{path}", b"x" * random.randrange(300))
    report = await table.verify()
    assert set(report.missing) == set(hurt[:6])
    assert set(report.wrong_size) == set(hurt[6:])
    assert len(str(report).splitlines()) == 13
    assert len(str(replace(report, missing=tuple(paths))).splitlines()) == 1 + 11 + 6
