"""Which state of its table a query asks, and states of earlier versions that were asked for before."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

from buffetstore.caching import CacheStats, LRUCache, SingleFlight
from buffetstore.tables.load import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from buffetstore.objects.base import ObjectStore
    from buffetstore.query import DataQuery
    from buffetstore.tables import DeltaTable, Snapshot

PINNED_BYTES = 64 * 1024 * 1024
_BYTES_A_FILE = 1_024  # of statistics, beside the list of files
_MOMENTS = 1_024


class Snapshots:
    """Finds the state that a query asks: the newest, one that is fresh enough, or one of the past.

    States of the past never change. Those used last are kept, so that paging through one does not read its log again.

    Parameters
    ----------
    table:
        Returns the table of a data type.
    max_bytes:
        What kept states may take, some 1 KiB for each of a table's files.
    """

    def __init__(
        self, store: ObjectStore, table: Callable[[str], Awaitable[DeltaTable]], max_bytes: int = PINNED_BYTES
    ) -> None:
        self._store = store
        self._table = table
        self._pinned: LRUCache[Snapshot] = LRUCache(max_bytes)
        self._moments: LRUCache[int] = LRUCache(_MOMENTS)
        self._flights: SingleFlight[Snapshot] = SingleFlight()
        self._fresh = self._asked = 0

    async def of(self, query: DataQuery, since: float | None = None) -> Snapshot:
        """Return the state of its data type's table that the query asks.

        Parameters
        ----------
        since:
            The Unix time when it was asked: what has been the newest since will do. None is now.

        Raises
        ------
        TableNotFoundError, TableVersionNotFoundError, CorruptLogError
        """
        since = time.time() if since is None else since
        table = await self._table(query.data_type)
        if isinstance(query.as_of, datetime):
            return await self._at(table, query.as_of)
        if query.table_version is not None:
            return await self._version(table, query.table_version)
        if query.freshness is not None and table.is_known_since(query.freshness):
            self._fresh += 1
            return table.snapshot
        self._asked += 1
        return table.snapshot if table.is_known_after(since) else await table.refresh()

    async def likely(self, query: DataQuery, since: float) -> Snapshot | None:
        """Return what is probably the state that `of` will ask for; None where that need not be asked of the store."""
        if query.as_of is not None or query.table_version is not None:
            return None
        table = await self._table(query.data_type)
        is_known = query.freshness is not None and table.is_known_since(query.freshness)
        return None if is_known or table.is_known_after(since) else table.snapshot

    async def _version(self, table: DeltaTable, version: int) -> Snapshot:
        if version == table.version:
            return table.snapshot
        key = (table.path, table.snapshot.metadata.id, version)
        kept = self._pinned.get(key)
        if kept is not None:
            return kept

        async def loaded() -> Snapshot:
            return self._keep(table, await load(self._store, table.path, version))

        return await self._flights.run(key, loaded)

    async def _at(self, table: DeltaTable, moment: datetime) -> Snapshot:
        key = (table.path, table.snapshot.metadata.id, moment)
        version = self._moments.get(key)
        if version is not None:
            return await self._version(table, version)
        self._asked += 1
        snapshot = await load(self._store, table.path, timestamp=moment)
        if snapshot.version < table.version:
            # Another version was committed after the moment; so will be all that come. Before that, one might be yet.
            self._moments.put(key, snapshot.version, 1)
        return self._keep(table, snapshot)

    def _keep(self, table: DeltaTable, snapshot: Snapshot) -> Snapshot:
        size = snapshot.files.nbytes + _BYTES_A_FILE * (snapshot.files.num_rows + 1)
        self._pinned.put((table.path, snapshot.metadata.id, snapshot.version), snapshot, size)
        return snapshot

    def stats(self) -> CacheStats:
        """Return what states of the past take, and how often a state was at hand without asking the store."""
        stats = self._pinned.stats()
        stats.hits += self._fresh
        stats.misses += self._asked
        return stats

    async def aclose(self) -> None:
        """Cancel what is being read, and forget everything. May be called twice."""
        await self._flights.aclose()
        self._pinned.clear()
        self._moments.clear()
