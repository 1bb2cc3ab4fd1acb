from __future__ import annotations

import pytest

from buffetstore.objects.local import LocalStore
from buffetstore.testing import ObjectStoreContract


class TestLocalStore(ObjectStoreContract):
    nested_names = False

    @pytest.fixture
    async def store(self, tmp_path):
        async with LocalStore(tmp_path) as store:
            yield store
