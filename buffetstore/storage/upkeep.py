"""Looking back, going back and upkeep of data types that are Delta tables."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from buffetstore.monitoring.events import Hook, observed
from buffetstore.query import DataQuery, QueryOptimizer, bind
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.layout import file_stem
from buffetstore.storage.versioned import DataFile, VersionedStorage
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    import pyarrow as pa

    from buffetstore.schemas import SchemaManager
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.results import RestoreResult


class TableUpkeep(VersionedStorage):
    """What follows from `table` alone."""

    schemas: SchemaManager
    _hook: Hook

    async def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        contract = self.schemas.contract(data_type)
        table = await self.table(data_type)
        snapshot = await table.refresh()
        return await in_thread(_files, snapshot.files, table.path, prefix, contract.event_time)

    async def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        with observed(self._hook, "storage.history", data_type) as counts:
            found = await (await self.table(data_type)).history(limit)
            counts["commits"] = len(found)
            return found

    async def restore(
        self,
        data_type: str,
        table_version: int | None = None,
        timestamp: datetime | None = None,
        *,
        ignore_missing: bool = False,
        idempotency_key: IdempotencyKey | None = None,
    ) -> RestoreResult:
        with observed(self._hook, "storage.restore", data_type) as counts:
            table = await self.table(data_type)
            done = await table.restore(
                table_version, timestamp, ignore_missing=ignore_missing, idempotency_key=idempotency_key
            )
            counts.update(files_restored=done.restored, files_removed=done.removed)
            return done

    async def compact(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | None = None,
        date_range: Mapping[str, Any] | None = None,
        target_bytes: int = TARGET_BYTES,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompactResult:
        plan = QueryOptimizer().optimize(DataQuery(data_type, filters, date_range))
        with observed(self._hook, "storage.compact", data_type) as counts:
            contract = self.schemas.contract(data_type)
            table = await self.table(data_type)
            snapshot = await table.refresh()
            bound = await in_thread(bind, plan, contract, snapshot.schema)
            chosen = None if filters is None and date_range is None else bound.predicate
            done = await table.compact(
                predicate=chosen,
                sort_by=[name for name in contract.key if name in snapshot.schema.names],
                stem=partial(file_stem, contract=contract),
                target_bytes=target_bytes,
                progress=progress,
            )
            counts.update(files_written=done.files_added, files_removed=done.files_removed, rows=done.rows)
            return done


def _files(files: pa.Table, path: str, prefix: str, event_time: str) -> list[DataFile]:
    if prefix:
        files = files.filter(pc.starts_with(files["path"], prefix))
    files = files.take(pc.sort_indices(files["path"]))
    low, high = (
        files[name].to_pylist() if name in files.column_names else [None] * files.num_rows
        for name in (f"min.{event_time}", f"max.{event_time}")
    )
    columns = (files[name].to_pylist() for name in ("path", "num_records", "size", "modification_time"))
    return [
        DataFile(f"{path}/{name}", rows, size, modified, start, end)
        for name, rows, size, modified, start, end in zip(*columns, low, high, strict=True)
    ]
