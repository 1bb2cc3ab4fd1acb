"""`StorageManager`: settings in, a stack of objects out."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

import asyncio
import importlib.util
import os
import warnings
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from buffetstore.config import (
    AzureConfig,
    CacheConfig,
    Config,
    GCSConfig,
    S3Config,
    layers_from_environment,
    process_identity,
    store_options_from_environment,
)
from buffetstore.errors import ConfigurationError, MissingDependencyError, UnsupportedOperationError
from buffetstore.formats import ParquetFormatter
from buffetstore.manager.caches import lake_caches, watch_caches
from buffetstore.manager.upkeep import ManagedUpkeep
from buffetstore.monitoring import PrometheusHook, StorageMetrics, fan_out
from buffetstore.objects.open import open_store
from buffetstore.objects.pool import pool_stats
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import SchemaManager, ValidationLevel
from buffetstore.storage import LakeStorage
from buffetstore.storage.quality import QualityChecks
from buffetstore.storage.quarantine import QuarantineTables
from buffetstore.storage.registry import StoredSchemas

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from prometheus_client import CollectorRegistry

    from buffetstore.engines.duckdb import SqlAnswer
    from buffetstore.expressions import Expression
    from buffetstore.formats import Compression
    from buffetstore.objects.base import ObjectStore
    from buffetstore.objects.layers import Layers
    from buffetstore.query import DataQuery, QueryAnswer, QueryPlan
    from buffetstore.schemas import Mapping as SourceMapping
    from buffetstore.schemas import ValidationResult
    from buffetstore.storage import DataTypeDescription, DeleteResult, StoreResult
    from buffetstore.storage.base import OnInvalid, WriteMode
    from buffetstore.storage.lineage import TableVersion
    from buffetstore.tables.idempotency import IdempotencyKey


class StorageManager(ManagedUpkeep):
    """Data types in one place: stored by one awaited line, read back by one awaited line.

    It starts when it is first used, belongs to the event loop of that moment, and is closed by `aclose` or by
    ``async with``; one that is forgotten warns. All of these work:

    * ``async with StorageManager.open(url) as storage``
    * ``storage = await StorageManager.open(url)``
    * ``storage = StorageManager(url)``

    Parameters
    ----------
    where:
        A URL (``memory://``, ``file:///folder``, ``gs://bucket/prefix``, ``s3://bucket``, ``az://container``), a path,
        a `GCSConfig`, an `S3Config` or an `AzureConfig`. What a URL leaves open (credentials, endpoints, emulators) is
        read from the environment.
    schema_manager:
        The data types; None is the built-in ones.
    registry:
        Where Prometheus metrics are registered; None keeps none.
    metrics:
        Sums everything up; None makes one.
    cache_bytes, cache_dir, disk_bytes:
        Memory for data files that were read and parts of them, and a folder where they are kept besides, beyond the
        process; processes may share it. None of these is as the environment says (see `CacheConfig`).
    results_bytes, results_ttl_seconds:
        Memory for answers, 64 MiB unless told otherwise, and how long one is kept. An answer is of the version that the
        table has when it is asked for: it is never stale.
    compression:
        Of the files that are written; None is the configuration's, or zstd.
    layers:
        What is laid around the object store: retries, a cache, encryption, limits, other copies. None reads it from the
        environment (see `LayerConfig`).
    constraints:
        Give new tables the contracts' rules as CHECK constraints, as far as other engines can hold rows to them: what
        they write is then refused where it breaks one. DuckDB does not write to such tables, and rows that
        ``store_data(level="warning")`` would let in are refused too.
    by:
        In whose name schema versions are registered; None is this process's ``user@host``.
    store_options:
        Passed to the object store: ``endpoint_url``, ``max_connections``, ...

    >>> import asyncio
    >>> from buffetstore.query import DataQuery
    >>> async def example() -> int:
    ...     async with StorageManager.open("memory://") as storage:
    ...         row = {"symbol": "AAPL", "timestamp": "2024-01-02T00:00:00Z", "price": 185.64, "volume": 5}
    ...         await storage.store_data("market_data", [row], data_source="example")
    ...         return (await storage.retrieve_data(DataQuery("market_data", {"symbol": "AAPL"}))).rows
    >>> asyncio.run(example())
    1
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | Config,
        *,
        schema_manager: SchemaManager | None = None,
        registry: CollectorRegistry | None = None,
        metrics: StorageMetrics | None = None,
        cache_bytes: int | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        disk_bytes: int | None = None,
        results_bytes: int | None = None,
        results_ttl_seconds: float | None = None,
        compression: Compression | None = None,
        layers: Layers | None = None,
        constraints: bool = False,
        by: str | None = None,
        **store_options: Any,
    ) -> None:
        self._lake: LakeStorage | None = None
        self._closed = False
        self.url, options, configured = _settings(where)
        self.schema_manager = schema_manager if schema_manager is not None else SchemaManager()
        self.metrics = metrics if metrics is not None else StorageMetrics()
        self._options = options | store_options
        self._has_constraints = constraints
        self._by = by
        self._layers = layers if layers is not None else layers_from_environment(_place(where))
        self._formatter = ParquetFormatter(compression or configured)
        caches = CacheConfig.chosen(
            memory_bytes=cache_bytes,
            folder=cache_dir,
            disk_bytes=disk_bytes,
            results_bytes=results_bytes,
            results_ttl_seconds=results_ttl_seconds,
        )
        self._caches = lake_caches(caches, self._layers)
        self._prometheus = PrometheusHook(registry) if registry is not None else None
        self._hook = fan_out([self.metrics] if self._prometheus is None else [self.metrics, self._prometheus])
        self._store: ObjectStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = asyncio.Lock()

    @classmethod
    def open(cls, where: str | os.PathLike[str] | Config, **options: Any) -> Self:
        """Return the manager of `where`, to be awaited or entered; options are those of the class."""
        return cls(where, **options)

    def __await__(self) -> Generator[Any, None, Self]:
        """Start, so that a wrong URL or a missing package shows now, and return the manager itself."""
        return self._started().__await__()

    async def _started(self) -> Self:
        await self._storage()
        return self

    async def __aenter__(self) -> Self:
        return await self

    async def _storage(self) -> LakeStorage:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise UnsupportedOperationError(
                f"the manager of {self.url} belongs to another event loop: open one for each loop, or use "
                "buffetstore.sync, which may be called from any"
            )
        self._loop = loop
        async with self._starting:
            if self._closed:
                raise UnsupportedOperationError(f"the manager of {self.url} is closed: open another one")
            if self._lake is None:
                # In a thread: it imports the client library. Nothing connects before the first request.
                self._store = await in_thread(
                    partial(open_store, self.url, hook=self._hook, layers=self._layers, **self._options)
                )
                self._lake = LakeStorage(
                    self._store,
                    self.schema_manager,
                    formatter=self._formatter,
                    hook=self._hook,
                    constraints=self._has_constraints,
                    by=await in_thread(process_identity) if self._by is None else self._by,
                    **self._caches,
                )
                if self._prometheus is not None:
                    self._prometheus.watch_pool(self.url, partial(_connections, self._store))
                watch_caches(self._lake, self.metrics, self._prometheus)
            return self._lake

    @property
    def store(self) -> ObjectStore:
        """The object store with its wrappers, for what is not about data types.

        Raises
        ------
        UnsupportedOperationError
            The manager has not started, or is closed.
        """
        if self._store is None:
            raise UnsupportedOperationError(f"{self!r} has no store: await the manager, or enter it, first")
        return self._store

    def get_cache_metrics(self) -> dict[str, Any]:
        """Return hits, misses and hit rate of queries, and how full and of what use each of the ``caches`` is.

        These are ``snapshots``, ``footers``, ``data_memory``, ``data_disk`` (where there is one) and ``results``, each
        with ``entries``, ``bytes``, ``max_bytes``, ``hits``, ``misses``, ``evictions`` and ``hit_rate``.
        """
        return self.metrics.get_cache_metrics()

    @property
    def registry(self) -> StoredSchemas:
        """The versions of every data type, stored with the data: who registered what, and what may come next.

        `schema_manager` holds those of this program. What is evolved there is registered by its first write; what is
        registered or evolved here is known there from then on.
        """
        return StoredSchemas(self._storage)

    @property
    def quarantine(self) -> QuarantineTables:
        """The rows that were refused: looked at, mended and replayed, or discarded."""
        return QuarantineTables(self._storage)

    @property
    def quality(self) -> QualityChecks:
        """Checks beyond a row, and what they found."""
        return QualityChecks(self._storage, hook=self._hook)

    async def store_data(
        self,
        data_type: str,
        data: Any,
        *,
        version: str | None = None,
        mapping: SourceMapping | None = None,
        level: ValidationLevel | str = ValidationLevel.STRICT,
        on_invalid: OnInvalid = "raise",
        mode: WriteMode | None = None,
        replace_where: Mapping[str, Any] | None = None,
        extra: Literal["error", "ignore"] = "error",
        available_at: Any = None,
        tz: str | None = None,
        idempotency_key: IdempotencyKey | None = None,
        inputs: Sequence[str | TableVersion] = (),
        code_version: str | None = None,
        job: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        **constants: Any,
    ) -> StoreResult:
        return await (await self._storage()).store_data(
            data_type,
            data,
            version=version,
            mapping=mapping,
            level=level,
            on_invalid=on_invalid,
            mode=mode,
            replace_where=replace_where,
            extra=extra,
            available_at=available_at,
            tz=tz,
            idempotency_key=idempotency_key,
            inputs=inputs,
            code_version=code_version,
            job=job,
            parameters=parameters,
            **constants,
        )

    async def retrieve_data(self, query: DataQuery | QueryPlan) -> QueryAnswer:
        return await (await self._storage()).retrieve_data(query)

    async def scan(self, query: DataQuery | QueryPlan) -> AsyncGenerator[pa.RecordBatch, None]:
        async with aclosing((await self._storage()).scan(query)) as batches:
            async for batch in batches:
                yield batch

    async def sql(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        known_at: datetime | str | None = None,
        as_of: datetime | str | None = None,
    ) -> SqlAnswer:
        """Return what a SELECT makes of data types, which it names as tables; DuckDB computes it.

        See `buffetstore.engines.duckdb.sql`.

        Raises
        ------
        InvalidQueryError
            It is no SELECT, names what is no data type, or DuckDB refuses it.
        MissingDependencyError
            DuckDB is not installed.
        """
        if importlib.util.find_spec("duckdb") is None:
            raise MissingDependencyError("duckdb", "duckdb")
        from buffetstore.engines.duckdb import sql

        return await sql(await self._storage(), statement, parameters, known_at=known_at, as_of=as_of)

    async def delete_data(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | Expression | None = None,
        date_range: Mapping[str, Any] | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> DeleteResult:
        return await (await self._storage()).delete_data(
            data_type, filters=filters, date_range=date_range, idempotency_key=idempotency_key
        )

    async def validate(self, data: Any, data_type: str, version: str | None = None, **options: Any) -> ValidationResult:
        return await (await self._storage()).validate(data, data_type, version, **options)

    async def list_data_types(self) -> list[str]:
        return await (await self._storage()).list_data_types()

    async def describe(self, data_type: str) -> DataTypeDescription:
        return await (await self._storage()).describe(data_type)

    async def aclose(self) -> None:
        async with self._starting:
            self._closed = True
            lake, store, self._lake, self._store = self._lake, self._store, None, None
        if self._prometheus is not None:
            self._prometheus.close()
        try:
            if lake is not None:
                await lake.aclose()
        finally:
            if store is not None:
                await store.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if getattr(self, "_lake", None) is not None else "not started"
        return f"<{type(self).__name__} {self.url} {state}>"

    def __del__(self) -> None:
        if getattr(self, "_lake", None) is not None:
            warnings.warn(
                f"{self!r} was never closed: await aclose(), or use it in an `async with` block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


class GCSStorageManager(StorageManager):
    """`StorageManager` on the data bucket of a `GCSConfig`; options are those of `StorageManager`."""

    def __init__(self, config: GCSConfig, schema_manager: SchemaManager | None = None, **options: Any) -> None:
        if not isinstance(config, GCSConfig):
            raise ConfigurationError(
                f"GCSStorageManager takes a GCSConfig, not a {type(config).__name__}: GCSConfig.from_environment(), "
                "say; for URLs there is StorageManager.open"
            )
        super().__init__(config, schema_manager=schema_manager, **options)
        self.config = config


def _connections(store: ObjectStore) -> Mapping[str, int]:
    stats = pool_stats(store)
    return {} if stats is None else asdict(stats)


def _settings(where: str | os.PathLike[str] | Config) -> tuple[str, dict[str, Any], Compression]:
    """Return URL, store options and compression."""
    place = _place(where)
    if not isinstance(place, str):
        return place.url, place.store_options(), place.compression
    options = store_options_from_environment(place)
    if place.startswith("file:") or "://" not in place:
        options["create"] = True  # a folder costs nothing, and has no owner to ask
    return place, options, "zstd"


def _place(where: str | os.PathLike[str] | Config) -> str | Config:
    if isinstance(where, AzureConfig | GCSConfig | S3Config):
        return where
    if not isinstance(where, str | os.PathLike):
        raise ConfigurationError(f"{where!r} is no URL, path, GCSConfig, S3Config or AzureConfig")
    return os.fspath(where)
