"""Versions and upkeep, blocking."""

# ruff: noqa: D102 - the awaited methods' docstrings are assigned

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.sync.loop import LOOP, blocking
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    import pyarrow as pa

    from buffetstore import manager as awaited
    from buffetstore.query import DataQuery, Explanation, LayoutAction, LayoutReport, Prices, QueryAnswer, QueryPlan
    from buffetstore.query.preload import Preloaded
    from buffetstore.storage import DataFile, LayoutChange
    from buffetstore.storage.lineage_graph import Direction, LineageGraph
    from buffetstore.tables.feed import Change, Cursor
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.operations.repair import RepairResult
    from buffetstore.tables.operations.vacuum import VacuumResult
    from buffetstore.tables.operations.verify import VerifyReport
    from buffetstore.tables.results import RestoreResult


class BlockingUpkeep:
    """Every call is the awaited manager's."""

    _awaited: awaited.StorageManager

    def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        return LOOP.run(self._awaited.list_files(data_type, prefix))

    def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        return LOOP.run(self._awaited.history(data_type, limit))

    def join_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> QueryAnswer:
        joined = self._awaited.join_asof(left, right, by=by, on=on, tolerance=tolerance, suffix=suffix)
        return LOOP.run(joined)

    def scan_asof(
        self,
        left: DataQuery,
        right: DataQuery,
        *,
        by: str | Sequence[str] | Mapping[str, str] = "symbol",
        on: str | None = None,
        tolerance: timedelta | None = None,
        suffix: str = "_right",
    ) -> Iterator[pa.RecordBatch]:
        return blocking(self._awaited.scan_asof(left, right, by=by, on=on, tolerance=tolerance, suffix=suffix))

    def explain(
        self,
        query: DataQuery | QueryPlan,
        *,
        analyze: bool = False,
        storage_class: str | None = None,
        region: str | None = None,
        prices: Prices | None = None,
    ) -> Explanation:
        told = self._awaited.explain(query, analyze=analyze, storage_class=storage_class, region=region, prices=prices)
        return LOOP.run(told)

    def lineage(
        self,
        data_type: str,
        table_version: int | None = None,
        *,
        direction: Direction = "both",
        depth: int | None = None,
    ) -> LineageGraph:
        return LOOP.run(self._awaited.lineage(data_type, table_version, direction=direction, depth=depth))

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

    def analyze(self, data_type: str, *, unneeded: bool = False) -> LayoutReport:
        return LOOP.run(self._awaited.analyze(data_type, unneeded=unneeded))

    def apply(
        self,
        report: LayoutReport,
        actions: Sequence[LayoutAction] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> LayoutChange:
        return LOOP.run(self._awaited.apply(report, actions, dry_run=dry_run, progress=progress))

    def vacuum(
        self,
        data_type: str,
        *,
        retention: timedelta | None = None,
        dry_run: bool = False,
        allow_short_retention: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumResult:
        return LOOP.run(
            self._awaited.vacuum(
                data_type,
                retention=retention,
                dry_run=dry_run,
                allow_short_retention=allow_short_retention,
                progress=progress,
            )
        )

    def verify(
        self, data_type: str, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        return LOOP.run(self._awaited.verify(data_type, deep=deep, progress=progress))

    def repair(self, data_type: str, *, dry_run: bool = True, deep: bool = False) -> RepairResult:
        return LOOP.run(self._awaited.repair(data_type, dry_run=dry_run, deep=deep))

    def preload(
        self, data_type: str, *, days: float = 7, symbols: Collection[str] | None = None, top: int = 100
    ) -> Preloaded:
        return LOOP.run(self._awaited.preload(data_type, days=days, symbols=symbols, top=top))

    def changes(
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
    ) -> Iterator[Change]:
        return blocking(
            self._awaited.changes(
                data_type,
                since,
                until=until,
                timestamp=timestamp,
                filters=filters,
                columns=columns,
                tail=tail,
                poll_seconds=poll_seconds,
            )
        )
