"""What each layer costs a small read: microseconds of CPU for one `get(...).read()`, alone in a process.

usage: wrapper_stack.py CALLS  ->  one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from buffetstore.monitoring.events import no_hook
from buffetstore.objects import MemoryStore, MetricsStore, PrefixStore, RetryStore
from buffetstore.objects.wrappers.circuit import CircuitStore
from buffetstore.objects.wrappers.hedge import HedgeStore
from buffetstore.objects.wrappers.limit import LimitStore
from buffetstore.objects.wrappers.rate import RateStore
from buffetstore.resilience.rate import RateLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.monitoring.events import Operation
    from buffetstore.objects import ObjectStore

KEY, BODY, ROUNDS = "raw/a.parquet", bytes(1000), 5
PLENTY = RateLimit(requests_per_second=1e9, bytes_per_second=1e12)


def watching(_operation: Operation) -> None:
    """Watch, so that the events are really made."""


async def microseconds(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """CPU of the best round: what a busy machine adds is not the layer's."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(calls):
            await call()
        best = min(best, time.process_time() - started)
    return best / calls * 1e6


async def aiohttp_get(calls: int) -> float:
    """One GET of the same bytes by aiohttp from aiohttp, client and server together, as the yardstick."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=BODY)

    app = web.Application()
    app.router.add_get("/k", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/k"
    async with aiohttp.ClientSession() as session:

        async def get() -> bytes:
            async with session.get(url) as response:
                return await response.read()

        try:
            return await microseconds(get, calls)
        finally:
            await runner.cleanup()


async def main(calls: int) -> dict[str, float]:
    memory = MemoryStore()
    for key in (KEY, f"some/prefix/{KEY}"):
        await memory.put(key, BODY)
    prefixed = PrefixStore(memory, "some/prefix")
    stacks: dict[str, ObjectStore] = {
        "memory": memory,
        "metrics, nobody told": MetricsStore(memory, no_hook),
        "metrics": MetricsStore(memory, watching),
        "retry": RetryStore(memory),
        "prefix": prefixed,
        "metrics+retry+prefix": MetricsStore(RetryStore(prefixed), watching),
        "circuit": CircuitStore(memory),
        "rate": RateStore(memory, PLENTY),
        "limit": LimitStore(memory),
        "hedge": HedgeStore(memory),
        "all": MetricsStore(
            HedgeStore(RetryStore(CircuitStore(RateStore(LimitStore(prefixed), PLENTY)))), watching
        ),
    }  # fmt: skip
    found = {}
    for name, store in stacks.items():

        async def read(store: ObjectStore = store) -> bytes:
            return await (await store.get(KEY)).read()

        assert await read() == BODY
        found[name] = await microseconds(read, calls)
    return {**found, "aiohttp": await aiohttp_get(max(1, calls // 10))}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1])))))
