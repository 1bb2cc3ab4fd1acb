"""The manager's versions and upkeep: every call is the storage's, started where need be."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from abc import abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from buffetstore.storage import VersionedStorage
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    import pyarrow as pa

    from buffetstore.query import DataQuery, Explanation, LayoutAction, LayoutReport, Prices, QueryAnswer, QueryPlan
    from buffetstore.query.preload import Preloaded
    from buffetstore.storage import DataFile, LakeStorage, LayoutChange
    from buffetstore.storage.lineage_graph import Direction, LineageGraph
    from buffetstore.tables import DeltaTable
    from buffetstore.tables.feed import Change, Cursor
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.operations.repair import RepairResult
    from buffetstore.tables.operations.vacuum import VacuumResult
    from buffetstore.tables.operations.verify import VerifyReport
    from buffetstore.tables.results import RestoreResult


class ManagedUpkeep(VersionedStorage):
    """Forwards to the storage beneath."""

    @abstractmethod
    async def _storage(self) -> LakeStorage:
        """Return the storage, started."""

    async def table(self, data_type: str) -> DeltaTable:
        return await (await self._storage()).table(data_type)

    async def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        return await (await self._storage()).list_files(data_type, prefix)

    async def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        return await (await self._storage()).history(data_type, limit)

    async def join_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> QueryAnswer:
        storage = await self._storage()
        return await storage.join_asof(left, right, by=by, on=on, tolerance=tolerance, suffix=suffix)

    async def scan_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        storage = await self._storage()
        rows = storage.scan_asof(left, right, by=by, on=on, tolerance=tolerance, suffix=suffix)
        async with aclosing(rows) as batches:
            async for batch in batches:
                yield batch

    async def explain(
        self,
        query: DataQuery | QueryPlan,
        *,
        analyze: bool = False,
        storage_class: str | None = None,
        region: str | None = None,
        prices: Prices | None = None,
    ) -> Explanation:
        storage = await self._storage()
        return await storage.explain(query, analyze=analyze, storage_class=storage_class, region=region, prices=prices)

    async def lineage(
        self,
        data_type: str,
        table_version: int | None = None,
        *,
        direction: Direction = "both",
        depth: int | None = None,
    ) -> LineageGraph:
        return await (await self._storage()).lineage(data_type, table_version, direction=direction, depth=depth)

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

    async def analyze(self, data_type: str, *, unneeded: bool = False) -> LayoutReport:
        return await (await self._storage()).analyze(data_type, unneeded=unneeded)

    async def apply(
        self,
        report: LayoutReport,
        actions: Sequence[LayoutAction] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> LayoutChange:
        return await (await self._storage()).apply(report, actions, dry_run=dry_run, progress=progress)

    async def vacuum(
        self,
        data_type: str,
        *,
        retention: timedelta | None = None,
        dry_run: bool = False,
        allow_short_retention: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumResult:
        return await (await self._storage()).vacuum(
            data_type,
            retention=retention,
            dry_run=dry_run,
            allow_short_retention=allow_short_retention,
            progress=progress,
        )

    async def verify(
        self, data_type: str, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        return await (await self._storage()).verify(data_type, deep=deep, progress=progress)

    async def repair(self, data_type: str, *, dry_run: bool = True, deep: bool = False) -> RepairResult:
        return await (await self._storage()).repair(data_type, dry_run=dry_run, deep=deep)

    async def preload(
        self, data_type: str, *, days: float = 7, symbols: Collection[str] | None = None, top: int = 100
    ) -> Preloaded:
        """Load hot data into the caches: of the last days, and of the symbols that are asked for most.

        See `buffetstore.storage.LakeStorage.preload`.
        """
        return await (await self._storage()).preload(data_type, days=days, symbols=symbols, top=top)

    async def changes(
        self,
        data_type: str,
        since: int | str | Cursor | None = None,
        *,
        until: int | None = None,
        timestamp: datetime | None = None,
        filters: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
        tail: bool = False,
        poll_seconds: tuple[float, float] = (0.2, 5.0),
    ) -> AsyncGenerator[Change, None]:
        found = (await self._storage()).changes(
            data_type,
            since,
            until=until,
            timestamp=timestamp,
            filters=filters,
            columns=columns,
            tail=tail,
            poll_seconds=poll_seconds,
        )
        async with aclosing(found) as changes:
            async for change in changes:
                yield change
