"""Versions and upkeep, blocking."""

# ruff: noqa: D102 - the awaited methods' docstrings are assigned

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.sync.loop import LOOP
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from buffetstore import manager as awaited
    from buffetstore.storage import DataFile
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.results import RestoreResult


class BlockingUpkeep:
    """Every call is the awaited manager's."""

    _awaited: awaited.StorageManager

    def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        return LOOP.run(self._awaited.list_files(data_type, prefix))

    def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        return LOOP.run(self._awaited.history(data_type, limit))

    def restore(
        self,
        data_type: str,
        table_version: int | None = None,
        timestamp: datetime | None = None,
        *,
        ignore_missing: bool = False,
        idempotency_key: IdempotencyKey | None = None,
    ) -> RestoreResult:
        return LOOP.run(
            self._awaited.restore(
                data_type, table_version, timestamp, ignore_missing=ignore_missing, idempotency_key=idempotency_key
            )
        )

    def compact(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | None = None,
        date_range: Mapping[str, Any] | None = None,
        target_bytes: int = TARGET_BYTES,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactResult:
        return LOOP.run(
            self._awaited.compact(
                data_type, filters=filters, date_range=date_range, target_bytes=target_bytes, progress=progress
            )
        )
