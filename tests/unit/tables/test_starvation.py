"""Appends beside writers that are always first."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pytest

from buffetstore.errors import AlreadyExistsError, CommitConflictError
from buffetstore.objects import MemoryStore
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DeltaTable

SCHEMA = pa.schema([("k", pa.int64())])
RIVAL = json.dumps({"commitInfo": {"timestamp": 1, "operation": "WRITE", "txnId": "rival"}}).encode() + b"\n"


class Rivals(StoreWrapper):
    """Has another writer's entry in the log just before ours, so many times."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.wins = 0
        self.tried = 0

    async def put(self, key, data, **options):
        if key.endswith(".json") and "/_delta_log/" in key:
            self.tried += 1
            if self.wins:
                self.wins -= 1
                with suppress(AlreadyExistsError):  # one of its earlier entries is there
                    await self.inner.put(key, RIVAL, **options)
        return await self.inner.put(key, data, **options)


class Clock:
    """A second passes whenever somebody looks."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def rows(*keys: int) -> pa.Table:
    return pa.table({"k": list(keys)}, schema=SCHEMA)


def data_files(store) -> list[str]:
    return [key for key in store._objects if key.endswith(".parquet") and "_delta_log" not in key]


@pytest.fixture
async def table():
    store = Rivals(MemoryStore())
    async with DeltaTable.create(store, "t", SCHEMA) as found:
        yield found


async def test_an_append_goes_on_although_two_hundred_others_come_first(table) -> None:
    table.store.wins = 200
    assert (await table.append(rows(1, 2))).version == 201
    assert table.store.tried == 202
    other = await DeltaTable.open(table.store, "t")
    assert sorted((await other.to_arrow())["k"].to_pylist()) == [1, 2]


async def test_appends_that_share_an_entry_go_on_too(table) -> None:
    table.store.wins = 100
    results = await asyncio.gather(*(table.append(rows(n)) for n in range(8)))
    assert max(result.version for result in results) <= 102 + 7
    assert sorted((await table.to_arrow())["k"].to_pylist()) == list(range(8))


async def test_its_time_is_bounded(table) -> None:
    table._head.committer = replace(table._head.committer, attempts=3, append_seconds=20, clock=Clock())
    table.store.wins = 10_000
    with pytest.raises(CommitConflictError, match=r"was overtaken 1?[0-9] times, last by version"):
        await table.append(rows(1))
    assert 10 <= table.store.tried <= 22
    assert not data_files(table.store.inner)


async def test_a_group_that_ran_out_of_time_is_not_tried_one_by_one(table) -> None:
    table._head.committer = replace(table._head.committer, attempts=3, append_seconds=20, clock=Clock())
    table.store.wins = 10_000
    first = asyncio.create_task(table.append(rows(0)))
    results = await asyncio.gather(first, *(table.append(rows(n)) for n in range(1, 9)), return_exceptions=True)
    assert all(isinstance(result, CommitConflictError) for result in results)
    assert table.store.tried <= 2 * 22
    assert not data_files(table.store.inner)
    table.store.wins = 0
    assert (await table.append(rows(1))).rows == 1


async def test_what_relies_on_rows_is_planned_anew_and_not_put_off_for_ever(table) -> None:
    await table.append(rows(1))
    table._head.committer = replace(table._head.committer, attempts=3)
    table.store.wins, table.store.tried = 10_000, 0
    with pytest.raises(CommitConflictError):
        await table.overwrite(rows(2))
    assert table.store.tried <= 16 * 3
    assert (await table.to_arrow())["k"].to_pylist() == [1]
