from __future__ import annotations

import pytest

from buffetstore.objects import MemoryStore
from buffetstore.testing import ObjectStoreContract


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self):
        async with MemoryStore() as store:
            yield store
