"""Of a large file only what a question needs is read, in one round where its footer is known."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from buffetstore.errors import CorruptFileError, NotFoundError
from buffetstore.expressions import Comparison
from buffetstore.formats import ParquetFormatter
from buffetstore.formats.footer import contents_of
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.objects.helpers import get_bytes
from buffetstore.tables import DeltaTable, row_group_index, row_group_store
from buffetstore.tables.reading import read_tables
from buffetstore.tables.row_group_index import FOLDER, FOOTER_TAG, index_of, parsed, rendered
from buffetstore.tables.row_groups import UNKNOWN_WHOLE_BYTES, WHOLE_BYTES, StoreSource
from buffetstore.testing import CountingStore

SCHEMA = pa.schema(
    [("symbol", pa.string()), ("day", pa.int32()), *((name, pa.float64()) for name in ("price", "high", "low", "beta"))]
)
SYMBOLS = 300
LATENCY = 0.005
ONE = Comparison("symbol", "==", "S007")


def rows(day: int, count: int = 60_000) -> pa.Table:
    rng = np.random.default_rng(day)
    names = pa.array([f"S{at:03}" for at in range(SYMBOLS)]).take(pa.array(np.arange(count) * SYMBOLS // count))
    values = {name: rng.random(count) for name in SCHEMA.names[2:]}
    return pa.table({"symbol": names, "day": np.full(count, day), **values}, schema=SCHEMA)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def no_tags(monkeypatch) -> None:
    monkeypatch.setattr(row_group_index, "_TAG_CHARACTERS", 0)


async def made(store: MemoryStore, days: int, *, compacted: bool = False) -> list[pa.Table]:
    formatter = ParquetFormatter(row_group_rows=50_000)
    held = [rows(day) for day in range(days)]
    configuration = {"buffetstore.key": "symbol,day"}
    async with DeltaTable.create(store, "t", SCHEMA, configuration=configuration, formatter=formatter) as table:
        for each in held:
            await table.append(each)
        if compacted:
            await table.compact()
    return held


def expected(held: list[pa.Table], columns: list[str]) -> list[dict]:
    found = pa.concat_tables(held).filter(pa.compute.equal(pa.concat_tables(held)["symbol"], "S007"))
    return found.sort_by([("day", "ascending"), ("price", "ascending")]).select(columns).to_pylist()


async def asked(table: DeltaTable, columns: list[str]) -> list[dict]:
    found = await table.to_arrow(list(dict.fromkeys(["day", "price", *columns])), ONE)
    return found.sort_by([("day", "ascending"), ("price", "ascending")]).select(columns).to_pylist()


async def chunk_bytes(table: DeltaTable, columns: list[str]) -> int:
    needed = 0
    for path in table.files()["path"].to_pylist():
        metadata = pq.read_metadata(pa.BufferReader(await get_bytes(table.store, f"t/{path}")))
        contents = contents_of(metadata, SCHEMA, None, None)
        needed += sum(end - start for start, end in contents.ranges(columns, contents.groups(ONE)))
    return needed


async def test_files_that_were_just_written_are_read_in_one_round(store) -> None:
    held = await made(store, 4)
    counting = CountingStore(store, latency_seconds=LATENCY)
    async with DeltaTable.open(counting, "t") as table:
        assert min(table.files()["size"].to_pylist()) > WHOLE_BYTES
        assert counting.round_trips == 2
        counting.reset()
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])
        assert counting.round_trips == 1
        assert counting.total <= 1 + 4 * 2, "two spans of a file at most"
        assert counting.bytes_in <= 1.5 * await chunk_bytes(table, ["symbol", "day", "price"])
        assert counting.requests["list_objects"] == 0


@pytest.mark.usefixtures("no_tags")
async def test_after_compaction_a_cold_process_needs_three_rounds(store) -> None:
    held = await made(store, 6, compacted=True)
    counting = CountingStore(store, latency_seconds=LATENCY)
    async with DeltaTable.open(counting, "t") as table:
        assert table.files().num_rows == 1
        assert table.files()["size"][0].as_py() > UNKNOWN_WHOLE_BYTES
        assert (table.snapshot.row_groups.entries.num_rows, table.snapshot.row_groups.fault) == (1, None)
        assert counting.round_trips == 2
        counting.bytes_in = 0
        before = counting.total
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])
        assert counting.round_trips == 3
        assert counting.total - before <= 2
        read = counting.bytes_in
        assert read <= 1.5 * await chunk_bytes(table, ["symbol", "day", "price"])
        assert read < table.files()["size"][0].as_py() / 4, "one row group of seven"


@pytest.mark.usefixtures("no_tags")
async def test_who_compacts_knows_the_footers_too(store) -> None:
    counting = CountingStore(store, latency_seconds=LATENCY)
    await made(store, 6)
    async with DeltaTable.open(counting, "t") as table:
        await table.compact()
        await asyncio.sleep(LATENCY)  # a listing that was left early ends
        counting.reset()
        await asked(table, ["price"])
        assert (counting.round_trips, dict(counting.requests)) == (1, {"get": 1})


@pytest.mark.usefixtures("no_tags")
async def test_without_an_index_the_footer_is_read_first(store, monkeypatch) -> None:
    held = await made(store, 6, compacted=True)
    await store.delete([meta.key async for meta in store.list_objects(f"t/{FOLDER}")])
    counting = CountingStore(store, latency_seconds=LATENCY)
    async with DeltaTable.open(counting, "t") as table:
        assert "cannot be had" in (table.snapshot.row_groups.fault or "")
        counting.reset()
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])
        assert counting.round_trips == 2
    monkeypatch.setattr("buffetstore.tables.row_groups._FOOTER_GUESS", 16)
    async with DeltaTable.open(store, "t") as table:
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"]), "of a longer footer"


async def index_key(store: MemoryStore) -> str:
    (key,) = [meta.key async for meta in store.list_objects(f"t/{FOLDER}")]
    return key


@pytest.mark.usefixtures("no_tags")
@pytest.mark.parametrize("how", ["cut", "flipped", "table", "format", "size", "garbage", "no footer", "empty"])
async def test_an_index_that_is_not_right_is_not_used(store, how) -> None:
    held = await made(store, 6, compacted=True)
    key = await index_key(store)
    data = await get_bytes(store, key)
    index = parsed(data, key.rpartition("/")[2])
    (path,), (size,) = index.paths.to_pylist(), index.entries["size"].to_pylist()
    version = row_group_index.FORMAT_VERSION
    if how == "format":
        row_group_index.FORMAT_VERSION = 2
    try:
        data = {
            "cut": lambda: data[: len(data) // 2],
            "flipped": lambda: data[:100] + bytes([data[100] ^ 1]) + data[101:],
            "table": lambda: rendered(replace(index, table_id="another")),
            "format": lambda: rendered(index),
            "size": lambda: rendered(index_of([(path, size + 1, index.footer(path, size))], index.table_id, 9, "x")),
            "garbage": lambda: b"not at all",
            "no footer": lambda: rendered(index_of([(path, size, b"PAR1")], index.table_id, 9, "x")),
            "empty": lambda: b"",
        }[how]()
    finally:
        row_group_index.FORMAT_VERSION = version
    await store.put(key, data)
    async with DeltaTable.open(store, "t") as table:
        assert (table.snapshot.row_groups.fault is None) == (how in {"size", "no footer"})
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])
        assert await asked(table, ["beta"]) == expected(held, ["beta"])


@pytest.mark.parametrize("name", ["../../secret", 7, "0" * 20 + "-" + "0" * 16 + ".arrow"])
async def test_a_hint_that_names_something_else_does_no_harm(store, name) -> None:
    await made(store, 2)
    async with DeltaTable.open(store, "t") as table:
        await table.checkpoint()
    hint = json.loads(await get_bytes(store, "t/_delta_log/_last_checkpoint"))
    await store.put(
        "t/_delta_log/_last_checkpoint", json.dumps(hint | {"tags": {row_group_index.HINT_TAG: name}}).encode()
    )
    async with DeltaTable.open(store, "t") as table:
        assert table.snapshot.row_groups.entries.num_rows == 0
        assert len(await asked(table, ["day"])) == 400


async def test_a_checkpoint_takes_the_footers_out_of_the_log(store) -> None:
    held = await made(store, 3)
    async with DeltaTable.open(store, "t") as table:
        assert all(dict(tags)[FOOTER_TAG] for tags in table.files()["tags"].to_pylist())
        await table.checkpoint()
        assert table.snapshot.row_groups.entries.num_rows == 3
    async with DeltaTable.open(store, "t") as table:
        assert not any(dict(tags or ()).get(FOOTER_TAG) for tags in table.files()["tags"].to_pylist())
        assert table.snapshot.row_groups.entries.num_rows == 3
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])
        await table.append(rows(3, 10))
        name = table.snapshot.row_groups.name
        await table.checkpoint()
        assert table.snapshot.row_groups.name == name, "no large file has come: the index stays"
        await table.append(rows(4))
        await table.checkpoint()
        assert table.snapshot.row_groups.entries.num_rows == 4
        assert len([meta async for meta in store.list_objects(f"t/{FOLDER}")]) == 2


async def test_old_indexes_are_deleted(store, monkeypatch) -> None:
    monkeypatch.setattr(row_group_store, "_KEPT", timedelta(0))
    await made(store, 1)
    async with DeltaTable.open(store, "t") as table:
        for day in range(3):
            await table.append(rows(day))
            await table.checkpoint()
        name = table.snapshot.row_groups.name
    assert await index_key(store) == f"t/{FOLDER}{name}"


async def test_an_index_holds_no_more_than_it_may(store, monkeypatch) -> None:
    held = await made(store, 3)
    monkeypatch.setattr(row_group_index, "MOST_BYTES", 2_500)
    async with DeltaTable.open(store, "t") as table:
        await table.checkpoint()
    async with DeltaTable.open(store, "t") as table:
        assert 0 < table.snapshot.row_groups.entries.num_rows < 3
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])


async def test_a_failed_index_fails_no_checkpoint(store, monkeypatch) -> None:
    await made(store, 1)

    class Refusing(CountingStore):
        async def put(self, key, data, **options):
            if FOLDER in key:
                raise CorruptFileError("no")
            return await super().put(key, data, **options)

    async with DeltaTable.open(Refusing(store), "t") as table:
        assert await table.checkpoint() is not None
    async with DeltaTable.open(store, "t") as table:
        assert len(await asked(table, ["day"])) == 200


async def test_a_tag_of_another_file_is_not_believed(store) -> None:
    held = await made(store, 2)
    async with DeltaTable.open(store, "t") as table:
        one, other = table.files()["tags"].to_pylist()
        files = table.files().set_column(5, "tags", pa.array([other, one], table.files()["tags"].type))
        told = [
            row_group_index.raw_footer(row_group_index.NO_ROW_GROUPS, {**file, "tags": dict(file["tags"])})
            for file in files.to_pylist()
        ]
        assert told == [None, None]
        read = read_tables(store, table.snapshot, files, formatter=ParquetFormatter(), columns=["day"], predicate=ONE)
        async with aclosing(read) as tables:
            assert [each["day"][0].as_py() async for each in tables] == [0, 1]
    assert len(held) == 2


async def test_a_rewritten_file_does_not_keep_the_tag_of_the_one_before(store) -> None:
    held = await made(store, 1)
    async with DeltaTable.open(store, "t") as table:
        before = table.files().to_pylist()[0]
        await table.delete(Comparison("symbol", "==", "S001"))
        after = table.files().to_pylist()[0]
        assert dict(after["tags"])[FOOTER_TAG] != dict(before["tags"])[FOOTER_TAG]
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])


@pytest.mark.parametrize("how", ["shorter", "longer", "other"])
async def test_a_large_file_that_is_not_what_the_log_says_is_named(store, how) -> None:
    await made(store, 1)
    async with DeltaTable.open(store, "t") as table:
        key = f"t/{table.files()['path'][0].as_py()}"
        data = await get_bytes(store, key)
        damaged = bytearray(data)
        damaged[1000:-5000] = bytes(len(data) - 6000)
        await store.put(key, {"shorter": data[: len(data) // 20], "longer": data + b"x", "other": bytes(damaged)}[how])
        with pytest.raises(CorruptFileError, match=rf"'{key}' of version 1 of table 't' is damaged"):
            await table.to_arrow(["day", "price"], ONE)
        await store.delete([key])
        with pytest.raises(NotFoundError, match=rf"'{key}' of version 1 of table 't' is gone"):
            await table.to_arrow(["day", "price"], ONE)


async def test_leaving_early_leaves_nothing_behind(store) -> None:
    await made(store, 4)

    class Slow(CountingStore):
        async def get(self, key, **options):
            if key.endswith(".parquet") and self.requests["get"] > 12:
                await asyncio.sleep(3600)
            return await super().get(key, **options)

    async with DeltaTable.open(Slow(store), "t") as table:
        before = asyncio.all_tasks()
        async with aclosing(table.scan(["day"], ONE)) as batches:
            async for _ in batches:
                break
        assert asyncio.all_tasks() == before
        reading = asyncio.create_task(table.to_arrow(["day"], ONE))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert asyncio.all_tasks() == before


@pytest.mark.usefixtures("no_tags")
async def test_the_first_rows_of_a_large_file_are_read_alone(store) -> None:
    await made(store, 6, compacted=True)
    counting = CountingStore(store)
    async with DeltaTable.open(counting, "t") as table:
        every = await table.to_arrow()
        size = table.files()["size"][0].as_py()
        groups = pq.read_metadata(pa.BufferReader(await get_bytes(store, f"t/{table.files()['path'][0].as_py()}")))
        first = groups.row_group(0).num_rows
        for rows_, expected_rows in ((1, first), (first, first), (first + 1, 2 * first), (10**7, every.num_rows)):
            counting.reset()
            read = read_tables(counting, table.snapshot, table.files(), formatter=ParquetFormatter(), rows=rows_)
            async with aclosing(read) as tables:
                (found,) = [each async for each in tables]
            assert abs(found.num_rows - expected_rows) <= 1
            assert found.equals(every.slice(0, found.num_rows))
            assert (counting.bytes_in < size / 2) == (rows_ <= first + 1)


@pytest.mark.usefixtures("no_tags")
async def test_an_index_that_tells_of_other_row_groups_is_found_out(store) -> None:
    held = await made(store, 6, compacted=True)
    key = await index_key(store)
    index = parsed(await get_bytes(store, key), key.rpartition("/")[2])
    (path,), (size,) = index.paths.to_pylist(), index.entries["size"].to_pylist()
    other = bytes(ParquetFormatter(row_group_rows=50_000).encode(pa.concat_tables([rows(7), rows(8)])).data)
    footer = other[-int.from_bytes(other[-8:-4], "little") - 8 :]
    await store.put(key, rendered(index_of([(path, size, footer)], index.table_id, index.version, "x")))
    async with DeltaTable.open(store, "t") as table:
        assert table.snapshot.row_groups.footer(path, size) == footer
        assert await asked(table, ["day", "price"]) == expected(held, ["day", "price"])


async def test_other_engines_read_beside_the_index(tmp_path) -> None:
    deltalake, duckdb, polars = (pytest.importorskip(name) for name in ("deltalake", "duckdb", "polars"))
    store = LocalStore(tmp_path)
    await made(store, 2)
    async with DeltaTable.open(store, "t") as table:
        await table.checkpoint()
        await table.append(rows(2))
    assert "tags" in json.loads((tmp_path / "t/_delta_log/_last_checkpoint").read_text())
    assert deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 180_000
    assert polars.scan_delta(str(tmp_path / "t")).select(polars.len()).collect().item() == 180_000
    try:
        found = duckdb.sql(f"SELECT count(*) FROM delta_scan('{tmp_path / 't'}')").fetchall()
    except duckdb.Error:
        return  # its extension cannot be had here
    assert found == [(180_000,)]


async def test_a_file_is_read_by_parts_at_most(store) -> None:
    await store.put("file", bytes(range(256)) * 40_000)
    source = StoreSource(store)
    size = 256 * 40_000
    spans = [(10, 20), (300, 400), (9_000_000, 9_000_100)]
    assert [bytes(each) for each in await source.chunks("file", size, spans)] == [
        (bytes(range(256)) * 40_000)[start:end] for start, end in spans
    ]
    with pytest.raises(CorruptFileError, match=f"it has {size} bytes"):
        await source.chunks("file", size + 1, spans)
    with pytest.raises(CorruptFileError):
        await source.chunks("file", 2 * size, [(size + 10, size + 20)])
