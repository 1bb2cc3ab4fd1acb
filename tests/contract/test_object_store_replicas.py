"""Stores that stand in for one another keep the contract, whichever of them answers."""

from __future__ import annotations

from random import Random

import pytest

from buffetstore.errors import UnavailableError
from buffetstore.objects import MemoryStore, RetryStore
from buffetstore.objects.copier import ObjectCopier
from buffetstore.objects.wrappers.fallback import FallbackStore
from buffetstore.objects.wrappers.replicate import ReplicateStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import Fault, FaultyStore, ObjectStoreContract, random_faults
from buffetstore.testing.object_store_listing import ListingCases
from buffetstore.testing.object_store_reads import ReadCases

READS = frozenset({"get", "head", "get_ranges", "list_objects", "list_prefixes"})


async def no_sleep(_seconds: float) -> None:
    """Wait not at all."""


class Unreadable(FaultyStore):
    """Takes writes, and answers no read while `is_down`."""

    def __init__(self, inner):
        self.is_down = True
        super().__init__(inner, source=lambda verb: Fault(error=UnavailableError) if self.fails(verb) else None)

    def fails(self, verb):
        return self.is_down and verb in READS


class Written(FallbackStore):
    """Writes go to both, as whoever made the copy would have written; they tell what a reader is told."""

    async def put(self, key, data, **options):
        return await self.level(await self.inner.put(key, data, **options))

    async def copy(self, source, target, **options):
        return await self.level(await self.inner.copy(source, target, **options))

    async def start_upload(self, key, **options):
        return await self.inner.start_upload(key, **options)

    async def delete(self, keys):
        await self.inner.delete(keys)
        await self._stores[1].delete(keys)

    async def level(self, meta):
        is_down = isinstance(self.inner, Unreadable)
        copied = await ObjectCopier(self.inner.inner if is_down else self.inner, self._stores[1]).copy(meta.key)
        return self._shown(1, copied) if is_down else meta


class TestFallbackWhilePrimaryAnswers(ReadCases, ListingCases):
    @pytest.fixture
    async def store(self):
        async with Written(MemoryStore(), MemoryStore()) as store:
            yield store


class TestFallbackWhilePrimaryIsDown(ReadCases, ListingCases):
    @pytest.fixture
    async def store(self):
        async with Written(Unreadable(MemoryStore()), MemoryStore()) as store:
            yield store


@pytest.mark.parametrize("wait", [True, False])
class TestReplicateStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, wait):
        replica = MemoryStore()
        primary = MemoryStore()
        async with ReplicateStore(primary, [replica], wait=wait) as store:
            yield store
            await store.drain()
            assert store.lag == [0]
            assert primary._keys == replica._keys
            held = {key: data for key, (_, data) in primary._objects.items()}
            assert held == {key: data for key, (_, data) in replica._objects.items()}


class TestReplicateOverFaultyStores(ObjectStoreContract):
    """Every rule holds, and repair brings level, although one call in five fails on either side."""

    @pytest.fixture
    async def store(self):
        policy = RetryPolicy(attempts=40, sleep=no_sleep)
        primary, replica = MemoryStore(), MemoryStore()
        faulty = RetryStore(FaultyStore(primary, source=random_faults(Random(5))), policy)
        often_down = FaultyStore(replica, source=random_faults(Random(6)))
        async with ReplicateStore(faulty, [often_down]) as store:
            yield store
            await store.drain()
            often_down._source = lambda _verb: None
            (report,) = await store.repair()
            report.raise_for_failures()
            held = {key: data for key, (_, data) in primary._objects.items()}
            assert held == {key: data for key, (_, data) in replica._objects.items()}
