"""Reads over an HTTP object store whose every request takes 30 ms: ours, known row groups (the limit), and peers.

usage: query_reads.py serve  ->  its URL on stdout, until stdin closes
       query_reads.py SIDE URL daily|compacted LATENCY  ->  one line of JSON; SIDE is ours, limit, polars or deltalake
       query_reads.py fill URL ROWS

The questions: q1 one symbol on one day, q2 one symbol on all days, q3 all symbols on one day, q4 all of one column,
q5 the last row of each symbol.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).parent))
from vertical_slice import market

from buffetstore.caching import LRUCache
from buffetstore.expressions import And, Comparison
from buffetstore.formats import ParquetFormatter
from buffetstore.objects.gcs import GCSStore
from buffetstore.query import DataQuery
from buffetstore.resilience.concurrency import gather
from buffetstore.storage import LakeStorage
from buffetstore.tables.file_actions import each_file
from buffetstore.tables.reading import read_file
from buffetstore.testing import CountingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LATENCY = 0.03
BUCKETS = ("daily", "compacted")
SYMBOL, DAY = "S123", "2024-01-03"
COLUMNS = ["symbol", "timestamp", "price"]
CONNECTIONS = 128
REPEATS = 5


def questions() -> dict[str, Any]:
    """Return the questions as ours."""
    day = {"start": DAY, "end": DAY}
    ask = partial(DataQuery, "market_data")
    return {
        "q1": ask({"symbol": SYMBOL}, day, columns=COLUMNS),
        "q2": ask({"symbol": SYMBOL}, columns=COLUMNS),
        "q3": ask(None, day, columns=COLUMNS),
        "q4": ask(columns=["price"]),
        "q5": ask(latest=["symbol"], columns=COLUMNS),
    }


async def serve() -> None:
    from buffetstore.testing.gcs import GCSServer

    async with GCSServer(buckets=BUCKETS) as server:
        print(server.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def delay(url: str, seconds: float) -> None:
    """Let every request take so long from now on."""
    for method, body in (("DELETE", None), ("POST", [{"kind": "delay", "seconds": seconds, "times": None}])):
        if body is None or seconds:
            data = None if body is None else json.dumps(body).encode()
            asked = urllib.request.Request(f"{url}/_emulator/faults", data, method=method)
            urllib.request.urlopen(asked).read()


async def fill(url: str, rows: int) -> None:
    """Store the rows in both buckets, and compact them in one."""
    table = market(rows)
    for bucket in BUCKETS:
        async with GCSStore(bucket, api_root=url) as store, LakeStorage(store) as lake:
            await lake.store_data("market_data", table, interval="5m", data_source="bench")
            if bucket == "compacted":
                await lake.compact("market_data")
            await (await lake.table("market_data")).checkpoint()


async def ours(url: str, bucket: str, latency: float) -> dict[str, Any]:
    """Ask each question of a process that knows nothing, and again; no data is kept between."""
    found = {}
    for name, query in questions().items():
        async with AsyncExitStack() as stack:
            plain = await stack.enter_async_context(GCSStore(bucket, api_root=url, max_connections=CONNECTIONS))
            store = CountingStore(plain)
            lake = await stack.enter_async_context(LakeStorage(store, cache=LRUCache(0)))
            await plain.list_prefixes()  # the first connection and imports are not what is measured
            delay(url, latency)
            runs = []
            for _ in range(REPEATS + 1):
                store.reset()
                started = time.perf_counter()
                answer = await lake.retrieve_data(query)
                seconds = time.perf_counter() - started
                runs.append((seconds * 1e3, store.total, store.round_trips, store.bytes_in))
            delay(url, 0)
            warm = sorted(runs[1:])[REPEATS // 2]
            found[name] = {"rows": answer.rows, "cold": runs[0], "warm": warm}
    return found


async def limit(url: str, bucket: str, latency: float) -> dict[str, Any]:
    """Read what is needed for the first three, row groups known, in one round; nothing else is done."""
    found = {}
    async with GCSStore(bucket, api_root=url, max_connections=CONNECTIONS) as plain:
        store = CountingStore(plain)
        async with LakeStorage(store) as lake:
            table = await lake.table("market_data")
            start = pc.strptime(DAY, "%Y-%m-%d", "us").cast(pa.timestamp("us", "UTC"))
            end = pa.scalar(start.value + 86_400_000_000 - 1, start.type)
            symbol = Comparison("symbol", "==", SYMBOL)
            day = And((Comparison("timestamp", ">=", start.as_py()), Comparison("timestamp", "<=", end.as_py())))
            for name, predicate in {"q1": And((symbol, *day.parts)), "q2": symbol, "q3": day, "q4": None}.items():
                files = table.snapshot.files if predicate is None else table.snapshot.prune(predicate)
                columns = ["price"] if predicate is None else COLUMNS
                read = partial(
                    read_file, plain, table.snapshot, formatter=ParquetFormatter(), columns=columns, predicate=predicate
                )
                delay(url, latency)
                runs = []
                for _ in range(REPEATS):
                    started = time.perf_counter()
                    calls: list[Callable[[], Awaitable[pa.Table]]] = [partial(read, file) for file in each_file(files)]
                    tables = await gather(calls, limit=CONNECTIONS)
                    runs.append((time.perf_counter() - started) * 1e3)
                delay(url, 0)
                found[name] = {"rows": sum(each.num_rows for each in tables), "warm": [sorted(runs)[REPEATS // 2]]}
    return found


def timed(url: str, latency: float, asked: dict[str, Callable[[], int]]) -> dict[str, Any]:
    """Run each question twice, and tell how long it took and how many requests."""
    found = {}
    for name, ask in asked.items():
        delay(url, latency)
        runs = []
        for _ in range(2):
            before = requests(url)
            started = time.perf_counter()
            rows = ask()
            seconds = time.perf_counter() - started
            runs.append((seconds * 1e3, requests(url) - before))
        delay(url, 0)
        found[name] = {"rows": rows, "cold": runs[0], "warm": runs[1]}
    return found


def requests(url: str) -> int:
    """Return how many the server has had."""
    with urllib.request.urlopen(f"{url}/_emulator/requests") as answer:
        held = json.loads(answer.read())
    return len(held) if isinstance(held, list) else int(sum(held["operations"].values()))


def storage_options(url: str) -> dict[str, str]:
    account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    return {"google_service_account_key": json.dumps(account)}


def deltalake(url: str, bucket: str, latency: float) -> dict[str, Any]:
    """deltalake's own engine."""
    from deltalake import DeltaTable, QueryBuilder

    table = DeltaTable(f"gs://{bucket}/raw/market_data", storage_options=storage_options(url))
    builder = QueryBuilder().register("m", table)

    def ask(text: str) -> int:
        return int(pa.table(builder.execute(text).read_all()).num_rows)

    day = f"timestamp >= '{DAY}T00:00:00Z' AND timestamp < '{DAY[:-2]}{int(DAY[-2:]) + 1:02}T00:00:00Z'"
    chosen = "SELECT symbol, timestamp, price FROM m WHERE "
    return timed(
        url,
        latency,
        {
            "q1": partial(ask, f"{chosen} symbol = '{SYMBOL}' AND {day}"),
            "q2": partial(ask, f"{chosen} symbol = '{SYMBOL}'"),
            "q3": partial(ask, f"{chosen} {day}"),
            "q4": partial(ask, "SELECT price FROM m"),
        },
    )


def polars(url: str, bucket: str, latency: float) -> dict[str, Any]:
    """polars over deltalake's log."""
    from datetime import UTC, datetime, timedelta

    import polars as pl

    start = datetime.fromisoformat(DAY).replace(tzinfo=UTC)
    day = (pl.col("timestamp") >= start) & (pl.col("timestamp") < start + timedelta(days=1))
    symbol = pl.col("symbol") == SYMBOL
    lazy = pl.scan_delta(f"gs://{bucket}/raw/market_data", storage_options=storage_options(url))

    def ask(predicate: Any) -> int:
        return int(lazy.filter(predicate).select(COLUMNS).collect().height)

    return timed(
        url,
        latency,
        {"q1": partial(ask, symbol & day), "q2": partial(ask, symbol), "q3": partial(ask, day)}
        | {"q4": lambda: int(lazy.select("price").collect().height)},
    )


def main() -> None:
    what, *given = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve())
    elif what == "fill":
        asyncio.run(fill(given[0], int(given[1])))
    else:
        url, bucket, latency = given[0], given[1], float(given[2])
        if what in {"ours", "limit"}:
            found = asyncio.run({"ours": ours, "limit": limit}[what](url, bucket, latency))
        else:
            found = {"polars": polars, "deltalake": deltalake}[what](url, bucket, latency)
        print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    main()
