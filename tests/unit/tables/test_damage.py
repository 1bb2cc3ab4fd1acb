"""Any object of a table, damaged in any way: a typed error with version and path, and no wrong rows at any version."""

from __future__ import annotations

import pyarrow as pa
import pytest

from buffetstore.errors import (
    CorruptionError,
    CorruptLogError,
    InvalidInputError,
    InvalidQueryError,
    NotFoundError,
)
from buffetstore.expressions import Comparison
from buffetstore.objects.helpers import get_bytes, list_all
from buffetstore.tables import DeltaTable
from buffetstore.tables.log import commit_key

SCHEMA = pa.schema([("k", pa.int64()), ("place", pa.string())])
NEWEST = 6


def rows(*keys: int, place: str = "x") -> pa.Table:
    return pa.table({"k": list(keys), "place": [place] * len(keys)}, schema=SCHEMA)


@pytest.fixture
async def history(store) -> list[list[int]]:
    """Return the keys at each version; there is a checkpoint at version 3."""
    held: list[list[int]] = [[]]
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        for version in range(1, NEWEST + 1):
            if version == 5:
                await table.delete(Comparison("k", "==", 1))
                held.append([key for key in held[-1] if key != 1])
            else:
                await table.append(rows(version))
                held.append([*held[-1], version])
            if version == 3:
                await table.checkpoint()
    return held


async def keys_at(store, version: int | None) -> list[int]:
    async with DeltaTable.open(store, "t", version=version) as table:
        return sorted((await table.to_arrow())["k"].to_pylist())


DAMAGES = {
    "gone": None,
    "empty": lambda _: b"",
    "cut": lambda data: data[: len(data) - 7],
    "garbage": lambda _: b"\x00\xff no sense {]",
    "another's": lambda _: b"PAR1" + bytes(40) + b"PAR1",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_nothing_damaged_gives_wrong_rows(store, history, damage) -> None:
    broken: dict[str, set[int]] = {}
    told: set[str] = set()
    for meta in await list_all(store, "t/"):
        data = bytes(await get_bytes(store, meta.key))
        change = DAMAGES[damage]
        if change is None:
            await store.delete([meta.key])
        else:
            await store.put(meta.key, change(data))
        for version in (*range(NEWEST + 1), None):
            number = NEWEST if version is None else version
            if version is None and change is None and meta.key == commit_key("t", NEWEST):
                number = NEWEST - 1  # nothing tells that there was a later one
            try:
                assert await keys_at(store, version) == history[number], (meta.key, version)
            except (CorruptionError, NotFoundError) as error:
                told.add(str(error))
                broken.setdefault(meta.key, set()).add(number)
        await store.put(meta.key, data)
    assert all("'t" in message for message in told), told
    for version in range(NEWEST + 1):
        # What came before the damaged entry is not touched by it.
        assert broken.get(commit_key("t", version), set()) <= set(range(version, NEWEST + 1))
    assert broken.get(commit_key("t", 5)), "an entry after the checkpoint is needed"
    assert "t/_delta_log/_last_checkpoint" not in broken, "it is a hint"
    assert any(key.endswith(".parquet") and "_delta_log" not in key for key in broken), "data files are needed"
    assert await keys_at(store, None) == history[NEWEST]


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
@pytest.mark.parametrize("write", ["append", "upsert", "delete", "overwrite"])
async def test_nobody_writes_over_a_damaged_entry(store, history, write, damage) -> None:
    """The entry after the one that a writer knows is damaged."""
    table = await DeltaTable.open(store, "t")
    before = {meta.key for meta in await list_all(store, "t/")}
    key = commit_key("t", NEWEST + 1)
    body = DAMAGES[damage](bytes(await get_bytes(store, commit_key("t", NEWEST))))
    await store.put(key, body)
    writes = {
        "append": lambda: table.append(rows(100)),
        "upsert": lambda: table.upsert(rows(2, place="y"), key=["k"]),
        "delete": lambda: table.delete(Comparison("k", "==", 2)),
        "overwrite": lambda: table.overwrite(rows(7)),
    }
    with pytest.raises(CorruptLogError, match=f"{NEWEST + 1}"):
        await writes[write]()
    assert bytes(await get_bytes(store, key)) == body
    assert await keys_at(store, NEWEST) == history[NEWEST]
    await store.delete([key])
    await writes[write]()  # mended, and this writer goes on
    assert (await DeltaTable.open(store, "t")).version == NEWEST + 1
    assert before < {meta.key for meta in await list_all(store, "t/")}


async def test_a_gap_after_the_newest_known_version(store, history) -> None:
    async with DeltaTable.open(store, "t", version=4):
        pass
    await store.delete([commit_key("t", 5)])
    with pytest.raises(CorruptLogError, match="5"):
        await DeltaTable.open(store, "t")
    assert await keys_at(store, 4) == history[4]


async def test_a_data_file_deleted_under_a_writer(store, history) -> None:
    async with DeltaTable.open(store, "t") as table:
        gone = f"t/{table.files()['path'][0].as_py()}"
        await store.delete([gone])
        for work in (
            table.to_arrow(),
            table.delete(Comparison("place", "==", "x")),
            table.upsert(rows(2, place="y"), key=["k"]),
        ):
            with pytest.raises(NotFoundError, match=f"{gone}.*version {NEWEST}"):
                await work
        assert (await table.append(rows(50))).version == NEWEST + 1
        assert (await table.overwrite(rows(1))).version == NEWEST + 2  # which needs no old file
    assert await keys_at(store, None) == [1]


async def test_an_empty_table_answers_everything(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA, partition_by=["place"]) as table:
        assert (await table.to_arrow()).equals(SCHEMA.empty_table())
        assert (await table.to_arrow(["place"], Comparison("k", ">", 1))).num_rows == 0
        assert [batch async for batch in table.scan() if batch.num_rows] == []
        assert (await table.delete(Comparison("k", "==", 1))).deleted == 0
        assert (await table.overwrite(rows())).rows == 0
        assert (await table.compact()).files_removed == 0
        await table.checkpoint()
        assert table.version == 0
        assert (await table.upsert(rows(1), key=["k"])).inserted == 1


PLACES = ["a/b", "a b", "a%20b", "日経/é", "..", ".", "x=y", "it's", "#?&", " ", "__HIVE_DEFAULT_PARTITION__", None]


async def test_odd_partition_values_are_written_changed_and_deleted(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA, partition_by=["place"]) as table:
        await table.append(pa.table({"k": list(range(len(PLACES))), "place": PLACES}, schema=SCHEMA))
        moved = pa.table({"k": list(range(len(PLACES))), "place": PLACES[1:] + PLACES[:1]}, schema=SCHEMA)
        assert (await table.upsert(moved, key=["k"])).updated == len(PLACES)
        for place in PLACES:
            if place is not None:
                found = await table.to_arrow(["k"], Comparison("place", "==", place))
                assert found["k"].to_pylist() == [PLACES[1:].index(place) if place != PLACES[0] else len(PLACES) - 1]
                assert (await table.delete(Comparison("place", "==", place))).deleted == 1
    assert await keys_at(store, None) == [len(PLACES) - 2]


async def test_what_is_not_there_is_named_and_nothing_is_done(store, history) -> None:
    before = {meta.key for meta in await list_all(store, "t/")}
    async with DeltaTable.open(store, "t") as table:
        nope = Comparison("nope", "==", 1)
        for work in (
            table.to_arrow(None, nope),
            table.delete(nope),
            table.overwrite(rows(1), predicate=nope),
            table.compact(predicate=nope),
        ):
            with pytest.raises(InvalidQueryError, match="'nope'"):
                await work
        for wrong in (pa.table({"k": ["text"]}), pa.table({"other": [1]}), pa.table({"k": [2.5]})):
            for work in (table.append(wrong), table.overwrite(wrong), table.upsert(wrong, key=["k"])):
                with pytest.raises(InvalidInputError, match="do not fit"):
                    await work
        assert table.version == NEWEST
    assert {meta.key for meta in await list_all(store, "t/")} == before
