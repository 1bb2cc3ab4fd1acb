"""One measurement of the Delta-log benchmark, run alone in a process so that its peak memory is its own.

usage: delta_log.py generate FOLDER COMMITS FILES
       delta_log.py ours|deltalake open|checkpoint FOLDER COMMITS FILES  ->  one line of JSON
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vertical_slice import Lag, memory

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "t"
FIELDS = {"symbol": "string", "timestamp": "timestamp", "price": "double", "volume": "long"}
FILES_A_DAY = 500


def entry(version: int, first: int, files: int) -> bytes:
    """Return a commit of the files from `first` on: a day has a file for each of 500 symbols, and its rows only."""
    moment = 1_700_000_000_000 + version
    info = {"timestamp": moment, "operation": "WRITE", "engineInfo": "generator", "txnId": f"{version:032x}"}
    lines = [json.dumps({"commitInfo": info})]
    for at in range(first, first + files):
        day, symbol = divmod(at, FILES_A_DAY)
        date = f"{2000 + day // 336:04}-{day % 336 // 28 + 1:02}-{day % 28 + 1:02}"
        year, month, number = date.split("-")
        unique = uuid.UUID(bytes=hashlib.md5(at.to_bytes(8)).digest())
        path = f"year={year}/month={month}/day={number}/S{symbol:03}_market_{year}{month}{number}_v1-{unique}.parquet"
        stats = (
            f'{{"numRecords":390,"minValues":{{"symbol":"S{symbol:03}","timestamp":"{date}T14:30:00.000000Z",'
            f'"price":{10 + symbol / 8},"volume":{symbol + 100}}},"maxValues":{{"symbol":"S{symbol:03}",'
            f'"timestamp":"{date}T20:59:00.123456Z","price":{20 + symbol / 8},"volume":{symbol + 90_000}}},'
            f'"nullCount":{{"symbol":0,"timestamp":0,"price":3,"volume":0}}}}'
        )
        lines.append(
            f'{{"add":{{"path":"{path}","partitionValues":{{}},"size":{20_000 + symbol},"modificationTime":{moment},'
            f'"dataChange":true,"stats":{json.dumps(stats)}}}}}'
        )
    return ("\n".join(lines) + "\n").encode()


def generate(folder: Path, commits: int, files: int) -> None:
    """Write the log of a table of so many files in so many commits; its data files do not exist."""
    log = folder / TABLE / "_delta_log"
    log.mkdir(parents=True)
    columns = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in FIELDS.items()]
    metadata = {
        "id": "00000000-0000-0000-0000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": columns}),
        "partitionColumns": [],
        "configuration": {},
        "createdTime": 0,
    }
    head = [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]
    first = "".join(json.dumps(action) + "\n" for action in head).encode()
    for version in range(commits):
        data = entry(version, version * (files // commits), files // commits)
        (log / f"{version:020}.json").write_bytes(data if version else first + data)


async def ours(what: str, folder: Path, commits: int, files: int) -> dict[str, Any]:
    from datetime import UTC, datetime

    import pyarrow as pa

    from buffetstore.expressions import And, Comparison
    from buffetstore.objects import LocalStore
    from buffetstore.resilience.threads import in_thread
    from buffetstore.tables import DeltaTable
    from buffetstore.tables.checkpoint_writer import write_checkpoint

    store = LocalStore(folder)
    await asyncio.gather(*(store.put(f"warm/{n}", b"x") for n in range(16)))  # threads are not what is measured
    pa.array([{"a": 1}])  # nor is pandas, which pyarrow imports where it is installed
    lag = Lag()
    watcher = asyncio.create_task(lag.watch())
    found: dict[str, Any] = {}
    before = memory("VmRSS")

    async def timed(name: str, call: Callable[[], Any]) -> Any:
        lag.worst = 0.0
        started, used = time.perf_counter(), time.process_time()
        answer = await call()
        found[f"{name}_ms"] = (time.perf_counter() - started) * 1e3
        found[f"{name}_cpu_ms"] = (time.process_time() - used) * 1e3
        found[f"{name}_stall_ms"] = lag.worst * 1e3
        return answer

    if what == "checkpoint":
        await timed("checkpoint", lambda: write_checkpoint(store, TABLE, commits - 1))
    else:
        table = await timed("open", lambda: DeltaTable.open(store, TABLE))
        found["files"] = table.files().num_rows
        found["table_mib"] = table.files().nbytes / 2**20
        found["peak_mib"] = memory("VmHWM") - before
        day = datetime(2000, 3, 3, tzinfo=UTC)
        inside = Comparison("timestamp", ">=", day), Comparison("timestamp", "<", day.replace(day=4))
        symbol = Comparison("symbol", "==", "S123")
        questions = {"prune_by_time": And(inside), "prune": And((*inside, symbol)), "prune_by_symbol": symbol}
        for name, predicate in questions.items():
            # What has not been asked for before is read from the log's texts first.
            await timed(f"first_{name}", partial(in_thread, table.snapshot.prune, predicate))
            found[name + "_to"] = (await timed(name, partial(in_thread, table.snapshot.prune, predicate))).num_rows
        found["pruned_peak_mib"] = memory("VmHWM") - before
        await timed("no_news", table.refresh)
        log = folder / TABLE / "_delta_log"
        (log / f"{commits:020}.json").write_bytes(entry(commits, files, 10))
        await timed("news", table.refresh)
        gone = table.files()["log_path"][files // 2].as_py()
        remove = {"remove": {"path": gone, "dataChange": True, "deletionTimestamp": 1}}
        (log / f"{commits + 1:020}.json").write_text(json.dumps(remove) + "\n")
        await timed("news_with_remove", table.refresh)
        assert table.files().num_rows == found["files"] + 9
        (log / f"{commits + 1:020}.json").unlink()
        (log / f"{commits:020}.json").unlink()
    watcher.cancel()
    return found | {"total_peak_mib": memory("VmHWM") - before}


async def deltalake(what: str, folder: Path, commits: int, files: int) -> dict[str, Any]:
    """deltalake 1.x; its snapshot has no typed statistics until they are asked for."""
    from deltalake import DeltaTable

    path = str(folder / TABLE)
    before = memory("VmRSS")
    found: dict[str, Any] = {}
    started, used = time.perf_counter(), time.process_time()
    table = DeltaTable(path)
    found["files"] = len(table.file_uris())
    found["open_ms"] = (time.perf_counter() - started) * 1e3
    found["open_cpu_ms"] = (time.process_time() - used) * 1e3
    found["peak_mib"] = memory("VmHWM") - before
    assert found["files"] == files
    if what == "checkpoint":
        started, used = time.perf_counter(), time.process_time()
        table.create_checkpoint()
        found["checkpoint_ms"] = (time.perf_counter() - started) * 1e3
        found["checkpoint_cpu_ms"] = (time.process_time() - used) * 1e3
        return found | {"total_peak_mib": memory("VmHWM") - before}
    started = time.perf_counter()
    table.get_add_actions(flatten=True)
    found["statistics_ms"] = (time.perf_counter() - started) * 1e3
    started = time.perf_counter()
    table.update_incremental()
    found["no_news_ms"] = (time.perf_counter() - started) * 1e3
    log = folder / TABLE / "_delta_log"
    (log / f"{commits:020}.json").write_bytes(entry(commits, files, 10))
    started = time.perf_counter()
    table.update_incremental()
    found["news_ms"] = (time.perf_counter() - started) * 1e3
    (log / f"{commits:020}.json").unlink()
    return found | {"total_peak_mib": memory("VmHWM") - before}


def main() -> None:
    if sys.argv[1] == "generate":
        generate(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    side, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    commits, files = int(sys.argv[4]), int(sys.argv[5])
    print(json.dumps(asyncio.run({"ours": ours, "deltalake": deltalake}[side](what, folder, commits, files))))


if __name__ == "__main__":
    main()
