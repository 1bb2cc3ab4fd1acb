"""A contract that grows, rows that break it, checks over many rows, and where rows come from."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from buffetstore import IncompatibleSchemaError, Record, SchemaManager, StorageManager
from buffetstore.schemas import Duplicates, Outliers, Price, Timestamp


class Fill(
    Record,
    data_type="fills",
    version="1.0.0",
    key=("symbol", "timestamp", "order_id"),
    quality=(Duplicates(), Outliers("price")),
):
    """A trade of our own."""

    symbol: str
    timestamp: Timestamp
    order_id: str
    price: Price


class FillWithFee(Fill, version="1.1.0"):
    """Since the broker reports fees."""

    fee: Price | None = None


class FillOfDesk(Fill, version="1.2.0"):
    """What nobody can read old rows as: they have no desk."""

    desk: str


def fill(number: int, price: Any = "101.25") -> dict[str, Any]:
    """Return a fill as a broker's file has it."""
    return {
        "symbol": "AAPL",
        "timestamp": f"2024-01-02T15:{number:02}:00Z",
        "order_id": f"o-{number}",
        "price": price,
    }


async def main() -> None:
    """Grow, refuse, mend, check and look back."""
    with tempfile.TemporaryDirectory() as folder:
        async with StorageManager.open(folder, schema_manager=SchemaManager([Fill])) as storage:
            await storage.store_data("fills", [fill(1), fill(2)], inputs=["broker/2024-01-02.csv"], job="nightly")
            await storage.registry.evolve(
                data_type="fills",
                current_version="1.0.0",
                new_schema=FillWithFee,
                new_version="1.1.0",
                reason="the broker reports fees",
            )
            for entry in await storage.registry.entries("fills"):
                print(f"fills {entry.contract.version}: {entry.reason}")
            try:
                await storage.registry.register(FillOfDesk)
            except IncompatibleSchemaError as error:
                print("refused:", "; ".join(error.reasons))

            done = await storage.store_data(
                "fills", [fill(3) | {"fee": "0.35"}, fill(4, price="n/a")], on_invalid="quarantine"
            )
            print(f"stored {done.rows}, put aside {done.quarantined}")
            mended = await storage.quarantine.replay("fills", filters={"order_id": "o-4"}, fix={"price": "101.50"})
            print(f"mended {mended.replayed}")

            report = await storage.quality.run("fills")
            print(
                "quality:",
                ", ".join(f"{result.check} {result.status}" for result in report.results) or "nothing declared",
            )
            print("made of:", ", ".join((await storage.lineage("fills")).sources))


if __name__ == "__main__":
    asyncio.run(main())
