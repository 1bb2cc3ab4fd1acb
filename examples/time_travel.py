"""Find out what went wrong with a table, look at it as it was, and bring that back."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta

from buffetstore import DataQuery, StorageManager
from buffetstore.storage import read_lineage


def some_bars(days: int, price: float) -> list[dict[str, object]]:
    start = datetime(2024, 1, 2, tzinfo=UTC)
    return [
        {"symbol": "AAPL", "timestamp": start + timedelta(days=day), "price": price + day, "volume": 1000}
        for day in range(days)
    ]


async def main(folder: str) -> None:
    async with StorageManager.open(folder) as storage:
        good = await storage.store_data("market_data", some_bars(10, 185.0), data_source="vendor", inputs=["2024.csv"])
        # A job that mistook cents for dollars:
        await storage.store_data(
            "market_data",
            some_bars(10, 18_500.0),
            data_source="vendor",
            inputs=["cents.csv"],
            code_version="bad-job 1.4",
        )
        await storage.delete_data("market_data", filters={"price": {"gt": 18_505}})

        print("what was done:")
        for commit in await storage.history("market_data"):
            origin = [
                f"{', '.join(each.inputs)} {each.code_version or ''}" for each in read_lineage(commit.user_metadata)
            ]
            print(f"  {commit.version}  {commit.operation:<12}  {'; '.join(origin)}")

        print("what changed since:")
        counts: Counter[tuple[int, str]] = Counter()
        async for change in storage.changes("market_data", since=good.table_version, columns=["timestamp", "price"]):
            counts.update((change.version, kind) for kind in change.rows["_change_type"].to_pylist())
        for (version, kind), rows in sorted(counts.items()):
            print(f"  version {version}: {rows} rows, {kind}")

        then = DataQuery("market_data", columns=["price"], limit=1, table_version=good.table_version)
        (row,) = (await storage.retrieve_data(then)).to_pylist()
        print(f"the first price was {row['price']:.2f} at version {good.table_version}")

        restored = await storage.restore("market_data", good.table_version)
        answer = await storage.retrieve_data(DataQuery("market_data"))
        print(f"brought back: {answer.rows} rows, as version {restored.version}; the mistake stays in the history")
        assert answer.rows == 10
        assert max(answer.table["price"].to_pylist()) < 200


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
