"""Looking back, going back and upkeep of data types that are Delta tables."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from buffetstore.errors import TableNotFoundError, TableVersionNotFoundError, UnknownDataTypeError
from buffetstore.monitoring.events import observed
from buffetstore.query import DataQuery, QueryOptimizer, bind
from buffetstore.resilience.threads import give_way, in_thread
from buffetstore.storage.explaining import ExplainedQueries
from buffetstore.storage.layout import file_stem
from buffetstore.storage.layout_upkeep import LayoutUpkeep
from buffetstore.storage.lineage_graph import State, Walker, check_walk
from buffetstore.storage.quality import QualityChecks
from buffetstore.storage.versioned import DataFile
from buffetstore.tables.feed import Change, Cursor
from buffetstore.tables.operations.compact import TARGET_BYTES, CompactResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from buffetstore.storage.lineage_graph import Direction, LineageGraph
    from buffetstore.tables.history import CommitRecord
    from buffetstore.tables.idempotency import IdempotencyKey
    from buffetstore.tables.operations.repair import RepairResult
    from buffetstore.tables.operations.vacuum import VacuumResult
    from buffetstore.tables.operations.verify import VerifyReport
    from buffetstore.tables.results import RestoreResult
    from buffetstore.tables.snapshot import Snapshot

_FILES = 500  # made into values at a time


class TableUpkeep(LayoutUpkeep, ExplainedQueries):
    """What follows from `table` alone."""

    async def _self(self) -> Any:
        """Return the storage itself, for its parts, which may wait for one to start."""
        return self

    @property
    def quality(self) -> QualityChecks:
        """Checks beyond a row, and what they found."""
        return QualityChecks(self._self, hook=self._hook)

    async def list_files(self, data_type: str, prefix: str = "") -> list[DataFile]:
        table = await self.table(data_type)
        snapshot = await table.refresh()
        contract = await self.known.reader(data_type, snapshot)
        return await in_thread(_files, snapshot, table.path, prefix, contract.event_time)

    async def history(self, data_type: str, limit: int | None = None) -> list[CommitRecord]:
        with observed(self._hook, "storage.history", data_type) as counts:
            found = await (await self.table(data_type)).history(limit)
            counts["commits"] = len(found)
            return found

    async def lineage(
        self,
        data_type: str,
        table_version: int | None = None,
        *,
        direction: Direction = "both",
        depth: int | None = None,
    ) -> LineageGraph:
        check_walk(direction, depth)
        with observed(self._hook, "storage.lineage", data_type) as counts:
            newest = (await (await self.table(data_type)).refresh()).version
            wanted = newest if table_version is None else table_version
            if not 0 <= wanted <= newest:
                raise TableVersionNotFoundError(
                    f"{data_type} has no version {wanted}: it is at {newest}; see history",
                    key=data_type,
                )

            async def history(name: str) -> list[CommitRecord] | None:
                try:
                    return await (await self.table(name)).history()
                except (TableNotFoundError, UnknownDataTypeError):
                    return None

            graph = await Walker(history, self.list_data_types).walk(State(data_type, wanted), direction, depth)
            counts["steps"] = len(graph.steps)
            return graph

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
            table = await self.table(data_type)
            snapshot = await table.refresh()
            contract = await self.known.reader(data_type, snapshot)
            bound = await in_thread(bind, plan, contract, snapshot.schema)
            chosen = None if filters is None and date_range is None else bound.predicate
            done = await table.compact(
                predicate=chosen,
                sort_by=[name for name in contract.sort_by or contract.key if name in snapshot.schema.names],
                stem=partial(file_stem, contract=contract),
                target_bytes=target_bytes,
                progress=progress,
            )
            counts.update(files_written=done.files_added, files_removed=done.files_removed, rows=done.rows)
            return done

    async def vacuum(
        self,
        data_type: str,
        *,
        retention: timedelta | None = None,
        dry_run: bool = False,
        allow_short_retention: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> VacuumResult:
        with observed(self._hook, "storage.vacuum", data_type) as counts:
            table = await self.table(data_type)
            done = await table.vacuum(
                retention=retention, dry_run=dry_run, allow_short_retention=allow_short_retention, progress=progress
            )
            counts["files_deleted"] = 0 if dry_run else done.files
            return done

    async def verify(
        self, data_type: str, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> VerifyReport:
        with observed(self._hook, "storage.verify", data_type) as counts:
            report = await (await self.table(data_type)).verify(deep=deep, progress=progress)
            counts.update(files=report.files, ok=int(report.ok))
            return report

    async def repair(self, data_type: str, *, dry_run: bool = True, deep: bool = False) -> RepairResult:
        with observed(self._hook, "storage.repair", data_type) as counts:
            done = await (await self.table(data_type)).repair(dry_run=dry_run, deep=deep)
            counts["files_removed"] = 0 if dry_run else len(done.removed)
            return done

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
        plan = QueryOptimizer().optimize(DataQuery(data_type, filters, columns=columns))
        with observed(self._hook, "storage.changes", data_type) as counts:
            table = await self.table(data_type)
            snapshot = await table.refresh()
            contract = await self.known.reader(data_type, snapshot)
            bound = await in_thread(bind, plan, contract, snapshot.schema)
            found = table.changes(
                Cursor.parse(since) if isinstance(since, str) else since,
                until=until,
                timestamp=timestamp,
                columns=columns,
                predicate=None if filters is None else bound.predicate,
                tail=tail,
                poll_seconds=poll_seconds,
            )
            async with aclosing(found) as changes:
                try:
                    async for change in changes:
                        counts["rows_read"] = counts.get("rows_read", 0) + change.rows.num_rows
                        yield change
                except GeneratorExit:  # the caller has seen enough: no failure
                    return


def _files(snapshot: Snapshot, path: str, prefix: str, event_time: str) -> list[DataFile]:
    files = snapshot.with_statistics([event_time])
    if prefix:
        files = files.filter(pc.starts_with(files["path"], prefix))
    files = files.take(pc.sort_indices(files["path"]))
    names = ("path", "num_records", "size", "modification_time", f"min.{event_time}", f"max.{event_time}")
    found: list[DataFile] = []
    for batch in files.to_batches(max_chunksize=_FILES):
        # Making values holds the interpreter, so that others are let in between.
        columns = (batch[name].to_pylist() if name in files.column_names else [None] * batch.num_rows for name in names)
        found += [DataFile(f"{path}/{name}", *others) for name, *others in zip(*columns, strict=True)]
        give_way()
    return found
