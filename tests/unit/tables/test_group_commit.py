"""Appends that share a commit, and writes that land once however often they are sent."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffetstore.errors import CommitConflictError, IdempotencyKeyReusedError, InvalidInputError
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore, RetryStore, list_all
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.tables import DataPart, DeltaTable, Txn
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.idempotency import transactions
from buffetstore.tables.log import commit_key
from buffetstore.testing import CountingStore, FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


def rows(*keys, v="a"):
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
async def table(store):
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        yield table


async def keys_of(store):
    async with DeltaTable.open(store, "t") as table:
        return sorted((await table.to_arrow())["k"].to_pylist())


async def entry(store, version):
    async with await store.get(commit_key("t", version)) as result:
        return [json.loads(line) for line in (await result.read()).splitlines()]


async def unreferenced(store):
    async with DeltaTable.open(store, "t") as table:
        living = {f"t/{path}" for path in table.files()["path"].to_pylist()}
    return {meta.key for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")} - living


async def test_what_waits_is_committed_together(table, store) -> None:
    async with table._head.lock:  # a commit is under way
        tasks = [asyncio.create_task(table.append(rows(n), user_metadata=f"batch {n % 2}")) for n in range(50)]
        while len(table._group._queue) < 50:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks)
    assert await keys_of(store) == list(range(50))
    assert all(result.version == result.rows == len(result.files) == 1 for result in results)
    (info,) = [line["commitInfo"] for line in await entry(store, 1) if "commitInfo" in line]
    assert info["operationMetrics"]["numOutputRows"] == info["operationMetrics"]["numFiles"] == "50"
    assert info["isBlindAppend"] is True
    assert sorted(info["userMetadata"].split("\n")) == ["batch 0", "batch 1"]


async def test_one_that_no_longer_fits_fails_alone(table, store) -> None:
    stale = await DeltaTable.open(store, "t")
    other = await DeltaTable.open(store, "t")
    await other.add_columns([pa.field("w", pa.int64())])
    narrow = pa.schema([("k", pa.int64())])
    reached, go = asyncio.Event(), asyncio.Event()
    seen = stale.snapshot
    # The other proposals were made for the columns as they are now; this one for columns that never were.
    odd = DeltaTable.create(store, "other", pa.schema([("z", pa.int64())]))
    foreign = (await odd).snapshot
    del narrow, reached, go
    bad = stale._group.commit(Proposal("WRITE"), foreign)
    answers = await asyncio.gather(bad, *(stale.append(rows(n)) for n in range(5)), return_exceptions=True)
    assert isinstance(answers[0], CommitConflictError)
    assert not [answer for answer in answers[1:] if isinstance(answer, BaseException)]
    assert await keys_of(store) == [0, 1, 2, 3, 4]
    assert seen.version == 0


async def test_a_group_that_meets_a_conflict_is_tried_one_by_one(table, store) -> None:
    """Another process commits the same transaction while the group is under way."""
    other = await DeltaTable.open(store, "t")
    await other.append(rows(1), txn=Txn("app", 5))
    answers = await asyncio.gather(
        table.append(rows(2)), table.append(rows(1), txn=Txn("app", 5)), table.append(rows(3))
    )
    assert [answer.rows for answer in answers] == [1, 0, 1]
    assert await keys_of(store) == [1, 2, 3]
    assert await unreferenced(store) == set()


async def test_cancelled_before_the_seal_it_is_withdrawn(store) -> None:
    counting = CountingStore(store)
    async with DeltaTable.create(counting, "t", SCHEMA) as table:
        async with table._head.lock:  # a commit is under way
            tasks = [asyncio.create_task(table.append(rows(n))) for n in range(3)]
            while len(table._group._queue) < 3:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)
            tasks[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[1]
        await asyncio.gather(tasks[0], tasks[2])
    assert await keys_of(store) == [0, 2]
    assert await unreferenced(store) == set()


async def test_closing_waits_for_what_is_under_way(store) -> None:
    async with DeltaTable.create(store, "t", SCHEMA) as table:
        task = asyncio.create_task(table.append(rows(1)))
        while not table._group._queue and table._group._runner is None:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    assert await keys_of(store) == [1]
    await task


@pytest.mark.parametrize("seed", range(5))
async def test_groups_over_a_faulty_store_lose_and_double_nothing(seed) -> None:
    memory = MemoryStore()
    await DeltaTable.create(memory, "t", SCHEMA)

    async def no_sleep(_seconds: float) -> None:
        await asyncio.sleep(0)

    faulty = RetryStore(
        FaultyStore(memory, source=random_faults(Random(seed))), RetryPolicy(attempts=40, sleep=no_sleep)
    )
    tables = [await DeltaTable.open(faulty, "t") for _ in range(3)]
    await asyncio.gather(*(tables[n % 3].append(rows(n), idempotency_key=f"k{n}") for n in range(60)))
    assert await keys_of(memory) == list(range(60))


class TestIdempotencyKeys:
    async def test_the_same_key_lands_once(self, table, store) -> None:
        other = await DeltaTable.open(store, "t")
        assert (await table.append(rows(1, 2), idempotency_key="monday")).rows == 2
        for again in (table, other):
            done = await again.append(rows(1, 2), idempotency_key="monday")
            assert (done.rows, done.files) == (0, ())
        assert await keys_of(store) == [1, 2]
        assert await unreferenced(store) == set()

    async def test_at_once_in_one_process_and_in_several(self, table, store) -> None:
        others = [table, table, *[await DeltaTable.open(store, "t") for _ in range(3)]]
        answers = await asyncio.gather(*(each.append(rows(7), idempotency_key="one") for each in others))
        assert sorted(answer.rows for answer in answers) == [0, 0, 0, 0, 1]
        assert await keys_of(store) == [7]
        assert await unreferenced(store) == set()

    async def test_other_rows_under_the_same_key_are_refused(self, table, store) -> None:
        await table.append(rows(1), idempotency_key="k")
        for changed in (rows(2), rows(1, v="b"), rows(1, 1)):
            with pytest.raises(IdempotencyKeyReusedError, match="'k'"):
                await table.append(changed, idempotency_key="k")
        assert await keys_of(store) == [1]
        assert await unreferenced(store) == set()

    async def test_in_one_group_only_the_other_rows_are_refused(self, table, store) -> None:
        answers = await asyncio.gather(
            table.append(rows(1), idempotency_key="k"),
            table.append(rows(2), idempotency_key="k"),
            table.append(rows(3), idempotency_key="l"),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, IdempotencyKeyReusedError) for answer in answers[:2]) == 1
        assert await keys_of(store) in ([1, 3], [2, 3])
        assert await unreferenced(store) == set()

    async def test_a_source_counts_up(self, table, store) -> None:
        assert (await table.append(rows(1), idempotency_key=("feed", 1))).rows == 1
        assert (await table.append(rows(2), idempotency_key=("feed", 5))).rows == 1
        assert (await table.append(rows(2), idempotency_key=("feed", 5))).rows == 0
        assert (await table.append(rows(9), idempotency_key=("feed", 4))).rows == 0
        with pytest.raises(IdempotencyKeyReusedError, match=r"\('feed', 5\)"):
            await table.append(rows(3), idempotency_key=("feed", 5))
        other = await DeltaTable.open(store, "t")
        for number in (6, 7, 8):
            done = await asyncio.gather(
                *(t.append(rows(number), idempotency_key=("feed", number)) for t in (table, other))
            )
            assert sorted(each.rows for each in done) == [0, 1]
        assert await keys_of(store) == [1, 2, 6, 7, 8]

    async def test_upsert_overwrite_and_delete_know_it_too(self, table, store) -> None:
        assert (await table.upsert(rows(1), key=["k"], idempotency_key="u")).inserted == 1
        assert (await table.upsert(rows(1), key=["k"], idempotency_key="u")).unchanged == 0
        assert (await table.overwrite(rows(2, 3), idempotency_key="o")).rows == 2
        await table.append(rows(4))
        assert (await table.overwrite(rows(2, 3), idempotency_key="o")).rows == 0
        assert (await table.delete(Comparison("k", "==", 2), idempotency_key="d")).deleted == 1
        await table.append(rows(2))
        assert (await table.delete(Comparison("k", "==", 2), idempotency_key="d")).deleted == 0
        with pytest.raises(IdempotencyKeyReusedError):
            await table.delete(Comparison("k", "==", 3), idempotency_key="d")
        assert await keys_of(store) == [2, 3, 4]

    @pytest.mark.parametrize("key", ["", ("", 1), ("feed", -1)])
    async def test_senseless_keys(self, table, key) -> None:
        with pytest.raises(InvalidInputError):
            await table.append(rows(1), idempotency_key=key)
        with pytest.raises(InvalidInputError, match="one of them"):
            await table.append(rows(1), idempotency_key="k", txn=Txn("app", 1))


nested = pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))])
types = st.sampled_from(
    [
        (pa.int64(), st.integers(-5, 5)),
        (pa.string(), st.text(max_size=3)),
        (pa.bool_(), st.booleans()),
        (pa.float64(), st.floats(allow_nan=False)),
        (pa.list_(pa.int8()), st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=3)),
        (nested, st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.lists(st.text(max_size=1), max_size=2)})),
        (
            pa.map_(pa.string(), pa.int32()),
            st.dictionaries(st.text(max_size=1), st.integers(0, 1), max_size=2).map(dict.items).map(list),
        ),
    ]
)


@st.composite
def two_columns(draw):
    kind, values = draw(types)
    lists = st.lists(st.one_of(st.none(), values), max_size=6)
    return kind, draw(lists), draw(lists)


@given(two_columns(), st.integers(0, 6), st.integers(0, 3))
def test_the_digest_is_of_the_rows_and_not_of_their_place_in_memory(columns, cut, before) -> None:
    kind, one, other = columns

    def digest(column):
        return transactions("k", pa.table({"c": column}), 0)[0].version

    whole = pa.array(one, kind)
    shifted = pa.array([*other[:before], *one, *other], kind).slice(len(other[:before]), len(one))
    chunked = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], kind)
    assert digest(whole) == digest(shifted) == digest(chunked)
    assert (digest(whole) == digest(pa.array(other, kind))) == (whole.equals(pa.array(other, kind)))


async def test_overwriting_what_a_predicate_says(table, store) -> None:
    await table.append(rows(1, 2, 3))
    await table.append(rows(4, 5))
    done = await table.overwrite(rows(2, 3, 3, v="new"), predicate=Comparison("k", "<", 4))
    assert done.rows == 3
    assert await keys_of(store) == [2, 3, 3, 4, 5]
    with pytest.raises(InvalidInputError, match="1 of the rows"):
        await table.overwrite(rows(2, 9), predicate=Comparison("k", "<", 4))
    assert (await table.overwrite(rows(), predicate=Comparison("k", ">", 3))).rows == 0
    assert await keys_of(store) == [2, 3, 3]


async def test_a_warm_append_is_two_rounds_and_many_together_are_too(store) -> None:
    counting = CountingStore(store, latency_seconds=0.01)
    async with DeltaTable.create(counting, "t", SCHEMA) as table:
        await table.append(rows(0))
        counting.reset()
        await asyncio.gather(*(table.append(rows(n), layout=lambda t: [DataPart(t)]) for n in range(1, 17)))
        assert counting.round_trips <= 3
        assert counting.requests["list_objects"] == counting.requests["get"] == 0
        assert counting.requests["put"] <= 16 + 2
