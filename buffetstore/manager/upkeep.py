"""The manager's versions and upkeep: every call is the storage's, started where need be."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from buffetstore.storage import VersionedStorage
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from buffetstore.storage import DataFile
    from buffetstore.tables import DeltaTable
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.results import RestoreResult


class ManagedUpkeep(VersionedStorage):
    """Forwards to the storage beneath."""

    @abstractmethod
    async def _storage(self) -> VersionedStorage:
        """Return the storage, started."""

    async def table(self, data_type: str) -> DeltaTable:
        return await (await self._storage()).table(data_type)

    async def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        return await (await self._storage()).list_files(data_type, prefix)

    async def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        return await (await self._storage()).history(data_type, limit)

    async def restore(
        self,
        data_type: str,
        table_version: int | None = None,
        timestamp: datetime | None = None,
        *,
        ignore_missing: bool = False,
        idempotency_key: IdempotencyKey | None = None,
    ) -> RestoreResult:
        return await (await self._storage()).restore(
            data_type, table_version, timestamp, ignore_missing=ignore_missing, idempotency_key=idempotency_key
        )

    async def compact(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | None = None,
        date_range: Mapping[str, Any] | None = None,
        target_bytes: int = TARGET_BYTES,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactResult:
        return await (await self._storage()).compact(
            data_type, filters=filters, date_range=date_range, target_bytes=target_bytes, progress=progress
        )
