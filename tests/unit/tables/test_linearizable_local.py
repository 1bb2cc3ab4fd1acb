"""Processes that write one table on a local disk see one table."""

from __future__ import annotations

import os

import pytest

from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.tables import DeltaTable
from buffetstore.testing.table_histories import PATH, SCHEMA, Call, check, run_client, run_processes

PROCESSES, OPERATIONS = (8, 100) if os.environ.get("BUFFETSTORE_FULL") else (4, 20)


async def test_processes_see_one_table(tmp_path) -> None:
    calls = await run_processes(tmp_path.as_uri(), {}, processes=PROCESSES, operations=OPERATIONS)
    assert len(calls) == PROCESSES * OPERATIONS
    verdict = await check(LocalStore(tmp_path), calls)
    print(f"\nlocal disk, {PROCESSES} processes x {OPERATIONS}: {verdict}")


@pytest.fixture
async def history():
    store = MemoryStore()
    async with DeltaTable.create(store, PATH, SCHEMA) as table:
        calls = await run_client(table, "only", 40)
    await check(store, calls)
    return store, calls


@pytest.mark.parametrize(
    ("kind", "change", "fault"),
    [
        ("read", {"rows": {"made up": "x"}}, "should have read"),
        ("read", {"version": 0, "rows": {}}, "began after version"),
        ("append", {"rows": {"never stored": "x"}}, "version .* should be"),
        ("append", {"version": 10_000}, "nobody made version"),
        ("append", {"version": None, "error": "CommitConflictError"}, "nobody made version"),
        ("upsert", {"changed": 7}, "changed=7"),
    ],
)
async def test_a_history_that_lies_is_found_out(history, kind, change, fault) -> None:
    store, calls = history
    last = max(n for n, call in enumerate(calls) if call.kind == kind)
    calls[last] = Call(**{**vars(calls[last]), **change})
    with pytest.raises(AssertionError, match=fault):
        await check(store, calls)
