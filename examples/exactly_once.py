"""Take in a feed so that every batch lands once, though answers get lost and the process is started again."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from buffetstore import DataQuery, StorageManager
from buffetstore.errors import CommitUnknownError, IdempotencyKeyReusedError, UnavailableError

if TYPE_CHECKING:
    from buffetstore.storage import StoreResult

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)
PER_BATCH = 100


def batch(number: int) -> list[dict[str, object]]:
    first = number * PER_BATCH
    return [
        {
            "symbol": "AAPL",
            "timestamp": START + timedelta(milliseconds=index),
            "sequence": index,
            "price": 185.0 + index % 7 / 100,
            "size": 100,
            "data_source": "feed",
        }
        for index in range(first, first + PER_BATCH)
    ]


async def send(storage: StorageManager, number: int, seconds: float = 10.0) -> StoreResult:
    """Store a batch; sent again until its answer is heard, which the key makes harmless."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                # Appended without comparing keys: the fastest way, and without the key a repeated batch would double.
                return await storage.store_data(
                    "trades", batch(number), mode="append", idempotency_key=("feed", number), inputs=[f"batch {number}"]
                )
        except (TimeoutError, CommitUnknownError, UnavailableError) as error:
            print(f"  batch {number}: {type(error).__name__}, it may or may not be there; sent again")
            seconds = 10.0


async def main(folder: str) -> None:
    async with StorageManager.open(folder) as storage:
        for number in range(3):
            done = await send(storage, number)
            print(f"batch {number}: {done.inserted} rows, version {done.table_version}")
        await send(storage, 3, seconds=0.001)

    # The process died before it could note how far it had come, so it starts again with batch 2.
    async with StorageManager.open(folder) as storage:
        for number in range(2, 6):
            done = await send(storage, number)
            print(f"batch {number}: {'was there already' if done.done_before else f'{done.inserted} rows'}")
        try:
            await storage.store_data("trades", batch(9), mode="append", idempotency_key=("feed", 5))
        except IdempotencyKeyReusedError as error:
            print(f"refused: {error}")
        answer = await storage.retrieve_data(DataQuery("trades"))
        print(f"the rows are there once: {answer.rows}")
        assert answer.rows == 6 * PER_BATCH


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
