from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from buffetstore.errors import NotFoundError, UnavailableError
from buffetstore.objects import MemoryStore, get_bytes, head
from buffetstore.objects.base import GetResult
from buffetstore.objects.wrappers.base import StoreWrapper
from buffetstore.objects.wrappers.hedge import HedgeStore
from buffetstore.resilience.hedge import HedgePolicy

EAGER = HedgePolicy(minimum_samples=1, minimum_seconds=0, budget=1, clock=lambda: 0.0)


class GatedStore(StoreWrapper):
    """Reads wait for their gate, and may then fail; bodies that are open are counted."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.gates: list[asyncio.Future] = []
        self.is_gated = False
        self.stubborn: set[int] = set()  # answer although they are cancelled
        self.cancelled = 0
        self.open = 0

    async def _gate(self) -> None:
        if not self.is_gated:
            return
        gate = asyncio.get_running_loop().create_future()
        number = len(self.gates)
        self.gates.append(gate)
        try:
            await asyncio.shield(gate)
        except asyncio.CancelledError:
            self.cancelled += 1
            if number not in self.stubborn:
                raise

    async def _closed(self) -> None:
        self.open -= 1

    async def get(self, key, **options):
        await self._gate()
        result = await self.inner.get(key, **options)
        self.open += 1
        return GetResult(result.meta, aiter(result), range=result.range, aclose=self._closed)

    async def get_ranges(self, key, ranges, **options):
        await self._gate()
        return await self.inner.get_ranges(key, ranges, **options)

    async def list_prefixes(self, prefix=""):
        await self._gate()
        return await self.inner.list_prefixes(prefix)

    async def gated(self, count: int) -> None:
        for _ in range(1000):
            if len(self.gates) == count:
                return
            await asyncio.sleep(0)
        pytest.fail(f"{len(self.gates)} requests came, not {count}")


@pytest.fixture
def told():
    return []


@pytest.fixture
async def gated():
    gated = GatedStore(MemoryStore())
    await gated.put("k", b"body")
    return gated


@pytest.fixture
async def store(gated, told):
    """A store that has seen answers which took no time."""
    store = HedgeStore(gated, EAGER, hook=told.append)
    await get_bytes(store, "k")
    await head(store, "k")
    await store.get_ranges("k", [(0, 1)])
    await store.list_prefixes()
    assert told == []
    gated.is_gated = True
    return store


VERBS = {
    "get": lambda store: get_bytes(store, "k"),
    "head": lambda store: head(store, "k"),
    "get_ranges": lambda store: store.get_ranges("k", [(0, 4)]),
    "list_prefixes": lambda store: store.list_prefixes(),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("first", [0, 1])
async def test_the_first_answer_is_taken_and_the_other_request_cancelled(store, gated, told, verb, first):
    task = asyncio.create_task(VERBS[verb](store))
    await gated.gated(2)
    gated.gates[first].set_result(None)
    await task
    assert gated.cancelled == 1
    assert gated.open == 0
    assert [(o.name, dict(o.counts)) for o in told] == [("objects.hedge", {"won": first})]


@pytest.mark.parametrize("late", [0, 1])
async def test_an_answer_that_comes_late_is_closed(store, gated, late):
    gated.stubborn = {late}
    task = asyncio.create_task(store.get("k"))
    await gated.gated(2)
    gated.gates[1 - late].set_result(None)
    result = await task
    assert (gated.cancelled, gated.open) == (1, 1)
    await result.aclose()
    assert gated.open == 0


@pytest.mark.parametrize("first", [0, 1])
async def test_a_transient_error_waits_for_the_other(store, gated, first):
    task = asyncio.create_task(VERBS["get"](store))
    await gated.gated(2)
    gated.gates[first].set_exception(UnavailableError("503"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    gated.gates[1 - first].set_result(None)
    assert await task == b"body"
    assert gated.cancelled == 0


async def test_two_errors_are_the_first_ones(store, gated):
    task = asyncio.create_task(VERBS["get"](store))
    await gated.gated(2)
    gated.gates[1].set_exception(UnavailableError("second"))
    gated.gates[0].set_exception(UnavailableError("first"))
    with pytest.raises(UnavailableError, match="first"):
        await task


async def test_an_answer_that_says_no_is_an_answer(store, gated):
    task = asyncio.create_task(VERBS["get"](store))
    await gated.gated(2)
    gated.gates[1].set_exception(NotFoundError("gone"))
    with pytest.raises(NotFoundError):
        await task
    assert gated.cancelled == 1


async def test_an_error_before_the_delay_is_not_hedged(store, gated):
    store._tracker.delay = lambda _verb: 60.0
    task = asyncio.create_task(VERBS["get"](store))
    await gated.gated(1)
    gated.gates[0].set_exception(UnavailableError("503"))
    with pytest.raises(UnavailableError):
        await task
    assert len(gated.gates) == 1


async def test_cancelling_frees_both(store, gated, told):
    gated.stubborn = {1}
    task = asyncio.create_task(store.get("k"))
    await gated.gated(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (gated.cancelled, gated.open) == (2, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert dict(told[0].counts) == {"won": 0}


async def test_cancelled_while_the_loser_is_closed_the_winner_is_closed_too(store, gated):
    closing = asyncio.Event()
    gated.stubborn = {1}

    async def slowly() -> None:
        closing.set()
        await asyncio.sleep(0)
        gated.open -= 1

    gated._closed = slowly
    task = asyncio.create_task(store.get("k"))
    await gated.gated(2)
    gated.gates[0].set_result(None)
    await closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gated.open == 0


async def test_the_budget_is_kept(gated, told):
    store = HedgeStore(gated, replace(EAGER, budget=0.25), hook=told.append)
    await get_bytes(store, "k")
    gated.is_gated = True
    for _ in range(20):
        gated.gates.clear()
        task = asyncio.create_task(get_bytes(store, "k"))
        for _ in range(10):
            await asyncio.sleep(0)
        gated.gates[0].set_result(None)
        await task
    assert len(told) == 6  # one in advance, then every fourth


async def test_writes_and_listings_are_sent_once(store, gated):
    calls = []

    class Counting(MemoryStore):
        async def put(self, key, data, **options):
            calls.append(key)
            await asyncio.sleep(0)
            return await super().put(key, data, **options)

    await HedgeStore(Counting(), EAGER).put("k", b"")
    assert calls == ["k"]
