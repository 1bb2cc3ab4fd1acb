from __future__ import annotations

import asyncio

import pytest

from buffetstore.objects import MemoryStore, get_bytes, list_all
from buffetstore.objects.wrappers.rate import RateStore
from buffetstore.resilience.rate import RateLimit
from buffetstore.testing import CountingStore


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def told():
    return []


@pytest.fixture
def make(clock, told):
    def make(inner=None, **limits) -> RateStore:
        limit = RateLimit(**limits, sleep=clock.sleep, clock=clock)
        return RateStore(MemoryStore() if inner is None else inner, limit, hook=told.append)

    return make


async def test_requests_keep_to_the_rate(make, clock):
    store = make(requests_per_second=10)
    for number in range(30):
        await store.put(f"k{number}", b"")
    assert clock.now == pytest.approx(2)  # a second's worth was free
    for call in (store.get("k1"), store.get("k1", head=True), store.get_ranges("k1", []), store.delete(["k2"])):
        await call
    await store.copy("k1", "k3")
    await store.list_prefixes()
    await list_all(store)
    async with await store.start_upload("u") as upload:
        await upload.write(b"123")
        await upload.write(b"456")
        await upload.complete()
    assert clock.now == pytest.approx(2.9)


async def test_a_long_listing_and_a_deletion_of_many_count_by_thousands(make, clock):
    inner = MemoryStore()
    keys = [f"k{number:04}" for number in range(2500)]
    for key in keys:
        await inner.put(key, b"")
    store = make(inner, requests_per_second=1)
    assert len(await list_all(store)) == 2500
    assert clock.now == pytest.approx(2)
    await store.delete(keys)
    assert clock.now == pytest.approx(5)


async def test_bytes_wait_before_they_are_sent(make, clock, told):
    store = make(bytes_per_second=100, burst_seconds=0)
    await store.put("k", bytes(250))
    assert clock.now == pytest.approx(2.5)
    async with await store.start_upload("u") as upload:
        await upload.write(bytes(100))
        assert clock.now == pytest.approx(3.5)
    assert [(o.name, o.subject, dict(o.counts)) for o in told] == [
        ("objects.rate_wait", "k", {"requests": 1, "bytes": 250}),
        ("objects.rate_wait", "u", {"requests": 0, "bytes": 100}),
    ]


async def test_bytes_that_come_are_paid_for_before_they_are_handed_on(make, clock):
    inner = MemoryStore()
    await inner.put("k", bytes(3 * 1024 * 1024))
    store = make(inner, bytes_per_second=1024 * 1024, burst_seconds=0)
    async with await store.get("k") as result:
        assert [clock.now async for _chunk in result] == [1, 2, 3]
    await get_bytes(store, "k")
    assert clock.now == 6
    async with await store.get("k") as result:
        await result.readinto(memoryview(bytearray(3 * 1024 * 1024)))
    assert clock.now == 9
    await store.get_ranges("k", [(0, 1024 * 1024)])
    assert clock.now == 10


async def test_a_burst_is_free(make, clock):
    store = make(requests_per_second=5, bytes_per_second=1000, burst_seconds=2)
    for number in range(10):
        await store.put(f"k{number}", bytes(200))
    assert clock.sleeps == []


async def test_no_limit_is_no_limit(make, clock):
    store = make()
    for _ in range(100):
        await store.put("k", bytes(1000))
        await get_bytes(store, "k")
    assert clock.sleeps == []


async def test_callers_go_in_the_order_in_which_they_came():
    clock = Clock()
    wakes: list[tuple[float, asyncio.Event]] = []

    async def sleep(seconds: float) -> None:
        wake = asyncio.Event()
        wakes.append((clock.now + seconds, wake))
        await wake.wait()

    order = []

    class Noting(MemoryStore):
        async def put(self, key, data, **options):
            order.append(key)
            return await super().put(key, data, **options)

    store = RateStore(Noting(), RateLimit(requests_per_second=1, sleep=sleep, clock=clock))
    tasks = [asyncio.create_task(store.put(f"k{number}", b"")) for number in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    for _time, wake in sorted(wakes, key=lambda entry: entry[0]):
        wake.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert order == ["k0", "k1", "k3", "k4"]


async def test_a_cancelled_wait_gives_back_what_it_took():
    clock = Clock()

    async def never(_seconds: float) -> None:
        await asyncio.Event().wait()

    counting = CountingStore(MemoryStore())
    store = RateStore(counting, RateLimit(requests_per_second=1, bytes_per_second=1000, sleep=never, clock=clock))
    await store.put("k", b"")
    task = asyncio.create_task(store.put("large", bytes(100_000)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert counting.requests["put"] == 1
    clock.now = 1
    await store.put("k", bytes(1000))  # would wait for ever, had the large one left its debt
