"""deltalake, Polars, pyarrow and DuckDB read the tables that the manager wrote, with equal rows, all columns."""

from __future__ import annotations

import importlib.util
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import DeltaTable

from buffetstore import DataQuery, StorageManager

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)


def market(symbol: str, day: int) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "timestamp": datetime(2024, 1, day, tzinfo=UTC),
        "open": Decimal("185.10000001"),
        "high": Decimal(190),
        "low": Decimal("180.5"),
        "close": Decimal("185.12345678"),
        "volume": 2**40 + day,
        "market_cap": Decimal("2870000000000.25"),
        "pe_ratio": 29.5,
        "adjusted_close": Decimal("184.9"),
        "currency": "USD",
        "exchange": "XNAS",
        "rsi": 55.25,
        "sma_20": 181.5,
        "volatility": 0.21,
        "beta": 1.2,
        "data_source": "tests",
        "available_at": datetime(2024, 1, day, 21, tzinfo=UTC),
    }


FORECAST = {
    "symbol": "^GSPC",
    "model_name": "drift",
    "model_version": "1",
    "timestamp": NOON,
    "forecast_horizon_days": 30,
    "data_source": "tests",
    "predicted_price": Decimal("5000.25"),
    "confidence_lower": Decimal(4800),
    "confidence_upper": Decimal(5200),
    "confidence_score": 0.8,
    "ensemble_predictions": [
        {"model_name": "a", "weight": 0.5, "predicted_price": Decimal("4990.5")},
        {"model_name": "b", "weight": 0.5, "predicted_price": Decimal(5010)},
    ],
    "mae": 1.5,
}

OPTION = {
    "underlying_symbol": "GOOG",
    "expiration_date": date(2024, 2, 16),
    "strike_price": Decimal("152.5"),
    "option_type": "C",
    "timestamp": NOON,
    "bid": None,
    "ask": Decimal("3.10"),
    "volume": 12,
    "delta": 0.45,
    "gamma": 0.02,
    "implied_volatility": 0.31,
    "data_source": "tests",
}

ROWS: dict[str, list[dict[str, Any]]] = {
    "market_data": [
        market(symbol, day) for symbol in ("AAPL", "BTC/USD", "^GSPC", "..", "日経", "a b%c") for day in (15, 16)
    ],
    "forecasts": [FORECAST],
    "options_data": [OPTION],
}

CHANGES: dict[str, dict[str, Any]] = {
    "market_data": {"volume": 7},
    "forecasts": {"confidence_score": 0.9},
    "options_data": {"bid": Decimal("2.95")},
}


def with_deltalake(path: Path) -> pa.Table:
    return DeltaTable(str(path)).to_pyarrow_table()


def with_polars(path: Path) -> pa.Table:
    return pl.read_delta(str(path)).to_arrow()


def with_pyarrow(path: Path) -> pa.Table:
    return DeltaTable(str(path)).to_pyarrow_dataset().to_table()


def with_duckdb(path: Path) -> pa.Table:
    duckdb = pytest.importorskip("duckdb")
    found = importlib.util.find_spec("duckdb_extension_delta")
    if found is None or found.origin is None:
        pytest.skip("DuckDB's delta extension is not installed")
    files = list(Path(found.origin).parent.rglob(f"v{duckdb.__version__}/delta.duckdb_extension"))
    if not files:
        pytest.skip(f"no delta extension for DuckDB {duckdb.__version__}")
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute(f"INSTALL '{files[0]}'")
        connection.execute("LOAD delta")
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT * FROM delta_scan('{path}')").to_arrow_table()


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as plain values, in one order, whatever Arrow types an engine chose for them."""
    return sorted(table.to_pylist(), key=repr)


@pytest.mark.parametrize(
    "engine", [with_deltalake, with_polars, with_pyarrow, with_duckdb], ids=lambda f: f.__name__[5:]
)
@pytest.mark.parametrize("data_type", sorted(ROWS))
async def test_equal_rows(data_type: str, engine: Callable[[Path], pa.Table], tmp_path: Path) -> None:
    async with StorageManager.open(tmp_path.as_uri()) as storage:
        stored = await storage.store_data(data_type, ROWS[data_type])
        assert stored.rows == len(ROWS[data_type])
        # A second write: a row that is there already, changed, and the engines must see the change alone.
        await storage.store_data(data_type, {**ROWS[data_type][0], **CHANGES[data_type]})
        ours = await storage.retrieve_data(DataQuery(data_type))
    foreign = engine(tmp_path / "raw" / data_type)
    assert set(foreign.column_names) == set(ours.table.column_names)
    assert plain(foreign.select(ours.table.column_names)) == plain(ours.table)
