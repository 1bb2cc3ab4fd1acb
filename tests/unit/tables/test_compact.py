"""Compaction: the rows stay what they are, whoever else writes, whatever fails, whenever it is interrupted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffetstore.errors import CorruptFileError, InvalidInputError, InvalidQueryError
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.objects.helpers import list_all
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.tables.operations import compact as module
from buffetstore.tables.operations.bins import Coarsening, bucket_directory, row_width
from buffetstore.tables.row_checksum import row_checksum
from buffetstore.testing import CountingStore

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


async def keys_of(store) -> list[int]:
    table = await DeltaTable.open(store, "t")
    return sorted((await table.to_arrow())["k"].to_pylist())


async def small_files(store, count: int = 12, **options) -> DeltaTable:
    table = await DeltaTable.create(store, "t", SCHEMA, **options)
    for key in range(count, 0, -1):
        await table.append(rows(key))
    return table


async def unreferenced(store) -> set[str]:
    """Return the data files that no version refers to."""
    referred = set()
    newest = (await DeltaTable.open(store, "t")).version
    for version in range(newest + 1):
        snapshot = (await DeltaTable.open(store, "t", version=version)).snapshot
        referred |= {f"t/{path}" for path in snapshot.files["path"].to_pylist()}
    return {meta.key for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")} - referred


async def test_small_files_become_one_in_order_of_key(store) -> None:
    table = await small_files(store)
    before = await table.to_arrow()
    told: list[tuple[int, int]] = []
    done = await table.compact(sort_by=["k"], progress=lambda *numbers: told.append(numbers))
    assert (done.version, done.files_removed, done.files_added, done.rows, done.commits) == (13, 12, 1, 12, 1)
    assert table.files().num_rows == 1
    assert table.files()["size"].to_pylist() == [done.bytes_added]
    assert (await table.to_arrow())["k"].to_pylist() == list(range(1, 13))
    assert told == [(done.bytes_removed, done.bytes_removed)]
    earlier = await DeltaTable.open(store, "t", version=12)
    assert (await earlier.to_arrow()).equals(before)


async def test_the_commit_says_that_no_data_changed(store) -> None:
    table = await small_files(store, 3)
    await table.compact()
    from buffetstore.tables.log import read_entry

    entry = await read_entry(store, "t", 4)
    assert entry.info.operation == "OPTIMIZE"
    assert not any(action.data_change for action in (*entry.adds, *entry.removes))
    assert not entry.info.blind_append


async def test_nothing_to_do_is_no_commit(store) -> None:
    table = await small_files(store)
    await table.compact()
    again = await table.compact()
    assert (again.version, again.commits, again.files_removed) == (13, 0, 0)
    empty = await DeltaTable.create(store, "empty", SCHEMA)
    assert (await empty.compact()).version == 0


async def test_twelve_small_files_take_five_rounds(store) -> None:
    await small_files(store)
    counting = CountingStore(store, latency_seconds=0.02)
    table = await DeltaTable.open(counting, "t")
    counting.reset()
    assert (await table.compact()).files_removed == 12
    assert counting.round_trips <= 5
    assert counting.requests["put"] == 2


async def test_the_contracts_key_orders_rows(store) -> None:
    table = await small_files(store, 5, configuration={"buffetstore.key": "v,k,gone"})
    await table.compact()
    assert (await table.to_arrow())["k"].to_pylist() == [1, 2, 3, 4, 5]


async def test_a_predicate_chooses_files(store) -> None:
    table = await small_files(store)
    done = await table.compact(predicate=Comparison("k", "<=", 4))
    assert done.files_removed == 4
    assert table.files().num_rows == 9


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sort_by": ["no"]}, InvalidQueryError),
        ({"predicate": Comparison("no", "==", 1)}, InvalidQueryError),
        ({"target_bytes": 0}, InvalidInputError),
        ({"bytes_in_flight": -1}, InvalidInputError),
    ],
)
async def test_what_cannot_be_done_is_said(store, options, error) -> None:
    table = await small_files(store, 2)
    with pytest.raises(error):
        await table.compact(**options)
    assert table.version == 2


async def test_rows_cannot_be_sorted_by_what_has_no_order(store, every_type) -> None:
    table = await DeltaTable.create(store, "t", every_type.schema)
    await table.append(every_type)
    with pytest.raises(InvalidInputError, match="models"):
        await table.compact(sort_by=["models"])


async def test_files_are_split_at_the_target_and_sorted_across(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    for start in range(10):
        await table.append(rows(*range(start, 5000, 10), v=f"value {start}"))
    size = sum(table.files()["size"].to_pylist())
    done = await table.compact(target_bytes=size // 4, sort_by=["k"])
    assert (done.files_removed, done.files_added) == (10, 5)
    known = table.snapshot.with_statistics(["k"])
    spans = sorted(zip(known["min.k"].to_pylist(), known["max.k"].to_pylist(), strict=True))
    assert spans == [(at, at + 999) for at in range(0, 5000, 1000)]


async def test_memory_bounds_what_is_put_together(store) -> None:
    table = await small_files(store)
    memory = 3 * row_width(SCHEMA)
    done = await table.compact(bytes_in_flight=memory)
    assert (done.files_removed, done.files_added, done.commits) == (12, 4, 1)
    assert sorted(table.snapshot.with_statistics([])["num_records"].to_pylist()) == [3, 3, 3, 3]


async def test_commits_are_bounded_and_stay_when_it_ends_early(store, monkeypatch) -> None:
    monkeypatch.setattr(module, "COMMIT_FILES", 4)
    table = await small_files(store)

    def stop(done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await table.compact(bytes_in_flight=4 * row_width(SCHEMA), progress=stop)
    assert table.version == 13
    assert table.files().num_rows == 9
    done = await table.compact(bytes_in_flight=4 * row_width(SCHEMA))
    assert (done.commits, done.version) == (2, 15)
    assert await keys_of(store) == list(range(1, 13))


async def test_partitions_stay_apart(store) -> None:
    schema = pa.schema([("p", pa.string()), ("d", pa.date32()), ("n", pa.int64())])
    table = await DeltaTable.create(store, "t", schema, partition_by=["p", "d"])
    for n in range(3):
        await table.append(
            pa.table({"p": ["a/b", None, "c d"], "d": [date(2024, 1, 1)] * 3, "n": [n] * 3}, schema=schema)
        )
    before = sorted((await table.to_arrow()).to_pylist(), key=str)
    assert table.files().num_rows == 9
    assert (await table.compact(sort_by=["p", "n"])).files_added == 3
    assert sorted((await table.to_arrow()).to_pylist(), key=str) == before
    assert (await table.to_arrow(filters=Comparison("p", "==", "a/b")))["n"].to_pylist() == [0, 1, 2]


async def test_tags_and_names_that_all_share_are_kept(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)

    def layout(table: pa.Table) -> list[DataPart]:
        return [DataPart(table, "x=1", "AAPL_market", {}, {"symbol": "AAPL", "n": str(table["k"][0])})]

    for key in range(3):
        await table.append(rows(key), layout=layout)
    await table.compact()
    (path,), (tags,) = table.files()["path"].to_pylist(), table.files()["tags"].to_pylist()
    assert path.startswith("x=1/AAPL_market-")
    assert tags == [("symbol", "AAPL")]
    for key in range(3):
        await table.append(rows(key), layout=layout)
    await table.compact(stem=lambda rows: f"rows{rows.num_rows}")
    assert table.files()["path"][0].as_py().startswith("x=1/rows6-")


class TestTimeBuckets:
    @pytest.mark.parametrize(
        ("bucket", "today", "expected"),
        [
            ("2024-01-15", date(2024, 2, 7), "2024-01-15"),
            ("2024-01-15", date(2024, 2, 8), "2024-01"),
            ("2024-12-31", date(2025, 1, 8), "2024-12"),
            ("2024-12-31", date(2025, 4, 1), "2024"),
            ("2024-01", date(2024, 3, 1), "2024-01"),
            ("2024-03", date(2025, 4, 1), "2024"),
            ("2024", date(2030, 1, 1), "2024"),
            ("9999-12-31", date(2024, 1, 1), "9999-12-31"),
            ("2024-01-15T10", date(2030, 1, 1), "2024-01-15T10"),
        ],
    )
    def test_they_grow_with_age(self, bucket, today, expected) -> None:
        assert Coarsening().bucket(bucket, today) == expected

    async def table(self, store, days: int) -> DeltaTable:
        """A file a day, from 100 days before 2024-06-30 on."""
        table = await DeltaTable.create(store, "t", SCHEMA)

        def layout(found: pa.Table) -> list[DataPart]:
            day = str(date(2024, 6, 30) - timedelta(days=found["k"][0].as_py()))
            return [DataPart(found, bucket_directory(day), "part", {}, {"bucket": day})]

        for age in range(days):
            await table.append(rows(age, v="x" * age), layout=layout)
        return table

    def at(self, table: DeltaTable, day: date) -> None:
        from dataclasses import replace

        moment = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
        table._head.committer = replace(table._head.committer, now=lambda: moment)

    async def test_days_become_months_and_months_years(self, store) -> None:
        table = await self.table(store, 100)
        self.at(table, date(2024, 6, 30))
        assert (await table.compact()).files_added == 3
        folders = {path.rpartition("/")[0] for path in table.files()["path"].to_pylist()}
        assert {"year=2024/month=03", "year=2024/month=04", "year=2024/month=05"} <= folders
        assert "year=2024/month=06/day=30" in folders
        assert table.files().num_rows == 33
        assert (await table.compact()).commits == 0
        self.at(table, date(2025, 6, 30))
        done = await table.compact()
        assert done.files_removed == 33
        assert table.files()["path"].to_pylist()[0].startswith("year=2024/part-")
        assert table.files()["tags"].to_pylist() == [[("bucket", "2024")]]
        assert sorted((await table.to_arrow())["k"].to_pylist()) == list(range(100))

    async def test_they_can_be_left_alone(self, store) -> None:
        table = await self.table(store, 10)
        self.at(table, date(2030, 6, 30))
        assert (await table.compact(coarsening=None)).commits == 0


@st.composite
def histories(draw):
    """Some appends of rows with nulls, repetitions and every order."""
    value = st.one_of(st.none(), st.integers(-5, 5))
    text = st.one_of(st.none(), st.text("ab\0é", max_size=12))
    row = st.tuples(value, text, st.one_of(st.none(), st.floats(width=32)), st.lists(value, max_size=3))
    return draw(st.lists(st.lists(row, min_size=1, max_size=8), min_size=1, max_size=8))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), memory=st.integers(1, 2000), target=st.integers(500, 20_000))
async def test_the_rows_of_random_tables_stay(history, memory, target) -> None:
    schema = pa.schema([("i", pa.int64()), ("s", pa.string()), ("f", pa.float64()), ("l", pa.list_(pa.int64()))])
    table = await DeltaTable.create(MemoryStore(), "t", schema)
    for written in history:
        columns = [list(column) for column in zip(*written, strict=True)]
        await table.append(pa.table(columns, schema=schema))
    before = await table.to_arrow()
    files = table.files().num_rows
    done = await table.compact(sort_by=["s", "f", "i"], bytes_in_flight=memory, target_bytes=target)
    after = await table.to_arrow()
    assert after.num_rows == before.num_rows
    assert row_checksum(after) == row_checksum(before)
    assert sorted(map(repr, after.to_pylist())) == sorted(map(repr, before.to_pylist()))
    assert table.files().num_rows == files - done.files_removed + done.files_added <= files


async def test_others_read_it(tmp_path, every_type) -> None:
    deltalake, polars = pytest.importorskip("deltalake"), pytest.importorskip("polars")
    table = await DeltaTable.create(LocalStore(tmp_path), "t", every_type.schema)
    for start in range(0, 40, 10):
        await table.append(every_type.slice(start, 10))
    assert (await table.compact(sort_by=["symbol", "timestamp"])).files_removed == 4
    theirs = deltalake.DeltaTable(str(tmp_path / "t"))
    assert theirs.version() == 5
    assert theirs.history(1)[0]["operation"] == "OPTIMIZE"
    columns = ["symbol", "timestamp", "price", "volume", "cap"]
    key = ["symbol", "volume"]
    expected = polars.from_arrow(every_type.select(columns)).sort(key)
    found = polars.from_arrow(theirs.to_pyarrow_table(columns=columns))
    assert found.sort(key).equals(expected)
    assert polars.read_delta(str(tmp_path / "t")).select(columns).sort(key).equals(expected)


class TestChecksum:
    def test_it_does_not_see_order_nor_chunks(self, every_type) -> None:
        order = Random(1).sample(range(40), 40)
        mixed = pa.concat_tables([every_type.slice(7, 33), every_type.slice(0, 7)]).take(pa.array(order))
        assert row_checksum(mixed) == row_checksum(every_type)

    def test_it_sees_what_is_lost_doubled_or_moved_between_rows(self, every_type) -> None:
        whole = row_checksum(every_type)
        assert row_checksum(every_type.slice(1)) != whole
        assert row_checksum(pa.concat_tables([every_type, every_type.slice(3, 1)])) != whole
        swapped = [1, 0, *range(2, 40)]
        for at, field in enumerate(every_type.schema):
            if field.name == "nothing":
                continue
            moved = every_type.set_column(at, field, every_type.column(at).take(pa.array(swapped)))
            assert row_checksum(moved) != whole, field.name

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            (pa.string(), ["", None, "\0", "\0\0", "a", "aaaaaaaa", "aaaaaaaa\0"]),
            (pa.int64(), [0, None, 1, -1]),
            (pa.float64(), [0.0, None, 1.5, float("inf"), float("nan")]),
            (pa.bool_(), [False, None, True]),
            (pa.list_(pa.int64()), [[], None, [0], [None], [0, 0], [0, None], [None, 0]]),
            (pa.struct([("x", pa.int64())]), [{"x": 0}, {"x": None}, None]),
            (pa.map_(pa.string(), pa.int64()), [[], None, [("a", 0)], [("", 0)]]),
        ],
    )
    def test_null_empty_and_zero_differ(self, kind, values) -> None:
        found = {row_checksum(pa.table({"x": pa.array([value], kind)})) for value in values}
        assert len(found) == len(values)
        assert 0 not in found

    async def test_what_would_change_rows_is_not_published(self, store, monkeypatch) -> None:
        table = await small_files(store, 4)
        real = type(table._formatter).encode

        def losing(self, rows):
            return real(self, rows.slice(1) if rows.num_rows > 1 else rows)

        monkeypatch.setattr(type(table._formatter), "encode", losing)
        with pytest.raises(CorruptFileError, match="4 rows became 3"):
            await table.compact()
        assert table.version == 4
        assert await unreferenced(store) == set()
