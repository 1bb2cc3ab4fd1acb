"""One side of the vertical-slice benchmark, run alone in a process so that its peak memory is its own.

usage: vertical_slice.py ours|deltalake FOLDER ROWS  ->  one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SYMBOLS, BARS_PER_DAY = 500, 80
START = np.datetime64("2024-01-02", "D")


def market(rows: int) -> pa.Table:
    """Five-minute bars of 500 symbols, by day, symbol and time, as an end-of-day batch arrives."""
    rng = np.random.default_rng(20240607)
    days = -(-rows // (SYMBOLS * BARS_PER_DAY))
    dates = np.busday_offset(START, np.arange(days), roll="forward").astype("datetime64[us]").astype(np.int64)
    minutes = (np.arange(BARS_PER_DAY, dtype=np.int64) * 5 + 14 * 60 + 30) * 60_000_000
    timestamp = (np.repeat(dates, SYMBOLS * BARS_PER_DAY) + np.tile(minutes, SYMBOLS * days))[:rows]
    symbol = np.tile(np.repeat(np.arange(SYMBOLS, dtype=np.int32), BARS_PER_DAY), days)[:rows]
    names = pa.array([f"S{number:03d}" for number in range(SYMBOLS)])
    price = np.round(rng.uniform(8, 400, rows), 2)
    return pa.table(
        {
            "symbol": pa.DictionaryArray.from_arrays(pa.array(symbol), names).cast(pa.string()),
            "timestamp": pa.array(timestamp, pa.timestamp("us", "UTC")),
            "price": pa.array(price),
            "volume": pa.array(rng.lognormal(9, 1.2, rows).astype(np.int64)),
            "rsi": pa.array(np.round(rng.normal(50, 12, rows).clip(0, 100), 2)),
            "beta": pa.array(np.round(rng.normal(1, 0.3, rows), 4)),
        }
    )


class Lag:
    """How late a task that sleeps a millisecond wakes: what other requests of the service would feel."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, time.perf_counter() - started - 0.001)


async def ours(folder: Path, rows: pa.Table) -> dict[str, Any]:
    from prometheus_client import CollectorRegistry

    from buffetstore import DataQuery, StorageManager

    registry = CollectorRegistry()
    async with StorageManager.open(folder.as_uri(), registry=registry) as storage:
        await storage.list_data_types()  # connections, threads and imports are not what is measured
        lag = Lag()
        watcher = asyncio.create_task(lag.watch())
        started = time.perf_counter()
        stored = await storage.store_data("market_data", rows, interval="5m", data_source="bench")
        stored_seconds, stored_lag, lag.worst = time.perf_counter() - started, lag.worst, 0.0
        query = DataQuery("market_data", {"symbol": "S123"}, {"start": "2024-01-01", "end": "2024-01-31"})
        started = time.perf_counter()
        answer = await storage.retrieve_data(query)
        read_seconds = time.perf_counter() - started
        started = time.perf_counter()
        again = await storage.retrieve_data(query)
        again_seconds = time.perf_counter() - started
        watcher.cancel()
    requests = {
        sample.labels["operation"]: int(sample.value)
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.endswith("operations_total") and sample.labels.get("operation", "").startswith("objects.")
    }
    assert stored.rows == len(rows)
    return {
        "rows": len(rows),
        "store_seconds": stored_seconds,
        "read_seconds": read_seconds,
        "again_seconds": again_seconds,
        "read_rows": answer.table.num_rows,
        "again_hit": again.cache_hit,
        "read_bytes": answer.bytes_read,
        "requests": requests,
        "store_stall_ms": stored_lag * 1e3,
        "read_stall_ms": lag.worst * 1e3,
    }


async def deltalake(folder: Path, rows: pa.Table) -> dict[str, Any]:
    """deltalake 1.x in a thread, as its users do in async services; it validates nothing."""
    import pyarrow.compute as pc
    from deltalake import DeltaTable, write_deltalake

    def store() -> None:
        dated = rows.append_column("date", rows["timestamp"].cast(pa.date32()))
        write_deltalake(str(folder), dated, partition_by=["date"])

    def read() -> int:
        january = (pc.field("date") >= date(2024, 1, 1)) & (pc.field("date") <= date(2024, 1, 31))
        table = DeltaTable(str(folder)).to_pyarrow_table(filters=january & (pc.field("symbol") == "S123"))
        return int(table.num_rows)

    lag = Lag()
    watcher = asyncio.create_task(lag.watch())
    started = time.perf_counter()
    await asyncio.to_thread(store)
    stored_seconds, stored_lag, lag.worst = time.perf_counter() - started, lag.worst, 0.0
    started = time.perf_counter()
    read_rows = await asyncio.to_thread(read)
    read_seconds = time.perf_counter() - started
    started = time.perf_counter()
    await asyncio.to_thread(read)
    again_seconds = time.perf_counter() - started
    watcher.cancel()
    return {
        "rows": len(rows),
        "store_seconds": stored_seconds,
        "read_seconds": read_seconds,
        "again_seconds": again_seconds,
        "read_rows": read_rows,
        "store_stall_ms": stored_lag * 1e3,
        "read_stall_ms": lag.worst * 1e3,
    }


def memory(field: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at most (getrusage would count the parent that forked it)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    side, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    rows = market(count)
    before = memory("VmRSS")
    answer = asyncio.run({"ours": ours, "deltalake": deltalake}[side](folder, rows))
    answer["peak_mib_above_input"] = memory("VmHWM") - before
    answer["bytes_stored"] = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
