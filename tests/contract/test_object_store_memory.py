from __future__ import annotations

from random import Random

import pytest

from buffetstore.monitoring.events import no_hook
from buffetstore.objects import MemoryStore, MetricsStore, PrefixStore, RetryStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import CountingStore, FaultyStore, ObjectStoreContract, random_faults


async def no_sleep(_seconds: float) -> None:
    """Wait not at all: tests of retries need no time to pass."""


PATIENT = RetryPolicy(attempts=40, sleep=no_sleep)


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with MemoryStore() as store:
            yield store


class TestPrefixOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        memory = MemoryStore()
        for key in ("in", "in ", "in!", "in0", "inner", "i/n", "in/other"):
            await memory.put(key, b"not of this store")
        async with PrefixStore(memory, "in/side") as store:
            yield store


class TestMetricsOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with MetricsStore(MemoryStore(), no_hook) as store:
            yield store


class TestRetryOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with RetryStore(MemoryStore()) as store:
            yield store


class TestCountingOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with CountingStore(FaultyStore(MemoryStore())) as store:
            yield store


@pytest.mark.parametrize("seed", range(3))
class TestRetryOverFaultyMemory(ObjectStoreContract):
    """Every rule holds although one call in five fails, is lost, or breaks off."""

    @pytest.fixture
    async def store(self, seed):
        faulty = FaultyStore(MemoryStore(), source=random_faults(Random(seed)))
        async with RetryStore(faulty, PATIENT) as store:
            yield store


class TestAllLayersOverFaultyMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        faulty = FaultyStore(MemoryStore(), source=random_faults(Random(7)))
        async with MetricsStore(RetryStore(PrefixStore(faulty, "a/b"), PATIENT), no_hook) as store:
            yield store
