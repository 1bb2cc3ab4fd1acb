"""Every rule of the contract through each layer of resilience, and through all of them with faults below."""

from __future__ import annotations

import asyncio
import uuid
from random import Random

import pytest

from buffetstore.errors import ConfigurationError, UnsupportedOperationError
from buffetstore.monitoring.events import no_hook
from buffetstore.objects import MemoryStore, MetricsStore, PrefixStore, RetryStore, get_bytes, pool_stats
from buffetstore.objects.gcs import GCSStore
from buffetstore.objects.wrappers.circuit import CircuitStore
from buffetstore.objects.wrappers.hedge import HedgeStore
from buffetstore.objects.wrappers.limit import LimitStore
from buffetstore.objects.wrappers.rate import RateStore
from buffetstore.resilience.circuit import CircuitPolicy
from buffetstore.resilience.hedge import HedgePolicy
from buffetstore.resilience.permits import ConcurrencyLimit
from buffetstore.resilience.rate import RateLimit
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import FaultyStore, ObjectStoreContract, random_faults
from buffetstore.testing.gcs import serve_in_thread
from buffetstore.testing.object_store_versions import VersionCases


async def no_sleep(_seconds: float) -> None:
    """Wait not at all: no test needs time to pass."""


# So slow that everything waits, so tight that everything queues, so eager that every second read is hedged.
SLOW = RateLimit(requests_per_second=0.01, bytes_per_second=1, burst_seconds=0, sleep=no_sleep)
TIGHT = ConcurrencyLimit(calls=2, bytes_in_flight=1)
EAGER = HedgePolicy(minimum_samples=1, window=1, minimum_seconds=0, percentile=1e-9, budget=1, clock=lambda: 0)
PATIENT = RetryPolicy(attempts=40, sleep=no_sleep)


class TestCircuitOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with CircuitStore(MemoryStore(), CircuitPolicy(minimum_calls=1)) as store:
            yield store


class TestRateOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with RateStore(MemoryStore(), SLOW) as store:
            yield store


class TestLimitOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with LimitStore(MemoryStore(), TIGHT) as store:
            yield store
            assert (store.permits.in_use, store.permits.waiting, store.permits.bytes_in_flight) == (0, 0, 0)


class TestHedgeOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with HedgeStore(MemoryStore(), EAGER) as store:
            yield store


@pytest.mark.parametrize("seed", range(3))
class TestAllOverFaultyMemory(ObjectStoreContract):
    """One call in five fails, is lost or breaks off; the circuit opens only if none is answered."""

    @pytest.fixture
    async def store(self, seed):
        faulty = FaultyStore(MemoryStore(), source=random_faults(Random(seed)))
        limited = LimitStore(PrefixStore(faulty, "a/b"), TIGHT)
        circuit = CircuitStore(RateStore(limited, SLOW), CircuitPolicy(failure_ratio=1, minimum_calls=100))
        async with MetricsStore(HedgeStore(RetryStore(circuit, PATIENT), EAGER), no_hook) as store:
            yield store
            assert circuit.state == "closed"
            assert (limited.permits.in_use, limited.permits.waiting, limited.permits.bytes_in_flight) == (0, 0, 0)


@pytest.fixture(scope="module")
def gcs():
    with serve_in_thread() as server:
        yield server


@pytest.mark.asyncio
class TestVersionsThroughAllLayers(VersionCases):
    """Over a service that keeps versions."""

    @pytest.fixture
    async def store(self, gcs):
        bucket = f"test-{uuid.uuid4().hex}"
        gcs.state.create_bucket(bucket)
        gcs.state.bucket(bucket).fields["versioning"] = {"enabled": True}
        limited = LimitStore(PrefixStore(GCSStore(bucket, api_root=gcs.url), "a/b"), TIGHT)
        circuit = CircuitStore(RateStore(limited, SLOW), CircuitPolicy(minimum_calls=1))
        async with MetricsStore(HedgeStore(RetryStore(circuit), EAGER), no_hook) as store:
            yield store
            assert (limited.permits.in_use, limited.permits.waiting) == (0, 0)
            stats = pool_stats(store)
            assert stats is not None
            assert stats.in_use == 0

    @pytest.fixture
    async def versioned_store(self, store):
        return store

    async def test_signed_urls_are_the_stores_affair(self, store):
        with pytest.raises((ConfigurationError, UnsupportedOperationError)):
            await store.signed_url("k")  # no key to sign with

    async def test_two_hundred_readers_that_are_cancelled_leave_nothing(self, store):
        await store.put("k", bytes(3_000_000))

        async def read() -> None:
            async with await store.get("k") as result:
                async for _chunk in result:
                    await asyncio.sleep(0)

        for turns in (0, 1, 5, 50):
            readers = [asyncio.create_task(read()) for _ in range(50)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for reader in readers:
                reader.cancel()
            await asyncio.wait(readers)
        assert await get_bytes(store, "k") == bytes(3_000_000)
