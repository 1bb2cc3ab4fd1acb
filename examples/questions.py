"""Questions: filters, computed columns, bars, the latest row of each, what was known then, and SQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from buffetstore import DataQuery, StorageManager, bucket, col, count, ohlc


def bars() -> list[dict[str, Any]]:
    """Return a bar a minute of two symbols."""
    return [
        {
            "symbol": symbol,
            "timestamp": f"2024-01-02T15:{minute:02}:00Z",
            "price": base + (minute * 7 % 11) / 10,
            "volume": 100 + minute,
            "interval": "1m",
        }
        for symbol, base in (("AAPL", 185), ("MSFT", 370))
        for minute in range(60)
    ]


async def main() -> None:
    """Ask."""
    async with StorageManager.open("memory://") as storage:
        await storage.store_data("market_data", bars(), data_source="example")
        questions = {
            "the dearest": DataQuery("market_data", columns=["symbol", "price"], order_by=["-price"], limit=3),
            "turnover": DataQuery(
                "market_data",
                (col("symbol") == "AAPL") & (col("price") * col("volume") > 29_000),
                columns=["timestamp", (col("price") * col("volume")).alias("turnover")],
            ),
            "bars of a quarter of an hour": DataQuery("market_data", {"symbol": "AAPL"}, **ohlc("15m")),
            "by the hour": DataQuery(
                "market_data",
                group_by=["symbol", bucket("timestamp", "1h")],
                aggregates={"mean": col("price").mean(), "n": count()},
            ),
            "the latest": DataQuery("market_data", latest=True, columns=["symbol", "timestamp", "price"]),
            "known at half past three": DataQuery(
                "market_data", known_at="2024-01-02T15:30:00Z", latest=True, columns=["symbol", "timestamp"]
            ),
        }
        for words, query in questions.items():
            answer = await storage.retrieve_data(query)
            print(f"{words}: {answer.rows} rows, first {answer.to_pylist()[0]}")
        joined = await storage.join_asof(
            DataQuery("market_data", {"symbol": "MSFT"}, columns=["symbol", "timestamp"]),
            DataQuery("market_data", columns=["timestamp", "price"]),
            tolerance=timedelta(minutes=5),
        )
        print(f"each bar with the last price known at its start: {joined.table['price'].null_count} have none")


if __name__ == "__main__":
    asyncio.run(main())
