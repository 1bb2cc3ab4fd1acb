"""As-of joins as a storage offers them."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from buffetstore.monitoring.events import Hook, observed
from buffetstore.query import QueryAnswer
from buffetstore.query.executor import BATCH_ROWS
from buffetstore.storage.asof import Sides, joined, sides_of
from buffetstore.storage.versioned import VersionedStorage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import timedelta

    from buffetstore.query import DataQuery
    from buffetstore.schemas import Contract


class AsofJoins(VersionedStorage):
    """What follows from `retrieve_data`, `table` and `contract`."""

    _hook: Hook

    @abstractmethod
    async def contract(self, data_type: str, version: str | None = None) -> Contract:
        """Return a contract."""

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
        started = time.perf_counter()
        with observed(self._hook, "storage.join", left.data_type) as counts:
            sides = await self._sides(left, right, by, on, tolerance, suffix)
            async with aclosing(joined(self, sides)) as found:
                tables = [table async for table in found]
            table = pa.concat_tables(tables)
            counts["rows_read"] = table.num_rows
            version = sides.left.table_version
            assert version is not None
            return QueryAnswer(table, left.data_type, version, seconds=time.perf_counter() - started)

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
        with observed(self._hook, "storage.join", left.data_type) as counts:
            sides = await self._sides(left, right, by, on, tolerance, suffix)
            counts["rows_read"] = 0
            async with aclosing(joined(self, sides)) as found:
                try:
                    async for table in found:
                        counts["rows_read"] += table.num_rows
                        for batch in table.to_batches(BATCH_ROWS):
                            yield batch
                except GeneratorExit:  # the caller has seen enough: no failure
                    return

    async def _sides(
        self,
        left: DataQuery,
        right: DataQuery,
        by: str | Sequence[str] | Mapping[str, str],
        on: str | None,
        tolerance: timedelta | None,
        suffix: str,
    ) -> Sides:
        contracts = (await self.contract(left.data_type), await self.contract(right.data_type))
        sides = sides_of(left, right, contracts, on=on, by=by, tolerance=tolerance, suffix=suffix)
        return replace(sides, left=await self._pinned(sides.left), right=await self._pinned(sides.right))

    async def _pinned(self, query: DataQuery) -> DataQuery:
        """Return the query of one version of its table: all windows of a join see the same rows."""
        if query.table_version is not None or query.as_of is not None:
            return query
        return replace(query, table_version=(await (await self.table(query.data_type)).refresh()).version)
