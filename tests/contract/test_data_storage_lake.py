"""The contract suite on lakes: in memory, in a folder, and behind the manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from buffetstore.manager import StorageManager
from buffetstore.objects import LocalStore, MemoryStore
from buffetstore.storage import DataStorage, LakeStorage
from buffetstore.testing.data_storage import DataStorageContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class TestMemory(DataStorageContract):
    @pytest.fixture
    async def storage(self) -> AsyncIterator[DataStorage]:
        async with MemoryStore() as store, LakeStorage(store) as storage:
            yield storage


class TestLocal(DataStorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DataStorage]:
        async with LocalStore(tmp_path) as store, LakeStorage(store) as storage:
            yield storage


class TestManager(DataStorageContract):
    @pytest.fixture
    async def storage(self, tmp_path: Path) -> AsyncIterator[DataStorage]:
        async with StorageManager.open((tmp_path / "made on the way").as_uri()) as storage:
            yield storage
