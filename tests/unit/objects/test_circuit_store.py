from __future__ import annotations

import asyncio

import pytest

from buffetstore.errors import CircuitOpenError, InvalidKeyError, NotFoundError, RateLimitedError, UnavailableError
from buffetstore.monitoring.prometheus import PrometheusHook
from buffetstore.objects import MemoryStore, RetryStore, get_bytes, list_all
from buffetstore.objects.wrappers.circuit import CircuitStore
from buffetstore.resilience.circuit import CircuitPolicy
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import Fault, FaultyStore


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def faulty():
    return FaultyStore(MemoryStore())


@pytest.fixture
def told():
    return []


@pytest.fixture
def store(faulty, clock, told):
    policy = CircuitPolicy(minimum_calls=2, open_seconds=10, random=lambda: 0.5, clock=clock)
    return CircuitStore(faulty, policy, hook=told.append)


VERBS = {
    "put": lambda store: store.put("k", b""),
    "start_upload": lambda store: store.start_upload("k"),
    "get": lambda store: store.get("k"),
    "head": lambda store: store.get("k", head=True),
    "get_ranges": lambda store: store.get_ranges("k", [(0, 1)]),
    "delete": lambda store: store.delete(["k"]),
    "list_objects": list_all,
    "list_prefixes": lambda store: store.list_prefixes(),
    "copy": lambda store: store.copy("k", "l"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_is_counted_and_refused(store, faulty, verb):
    await store.inner.inner.put("k", b"body")
    faulty.inject(verb, Fault(), Fault())
    for _ in range(2):
        with pytest.raises(UnavailableError, match="scripted"):
            await VERBS[verb](store)
    assert store.state == "open"
    for call in VERBS.values():
        with pytest.raises(CircuitOpenError):
            await call(store)
    assert faulty.calls == [verb, verb]


async def test_it_closes_when_the_service_is_back(store, faulty, clock, told):
    faulty.inject("put", Fault(), Fault(), Fault())
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await store.put("k", b"")
    clock.now = 10
    assert store.state == "half_open"
    with pytest.raises(UnavailableError):
        await store.put("k", b"")
    assert store.state == "open"
    clock.now = 20
    await store.put("k", b"")
    assert store.state == "closed"
    assert [(o.name, o.seconds, o.subject, o.error, dict(o.counts)) for o in told] == [
        ("objects.circuit", 0, "memory://", "circuit_open", {"open": 1}),
        ("objects.circuit", 10, "memory://", None, {"half_open": 1}),
        ("objects.circuit", 0, "memory://", "circuit_open", {"open": 1}),
        ("objects.circuit", 10, "memory://", None, {"half_open": 1}),
        ("objects.circuit", 0, "memory://", None, {"closed": 1}),
    ]


async def test_answers_that_say_no_are_answers(store, faulty):
    for _ in range(20):
        with pytest.raises(NotFoundError):
            await store.get("gone")
    faulty.inject("put", *[Fault(error=RateLimitedError)] * 20)
    for _ in range(20):
        with pytest.raises(RateLimitedError):
            await store.put("k", b"")
    assert store.state == "closed"


async def test_what_the_service_never_saw_proves_nothing(store, faulty, clock):
    faulty.inject("put", Fault(), Fault())
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await store.put("k", b"")
    clock.now = 10
    with pytest.raises(InvalidKeyError):
        await store.put("..", b"")
    assert store.state == "half_open"
    await store.put("k", b"")
    assert store.state == "closed"


async def test_a_cancelled_probe_lets_another_one_pass(store, faulty, clock):
    faulty.inject("put", Fault(), Fault(), Fault("late", seconds=1000))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await store.put("k", b"")
    clock.now = 10
    probe = asyncio.create_task(store.put("k", b""))
    await asyncio.sleep(0)
    with pytest.raises(CircuitOpenError):
        await store.put("k", b"")
    probe.cancel()
    await asyncio.wait([probe])
    await store.put("k", b"")
    assert store.state == "closed"


async def test_a_black_hole_opens_it_although_its_calls_are_cut(store, faulty, clock):
    faulty.inject("put", *[Fault("late", seconds=1000)] * 2)
    calls = [asyncio.create_task(store.put("k", b"")) for _ in range(2)]
    await asyncio.sleep(0)
    clock.now += 5
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert store.state == "open"


async def test_broken_bodies_and_listings_count(store, faulty):
    for key in "ab":
        await store.put(key, b"body")
    faulty.inject("get", *[Fault("body", after_bytes=1)] * 4)
    for _ in range(4):
        with pytest.raises(UnavailableError):
            await get_bytes(store, "a")
    faulty.inject("list_objects", Fault("body", after_bytes=1), Fault(), Fault())
    for state in ("closed", "closed", "open"):  # 5 of 12 calls, 6 of 13, 7 of 14
        with pytest.raises(UnavailableError):
            await list_all(store)
        assert store.state == state


async def test_an_upload_that_began_is_carried_on(store, faulty):
    async with await store.start_upload("k") as upload:
        await upload.write(b"half")
        faulty.inject("put", *[Fault()] * 3)
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await store.put("l", b"")
        assert store.state == "open"
        await upload.write(b"half")
        await upload.complete()
    assert await get_bytes(store.inner, "k") == b"halfhalf"


async def test_a_refusal_is_not_retried(store, faulty, clock):
    retrying = RetryStore(store, RetryPolicy(attempts=5, base_seconds=0))
    faulty.inject("put", *[Fault()] * 9)
    with pytest.raises(CircuitOpenError) as refused:
        await retrying.put("k", b"")
    assert (refused.value.retry_after, faulty.calls) == (10, ["put", "put"])


async def test_prometheus_shows_openings_and_closings(faulty, clock):
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    policy = CircuitPolicy(minimum_calls=1, open_seconds=10, random=lambda: 0.5, clock=clock)
    store = CircuitStore(faulty, policy, hook=PrometheusHook(registry))
    faulty.inject("put", Fault())
    with pytest.raises(UnavailableError):
        await store.put("k", b"")
    value = registry.get_sample_value
    assert value("buffetstore_errors_total", {"operation": "objects.circuit", "code": "circuit_open"}) == 1
    clock.now = 10
    await store.put("k", b"")
    assert value("buffetstore_operations_total", {"operation": "objects.circuit", "outcome": "ok"}) == 2
