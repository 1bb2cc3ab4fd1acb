"""Processes that write one table on a GCS server see one table."""

from __future__ import annotations

import os

import buffetstore.objects.gcs  # noqa: F401 - loaded here, as the first use would block the loop
from buffetstore.objects.open import open_store
from buffetstore.testing.table_histories import check, run_processes

PROCESSES, OPERATIONS = (8, 100) if os.environ.get("BUFFETSTORE_FULL") else (4, 20)


async def test_processes_see_one_table(bucket, server) -> None:
    url, options = f"gs://{bucket}", {"api_root": server.url}
    calls = await run_processes(url, options, processes=PROCESSES, operations=OPERATIONS)
    assert len(calls) == PROCESSES * OPERATIONS
    async with open_store(url, **options) as store:
        verdict = await check(store, calls)
    print(f"\nGCS server, {PROCESSES} processes x {OPERATIONS}: {verdict}")
