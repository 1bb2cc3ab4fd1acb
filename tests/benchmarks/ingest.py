"""One side of the ingest benchmark: a CSV file of bars into a table, run alone in a process.

usage: ingest.py make FILE ROWS
       ingest.py run SIDE FILE FOLDER BATCH_ROWS  ->  one line of JSON

SIDE is upsert or append (buffetstore on a folder), pyarrow (CSV to Parquet, streamed, typed, not validated) or
deltalake (the same stream into a Delta table).
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from vertical_slice import Lag

DAYS = 1000
TYPES = {
    "symbol": pa.string(),
    "timestamp": pa.timestamp("us"),
    **dict.fromkeys(("open", "high", "low", "close"), pa.decimal128(18, 8)),
    "volume": pa.int64(),
    "exchange": pa.string(),
}


def make(path: Path, rows: int) -> None:
    """Write bars of 1,000 days for as many symbols as it takes, day by day."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join(TYPES) + "\n")
        symbols = [f"S{number:05}" for number in range(-(-rows // DAYS))]
        for day in range(DAYS):
            date = np.datetime64("2020-01-01") + day
            cents = random.integers(1_000, 50_000, len(symbols)).tolist()
            for symbol, price in zip(symbols[: rows - day * len(symbols)], cents, strict=False):
                last, top, low = price / 100, (price + 50) / 100, (price - 50) / 100
                file.write(f"{symbol},{date},{last:.4f},{top:.4f},{low:.4f},{last:.4f},{price * 37},XNAS\n")


def stream(path: Path) -> csv.CSVStreamingReader:
    return csv.open_csv(path, convert_options=csv.ConvertOptions(column_types=TYPES))


async def buffetstore_side(path: Path, folder: Path, mode: str, batch_rows: int) -> dict[str, float]:
    from buffetstore import Mapping, StorageManager
    from buffetstore.ingest import Source, import_file
    from buffetstore.testing.loop_steps import loop_steps

    mapping = Mapping(constants={"data_source": "bench"}, tz="America/New_York")
    async with StorageManager.open(folder) as storage:
        lag = Lag()
        watcher = asyncio.create_task(lag.watch())
        with loop_steps() as steps:
            source = Source(path, batch_rows=batch_rows)
            done = await import_file(storage, "market_data", source, mapping=mapping, mode=mode)  # type: ignore[arg-type]
        watcher.cancel()
    assert done.inserted == done.rows, done
    return {"rows": done.rows, "step_ms": steps.longest * 1e3, "stall_ms": lag.worst * 1e3, "commits": done.commits}


def pyarrow_side(path: Path, folder: Path) -> dict[str, float]:
    rows = 0
    folder.mkdir()
    with stream(path) as batches, pq.ParquetWriter(folder / "bars.parquet", batches.schema, compression="zstd") as file:
        for batch in batches:
            file.write_batch(batch)
            rows += len(batch)
    return {"rows": rows}


def deltalake_side(path: Path, folder: Path) -> dict[str, float]:
    import deltalake

    with stream(path) as batches:
        deltalake.write_deltalake(folder, pa.RecordBatchReader.from_batches(batches.schema, batches))
    return {"rows": deltalake.DeltaTable(folder).to_pyarrow_dataset().count_rows()}


def run(side: str, path: Path, folder: Path, batch_rows: int) -> dict[str, Any]:
    gc.collect()
    before, cpu, wall = peak_mib(), time.process_time(), time.perf_counter()
    if side == "pyarrow":
        found = pyarrow_side(path, folder)
    elif side == "deltalake":
        found = deltalake_side(path, folder)
    else:
        found = asyncio.run(buffetstore_side(path, folder, side, batch_rows))
    took, used = time.perf_counter() - wall, time.process_time() - cpu
    return {"side": side, **found, "seconds": took, "cpu_s": used, "peak_mib": peak_mib() - before}


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))))
