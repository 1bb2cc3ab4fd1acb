"""Store a few bars in a local folder, and read some of them back."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from buffetstore import DataQuery, StorageManager


def some_bars(symbol: str, price: float, days: int) -> list[dict[str, object]]:
    start = datetime(2024, 1, 2, tzinfo=UTC)
    return [
        {
            "symbol": symbol,
            "timestamp": start + timedelta(days=day),
            "price": price + day / 4,
            "volume": 1_000_000 + day,
            "data_source": "example",
        }
        for day in range(days)
    ]


async def main(folder: str) -> None:
    async with await StorageManager.open(folder) as storage:
        bars = some_bars("AAPL", 185.0, 60) + some_bars("BRK.B", 360.0, 60)
        result = await storage.store_data("market_data", bars)
        print(f"stored {result.rows} rows as version {result.table_version}: {result.file_path}")
        assert result.inserted == 120

        again = await storage.store_data("market_data", bars)
        print(f"the same again: {again.unchanged} unchanged")
        assert again.unchanged == 120

        answer = await storage.retrieve_data(
            DataQuery(
                "market_data",
                filters={"symbol": "AAPL", "price": {"gte": 190}},
                date_range={"start": "2024-01-01", "end": "2024-01-31"},
                columns=["symbol", "timestamp", "price"],
            )
        )
        for row in answer.to_pylist():
            print(f"  {row['timestamp']:%Y-%m-%d}  {row['symbol']}  {row['price']:.2f}")
        print(f"{answer.files_scanned} files read, {answer.files_pruned} pruned")
        assert answer.to_pylist()[0]["price"] == Decimal(190)

        corrected = [{**bars[0], "price": 184.5}]
        result = await storage.store_data("market_data", corrected)
        print(f"a correction: {result.updated} row replaced, version {result.table_version}")
        first = DataQuery("market_data", filters={"symbol": "AAPL"}, columns=["price"], limit=1)
        before = DataQuery("market_data", filters={"symbol": "AAPL"}, columns=["price"], limit=1, table_version=0)
        now, then = [(await storage.retrieve_data(query)).to_pylist()[0]["price"] for query in (first, before)]
        print(f"now {now:.2f}, at version 0 {then:.2f}")
        assert (now, then) == (Decimal("184.5"), Decimal(185))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
