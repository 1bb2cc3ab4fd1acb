"""Processes that write one table on an S3 server see one table."""

from __future__ import annotations

import os

from buffetstore.objects.open import open_store
from buffetstore.testing.table_histories import check, run_processes

PROCESSES, OPERATIONS = (8, 100) if os.environ.get("BUFFETSTORE_FULL") else (4, 20)


async def test_processes_see_one_table(bucket, options) -> None:
    url = f"s3://{bucket}"
    calls = await run_processes(url, options, processes=PROCESSES, operations=OPERATIONS)
    assert len(calls) == PROCESSES * OPERATIONS
    async with open_store(url, **options) as store:
        verdict = await check(store, calls)
    print(f"\nS3 server, {PROCESSES} processes x {OPERATIONS}: {verdict}")
