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
        print(f"files read: {answer.files_scanned}, pruned: {answer.files_pruned}")
        assert answer.to_pylist()[0]["price"] == Decimal(190)

        correction = await storage.store_data("market_data", [{**bars[0], "price": 184.5}])
        print(f"a correction: {correction.updated} row replaced, version {correction.table_version}")
        for version, price in ((None, "184.5"), (result.table_version, "185")):
            query = DataQuery("market_data", {"symbol": "AAPL"}, columns=["price"], limit=1, table_version=version)
            (row,) = (await storage.retrieve_data(query)).to_pylist()
            print(f"  {'now' if version is None else f'at version {version}'}: {row['price']:.2f}")
            assert row["price"] == Decimal(price)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
