"""The longest stalls of the event loop in each call of a table of many files, run alone in a process.

usage: table_stalls.py FOLDER FILES  ->  one line of JSON

All data files hold the same row, so that the log is what the calls have to deal with.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import re
import sys
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from delta_log import FIELDS, TABLE, entry, generate
from vertical_slice import Lag

from buffetstore.expressions import And, Comparison
from buffetstore.objects import LocalStore
from buffetstore.tables import DeltaTable
from buffetstore.testing.loop_steps import loop_steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOMENT = datetime(2000, 1, 1, 15, tzinfo=UTC)
TYPES = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "long": pa.int64(),
}
SCHEMA = pa.schema([(name, TYPES[kind]) for name, kind in FIELDS.items()])


def rows(symbol: str = "S123") -> pa.Table:
    return pa.table({"symbol": [symbol], "timestamp": [MOMENT], "price": [30.0], "volume": [500]}, schema=SCHEMA)


def make(folder: Path, files: int) -> None:
    """Write a table of one commit, and its data files."""
    generate(folder, 1, 1)
    buffer = io.BytesIO()
    pq.write_table(rows(), buffer)
    log = folder / TABLE / "_delta_log" / f"{0:020}.json"
    head = [line for line in log.read_bytes().splitlines(keepends=True) if b'"add"' not in line]
    added = re.sub(rb'"size":\d+', b'"size":%d' % len(buffer.getvalue()), entry(0, 0, files))
    log.write_bytes(b"".join(head) + b"".join(added.splitlines(keepends=True)[1:]))
    for line in added.splitlines()[1:]:
        path = folder / TABLE / json.loads(line)["add"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())


class Watch:
    """Calls, and how long the loop was kept: by their own steps, and by what else held the interpreter."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    async def timed(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        gc.collect()
        lag = Lag()
        watcher = asyncio.create_task(lag.watch())
        await asyncio.sleep(0.02)
        lag.worst = 0.0
        started = time.perf_counter()
        with loop_steps() as steps:
            answer = await call()
            await asyncio.sleep(0.002)
        took = time.perf_counter() - started
        watcher.cancel()
        self.found[name] = {
            "ms": took * 1e3,
            "stall_ms": lag.worst * 1e3,
            "step_ms": steps.longest * 1e3,
            "loop_ms": steps.total * 1e3,
        }
        return answer


async def followed(table: DeltaTable, most: int) -> None:
    """Follow the changes of the commit of all files, for some of them."""
    async with aclosing(table.changes(since=-1)) as changes:
        async for change in changes:
            most -= change.rows.num_rows
            if most <= 0:
                return


async def measure(folder: Path, files: int) -> dict[str, Any]:
    store, watch = LocalStore(folder), Watch()
    await asyncio.gather(*(store.put(f"warm/{n}", b"x") for n in range(16)))
    pa.array([{"a": 1}])
    inside = And((Comparison("symbol", "==", "S123"), Comparison("timestamp", "<", MOMENT + timedelta(hours=1))))
    table = await watch.timed("open", lambda: DeltaTable.open(store, TABLE))
    gc.freeze()  # what is the table's own stays, and is no fault of the calls

    await watch.timed("find_files", lambda: table.find_files(Comparison("timestamp", "<", MOMENT)))
    await watch.timed("to_arrow, pruned", lambda: table.to_arrow(filters=inside))
    await watch.timed("refresh", table.refresh)
    await watch.timed("append", lambda: table.append(rows("NEW")))
    await watch.timed("checkpoint", table.checkpoint)
    await watch.timed("upsert", lambda: table.upsert(rows(), key=["symbol", "timestamp"]))
    await watch.timed("delete, pruned", lambda: table.delete(inside))
    await watch.timed("compact, planned", lambda: table.compact(predicate=inside))
    await watch.timed("vacuum, dry run", lambda: table.vacuum(dry_run=True))
    await watch.timed("verify", table.verify)
    await watch.timed("overwrite", lambda: table.overwrite(rows("ONE")))
    await watch.timed("restore", lambda: table.restore(0))
    await watch.timed("history", table.history)
    await watch.timed("changes", lambda: followed(table, 1000))
    days = MOMENT + timedelta(days=20)
    await watch.timed("delete, 20 days", lambda: table.delete(Comparison("timestamp", "<", days)))
    await table.restore(0)
    for path in list((folder / TABLE).glob("year=2000/month=01/*/*.parquet")):
        path.unlink()
    await watch.timed("verify, files gone", table.verify)
    await watch.timed("repair", lambda: table.repair(dry_run=False))
    await watch.timed("aclose", table.aclose)
    assert (await table.refresh()).files.num_rows < files
    return watch.found


def main() -> None:
    folder, files = Path(sys.argv[1]), int(sys.argv[2])
    make(folder, files)
    print(json.dumps(asyncio.run(measure(folder, files))))


if __name__ == "__main__":
    main()
