"""Random histories of several writers over a store that fails at random: a dict is the oracle."""

from __future__ import annotations

import asyncio
from random import Random

import pyarrow as pa
import pytest

from buffetstore.errors import CommitConflictError
from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore
from buffetstore.objects.wrappers.retry import RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.tables import DeltaTable
from buffetstore.testing import FaultyStore, random_faults

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64())])


async def instantly(_seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(8))
async def test_one_writer_after_the_other(seed) -> None:
    random = Random(seed)
    inner = MemoryStore()
    policy = RetryPolicy(attempts=30, sleep=instantly)
    store = RetryStore(FaultyStore(inner, source=random_faults(random, 0.2)), policy)
    tables = [await DeltaTable.create(store, "t", SCHEMA)]
    tables += [await DeltaTable.open(store, "t") for _ in range(2)]
    oracle: dict[int, int] = {}
    for step in range(25):
        table = random.choice(tables)
        keys = random.sample(range(12), random.randint(1, 4))
        match random.choice(["upsert", "upsert", "delete", "overwrite", "append"]):
            case "upsert":
                result = await table.upsert(pa.table({"k": keys, "v": [step] * len(keys)}), key=["k"])
                assert result.inserted == len(set(keys) - set(oracle))
                oracle |= dict.fromkeys(keys, step)
            case "append":
                new = sorted(set(keys) - set(oracle))
                await table.append(pa.table({"k": new, "v": [step] * len(new)}, schema=SCHEMA))
                oracle |= dict.fromkeys(new, step)
            case "delete":
                found = await table.delete(Comparison("k", "<", keys[0]))
                gone = [key for key in oracle if key < keys[0]]
                assert found.deleted == len(gone)
                for key in gone:
                    del oracle[key]
            case _:
                await table.overwrite(pa.table({"k": keys, "v": [step] * len(keys)}))
                oracle = dict.fromkeys(keys, step)
        reader = await DeltaTable.open(inner, "t")
        rows = (await reader.to_arrow()).to_pylist()
        assert sorted((row["k"], row["v"]) for row in rows) == sorted(oracle.items())


@pytest.mark.parametrize("seed", range(4))
async def test_writers_at_once_lose_and_double_nothing(seed) -> None:
    random = Random(seed)
    inner = MemoryStore()
    policy = RetryPolicy(attempts=30, sleep=instantly)
    await DeltaTable.create(inner, "t", SCHEMA)

    async def write(number: int) -> set[int]:
        store = RetryStore(FaultyStore(inner, source=random_faults(random, 0.2)), policy)
        table = await DeltaTable.open(store, "t")
        written = set()
        for turn in range(4):
            key = number * 10 + turn
            rows = pa.table({"k": [key], "v": [0]})
            try:
                await (table.upsert(rows, key=["k"]) if turn % 2 else table.append(rows))
            except CommitConflictError:
                continue
            written.add(key)
        return written

    acknowledged = set().union(*await asyncio.gather(*(write(n) for n in range(6))))
    rows = (await (await DeltaTable.open(inner, "t")).to_arrow())["k"].to_pylist()
    assert sorted(rows) == sorted(acknowledged)
    assert len(acknowledged) > 12
