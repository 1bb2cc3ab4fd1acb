"""What commits said of themselves outlives their log entries."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from buffetstore.errors import CorruptFileError, CorruptLogError, UnavailableError, UnsupportedFeatureError
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore, get_bytes, list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable, kept_history
from buffetstore.tables.checkpoint_writer import write_checkpoint
from buffetstore.tables.kept_history import FOLDER
from buffetstore.tables.log import commit_key
from buffetstore.tables.log_cleanup import clean_log

SCHEMA = pa.schema([("k", pa.int64())])
DAY = 86_400_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LAST = 20  # version
HISTORY = f"t/{FOLDER}"


class Aged(StoreWrapper):
    """A store whose log entries were written one every other day, up to now."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.days = {}
        for version in range(LAST + 1):
            for key in (commit_key("t", version), f"t/_delta_log/{version:020}.checkpoint.parquet"):
                self.days[key] = 2 * (LAST - version)

    async def list_objects(self, prefix="", *, after=""):
        async for meta in self.inner.list_objects(prefix, after=after):
            yield replace(meta, last_modified=NOW - timedelta(days=self.days.get(meta.key, 0)))


class Failing(Aged):
    """It fails to delete, as when a process is killed before."""

    async def delete(self, keys):
        raise UnavailableError(f"{len(keys)} keys were not deleted")


async def filled(store, schema: pa.Schema = SCHEMA) -> DeltaTable:
    table = await DeltaTable.create(store, "t", schema)
    for n in range(1, LAST + 1):
        await table.append(pa.table({"k": [n]}), user_metadata=f"job {n}")
        if n % 5 == 0:
            await write_checkpoint(store, "t", n)
    return table


@pytest.fixture
async def table() -> DeltaTable:
    return await filled(Aged(MemoryStore()))


async def clean(table: DeltaTable, days: int = 10) -> int:
    return await clean_log(table.store, "t", days * DAY, table.metadata.id)


async def kept(store) -> dict[str, bytes]:
    return {meta.key.removeprefix(HISTORY): await get_bytes(store, meta.key) for meta in await list_all(store, HISTORY)}


async def entries(store) -> list[int]:
    keys = [meta.key for meta in await list_all(store, "t/_delta_log/")]
    return [int(key[-25:-5]) for key in keys if key.endswith(".json")]


async def test_history_goes_on_where_the_log_ends(table) -> None:
    before = await table.history()
    assert await clean(table) > 0
    assert min(await entries(table.store)) == 15
    assert list(await kept(table.store)) == [f"{0:020}-{14:020}.json.gz"]
    assert await table.history() == before
    assert [record async for record in table.history()] == before
    assert await table.history(8) == before[:8]
    assert await table.history(3) == before[:3]
    assert [record.user_metadata for record in before[:-1]] == [f"job {n}" for n in range(LAST, 0, -1)]
    assert len({record.committed_at for record in before}) == LAST + 1


async def test_what_can_be_read_is_what_it_was(table) -> None:
    await clean(table)
    for version in range(15, LAST + 1):
        past = await DeltaTable.open(table.store, "t", timestamp=NOW - timedelta(days=2 * (LAST - version)))
        assert (past.version, (await past.to_arrow()).num_rows) == (version, version)


async def test_cleaned_bit_by_bit_and_in_pieces(table, monkeypatch) -> None:
    before = await table.history()
    assert await clean(table, 30) > 0
    monkeypatch.setattr(kept_history, "MOST_COMMITS", 4)
    assert await clean(table, 20) > 0
    ranges = [(int(name[:20]), int(name[21:41])) for name in await kept(table.store)]
    assert ranges == [(0, 4), (5, 8), (9, 9)]
    assert await table.history() == before
    monkeypatch.setattr(kept_history, "_MOST_BYTES", 1)
    assert await clean(table, 10) > 0
    assert len(await kept(table.store)) == 3 + 5
    assert await table.history() == before


async def test_killed_between_keeping_and_deleting() -> None:
    inner = MemoryStore()
    table = await filled(Failing(inner))
    before = await table.history()
    with pytest.raises(UnavailableError):
        await clean(table)
    there = await kept(inner)
    assert there
    assert await table.history() == before
    again = await DeltaTable.open(Aged(inner), "t")
    assert await clean(again) > 0
    assert await kept(inner) == there
    assert await again.history() == before
    assert 0 not in await entries(inner)


async def test_two_clean_up_at_once(table) -> None:
    before = await table.history()
    later = Aged(table.store.inner)
    other = await DeltaTable.open(later, "t")
    await asyncio.gather(clean(table, 30), clean(other), clean(other), clean(table))
    assert await table.history() == before


async def test_history_is_whole_while_it_is_cleaned_up(table) -> None:
    before = await table.history()
    for version in (0, 7, 14, 15, LAST):

        class Cleaned(Aged):
            begun = False

            async def get(self, key, *, at=version, **options):
                if key == commit_key("t", at) and not self.begun:
                    self.begun = True
                    await clean_log(self.inner, "t", 10 * DAY, table.metadata.id)
                return await self.inner.get(key, **options)

        copy = MemoryStore()
        held = table.store.inner
        copy._objects, copy._keys = dict(held._objects), list(held._keys)
        reader = await DeltaTable.open(Cleaned(Aged(copy)), "t")
        assert await reader.history() == before
        assert 14 not in await entries(copy)


async def test_others_clean_up_without_keeping(table) -> None:
    before = await table.history()
    await table.store.delete([commit_key("t", version) for version in range(8)])
    assert await table.history() == before[:-8]
    await clean(table)
    assert await table.history() == before[:-8]
    assert [name[:20] for name in await kept(table.store)] == [f"{8:020}"]


async def test_a_damaged_one_is_named_and_stops_nothing_else(table) -> None:
    before = await table.history()
    await clean(table, 30)
    ((name, data),) = (await kept(table.store)).items()
    lines = gzip.decompress(data).splitlines(keepends=True)
    for damaged in (b"", b"junk", data[:-20], gzip.compress(lines[0] + b"".join(lines[2:])), gzip.compress(b"[]\n")):
        await table.store.put(HISTORY + name, damaged)
        with pytest.raises(CorruptFileError, match=name):
            await table.history()
    assert await table.history(5) == before[:5]
    assert await clean(table) > 0
    await table.append(pa.table({"k": [99]}))
    assert (await (await DeltaTable.open(table.store, "t")).to_arrow()).num_rows == LAST + 1
    assert (await table.verify()).ok
    await table.store.put(HISTORY + name, data)
    assert (await table.history())[1:] == before


async def test_a_damaged_one_is_written_again_while_the_entries_are_there() -> None:
    inner = MemoryStore()
    table = await filled(Failing(inner))
    before = await table.history()
    with pytest.raises(UnavailableError):
        await clean(table)
    ((name, data),) = (await kept(inner)).items()
    await inner.put(HISTORY + name, data[:50])
    again = await DeltaTable.open(Aged(inner), "t")
    await clean(again)
    assert await kept(inner) == {name: data}
    assert await again.history() == before


async def test_what_was_kept_of_another_table_is_not_told(table) -> None:
    await clean(table)
    store = table.store
    await store.delete([meta.key for meta in await list_all(store, "t/") if FOLDER not in meta.key])
    other = await filled(store)
    before = await other.history()
    await store.delete([commit_key("t", version) for version in range(3)])
    assert await other.history() == before[:-3]
    await store.delete([commit_key("t", version) for version in range(3, 15)])
    assert await other.history() == before[:-15]


async def test_a_table_in_the_place_of_another_keeps_its_own(table) -> None:
    await clean(table)
    store = table.store
    await store.delete([meta.key for meta in await list_all(store, "t/") if FOLDER not in meta.key])
    other = await filled(store)
    before = await other.history()
    assert await clean(other) > 0
    assert await other.history() == before


async def test_they_are_no_orphans_and_are_not_vacuumed(table) -> None:
    await clean(table)
    held = await kept(table.store)
    await table.delete(Comparison("k", ">", 0))
    report = await table.verify()
    assert report.ok
    assert not any("history" in path for path in report.orphans["path"].to_pylist())
    await table.vacuum(retention=timedelta(0), allow_short_retention=True)
    assert await kept(table.store) == held


async def test_entries_that_say_nothing_or_are_damaged(table) -> None:
    await table.store.put(commit_key("t", 3), b"{}\n")
    await table.store.put(commit_key("t", 4), b'{"commitInfo": {"timestamp"')
    await table.store.put(commit_key("t", 5), b'{"commitInfo": {"timestamp": "x"}}\n')
    await clean(table)
    assert [record.version for record in await table.history(LAST - 5)] == list(range(LAST, 5, -1))
    with pytest.raises(CorruptLogError, match="version 5 of table 't'"):
        await table.history()
    ((_, data),) = (await kept(table.store)).items()
    held = [json.loads(line) for line in gzip.decompress(data).splitlines()]
    assert [commit["commitInfo"] for commit in held[4:6]] == [None, None]


async def test_what_this_format_looks_like_is_read(table) -> None:
    """Format 1, as it was written first: every later version reads it."""
    await clean(table)
    (name,) = await kept(table.store)
    body = b'{"version":2,"committed":1700000000000000,"commitInfo":{"operation":"WRITE","userMetadata":"m"}}\n'
    head = {"format_version": 1, "table_id": table.metadata.id, "sha256": hashlib.sha256(body).hexdigest()}
    await table.store.put(HISTORY + name, gzip.compress(json.dumps(head).encode() + b"\n" + body))
    (record,) = (await table.history())[6:]
    assert (record.version, record.operation, record.user_metadata) == (2, "WRITE", "m")
    assert record.committed_at == datetime.fromtimestamp(1_700_000_000, UTC)
    newer = json.dumps(head | {"format_version": 2}).encode()
    await table.store.put(HISTORY + name, gzip.compress(newer + b"\n" + body))
    with pytest.raises(UnsupportedFeatureError, match="format_version 2"):
        await table.history()


async def test_checkpoints_in_the_background_keep_it() -> None:
    store = Aged(MemoryStore())
    configuration = {"delta.logRetentionDuration": "interval 10 days", "delta.checkpointInterval": "5"}
    async with DeltaTable.create(store, "t", SCHEMA, configuration=configuration) as table:
        for n in range(1, LAST + 1):
            await table.append(pa.table({"k": [n]}), user_metadata=f"job {n}")
            await table._checkpointer.drain()  # or one that is overtaken is left out
    assert 9 not in await entries(store)
    assert await kept(store)
    again = await DeltaTable.open(store, "t")
    assert [record.user_metadata for record in await again.history()][:-1] == [f"job {n}" for n in range(LAST, 0, -1)]
