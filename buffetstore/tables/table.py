"""A Delta table: created, opened at a version, read, written to, kept and followed."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Self

from buffetstore.errors import InvalidInputError
from buffetstore.formats.parquet import ParquetFormatter
from buffetstore.monitoring.events import Hook, no_hook
from buffetstore.resilience.threads import in_thread
from buffetstore.tables.actions import Metadata
from buffetstore.tables.commit import Committer
from buffetstore.tables.conflicts import Proposal
from buffetstore.tables.declarations import DeclarationMethods
from buffetstore.tables.features import check_writable, protocol_for
from buffetstore.tables.feed import FeedMethods
from buffetstore.tables.head import Head
from buffetstore.tables.history import HistoryMethods
from buffetstore.tables.load import load
from buffetstore.tables.maintenance import MaintenanceMethods
from buffetstore.tables.opening import Opening
from buffetstore.tables.properties import check_properties
from buffetstore.tables.schema import canonical_schema, schema_to_json
from buffetstore.tables.snapshot import Snapshot, replay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from buffetstore.objects.base import ObjectStore


class DeltaTable(MaintenanceMethods, HistoryMethods, FeedMethods, DeclarationMethods):
    """One Delta table in an object store. Make it with `create` or `open`, awaited or by `async with`.

    A table may be used by many tasks at once: data files are written in parallel, and appends that come together are
    committed together. It owns the tasks that commit, and `aclose` waits for them. The store stays open.

    >>> import asyncio
    >>> import pyarrow as pa
    >>> from buffetstore.objects import MemoryStore
    >>> async def example() -> list[dict[str, int]]:
    ...     async with DeltaTable.create(MemoryStore(), "raw/numbers", pa.schema([("n", pa.int64())])) as table:
    ...         await table.append(pa.table({"n": [1, 2]}))
    ...         return (await table.to_arrow()).to_pylist()
    >>> asyncio.run(example())
    [{'n': 1}, {'n': 2}]
    """

    @classmethod
    def create(
        cls,
        store: ObjectStore,
        path: str,
        schema: pa.Schema,
        *,
        name: str | None = None,
        description: str | None = None,
        partition_by: Sequence[str] = (),
        configuration: Mapping[str, str] | None = None,
        formatter: ParquetFormatter | None = None,
        hook: Hook = no_hook,
    ) -> Opening[Self]:
        """Create an empty table of the lowest protocol that serves: reader 1 and writer 2, or 4 with a change feed.

        Raises
        ------
        AlreadyExistsError
            There is a table at `path`.
        UnsupportedFeatureError
            A column's type is not one of Delta's.
        """
        unknown = [column for column in partition_by if column not in schema.names]
        if unknown or (partition_by and set(partition_by) == set(schema.names)):
            raise InvalidInputError(f"partition_by {list(partition_by)} must name some of {', '.join(schema.names)}")
        metadata = Metadata(
            str(uuid.uuid4()),
            schema_to_json(schema),
            tuple(partition_by),
            dict(configuration or {}),
            name,
            description,
            time.time_ns() // 1_000_000,
        )
        check_properties(metadata.configuration)
        protocol = protocol_for(metadata.configuration, schema)
        check_writable(protocol, metadata, canonical_schema(schema), path)
        proposal = Proposal("CREATE TABLE", metadata=metadata, first_actions=(protocol,))

        async def created(committer: Committer) -> Snapshot:
            return await in_thread(replay, path, None, [await committer.create(proposal)])

        return Opening(partial(cls._opened, Committer(store, path, hook), created, formatter, pinned=False))

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        path: str,
        *,
        version: int | None = None,
        timestamp: datetime | None = None,
        formatter: ParquetFormatter | None = None,
        hook: Hook = no_hook,
    ) -> Opening[Self]:
        """Open the latest version of a table, or an earlier one for reading only.

        Parameters
        ----------
        version:
            Open this version.
        timestamp:
            Open what was the latest version then, by in-commit timestamps where the table has them, else by the store's
            times of the log's entries. It needs a zone.

        Raises
        ------
        TableNotFoundError, TableVersionNotFoundError
            With what is there instead.
        CorruptLogError
            An entry is damaged or missing; the message names the version and the path.
        UnsupportedFeatureError
            The table needs a feature that we cannot read; the message names it.
        """
        if version is not None and timestamp is not None:
            raise InvalidInputError(f"version {version} and timestamp {timestamp} were given: one of them is enough")
        pinned = version is not None or timestamp is not None

        async def loaded(committer: Committer) -> Snapshot:
            return await load(committer.store, committer.path, version, timestamp)

        return Opening(partial(cls._opened, Committer(store, path, hook), loaded, formatter, pinned=pinned))

    @classmethod
    async def _opened(
        cls,
        committer: Committer,
        snapshot: Callable[[Committer], Awaitable[Snapshot]],
        formatter: ParquetFormatter | None,
        *,
        pinned: bool,
    ) -> Self:
        started = time.time()
        head = Head(committer, await snapshot(committer), checked=started)
        return cls(head, formatter or ParquetFormatter(), pinned=pinned)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the commits and the checkpoint that are under way. May be called twice."""
        await self._group.drain()
        await self._checkpointer.drain()
        async with self._head.lock:
            pass
