from __future__ import annotations

from random import Random

import pytest

from buffetstore.objects import LocalStore, PrefixStore, RetryStore, open_store
from buffetstore.resilience.retry import RetryPolicy
from buffetstore.testing import FaultyStore, ObjectStoreContract, random_faults


async def no_sleep(_seconds: float) -> None:
    """Wait not at all: tests of retries need no time to pass."""


class LocalContract(ObjectStoreContract):
    nested_names = False


class TestLocalStore(LocalContract):
    listed_objects = 1100  # more than a page of the walk

    @pytest.fixture
    async def store(self, tmp_path):
        async with LocalStore(tmp_path) as store:
            yield store

    @pytest.fixture
    async def missing_bucket_store(self, tmp_path):
        async with LocalStore(tmp_path / "missing") as store:
            yield store


class TestPrefixOverLocal(LocalContract):
    @pytest.fixture
    async def store(self, tmp_path):
        async with PrefixStore(LocalStore(tmp_path / "made", create=True), "in/side") as store:
            yield store


class TestOpenedLocal(LocalContract):
    """The stack that users get, with a prefix."""

    @pytest.fixture
    async def store(self, tmp_path):
        async with open_store(tmp_path.as_uri()) as store:
            yield store


class TestRetryOverFaultyLocal(LocalContract):
    """Without metadata an unclear write is settled by its content."""

    @pytest.fixture
    async def store(self, tmp_path):
        faulty = FaultyStore(LocalStore(tmp_path), source=random_faults(Random(3)))
        async with RetryStore(faulty, RetryPolicy(attempts=40, sleep=no_sleep)) as store:
            yield store
