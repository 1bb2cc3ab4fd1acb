from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from random import Random

import pytest

from buffetstore.errors import RateLimitedError, UnavailableError
from buffetstore.objects import CREATE, MemoryStore, exists, get_bytes, get_many
from buffetstore.testing import CountingStore, Fault, FaultyStore, random_faults


class TestFaultyStore:
    async def test_before_and_after(self):
        memory = MemoryStore()
        store = FaultyStore(memory, {"put": [Fault("before"), Fault("after"), None]})
        with pytest.raises(UnavailableError) as before:
            await store.put("k", b"1")
        assert before.value.ambiguous
        assert not await exists(memory, "k")
        with pytest.raises(UnavailableError) as after:
            await store.put("k", b"2")
        assert (after.value.ambiguous, after.value.key) == (True, "k")
        assert await get_bytes(memory, "k") == b"2"
        await store.put("k", b"3")
        assert await get_bytes(memory, "k") == b"3"

    async def test_bodies(self):
        memory = MemoryStore()
        await memory.put("k", b"0123456789")
        store = FaultyStore(memory, {"get": [Fault("body", after_bytes=4), Fault("truncated", after_bytes=4)]})
        body = aiter(await store.get("k"))
        assert bytes(await anext(body)) == b"0123"
        with pytest.raises(UnavailableError):
            await anext(body)
        assert await get_bytes(store, "k") == b"0123"
        assert await get_bytes(store, "k") == b"0123456789"

    async def test_the_error_can_be_chosen(self):
        store = FaultyStore(MemoryStore(), {"list_prefixes": [Fault(error=RateLimitedError)]})
        with pytest.raises(RateLimitedError) as failure:
            await store.list_prefixes()
        assert not failure.value.ambiguous

    async def test_random_faults_are_reproducible(self):
        def draw(seed: int) -> list[Fault | None]:
            source = random_faults(Random(seed), 0.5)
            return [source("put") for _ in range(50)]

        assert draw(1) == draw(1) != draw(2)
        assert None in draw(1)

    async def test_a_slow_call_lets_others_go_first(self):
        store = FaultyStore(MemoryStore(), {"put": [Fault("late", seconds=0.001), None]})
        order = []

        async def put(name: bytes) -> None:
            await store.put("k", name)
            order.append(name)

        await asyncio.gather(put(b"slow"), put(b"quick"))
        assert order == [b"quick", b"slow"]

    async def test_latency_is_a_number_or_drawn(self):
        drawn = iter([0.02, 0.0])
        for latency in (0.02, lambda: next(drawn)):
            store = FaultyStore(MemoryStore(), latency_seconds=latency)
            started = time.monotonic()
            await store.put("k", b"")
            assert time.monotonic() - started >= 0.02
        await store.put("k", b"")
        assert next(drawn, None) is None


class TestCountingStore:
    async def test_requests_and_bytes(self):
        store = CountingStore(MemoryStore())
        await store.put("k", b"12345", mode=CREATE)
        assert await get_bytes(store, "k") == b"12345"
        await store.get_ranges("k", [(0, 2), (3, 5)])
        async with await store.start_upload("u") as upload:
            await upload.write(b"123")
            await upload.complete()
        assert store.requests == {
            "put": 1, "get": 1, "get_ranges": 1, "start_upload": 1, "write": 1, "complete": 1, "abort": 1,
        }  # fmt: skip
        assert (store.bytes_out, store.bytes_in, store.total) == (8, 9, 7)
        store.reset()
        assert (store.total, store.bytes_in, store.round_trips) == (0, 0, 0)

    async def test_round_trips_are_the_longest_chain(self):
        store = CountingStore(MemoryStore(), latency_seconds=0.001)
        for key in "abc":
            await store.put(key, b"")
        assert store.round_trips == 3
        store.reset()
        await get_many(store, list("abc") * 10)
        assert store.round_trips == 1
        await asyncio.gather(get_bytes(store, "a"), get_many(store, ["b", "c"]))
        assert store.round_trips == 2


def test_stores_and_servers_do_not_need_pytest():
    code = (
        "import sys; from buffetstore.testing import CountingStore, FaultyStore, HttpFaultProxy, random_faults; "
        "print('pytest' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_every_exported_name_is_there():
    import buffetstore.testing as package

    assert sorted(package.__all__) == package.__all__
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        package.nonsense  # noqa: B018
