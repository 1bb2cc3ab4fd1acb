"""Columns are renamed, dropped and widened for every reader, beside other writers, and as an Arrow table would be."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import CommitConflictError, InvalidInputError, StorageError, UnsupportedFeatureError
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.objects.helpers import get_text
from buffetstore.tables import DeltaTable
from buffetstore.tables.schema_changes import wider

SCHEMA = pa.schema([
    pa.field("k", pa.int32(), nullable=False), ("s", pa.string()), ("p", pa.decimal128(10, 2)), ("f", pa.float32()),
])  # fmt: skip


def rows(start: int, count: int = 3) -> pa.Table:
    numbers = range(start, start + count)
    return pa.table(
        [
            list(numbers),
            [None if n % 3 == 0 else f"s{n % 2}" for n in numbers],
            [Decimal(n) / 4 for n in numbers],
            [n / 2 for n in numbers],
        ],
        schema=SCHEMA,
    )


@pytest.fixture
async def table(store):
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        await table.append(rows(0))
        await table.append(rows(3))
        yield table


async def sorted_rows(table: DeltaTable) -> list[dict]:
    return sorted((await table.to_arrow()).to_pylist(), key=lambda row: min(map(repr, row.values())))


async def test_a_renamed_column_is_read_by_every_engine(tmp_path) -> None:
    deltalake = pytest.importorskip("deltalake")
    polars = pytest.importorskip("polars")
    async with DeltaTable.create(LocalStore(tmp_path), "t", SCHEMA, partition_by=["s"]) as table:
        await table.append(rows(0, 6))
        assert await table.rename_column("p", "price") == 2
        assert await table.drop_column("f") == 3
        assert await table.widen_column("k", pa.int64()) == 4
        await table.append(pa.table({"k": [2**40], "s": ["new"], "price": [Decimal("0.25")]}))
        ours = (await table.to_arrow()).select(["k", "s", "price"]).sort_by("k")
        assert table.schema.names == ["k", "s", "price"]
        assert table.snapshot.protocol.min_reader_version == 1
    theirs = deltalake.DeltaTable(tmp_path / "t").to_pyarrow_table().select(["k", "s", "price"]).sort_by("k")
    assert theirs.to_pylist() == ours.to_pylist()
    frame = polars.read_delta(str(tmp_path / "t")).select("k", "s", "price").sort("k")
    assert frame.to_dicts() == ours.to_pylist()
    async with DeltaTable.open(LocalStore(tmp_path), "t", version=1) as before:
        assert (await before.to_arrow()).sort_by("k").select(SCHEMA.names).equals(rows(0, 6))


async def test_rows_are_neither_added_nor_removed(table) -> None:
    await table.rename_column("s", "word")
    text = await get_text(table.store, "t/_delta_log/00000000000000000003.json")
    assert text.count('"dataChange":false') == 4
    assert '"dataChange":true' not in text


async def test_statistics_prune_by_the_new_name(table) -> None:
    await table.rename_column("k", "key")
    assert (await table.find_files(Comparison("key", ">", 3))).num_rows == 1
    await table.widen_column("p", pa.decimal128(20, 4))
    assert (await table.find_files(Comparison("p", ">", Decimal(1)))).num_rows == 1
    found = await table.to_arrow(filters=Comparison("p", ">", Decimal("1.2")))
    assert found["p"].to_pylist() == [Decimal("1.2500")]


async def test_nothing_changes_where_it_is_so_already(table) -> None:
    assert await table.rename_column("k", "k") == 2
    assert await table.widen_column("k", pa.int32()) == 2
    assert await table.rename_column("k", "K") == 3
    assert table.schema.names[0] == "K"


async def test_an_empty_table_is_changed(store) -> None:
    async with DeltaTable.create(store, "e", SCHEMA) as table:
        await table.rename_column("k", "x")
        await table.append(rows(0).rename_columns(["x", "s", "p", "f"]))
        assert (await table.to_arrow()).num_rows == 3


@pytest.mark.parametrize(("change", "why"), [
    (lambda table: table.rename_column("no", "x"), "no column 'no'"),
    (lambda table: table.rename_column("no", "no"), "no column 'no'"),
    (lambda table: table.rename_column("k", "S"), "there is 's'"),
    (lambda table: table.rename_column("k", ""), "not empty"),
    (lambda table: table.drop_column("no"), "no column 'no'"),
    (lambda table: table.widen_column("k", pa.int16()), "do not all fit"),
    (lambda table: table.widen_column("k", pa.string()), "do not all fit"),
    (lambda table: table.widen_column("p", pa.decimal128(11, 4)), "do not all fit"),
    (lambda table: table.widen_column("no", pa.int64()), "no column 'no'"),
])  # fmt: skip
async def test_what_cannot_be_is_refused(table, change, why) -> None:
    with pytest.raises(InvalidInputError, match=why):
        await change(table)
    assert table.version == 2


async def test_the_last_column_stays(store) -> None:
    async with DeltaTable.create(
        store, "o", pa.schema([("a", pa.int64()), ("b", pa.int64())]), partition_by=["b"]
    ) as table:
        with pytest.raises(InvalidInputError, match="last"):
            await table.drop_column("a")


async def test_a_column_that_something_mentions_stays(store) -> None:
    settings = {"buffetstore.key": "k,s", "delta.dataSkippingStatsColumns": "`f`"}
    schema = SCHEMA.append(pa.field("b", pa.bool_()))
    async with DeltaTable.create(store, "m", schema, partition_by=["b"], configuration=settings) as table:
        await table.add_constraint("positive", "p > 0 OR p IS NULL")
        for name, mention in (
            ("p", "'positive'"),
            ("b", "partitioning by b"),
            ("k", "buffetstore.key"),
            ("f", "Stats"),
        ):
            for change in (table.rename_column(name, "other"), table.drop_column(name)):
                with pytest.raises(InvalidInputError, match=mention):
                    await change
        with pytest.raises(InvalidInputError, match="'positive'"):
            await table.widen_column("p", pa.decimal128(12, 2))
        await table.drop_constraint("positive")
        await table.rename_column("p", "other")


async def test_others_who_come_first_are_kept_and_each_file_is_rewritten_once(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA) as ours, DeltaTable.open(store, "t") as theirs:
        await ours.append(rows(0))
        await theirs.refresh()
        written, commit = [], ours._head.commit
        put = store.put

        async def counted(key, *args, **options):
            written.append(key)
            return await put(key, *args, **options)

        async def late(*args, **options):
            if theirs.version == 1:
                await theirs.append(rows(3))
                store.put = counted
            return await commit(*args, **options)

        ours._head.commit = late
        await ours.rename_column("s", "word")
        assert sorted((await ours.to_arrow())["k"].to_pylist()) == list(range(6))
        assert len([key for key in written if key.endswith(".parquet")]) == 1
        with pytest.raises(CommitConflictError, match="metadata"):
            await theirs.append(rows(6))


async def parquet_files(store) -> list[str]:
    return [meta.key async for meta in store.list_objects("t/") if meta.key.endswith(".parquet")]


async def test_a_change_that_fails_or_is_cancelled_leaves_nothing(store, table) -> None:
    before = await parquet_files(store)
    gone = table.files()["path"][1].as_py()
    await store.copy(f"t/{gone}", "kept")
    await store.delete([f"t/{gone}"])
    with pytest.raises(StorageError, match="gone"):
        await table.rename_column("s", "word")
    await store.copy("kept", f"t/{gone}")
    assert sorted(await parquet_files(store)) == sorted(before)

    reached, go_on = asyncio.Event(), asyncio.Event()
    write_parts = type(table._writer).write_parts

    async def slow(self, snapshot, parts):
        found = await write_parts(self, snapshot, parts)
        reached.set()
        await go_on.wait()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(table._writer), "write_parts", slow)
        running = asyncio.create_task(table.rename_column("s", "word"))
        await reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert table.version == 2
    assert (await table.to_arrow()).num_rows == 6
    assert await table.rename_column("s", "word") == 3


async def test_a_column_with_a_history_of_types_is_left_alone(store) -> None:
    field = pa.field("k", pa.int64(), metadata={"delta": '{"delta.typeChanges": []}'})
    async with DeltaTable.create(store, "h", pa.schema([field, ("n", pa.int64())])) as table:
        with pytest.raises(UnsupportedFeatureError, match="history of types"):
            await table.rename_column("k", "x")
        await table.rename_column("n", "x")


@pytest.mark.parametrize(("own", "kind", "fits"), [
    (pa.int8(), pa.int16(), True), (pa.int64(), pa.int32(), False), (pa.int32(), pa.float64(), True),
    (pa.int64(), pa.float64(), False), (pa.int32(), pa.float32(), False), (pa.float64(), pa.float32(), False),
    (pa.int64(), pa.decimal128(19), True), (pa.int64(), pa.decimal128(20, 2), False),
    (pa.int64(), pa.decimal128(21, 2), True),
    (pa.int8(), pa.decimal128(3), True), (pa.int8(), pa.decimal128(2), False),
    (pa.decimal128(10, 2), pa.decimal128(12, 4), True), (pa.decimal128(10, 2), pa.decimal128(12, 1), False),
    (pa.decimal128(10, 2), pa.float64(), False), (pa.string(), pa.int64(), False),
    (pa.date32(), pa.timestamp("us", "UTC"), False),
])  # fmt: skip
def test_wider_types_hold_every_value(own, kind, fits) -> None:
    assert wider(own, kind) is fits
    if fits and pa.types.is_integer(own):
        limits = pa.array([-(2 ** (own.bit_width - 1)), 2 ** (own.bit_width - 1) - 1], own)
        assert [int(value) for value in limits.cast(kind).to_pylist()] == limits.to_pylist()


TYPES = {"i": pa.int8(), "l": pa.int32(), "d": pa.decimal128(6, 2), "f": pa.float32(), "s": pa.string()}
WIDER = {
    pa.int8(): pa.int32(), pa.int32(): pa.decimal128(14, 2), pa.decimal128(6, 2): pa.decimal128(9, 4),
    pa.float32(): pa.float64(),
}  # fmt: skip
VALUES = {
    "i": st.integers(-128, 127), "l": st.integers(-(2**31), 2**31 - 1), "f": st.floats(width=32, allow_nan=False),
    "d": st.decimals(-9999, 9999, places=2), "s": st.text(max_size=3),
}  # fmt: skip
BATCHES = st.lists(
    st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=3),
    max_size=3,
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["rename", "drop", "widen", "delete"]),
        st.integers(0, 4),
        st.text("abcxyz", min_size=1, max_size=2),
    ),
    max_size=4,
)


@given(BATCHES, CHANGES)
def test_a_table_is_changed_as_an_arrow_table_is(batches, changes) -> None:
    schema = pa.schema(list(TYPES.items()))

    async def play() -> None:
        async with DeltaTable.create(MemoryStore(), "t", schema) as table:
            model = schema.empty_table()
            for batch in batches:
                more = pa.Table.from_pylist(batch, schema=schema)
                await table.append(more)
                model = pa.concat_tables([model, more])
            for kind, at, name in changes:
                model = await changed(table, model, kind, model.column_names[at % model.num_columns], name)
                found = await table.to_arrow()
                assert found.schema.names == model.schema.names
                assert found.schema.types == model.schema.types
                assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, model.to_pylist()))
                async with DeltaTable.open(table.store, "t") as again:
                    assert (await again.to_arrow()).equals(found)

    asyncio.run(play())


async def changed(table: DeltaTable, model: pa.Table, kind: str, column: str, name: str) -> pa.Table:
    own = model.schema.field(column).type
    if kind == "rename" and name.casefold() not in {each.casefold() for each in model.column_names}:
        await table.rename_column(column, name)
        return model.rename_columns([name if each == column else each for each in model.column_names])
    if kind == "drop" and model.num_columns > 1:
        await table.drop_column(column)
        return model.drop_columns([column])
    if kind == "widen" and own in WIDER:
        await table.widen_column(column, WIDER[own])
        at = model.column_names.index(column)
        return model.set_column(at, pa.field(column, WIDER[own]), pc.cast(model[column], WIDER[own]))
    if kind == "delete" and pa.types.is_integer(own):
        await table.delete(Comparison(column, ">", 0))
        return model.filter(pc.invert(pc.fill_null(pc.greater(model[column], 0), False)))
    return model
