"""Going back to an earlier version by a new commit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from buffetstore.errors import (
    InvalidInputError,
    NotFoundError,
    TableVersionNotFoundError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from buffetstore.expressions import Comparison
from buffetstore.objects import LocalStore
from buffetstore.objects.helpers import list_all
from buffetstore.tables import DeltaTable
from buffetstore.tables.actions import Protocol, write_actions
from buffetstore.tables.log import commit_key
from buffetstore.tables.operations import presence
from buffetstore.testing import FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys: int, v: str = "a") -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


async def keys_of(table: DeltaTable) -> list[int]:
    return sorted((await table.to_arrow())["k"].to_pylist())


@pytest.fixture
async def table(store):
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(1, 2))
    await table.append(rows(3))
    await table.delete(Comparison("k", "==", 1))
    await table.overwrite(rows(9))
    return table


async def test_every_version_can_be_gone_back_to(table, store) -> None:
    expected = {0: [], 1: [1, 2], 2: [1, 2, 3], 3: [2, 3], 4: [9]}
    for version in (2, 0, 3, 1, 4):
        result = await table.restore(version)
        assert (result.version, result.restored_version) == (table.version, version)
        assert await keys_of(table) == expected[version]
        assert await keys_of(await DeltaTable.open(store, "t")) == expected[version]
    assert table.version == 9
    for version, keys in expected.items():
        assert await keys_of(await DeltaTable.open(store, "t", version=version)) == keys


async def test_what_is_said_of_it(table, store) -> None:
    result = await table.restore(2, user_metadata="note")
    assert (result.restored, result.removed, result.missing) == (2, 1, ())
    (record,) = await table.history(1)
    assert (record.operation, record.parameters, record.user_metadata) == ("RESTORE", {"version": 2}, "note")
    assert record.metrics == {"numRestoredFiles": "2", "numRemovedFiles": "1"}
    assert record.is_blind_append is False
    again = await table.restore(2)
    assert (again.version, again.restored, again.removed) == (5, 0, 0)


async def test_by_time(table, store) -> None:
    entries = [meta.last_modified for meta in await list_all(store, "t/_delta_log/")]
    result = await table.restore(timestamp=entries[2])
    assert result.restored_version in {2, 3, 4}  # entries of the same millisecond count as later by one each
    with pytest.raises(TableVersionNotFoundError):
        await table.restore(timestamp=datetime(2000, 1, 1, tzinfo=UTC))
    with pytest.raises(InvalidInputError, match="no zone"):
        await table.restore(timestamp=datetime(2000, 1, 1))  # noqa: DTZ001 - the point
    for arguments in ((), (1, datetime.now(UTC))):
        with pytest.raises(InvalidInputError, match="one of them"):
            await table.restore(*arguments)
    with pytest.raises(TableVersionNotFoundError, match="no version 99"):
        await table.restore(99)


async def test_statistics_partitions_and_tags_come_back(store, every_type) -> None:
    schema = pa.schema([*every_type.schema, ("part", pa.string())])
    table = await DeltaTable.create(store, "t", schema, partition_by=["part"])
    full = every_type.append_column("part", pa.array(["a b", None] * 20))
    await table.append(full)
    before = table.snapshot.with_statistics()
    await table.overwrite(full.slice(0, 1))
    await table.restore(1)
    after = table.snapshot.with_statistics().sort_by("path").drop("commit_version").to_pylist()
    for one, other in zip(after, before.sort_by("path").drop("commit_version").to_pylist(), strict=True):
        # Long decimals are widened whenever they are read: others write them through binary floats.
        assert one.pop("min.cap") <= other.pop("min.cap") <= other.pop("max.cap") <= one.pop("max.cap")
        assert one == other
    assert (await table.to_arrow()).num_rows == 40


async def test_schema_and_properties_come_back(table, store) -> None:
    version = table.version
    await table.add_columns([pa.field("w", pa.int64())])
    await table.append(pa.table({"k": [1], "w": [2]}))
    await table.restore(version)
    assert table.schema.equals(SCHEMA)
    assert await keys_of(table) == [9]
    await table.restore(version + 2)
    assert table.schema.names == ["k", "v", "w"]
    assert (await table.to_arrow())["w"].to_pylist() == [None, 2]


async def test_vacuumed_files_are_named_before_anything_is_done(table, store) -> None:
    past = await DeltaTable.open(store, "t", version=2)
    lost = past.files()["path"].to_pylist()[0]
    await store.delete([f"t/{lost}"])
    before = await list_all(store, "t/")
    with pytest.raises(NotFoundError, match=f"1 of its data files are gone.*{lost}") as caught:
        await table.restore(2)
    assert caught.value.key == f"t/{lost}"
    assert await list_all(store, "t/") == before
    result = await table.restore(2, ignore_missing=True)
    assert result.missing == (lost,)
    assert await keys_of(table) == [3]


async def test_many_files_are_looked_for_by_one_listing(table, store, monkeypatch) -> None:
    monkeypatch.setattr(presence, "_ASKED_ONE_BY_ONE", 1)
    lost = (await DeltaTable.open(store, "t", version=1)).files()["path"].to_pylist()
    await table.restore(2)
    await table.restore(4)
    await store.delete([f"t/{lost[0]}"])
    with pytest.raises(NotFoundError, match=lost[0]):
        await table.restore(2)


async def test_a_concurrent_commit_is_rolled_back_too(table, store) -> None:
    other = await DeltaTable.open(store, "t")
    await other.append(rows(50))
    await table.restore(1)
    assert await keys_of(await DeltaTable.open(store, "t")) == [1, 2]
    assert table.version == 6


async def test_a_lost_restore_deletes_no_file_of_the_old_version(table, store) -> None:
    other = await DeltaTable.open(store, "t")

    async def race(n: int) -> None:
        await other.append(rows(100 + n))

    await asyncio.gather(table.restore(1), *(race(n) for n in range(5)))
    assert await keys_of(await DeltaTable.open(store, "t", version=2)) == [1, 2, 3]
    assert [key for key in await keys_of(await DeltaTable.open(store, "t")) if key < 100] == [1, 2]
    for version in range(table.version + 1):
        await (await DeltaTable.open(store, "t", version=version)).to_arrow()


@pytest.mark.parametrize("seed", range(6))
async def test_lost_answers(table, store, seed) -> None:
    from random import Random

    from buffetstore.objects.wrappers.retry import RetryStore
    from buffetstore.resilience.retry import RetryPolicy

    async def instantly(_seconds: float) -> None:
        await asyncio.sleep(0)

    faulty = FaultyStore(store, source=random_faults(Random(seed), 0.3))
    shaky = await DeltaTable.open(RetryStore(faulty, RetryPolicy(attempts=30, sleep=instantly)), "t")
    shaky._head.committer = replace(shaky._head.committer, sleep=instantly)
    result = await shaky.restore(2)
    assert result.version == 5
    reader = await DeltaTable.open(store, "t")
    assert (reader.version, await keys_of(reader)) == (5, [1, 2, 3])


async def test_idempotency_keys_stay_known(table, store) -> None:
    await table.append(rows(7), idempotency_key="seven")
    first = await table.restore(2, idempotency_key="back")
    assert (await table.append(rows(7), idempotency_key="seven")).done_before
    assert await keys_of(table) == [1, 2, 3]
    await table.append(rows(8))
    again = await table.restore(2, idempotency_key="back")
    assert again.done_before
    assert await keys_of(table) == [1, 2, 3, 8]
    assert again.version == first.version + 1


async def test_the_protocol_is_never_lowered(table, store) -> None:
    await store.put(commit_key("t", 5), write_actions([Protocol(1, 4)]))
    await table.refresh()
    await table.restore(2)
    again = await DeltaTable.open(store, "t")
    assert again.snapshot.protocol == Protocol(1, 4)
    await store.put(commit_key("t", 7), write_actions([Protocol(1, 2)]))
    await table.refresh()
    with pytest.raises(UnsupportedFeatureError, match="writer version 4, which the table does not have any more"):
        await table.restore(6)


async def test_where_it_is_refused(store) -> None:
    table = await DeltaTable.create(store, "only", SCHEMA, configuration={"delta.appendOnly": "true"})
    await table.append(rows(1))
    with pytest.raises(UnsupportedOperationError, match="append-only"):
        await table.restore(0)
    past = await DeltaTable.open(store, "only", version=0)
    with pytest.raises(UnsupportedOperationError, match="opened at version 0"):
        await past.restore(0)


async def test_deltalake_goes_back_to_the_same(tmp_path) -> None:
    deltalake = pytest.importorskip("deltalake")
    folder = str(tmp_path / "t")
    schema = pa.schema(
        [("k", pa.int64()), ("p", pa.decimal128(18, 8)), ("d", pa.date32()), ("t", pa.timestamp("us", tz="UTC"))]
    )
    start = datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)

    def of(*keys):
        columns = {
            "k": list(keys),
            "p": [Decimal(n) / 8 for n in keys],
            "d": [date(2024, 1, 1)] * len(keys),
            "t": [start + timedelta(microseconds=n) for n in keys],
        }
        return pa.table(columns, schema=schema)

    table = await DeltaTable.create(LocalStore(tmp_path), "t", schema)
    await table.append(of(1, 2))
    deltalake.write_deltalake(folder, of(3, 4), mode="append")
    deltalake.DeltaTable(folder).delete("k = 1 or k = 3")
    await table.upsert(of(2, 5), key=["k"])
    for version in (2, 3, 1):
        await table.restore(version)
        ours = sorted((await table.to_arrow()).to_pylist(), key=str)
        foreign = deltalake.DeltaTable(folder)
        assert sorted(foreign.to_pyarrow_table().to_pylist(), key=str) == ours
        foreign.load_as_version(version)
        assert sorted(foreign.to_pyarrow_table().to_pylist(), key=str) == ours
        found = deltalake.DeltaTable(folder).to_pyarrow_table(filters=[("t", "=", start + timedelta(microseconds=2))])
        assert found.num_rows == sum(row["k"] == 2 for row in ours)
        deltalake.DeltaTable(folder).restore(4)
        await table.refresh()
        assert await keys_of(table) == [2, 4, 5]
