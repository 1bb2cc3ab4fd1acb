"""Writers at once on one table, beside deltalake and LanceDB, with latency in front of the store: one line of JSON.

Usage: ``python table_concurrency.py <appends> <tables>``. Ours: a store in memory that answers after 50 ms (100 ms for
many tables). deltalake and, where it is installed, LanceDB bring their own clients: the GCS server behind a proxy that
adds as much.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import deltalake
import pyarrow as pa

from buffetstore.expressions import Comparison
from buffetstore.objects import MemoryStore
from buffetstore.tables import DeltaTable
from buffetstore.testing import Conditions, CountingStore, FaultProxy, in_background
from buffetstore.testing.gcs import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

LATENCY = 0.05
PATIENCE = 100.0  # seconds after which a peer's appends are not waited for
SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("close", pa.float64()),
        ("volume", pa.int64()),
    ]
)


def bars(count: int, seed: int = 0) -> pa.Table:
    return pa.table(
        {
            "symbol": [f"S{seed % 7}"] * count,
            "timestamp": pa.array(range(count), pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "close": [1.5 + seed] * count,
            "volume": list(range(count)),
        },
        schema=SCHEMA,
    )


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return round(time.perf_counter() - begun, 4)


async def new_table(latency: float) -> tuple[CountingStore, DeltaTable]:
    """Make a table that has been written to once, so that nothing is loaded or connected in what is measured."""
    store = CountingStore(MemoryStore(), latency_seconds=latency)
    table = await DeltaTable.create(store, "t", SCHEMA)
    await table.append(bars(10))
    store.reset()
    return store, table


async def appends(count: int, rows: int, latency: float = LATENCY) -> dict[str, float]:
    _, table = await new_table(latency)
    batches = [bars(rows, seed) for seed in range(count)]
    before = table.version
    seconds = await timed(lambda: asyncio.gather(*(table.append(batch) for batch in batches)))
    assert (await table.to_arrow(["volume"])).num_rows == 10 + count * rows
    await table.aclose()
    return {"seconds": seconds, "commits": table.version - before}


async def many_tables(count: int, latency: float = 2 * LATENCY) -> dict[str, float]:
    tables = [(await new_table(latency))[1] for _ in range(count)]
    batches = [bars(100, seed) for seed in range(count)]
    pairs = list(zip(tables, batches, strict=True))
    return {"seconds": await timed(lambda: asyncio.gather(*(table.append(batch) for table, batch in pairs)))}


async def round_trips(latency: float = LATENCY) -> dict[str, int]:
    """Count the requests that wait for one another."""
    found: dict[str, int] = {}
    store, table = await new_table(latency)

    async def count(name: str, work: Callable[[], Awaitable[object]]) -> None:
        store.reset()
        await work()
        found[name] = store.round_trips
        found[f"{name}, lists"] = store.requests["list_objects"]

    await count("append", lambda: table.append(bars(100)))
    await count("refresh", table.refresh)
    await asyncio.gather(*(table.append(bars(10, seed)) for seed in range(12)))
    await count("compact", table.compact)
    await table.aclose()

    async def opened() -> None:
        await DeltaTable.open(store, "t")

    await count("open", opened)
    return found


async def stalls(rows: int) -> dict[str, float]:
    """Return for each call the longest time, in ms, for which the event loop did nothing else."""
    found: dict[str, float] = {}
    store = MemoryStore()
    table = await DeltaTable.create(store, "t", SCHEMA)
    batches = [bars(100, seed) for seed in range(200)]
    many = bars(rows)

    async def held(name: str, work: Callable[[], Awaitable[object]]) -> None:
        for _ in range(2):  # the second time nothing is loaded any more
            await asyncio.sleep(0.05)
            longest, task = 0.0, asyncio.ensure_future(work())
            while not task.done():
                begun = time.perf_counter()
                await asyncio.sleep(0.001)
                longest = max(longest, time.perf_counter() - begun - 0.001)
            await task
            found[name] = round(longest * 1000, 1)

    async def scanned() -> None:
        async for _ in table.scan():
            pass

    await held("idle", lambda: asyncio.sleep(0.2))
    await held("200 appends", lambda: asyncio.gather(*(table.append(batch) for batch in batches)))
    await held("open", lambda: asyncio.gather(DeltaTable.open(store, "t")))
    await held("refresh", table.refresh)
    await held("to_arrow", table.to_arrow)
    await held("scan", scanned)
    await held("upsert", lambda: table.upsert(bars(1), key=["symbol", "volume"]))
    await held("delete", lambda: table.delete(Comparison("volume", "==", 7)))
    await held("checkpoint", table.checkpoint)
    await held("compact", table.compact)
    await held("history", table.history)
    await held("verify", table.verify)
    await held("vacuum", lambda: table.vacuum(dry_run=True))
    await held("overwrite, many rows", lambda: table.overwrite(many))
    await held("append, many rows", lambda: table.append(many, idempotency_key=uuid.uuid4().hex))
    await held("to_arrow, many rows", table.to_arrow)
    await table.aclose()
    return found


@contextmanager
def gcs_behind_latency() -> Iterator[tuple[Conditions, dict[str, str]]]:
    """Serve a bucket `bench`; give the network's conditions and the options of clients in Rust."""
    with serve_in_thread() as server:
        server.state.create_bucket("bench")
        conditions = Conditions()
        with in_background(FaultProxy.to(server.url, conditions)) as proxy:
            account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
            key = json.dumps({"gcs_base_url": proxy.url, **account})
            yield conditions, {"google_service_account_key": key, "allow_http": "true"}


def with_deltalake(appends_at_once: int, tables: int) -> dict[str, dict[str, float]]:
    """Threads, as it has no asyncio."""
    with gcs_behind_latency() as (conditions, options):

        def create() -> str:
            url = f"gs://bench/{uuid.uuid4().hex}"
            deltalake.write_deltalake(url, bars(10), storage_options=options)
            return url

        def append(url: str, seed: int) -> None:
            deltalake.write_deltalake(url, bars(100, seed), mode="append", storage_options=options)

        def threaded(urls: list[str], latency: float) -> dict[str, float]:
            with ThreadPoolExecutor(len(urls)) as pool:
                conditions.latency_up = latency
                begun = time.perf_counter()
                done = [pool.submit(append, url, seed) for seed, url in enumerate(urls)]
                failed = sum(each.exception() is not None for each in done)
                seconds = round(time.perf_counter() - begun, 4)
                conditions.latency_up = 0.0
            return {"seconds": seconds, "failed": failed}

        return {
            f"{appends_at_once} appends": threaded([create()] * appends_at_once, LATENCY),
            f"{tables} tables": threaded([create() for _ in range(tables)], 2 * LATENCY),
        }


async def with_lancedb(few: int, many: int, tables: int) -> dict[str, dict[str, float]] | str:
    """Return its figures, or why there are none."""
    if importlib.util.find_spec("lancedb") is None:
        return "not installed"
    import lancedb

    with gcs_behind_latency() as (conditions, options):

        async def create() -> lancedb.AsyncTable:
            url = f"gs://bench/{uuid.uuid4().hex}"
            database = await lancedb.connect_async(url, storage_options=options)
            table = await database.create_table("t", bars(10))
            await table.add(bars(10))  # nothing is loaded or connected in what is measured
            return table

        async def together(written: list[lancedb.AsyncTable], latency: float) -> dict[str, float]:
            conditions.latency_up = latency
            begun = time.perf_counter()
            adding = [asyncio.ensure_future(table.add(bars(100, seed))) for seed, table in enumerate(written)]
            _, waiting = await asyncio.wait(adding, timeout=PATIENCE)
            seconds = round(time.perf_counter() - begun, 4)
            for task in waiting:
                task.cancel()
            outcomes = await asyncio.gather(*adding, return_exceptions=True)
            conditions.latency_up = 0.0
            failed = sum(isinstance(each, Exception) for each in outcomes)
            return {"seconds": seconds, "failed": failed, "unfinished": len(waiting)}

        try:
            return {
                f"{few} appends": await together([await create()] * few, LATENCY),
                f"{many} appends": await together([await create()] * many, LATENCY),
                f"{tables} tables": await together([await create() for _ in range(tables)], 2 * LATENCY),
            }
        except (RuntimeError, OSError, ValueError) as error:  # what its Rust side raises
            return f"{lancedb.__version__} cannot write here: {error}"[:300]


async def main(many: int, tables: int) -> None:
    few = min(16, many)
    await appends(4, 100, 0.0)  # loads what is loaded at first use
    ours = {
        f"{few} appends": await appends(few, 100),
        f"{many} appends": await appends(many, 100),
        f"{tables} tables": await many_tables(tables),
    }
    theirs = await asyncio.to_thread(with_deltalake, few, tables)
    lance = await with_lancedb(few, many, tables)
    rounds, held = await round_trips(), await stalls(many * 1000)
    print(json.dumps({"ours": ours, "deltalake": theirs, "lancedb": lance, "rounds": rounds, "stalls": held}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
