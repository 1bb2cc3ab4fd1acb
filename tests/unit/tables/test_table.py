from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from buffetstore.errors import (
    AlreadyExistsError,
    CorruptFileError,
    InvalidInputError,
    InvalidQueryError,
    NotFoundError,
    TableNotFoundError,
    TableVersionNotFoundError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from buffetstore.expressions import And, Comparison, IsIn
from buffetstore.objects.helpers import list_all
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.testing import CountingStore

SCHEMA = pa.schema([pa.field("k", pa.int64(), nullable=False), ("v", pa.string()), ("created_at", pa.int64())])


def rows(*keys: int, v: str | None = "a", created_at: int = 0) -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys), "created_at": [created_at] * len(keys)}, schema=SCHEMA)


def in_twos(table: pa.Table) -> list[DataPart]:
    return [DataPart(table.slice(n, 2), f"day={n}", "AAPL_v1", {}, {"bucket": str(n)}) for n in range(0, len(table), 2)]


async def as_dict(table: DeltaTable) -> dict:
    return dict(sorted((row["k"], row["v"]) for row in (await table.to_arrow()).to_pylist()))


@pytest.fixture
async def table(store):
    return await DeltaTable.create(store, "raw/t", SCHEMA, name="numbers", description="for tests")


async def test_every_type_comes_back(store, every_type) -> None:
    table = await DeltaTable.create(store, "t", every_type.schema)
    await table.append(every_type)
    assert (await table.to_arrow()).equals(every_type)
    again = await DeltaTable.open(store, "t")
    assert again.schema.equals(every_type.schema)
    assert (await again.to_arrow()).equals(every_type)


async def test_what_a_table_says_of_itself(table, store) -> None:
    await table.append(rows(1, 2))
    again = await DeltaTable.open(store, "raw/t")
    assert (again.path, again.version, again.store) == ("raw/t", 1, store)
    assert (again.metadata.name, again.metadata.description) == ("numbers", "for tests")
    assert again.snapshot.protocol == table.snapshot.protocol
    assert (again.snapshot.protocol.min_reader_version, again.snapshot.protocol.min_writer_version) == (1, 2)
    assert abs(again.snapshot.timestamp - datetime.now(UTC)) < timedelta(hours=1)
    (file,) = again.snapshot.with_statistics().to_pylist()
    assert (file["num_records"], file["min.k"], file["max.k"], file["null_count.v"]) == (2, 1, 2, 0)
    assert file["commit_version"] == 1
    assert again.files().equals(table.files())


async def test_versions(table, store) -> None:
    for n in range(3):
        await table.append(rows(n))
    for version in range(4):
        past = await DeltaTable.open(store, "raw/t", version=version)
        assert sorted(await as_dict(past)) == list(range(version))
    with pytest.raises(UnsupportedOperationError, match="opened at version 3"):
        await past.append(rows(9))
    assert (await past.refresh()).version == 3
    for version in (4, -1):
        with pytest.raises(
            TableVersionNotFoundError, match=f"'raw/t' has no version {version}: there are versions 0 to 3"
        ):
            await DeltaTable.open(store, "raw/t", version=version)


async def test_there_or_not_there(table, store) -> None:
    with pytest.raises(AlreadyExistsError, match="'raw/t'"):
        await DeltaTable.create(store, "raw/t", SCHEMA)
    with pytest.raises(TableNotFoundError, match=r"no Delta table at 'raw/other'.*under 'raw/' there are t"):
        await DeltaTable.open(store, "raw/other")
    with pytest.raises(TableNotFoundError, match="there is nothing"):
        await DeltaTable.open(store, "nowhere/at/all")
    async with await DeltaTable.open(store, "raw/t") as opened:
        assert opened.version == 0


async def test_columns_and_predicates(table) -> None:
    await table.append(rows(*range(10)), layout=in_twos)
    found = await table.to_arrow(["v", "k"], And((Comparison("k", ">", 2), Comparison("k", "<", 5))))
    assert found.to_pydict() == {"v": ["a", "a"], "k": [3, 4]}
    assert (await table.find_files(Comparison("k", "==", 3))).num_rows == 1
    assert (await table.to_arrow(["k"], Comparison("k", "==", 99))).schema.equals(pa.schema([SCHEMA.field("k")]))
    assert (await table.to_arrow([])).num_rows == 10
    for ask in ({"columns": ["nope"]}, {"filters": Comparison("nope", "==", 1)}):
        with pytest.raises(InvalidQueryError, match="'raw/t' has no column 'nope': there are k, v, created_at"):
            await table.to_arrow(**ask)
    with pytest.raises(InvalidQueryError, match="'k' is int64 and cannot be compared with string"):
        await table.to_arrow(filters=Comparison("k", "==", "x"))


async def test_scan_yields_batches_and_can_be_left(table) -> None:
    await table.append(rows(*range(10)), layout=in_twos)
    batches = [batch async for batch in table.scan(["k"])]
    assert [batch.num_rows for batch in batches] == [2] * 5
    scanning = table.scan()
    async for _ in scanning:
        break
    await scanning.aclose()


async def test_a_fetcher_can_stand_in_for_the_store(table) -> None:
    await table.append(rows(1, 2, 3), layout=in_twos)
    asked = []

    async def fetch(key: str, size: int) -> bytes:
        asked.append((key, size))
        async with await table.store.get(key) as result:
            return await result.read()

    found = await table.read_files(await table.find_files(Comparison("k", "==", 3)), ["k"], fetch=fetch)
    assert found["k"].to_pylist() == [3]
    assert asked == [
        (f"raw/t/{path}", size)
        for path, size in zip(table.files()["path"].to_pylist()[1:], table.files()["size"].to_pylist()[1:], strict=True)
    ]


async def test_rows_that_do_not_fit_name_every_column(table) -> None:
    bad = pa.table({"k": [1, None], "v": [1.5, 2.5], "stray": [1, 2]})
    with pytest.raises(InvalidInputError) as caught:
        await table.append(bad)
    message = str(caught.value)
    assert "'stray' is not a column" in message
    assert "'k' has 1 nulls" in message
    with pytest.raises(InvalidInputError, match="required column 'k' is missing"):
        await table.append(pa.table({"v": ["x"]}))
    with pytest.raises(InvalidInputError, match="'k' is string"):
        await table.append(pa.table({"k": ["x"]}))
    assert table.version == 0


async def test_values_that_would_be_cut_are_refused(store) -> None:
    schema = pa.schema([("t", pa.timestamp("us", tz="UTC")), ("n", pa.int32()), ("p", pa.decimal128(5, 2))])
    table = await DeltaTable.create(store, "t", schema)
    for bad in (
        {"t": pa.array([1], pa.timestamp("ns", tz="UTC"))},
        {"t": pa.array([1], pa.timestamp("us"))},
        {"n": pa.array([2**40])},
        {"p": pa.array([Decimal("1.234")])},
    ):
        with pytest.raises(InvalidInputError, match="does not fit"):
            await table.append(pa.table(bad))
    await table.append(pa.table({"t": pa.array([1000], pa.timestamp("ns", tz="UTC")), "n": pa.array([5], pa.int64())}))
    assert (await table.to_arrow())["n"].to_pylist() == [5]


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.time64("us"), pa.uint64(), pa.duration("s"), pa.null()])
async def test_types_that_delta_lacks(store, kind) -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"'inner\.x'"):
        await DeltaTable.create(store, "t", pa.schema([("inner", pa.struct([("x", kind)]))]))


async def test_names_that_delta_refuses(store) -> None:
    with pytest.raises(InvalidInputError, match="'A' and 'a' differ by case only"):
        await DeltaTable.create(store, "t", pa.schema([("A", pa.int64()), ("a", pa.int64())]))
    with pytest.raises(InvalidInputError, match="partition_by"):
        await DeltaTable.create(store, "t", SCHEMA, partition_by=["nope"])
    with pytest.raises(InvalidInputError, match="at least one column"):
        await DeltaTable.create(store, "t", pa.schema([]))


async def test_appending_nothing_commits_nothing(table) -> None:
    assert (await table.append(rows())).version == 0
    assert (await table.overwrite(rows())).version == 0


async def test_layout_places_tags_and_partitions(table) -> None:
    result = await table.append(rows(*range(4)), layout=in_twos)
    assert [file.path.rpartition("-")[0].startswith("day=0/AAPL_v1-") for file in result.files] == [True, False]
    assert [dict(file["tags"]) for file in table.files().to_pylist()] == [{"bucket": "0"}, {"bucket": "2"}]


async def test_upsert_rewrites_in_place(table, store) -> None:
    await table.append(rows(*range(10)), layout=in_twos)
    untouched = set(table.files()["path"].to_pylist())
    counting = CountingStore(store)
    other = await DeltaTable.open(counting, "raw/t")
    counting.reset()
    result = await other.upsert(rows(2, 3, 20, v="b", created_at=9), key=["k"])
    assert (result.inserted, result.updated, result.unchanged, result.rewritten) == (1, 2, 0, 1)
    assert result.version == 2
    assert await as_dict(other) == {n: "b" if n in {2, 3, 20} else "a" for n in [*range(10), 20]}
    new = [file for file in other.files().to_pylist() if file["path"] not in untouched]
    assert new[0]["path"].startswith("day=2/AAPL_v1-")
    assert dict(new[0]["tags"]) == {"bucket": "2"}
    assert len(untouched & set(other.files()["path"].to_pylist())) == 4
    assert counting.requests["list_objects"] == 0


async def test_upsert_reads_only_what_may_match(table, store) -> None:
    await table.append(rows(*range(100)), layout=in_twos)
    counting = CountingStore(store)
    other = await DeltaTable.open(counting, "raw/t")
    counting.reset()
    await other.upsert(rows(50, v="b"), key=["k"])
    assert dict(counting.requests) == {"get": 1, "put": 2}


async def test_upsert_leaves_equal_rows_alone(table) -> None:
    await table.append(rows(1, 2, 3))
    result = await table.upsert(rows(1, 2, 3, created_at=77), key=["k"])
    assert (result.version, result.unchanged, result.files) == (1, 3, ())
    result = await table.upsert(rows(1, 2, 3, created_at=77), key=["k"], ignore=())
    assert (result.version, result.updated) == (2, 3)


async def test_upsert_compares_every_type_null_safely(store, every_type) -> None:
    table = await DeltaTable.create(store, "t", every_type.schema)
    numbered = every_type.set_column(7, "volume", pa.array(range(40), pa.int64()))
    await table.append(numbered)
    assert (await table.upsert(numbered, key=["volume"])).unchanged == 40
    for name in every_type.column_names:
        if name in {"volume", "nothing", "symbol"}:
            continue
        column = numbered[name].to_pylist()
        column[3], column[7] = column[4], column[8]  # a value for a value, and a value for a null
        if column[3] == numbered[name][3].as_py():
            column[3] = None
        index = numbered.schema.get_field_index(name)
        changed = numbered.set_column(
            index, numbered.schema.field(name), pa.array(column, numbered.schema.field(name).type)
        )
        result = await table.upsert(changed, key=["volume"])
        assert (name, result.updated, result.unchanged) == (name, 2, 38)
        assert (await table.to_arrow()).equals(changed)
        numbered = changed


async def test_upsert_by_keys_of_many_types_with_nulls(store) -> None:
    schema = pa.schema(
        [("s", pa.string()), ("p", pa.decimal128(18, 8)), ("x", pa.float64()), ("d", pa.date32()), ("v", pa.int64())]
    )
    table = await DeltaTable.create(store, "t", schema)
    keys = {
        "s": ["a", None, "b", "a"],
        "p": [Decimal(1), None, Decimal(2), Decimal(1)],
        "x": [1.0, math.nan, None, 2.0],
        "d": [date(2024, 1, 1), None, date(2024, 1, 2), date(2024, 1, 1)],
    }
    await table.append(pa.table({**keys, "v": [1, 2, 3, 4]}, schema=schema))
    assert (
        await table.upsert(pa.table({**keys, "v": [1, 2, 3, 4]}, schema=schema), key=["s", "p", "x", "d"])
    ).unchanged == 4
    result = await table.upsert(pa.table({**keys, "v": [1, 20, 3, 40]}, schema=schema), key=["s", "p", "x", "d"])
    assert (result.inserted, result.updated, result.unchanged) == (0, 2, 2)
    assert (await table.to_arrow())["v"].to_pylist() == [1, 20, 3, 40]


async def test_upsert_leaves_one_row_of_a_doubled_key(table) -> None:
    await table.append(rows(1, 2, 2))
    await table.append(rows(2, 3))
    result = await table.upsert(rows(2, v="b"), key=["k"])
    assert (result.inserted, result.updated, result.rewritten) == (0, 1, 2)
    assert sorted((await table.to_arrow())["k"].to_pylist()) == [1, 2, 3]
    assert (await as_dict(table))[2] == "b"
    await table.append(rows(3))
    assert (await table.upsert(rows(3), key=["k"])).updated == 1  # equal, but there twice
    assert sorted((await table.to_arrow())["k"].to_pylist()) == [1, 2, 3]


async def test_upsert_refuses_doubled_and_unknown_keys(table) -> None:
    with pytest.raises(InvalidInputError, match=r"1 keys come twice in the rows, the first is \{'k': 2\}"):
        await table.upsert(rows(1, 2, 2), key=["k"])
    for key in (["nope"], []):
        with pytest.raises(InvalidInputError, match="key"):
            await table.upsert(rows(1), key=key)
    assert (await table.upsert(rows(), key=["k"])).version == 0


@pytest.mark.parametrize("partitioned", [True, False])
async def test_upsert_moves_rows_whose_place_changes(store, partitioned) -> None:
    schema = pa.schema([("k", pa.int64()), ("place", pa.string()), ("v", pa.int64())])
    table = await DeltaTable.create(store, "t", schema, partition_by=["place"] if partitioned else ())
    await table.append(pa.table({"k": [1, 2, 3], "place": ["x", "x", "y"], "v": [0, 0, 0]}))
    new = pa.table({"k": [1, 3, 4], "place": ["y", "y", "x"], "v": [1, 0, 1]})
    result = await table.upsert(new, key=["k"], placed_by=["place"])
    assert (result.inserted, result.updated, result.unchanged) == (1, 1, 1)
    found = sorted((row["k"], row["place"], row["v"]) for row in (await table.to_arrow()).to_pylist())
    assert found == [(1, "y", 1), (2, "x", 0), (3, "y", 0), (4, "x", 1)]
    again = await DeltaTable.open(store, "t")
    there = await again.to_arrow(["k"], Comparison("place", "==", "x"))
    assert sorted(there["k"].to_pylist()) == [2, 4]


async def test_delete(table, store) -> None:
    await table.append(rows(*range(10)), layout=in_twos)
    result = await table.delete(IsIn("k", (0, 1, 2)))
    assert (result.deleted, result.removed, len(result.files)) == (3, 2, 1)
    assert sorted(await as_dict(table)) == list(range(3, 10))
    assert result.files[0].path.startswith("day=2/AAPL_v1-")
    assert (await table.delete(Comparison("k", "==", 99))).version == result.version
    await table.append(rows(50, v=None))
    assert (await table.delete(Comparison("v", "!=", "a"))).deleted == 0  # unknown is not true
    with pytest.raises(InvalidQueryError, match="nope"):
        await table.delete(Comparison("nope", "==", 1))


async def test_overwrite(table) -> None:
    await table.append(rows(1, 2))
    result = await table.overwrite(rows(7))
    assert (result.rows, result.version) == (1, 2)
    assert await as_dict(table) == {7: "a"}
    await table.overwrite(rows())
    assert table.files().num_rows == 0


async def test_append_only_tables_only_grow(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, configuration={"delta.appendOnly": "true"})
    await table.append(rows(1))
    for change in (table.delete(Comparison("k", "==", 1)), table.upsert(rows(1), key=["k"]), table.overwrite(rows(2))):
        with pytest.raises(UnsupportedOperationError, match="append-only"):
            await change


async def test_added_columns_are_null_in_older_files(table, store) -> None:
    await table.append(rows(1))
    assert await table.add_columns([pa.field("w", pa.decimal128(10, 2)), pa.field("note", pa.string())]) == 2
    await table.append(pa.table({"k": [2], "w": [Decimal("1.5")]}))
    again = await DeltaTable.open(store, "raw/t")
    assert (await again.to_arrow(["k", "w"])).to_pylist() == [{"k": 1, "w": None}, {"k": 2, "w": Decimal("1.50")}]
    assert (await again.to_arrow(["k"], Comparison("w", ">", Decimal(1))))["k"].to_pylist() == [2]
    assert (await again.upsert(pa.table({"k": [1], "v": ["a"], "note": ["n"]}), key=["k"])).updated == 1
    for field, fault in (
        (pa.field("k", pa.int64()), "is there already"),
        (pa.field("z", pa.int64(), nullable=False), "not nullable"),
    ):
        with pytest.raises(InvalidInputError, match=fault):
            await table.add_columns([field])


async def test_a_lost_data_file_is_named(table, store) -> None:
    result = await table.append(rows(1))
    key = f"raw/t/{result.files[0].path}"
    await store.put(key, b"PAR1 but not for long PAR1")
    with pytest.raises(CorruptFileError, match=rf"'{key}' of version 1 of table 'raw/t' is damaged"):
        await table.to_arrow()
    await store.delete([key])
    with pytest.raises(NotFoundError, match=rf"'{key}' of version 1 of table 'raw/t' is gone"):
        await table.to_arrow()
    with pytest.raises(NotFoundError):
        await table.upsert(rows(1), key=["k"])
    assert (await table.append(rows(2))).version == 2


async def test_a_failing_layout_or_put_leaves_nothing(table, store) -> None:
    before = [meta.key for meta in await list_all(store)]
    with pytest.raises(ZeroDivisionError):
        await table.append(rows(1), layout=lambda _: [1 / 0])
    with pytest.raises(Exception, match="segment"):
        await table.append(rows(1, 2), layout=lambda t: [DataPart(t.slice(0, 1)), DataPart(t.slice(1), "..")])
    assert [meta.key for meta in await list_all(store)] == before
    assert table.version == 0
