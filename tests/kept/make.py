"""Writes the tables that this release leaves behind: run once a release, commit the folder, never change it again.

usage: python tests/kept/make.py   ->   tests/kept/<version>/{raw/<data_type>/..., expected.json}
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import buffetstore
from buffetstore import DataQuery, StorageManager

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
STAMP = {"data_source": "kept", "created_at": datetime(2024, 1, 16, tzinfo=UTC), "timestamp": NOON}
MARKET = {"price": Decimal("185.12345678"), "volume": 2**40, "rsi": 55.25, "market_cap": Decimal("2870000000000.25")}
ENSEMBLE = [{"model_name": "a", "weight": 0.25, "predicted_price": Decimal("4990.5")}]

ROWS: dict[str, list[dict[str, Any]]] = {
    "market_data": [STAMP | MARKET | {"symbol": symbol} for symbol in ("AAPL", "BTC/USD", "^GSPC", "..", "日経")],
    "forecasts": [
        STAMP
        | {"symbol": "^GSPC", "model_name": "drift", "model_version": "1", "forecast_horizon_days": 30}
        | {"predicted_price": Decimal("5000.25"), "ensemble_predictions": ENSEMBLE}
    ],
    "options_data": [
        STAMP
        | {"underlying_symbol": "GOOG", "expiration_date": date(2024, 2, 16), "strike_price": Decimal("152.5")}
        | {"option_type": "call", "ask": Decimal("3.1"), "delta": 0.45, "implied_volatility": 0.31}
    ],
    "trades": [STAMP | {"symbol": "AAPL", "sequence": 1, "price": Decimal("185.5"), "size": Decimal(100)}],
    "quotes": [STAMP | {"symbol": "AAPL", "sequence": 1, "bid": Decimal("185.4"), "ask": Decimal("185.5")}],
}


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON holds them, in one order."""
    text = json.dumps(sorted(rows, key=repr), default=str)
    return list(json.loads(text))


async def read(folder: Path) -> dict[str, list[dict[str, Any]]]:
    async with StorageManager.open(folder) as storage:
        return {name: plain((await storage.retrieve_data(DataQuery(name))).to_pylist()) for name in ROWS}


async def make(folder: Path) -> None:
    async with StorageManager.open(folder) as storage:
        for data_type, rows in ROWS.items():
            await storage.store_data(data_type, rows)
        # A second version: one row replaced, and one deleted.
        await storage.store_data("market_data", [ROWS["market_data"][0] | {"volume": 7}])
        await storage.delete_data("market_data", filters={"symbol": "^GSPC"})
    expected = json.dumps(await read(folder), indent=1, ensure_ascii=False)
    await asyncio.to_thread((folder / "expected.json").write_text, expected + "\n", encoding="utf-8")


if __name__ == "__main__":
    target = Path(__file__).parent / buffetstore.__version__
    if target.exists():
        raise SystemExit(f"{target} is there: a released table is never written again")
    asyncio.run(make(target))
