from __future__ import annotations

import pytest

from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.testing.fault_injection import StoreInjector
from buffetstore.testing.object_store_faults import ObjectStoreFaultContract


class TestMemoryStoreUnderFaults(ObjectStoreFaultContract):
    @pytest.fixture
    def injector(self):
        return StoreInjector(MemoryStore())

    @pytest.fixture
    async def raw_store(self, injector):
        async with injector.store as store:
            yield store


class TestLocalStoreUnderFaults(TestMemoryStoreUnderFaults):
    """Without metadata an unclear write is settled by its content."""

    @pytest.fixture
    def injector(self, tmp_path):
        return StoreInjector(LocalStore(tmp_path))
