from __future__ import annotations

from random import Random

import pytest

from buffetstore.objects import LocalStore, MemoryStore, RetryStore
from buffetstore.objects.wrappers.cache import CacheStore
from buffetstore.objects.wrappers.cached import CacheOptions
from buffetstore.objects.wrappers.encryption import EncryptionStore
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.security import StaticKeys
from buffetstore.testing import FaultyStore, ObjectStoreContract, random_faults


async def no_sleep(_seconds: float) -> None:
    """Wait not at all: tests of retries need no time to pass."""


PATIENT = RetryPolicy(attempts=40, sleep=no_sleep)
KEYS = StaticKeys({"2023": b"o" * 32, "2024": b"n" * 32}, current="2024")


class TestEncryptionOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with EncryptionStore(MemoryStore(), KEYS) as store:
            yield store


class TestEncryptionThatAllowsPlaintext(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with EncryptionStore(MemoryStore(), KEYS, plaintext="allow") as store:
            yield store


class TestEncryptionOverLocal(ObjectStoreContract):
    nested_names = False

    @pytest.fixture
    async def store(self, tmp_path):
        async with EncryptionStore(LocalStore(tmp_path), KEYS, prefix="raw") as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, tmp_path):
        async with EncryptionStore(LocalStore(tmp_path / "missing"), KEYS) as store:
            yield store


@pytest.mark.parametrize("seed", range(2))
class TestEncryptionOverFaultyMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self, seed):
        faulty = FaultyStore(MemoryStore(), source=random_faults(Random(seed)))
        async with EncryptionStore(RetryStore(faulty, PATIENT), KEYS) as store:
            yield store


class TestCacheOverMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with CacheStore(MemoryStore()) as store:
            yield store


@pytest.mark.parametrize(
    "options",
    [{}, {"fresh_seconds": 60.0}, {"immutable": ("*",)}, {"memory_bytes": 0}, {"max_object_bytes": 100_000}],
    ids=lambda options: next(iter(options), "default"),
)
class TestCacheOnDiskOverLocal(ObjectStoreContract):
    """Every rule holds for one's own writes, whatever may be answered without asking."""

    nested_names = False

    @pytest.fixture
    async def store(self, tmp_path, options):
        inner = LocalStore(tmp_path / "store", create=True)
        async with CacheStore(inner, CacheOptions(folder=tmp_path / "cache", **options)) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, tmp_path, options):
        inner = LocalStore(tmp_path / "missing")
        async with CacheStore(inner, CacheOptions(folder=tmp_path / "cache", **options)) as store:
            yield store


@pytest.mark.parametrize("seed", range(2))
class TestEncryptionOverCacheOverFaultyMemory(ObjectStoreContract):
    @pytest.fixture
    async def store(self, seed):
        faulty = FaultyStore(MemoryStore(), source=random_faults(Random(seed)))
        cache = CacheStore(RetryStore(faulty, PATIENT), CacheOptions(fresh_seconds=60.0))
        async with EncryptionStore(cache, KEYS) as store:
            yield store
