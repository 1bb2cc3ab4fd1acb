"""Judging the layout of a data type's table, and mending it."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import InvalidInputError
from buffetstore.expressions import And, Comparison
from buffetstore.monitoring.events import Hook, observed
from buffetstore.query import (
    Compact,
    LayoutAction,
    LayoutReport,
    PartitionAnalyzer,
    QueryLog,
    Vacuum,
    bind_expression,
)
from buffetstore.resilience.threads import in_thread
from buffetstore.storage.joins import AsofJoins
from buffetstore.storage.layout import file_stem
from buffetstore.storage.versioned import LayoutChange
from buffetstore.tables.file_table import rows as file_rows
from buffetstore.tables.operations.compact import Compaction, CompactResult
from buffetstore.tables.row_group_index import footer_told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from buffetstore.expressions import Expression
    from buffetstore.schemas import Contract
    from buffetstore.storage.known_schemas import KnownSchemas
    from buffetstore.tables import DeltaTable, Snapshot, VacuumResult

_FOOTERS = 200  # that are looked at: of the largest files, which matter
_GROUPS = pa.schema([("path", pa.string()), ("rows", pa.int64()), ("bytes", pa.int64())])


class LayoutUpkeep(AsofJoins):
    """What follows from `table` and the queries that were asked."""

    known: KnownSchemas
    queries: QueryLog
    _hook: Hook

    async def analyze(self, data_type: str, *, unneeded: bool = False) -> LayoutReport:
        with observed(self._hook, "storage.analyze", data_type) as counts:
            table = await self.table(data_type)
            snapshot = await table.refresh()
            contract = await self.known.reader(data_type, snapshot)
            found = await table.vacuum(dry_run=True) if unneeded else None
            kept = None if found is None else (found.files, found.bytes)
            report = await in_thread(self._analyzed, data_type, snapshot, contract, kept)
            counts.update(files=report.files, findings=len(report.findings))
            return report

    async def apply(
        self,
        report: LayoutReport,
        actions: Sequence[LayoutAction] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> LayoutChange:
        wanted = report.actions if actions is None else tuple(actions)
        for action in wanted:
            if not isinstance(action, Compact | Vacuum):
                raise InvalidInputError(f"{action!r} is no action of a layout: give those of the report")
        with observed(self._hook, "storage.apply", report.data_type) as counts:
            table = await self.table(report.data_type)
            results = [await self._applied(report.data_type, table, each, dry_run, progress) for each in wanted]
            counts["actions"] = 0 if dry_run else len(results)
        vacuumed = any(isinstance(each, Vacuum) for each in wanted)
        after = None if dry_run else await self.analyze(report.data_type, unneeded=vacuumed)
        return LayoutChange(report, after, wanted, tuple(results))

    def _analyzed(
        self, data_type: str, snapshot: Snapshot, contract: Contract, unneeded: tuple[int, int] | None
    ) -> LayoutReport:
        queries = self.queries.of(data_type)
        columns = {contract.event_time, *contract.key, *contract.sort_by}
        columns |= {each.column for query in queries for each in query.filters}
        return PartitionAnalyzer().analyze(
            snapshot.with_statistics([name for name in snapshot.schema.names if name in columns]),
            contract,
            queries,
            today=datetime.now(UTC).date(),
            table_version=snapshot.version,
            groups=known_row_groups(snapshot),
            unneeded=unneeded,
        )

    async def _applied(
        self,
        data_type: str,
        table: DeltaTable,
        action: LayoutAction,
        dry_run: bool,
        progress: Callable[[int, int], None] | None,
    ) -> CompactResult | VacuumResult:
        if isinstance(action, Vacuum):
            return await table.vacuum(dry_run=dry_run, progress=progress)
        snapshot = await table.refresh()
        contract = await self.known.reader(data_type, snapshot)
        predicate = _between(action, contract, snapshot)
        order = [name for name in contract.sort_by or contract.key if name in snapshot.schema.names]
        if dry_run:
            wanted = Compaction(predicate, action.target_bytes, order, coarsening=action.coarsening)
            return await in_thread(_planned, wanted, snapshot)
        return await table.compact(
            predicate=predicate,
            target_bytes=action.target_bytes,
            sort_by=order,
            coarsening=action.coarsening,
            stem=partial(file_stem, contract=contract),
            progress=progress,
        )


def known_row_groups(snapshot: Snapshot) -> pa.Table:
    """Return the row groups of the largest files, as far as they are known without reading them."""
    largest = snapshot.files.take(pc.select_k_unstable(snapshot.files, _FOOTERS, [("size", "descending")]))
    found: list[dict[str, Any]] = []
    for file in file_rows(largest):
        footer = footer_told(snapshot.row_groups, file)
        groups = () if footer is None else map(footer.row_group, range(footer.num_row_groups))
        found += [{"path": file["path"], "rows": each.num_rows, "bytes": each.total_byte_size} for each in groups]
    return pa.Table.from_pylist(found, _GROUPS)


def _between(action: Compact, contract: Contract, snapshot: Snapshot) -> Expression | None:
    """Return which files are compacted; None is all."""
    time = contract.event_time
    parts = [Comparison(time, ">=", action.start)] if action.start is not None else []
    parts += [Comparison(time, "<", action.end)] if action.end is not None else []
    return bind_expression(And(tuple(parts)), snapshot.schema, contract.data_type) if parts else None


def _planned(wanted: Compaction, snapshot: Snapshot) -> CompactResult:
    bins = [each for group in wanted.plan(snapshot, datetime.now(UTC)) for each in group]
    size = sum(each.size for each in bins)
    return CompactResult(
        snapshot.version,
        files_removed=sum(each.files.num_rows for each in bins),
        files_added=sum(each.outputs for each in bins),
        rows=sum(pc.sum(each.files["num_records"]).as_py() or 0 for each in bins),
        bytes_removed=size,
        bytes_added=size,
    )
