"""Upserts of large tables: what is held, what is counted, and what is left of one that fails."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from buffetstore.errors import InvalidInputError, UnavailableError
from buffetstore.formats import ParquetFormatter
from buffetstore.objects.helpers import list_all
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.tables import DataPart, DeltaTable
from buffetstore.tables.actions import AddFile
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.file_table import from_actions
from buffetstore.tables.operations import upserting
from buffetstore.testing import CountingStore
from buffetstore.testing.loop_steps import loop_steps

if TYPE_CHECKING:
    from buffetstore.tables.snapshot import Snapshot

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64())])
FEED = {"delta.enableChangeDataFeed": "true"}
ROWS = 1000  # in a file
FILE = 16 * ROWS  # bytes of its rows


def rows(keys: range | list[int], v: int = 0) -> pa.Table:
    return pa.table({"k": list(keys), "v": [v] * len(keys)}, schema=SCHEMA)


def in_files(table: pa.Table) -> list[DataPart]:
    return [DataPart(table.slice(at, ROWS)) for at in range(0, table.num_rows, ROWS)]


@dataclass(frozen=True)
class Watching(ParquetFormatter):
    """Counts the bytes of the rows that were decoded, or handed over to be encoded, and are still held."""

    held: list[int] = field(default_factory=lambda: [0, 0])

    def _watch(self, table: pa.Table) -> None:
        size = table.nbytes
        self.held[0] += size
        self.held[1] = max(self.held)

        def let_go() -> None:
            self.held[0] -= size

        weakref.finalize(table, let_go)

    def encode(self, table: pa.Table) -> Any:
        self._watch(table)
        return super().encode(table)

    async def adecode(self, *arguments: Any, **options: Any) -> pa.Table:
        table = await super().adecode(*arguments, **options)
        self._watch(table)
        return table


@pytest.fixture
async def table(store):
    """A table of 100 files, whose keys are even numbers."""
    made = await DeltaTable.create(store, "t", SCHEMA)
    await made.append(rows(range(0, 200 * ROWS, 2)), layout=in_files)
    return made


@pytest.mark.parametrize("files", [4, 10])
@pytest.mark.parametrize("v", [0, 1])
async def test_memory_is_bounded_whatever_the_tables_size(store, table, files, v) -> None:
    """Every file holds a row that is given; with `v` each of them is rewritten."""
    watching = Watching()
    upserting_table = await DeltaTable.open(store, "t", formatter=watching)
    new = rows(range(0, 200 * ROWS, 500), v=v)
    result = await upserting_table.upsert(new, key=["k"], bytes_in_flight=files * FILE)
    assert (result.inserted, result.updated + result.unchanged) == (0, 400)
    assert result.rewritten == (100 if v else 0)
    # Half of the budget is read ahead, half is compared, and what is written takes the place of the latter.
    assert watching.held[1] <= (1.5 * files + 2) * FILE
    assert watching.held[1] >= files * FILE / 2
    assert sum((await upserting_table.to_arrow())["v"].to_pylist()) == 400 * v


async def test_a_file_above_the_budget_goes_alone(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, formatter=(watching := Watching()))
    for file in range(5):
        await table.append(rows(range(file * ROWS, (file + 1) * ROWS)))
    watching.held[1] = 0
    result = await table.upsert(rows(range(0, 5 * ROWS, 100), v=1), key=["k"], bytes_in_flight=1)
    assert (result.updated, result.rewritten) == (50, 5)
    assert watching.held[1] < 4 * FILE
    with pytest.raises(InvalidInputError, match="bytes_in_flight 0 must be positive"):
        await table.upsert(rows([1]), key=["k"], bytes_in_flight=0)


async def test_what_changes_is_told_in_turn_across_files(store) -> None:
    """Rows that go are told before the row that stays, though they are found after it."""
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)
    for v in range(3):
        await table.append(rows([1, 2], v=v))
    await table.upsert(rows([1, 3], v=9), key=["k"], bytes_in_flight=1)
    told = [row async for change in table.changes(3) for row in change.rows.to_pylist()]
    of_one = [(row["_change_type"], row["v"]) for row in told if row["k"] == 1]
    assert of_one == [("delete", 1), ("delete", 2), ("update_preimage", 0), ("update_postimage", 9)]
    assert [(row["_change_type"], row["k"]) for row in told if row["k"] != 1] == [("insert", 3)]


class Refusing(StoreWrapper):
    """Refuses the n-th data file."""

    def __init__(self, inner, at: int) -> None:
        super().__init__(inner)
        self.left = at

    async def put(self, key, data, **options):
        self.left -= key.endswith(".parquet")
        if self.left < 0:
            raise UnavailableError("no", key=key)
        return await self.inner.put(key, data, **options)


@pytest.mark.parametrize("at", [0, 1, 7, 9])
async def test_of_one_that_fails_half_way_no_file_stays(store, at) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)
    await table.append(rows(range(10 * ROWS)), layout=in_files)
    before = {meta.key for meta in await list_all(store)}
    failing = await DeltaTable.open(Refusing(store, at), "t")
    with pytest.raises(UnavailableError):
        await failing.upsert(rows(range(0, 20 * ROWS, 100), v=1), key=["k"], bytes_in_flight=2 * FILE)
    assert {meta.key for meta in await list_all(store)} == before


@pytest.mark.usefixtures("computing_at_once")
async def test_cancelled_at_every_await_no_file_stays(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA, configuration=FEED)
    await table.append(rows(range(40)), layout=lambda found: [DataPart(found.slice(at, 10)) for at in range(0, 40, 10)])
    before = {meta.key for meta in await list_all(store)}
    slow = await DeltaTable.open(CountingStore(store, latency_seconds=1e-9), "t")
    for steps in range(1, 2000, 3):
        task = asyncio.create_task(slow.upsert(rows(range(0, 60, 5), v=1), key=["k"], bytes_in_flight=1))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        landed = (await table.refresh()).version > 1
        if landed:
            break
        assert isinstance(outcome, asyncio.CancelledError)
        assert {meta.key for meta in await list_all(store)} == before
    else:
        pytest.fail("it never came to its end")
    assert steps > 20


async def test_planned_anew_nothing_is_left_of_the_first_plan(store) -> None:
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(rows(range(4 * ROWS)), layout=in_files)
    other = await DeltaTable.open(store, "t")
    await other.append(rows([1]))
    result = await table.upsert(rows([1, 3 * ROWS], v=1), key=["k"], bytes_in_flight=1)
    assert (result.updated, result.version) == (2, 3)
    assert sorted((await table.to_arrow())["k"].to_pylist()) == list(range(4 * ROWS))
    data = {meta.key.removeprefix("t/") for meta in await list_all(store, "t/") if meta.key.endswith(".parquet")}
    living = {path for version in range(4) for path in (await files_at(store, version))}
    assert data == living


async def files_at(store, version: int) -> list[str]:
    paths: list[str] = (await DeltaTable.open(store, "t", version=version)).files()["path"].to_pylist()
    return paths


def of_many_files(snapshot: Snapshot, count: int) -> Snapshot:
    """Return the snapshot with files, each of ten keys of its own, that do not exist."""

    def add(at: int) -> AddFile:
        low, high = at * 10, at * 10 + 9
        statistics = (
            f'{{"numRecords":10,"minValues":{{"k":{low},"v":0}},"maxValues":{{"k":{high},"v":9}},'
            '"nullCount":{"k":0,"v":0}}'
        )
        return AddFile(f"part-{at:08}.parquet", 1000, 0, {}, {}, statistics, data_change=True)

    files = from_actions([add(at) for at in range(count)], [1] * count, snapshot.schema, ())
    return replace(snapshot, files=files)


async def planned(store, count: int) -> tuple[int, int]:
    """Return the opcodes, and the bytes of Python's objects, that planning an upsert of new keys takes."""
    table = await DeltaTable.create(store, f"t{count}", SCHEMA)
    snapshot = of_many_files(table.snapshot, count)
    new = rows(range(10 * count, 10 * count + 5))

    def plan() -> Any:
        return upserting.upsert_rows(
            table._writer,
            snapshot,
            new,
            key=["k"],
            ignore=(),
            placed_by=(),
            layout=lambda found: [DataPart(found)],
        )

    await plan()  # loads what is loaded at first use
    opcodes = 0

    def trace(frame, event, _argument):
        nonlocal opcodes
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        opcodes += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        await plan()
    finally:
        sys.settrace(None)
    tracemalloc.start()
    try:
        proposal, result = await plan()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(proposal, Proposal)
    assert (result.inserted, result.rewritten) == (5, 0)
    return opcodes, peak


@pytest.mark.usefixtures("computing_at_once")
async def test_planning_does_not_loop_over_the_files(store) -> None:
    few, _ = await planned(store, 1000)
    many, peak = await planned(store, 100_000)
    assert many < few + 2000
    assert peak < 2_000_000  # names or dicts of 100,000 files would be ten times as much


async def test_many_files_do_not_keep_the_loop(store) -> None:
    """What is done for files, read or written, is done in threads."""
    table = await DeltaTable.create(store, "t", SCHEMA)
    in_tens = 2000
    await table.append(
        rows(range(10 * in_tens)), layout=lambda found: [DataPart(found.slice(10 * at, 10)) for at in range(in_tens)]
    )
    gc.collect()
    gc.disable()  # pauses over what others in this process hold are not what is measured
    try:
        with loop_steps() as steps:
            result = await table.upsert(rows(range(0, 10 * in_tens, 100), v=1), key=["k"])
    finally:
        gc.enable()
    assert (result.updated, result.rewritten) == (200, 200)
    assert steps.longest < 0.025, steps.slowest
