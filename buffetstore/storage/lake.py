"""Data types as Delta tables in an object store, each at ``<prefix>/<data_type>``."""

# ruff: noqa: D102 - docstrings are those of the contract

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from buffetstore.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidQueryError,
    TableNotFoundError,
    UnknownDataTypeError,
    UnknownSchemaVersionError,
)
from buffetstore.expressions import columns_of
from buffetstore.formats import ParquetFormatter
from buffetstore.monitoring.events import Hook, no_hook, observed
from buffetstore.query import BoundPlan, CacheManager, DataQuery, QueryExecutor, QueryOptimizer, bind, counts_of
from buffetstore.query.recorded import QueryLog
from buffetstore.query.results_cache import ResultsCache
from buffetstore.query.usage import SymbolUsage
from buffetstore.resilience.concurrency import gather
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import SchemaManager, ValidationLevel, ValidationResult
from buffetstore.storage.answers import Answers, planned
from buffetstore.storage.base import DataTypeDescription, DeleteResult
from buffetstore.storage.creation import facts_of, table_configuration
from buffetstore.storage.foreign import read_with
from buffetstore.storage.known_schemas import KnownSchemas
from buffetstore.storage.lineage import lineage_of
from buffetstore.storage.preloading import HotData
from buffetstore.storage.quality.on_write import with_batch_checks
from buffetstore.storage.quarantine import QuarantineTables
from buffetstore.storage.registry import StoredSchemas
from buffetstore.storage.snapshots import Snapshots
from buffetstore.storage.verdict import check_on_invalid, judged, rows_to_store, stored_result
from buffetstore.storage.writing import TableWriter, Terms, check_mode, named
from buffetstore.tables import DeltaTable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from buffetstore.caching import CacheStats, DiskCache, LRUCache
    from buffetstore.expressions import Expression
    from buffetstore.objects.base import ObjectStore
    from buffetstore.query import QueryAnswer, QueryPlan
    from buffetstore.schemas import Contract
    from buffetstore.schemas import Mapping as SourceMapping
    from buffetstore.storage.base import OnInvalid, StoreResult, WriteMode
    from buffetstore.storage.lineage import Lineage, TableVersion
    from buffetstore.tables import Snapshot
    from buffetstore.tables.idempotency import IdempotencyKey


class LakeStorage(HotData):
    """Data types as Delta tables.

    Parameters
    ----------
    store:
        Where the tables are; it is the caller's and stays open.
    schemas:
        The contracts; None is the built-in ones.
    formatter:
        Encodes and decodes data files.
    hook:
        Told of every operation (`storage.store`, `storage.retrieve`, `storage.scan`, `storage.delete`).
    cache:
        Where data files that were read are remembered; None is a cache of 256 MiB.
    prefix:
        The folder of the tables in the store.
    constraints:
        Give new tables the portable part of their contract's rules as CHECK constraints.
    by:
        In whose name schema versions are registered: ``"user@host"``.
    disk:
        Where they are remembered beyond this process; the storage closes it.
    results_bytes, results_ttl_seconds:
        How much memory answers may take that are kept, and how long; by default none is. Equal queries at one time are
        computed once either way.
    """

    def __init__(
        self,
        store: ObjectStore,
        schemas: SchemaManager | None = None,
        *,
        formatter: ParquetFormatter | None = None,
        hook: Hook = no_hook,
        cache: LRUCache[bytes] | None = None,
        prefix: str = "raw",
        constraints: bool = False,
        by: str = "unknown",
        disk: DiskCache | None = None,
        results_bytes: int = 0,
        results_ttl_seconds: float | None = None,
    ) -> None:
        self._has_constraints = constraints
        self.schemas = schemas if schemas is not None else SchemaManager()
        self.files = CacheManager(store, cache, disk=disk)
        self._store = store
        self.known = KnownSchemas(store, self.schemas, by)
        self._prefix = prefix
        self._hook = hook
        self._formatter = formatter if formatter is not None else ParquetFormatter()
        self._executor = QueryExecutor(store, formatter=self._formatter, cache=self.files)
        self._optimizer = QueryOptimizer()
        self._tables: dict[str, DeltaTable] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._quarantine = QuarantineTables(self._self)
        self.queries = QueryLog()  # what was asked, for `analyze`
        self.usage = SymbolUsage()  # of which symbols, for `preload`
        self.results = ResultsCache(results_bytes, ttl_seconds=results_ttl_seconds)
        self.snapshots = Snapshots(store, self.table)
        self._answers = Answers(self.known, self._executor, self.snapshots, self.results, self.queries)

    @property
    def caches(self) -> dict[str, Callable[[], CacheStats]]:
        """What tells how full each cache is, and of what use it was, by its name."""
        return {"snapshots": self.snapshots.stats, **self.files.caches(), "results": self.results.stats}

    @property
    def store(self) -> ObjectStore:
        """Where the tables are."""
        return self._store

    @property
    def registry(self) -> StoredSchemas:
        """The versions of every data type, stored with the data."""
        return StoredSchemas(self._self)

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
        started = time.perf_counter()
        check_mode(mode)
        check_on_invalid(on_invalid)
        with observed(self._hook, "storage.store", data_type) as counts:
            options = constants | {"mapping": mapping, "extra": extra, "available_at": available_at, "tz": tz}
            verdict = await judged(self.validate, data, data_type, version, on_invalid, level=level, **options)
            counts["rows_rejected"] = len(verdict.rejected)
            rows = await in_thread(rows_to_store, verdict, on_invalid)
            lineage = lineage_of(
                verdict.schema_version,
                inputs,
                code_version,
                job=job,
                parameters=parameters,
                schema_fingerprint=await self.known.mark(verdict.contract),
            )
            if not rows.num_rows:  # all were refused
                quarantined = await self._set_aside(verdict, on_invalid, lineage)
                return replace(
                    stored_result(verdict, quarantined, started), table_version=await self._version_of(data_type)
                )
            table = await self._table_for(verdict.contract)
            terms = Terms(
                mode,
                await named(idempotency_key, rows, verdict.contract),
                lineage.to_json(),
                await self._replaced(table, verdict.contract, mode, replace_where),
            )
            quarantined = await self._set_aside(verdict, on_invalid, lineage)
            written = await TableWriter(table, verdict.contract, self._executor, self.known).write(rows, terms)
            result = stored_result(verdict, quarantined, started, written, table.path)
            counts.update(
                rows_written=written.inserted + written.updated,
                rows_unchanged=written.unchanged,
                files_written=len(written.files),
                bytes_out=result.bytes_written,
            )
            return await with_batch_checks(result, verdict.contract, rows, self._hook)

    async def _set_aside(self, verdict: ValidationResult, on_invalid: OnInvalid, lineage: Lineage) -> int:
        """Put refused rows where they can be looked at, before anything else is stored of their batch."""
        return await self.quarantine.add(verdict, lineage) if on_invalid == "quarantine" else 0

    @property
    def quarantine(self) -> QuarantineTables:
        """The rows that were refused."""
        return self._quarantine

    async def validate(self, data: Any, data_type: str, version: str | None = None, **options: Any) -> ValidationResult:
        try:
            return await in_thread(self.schemas.validate_data, data, data_type, version, **options)
        except (UnknownDataTypeError, UnknownSchemaVersionError):
            if not await self.known.load(data_type):
                raise
            return await in_thread(self.schemas.validate_data, data, data_type, version, **options)

    async def retrieve_data(self, query: DataQuery | QueryPlan) -> QueryAnswer:
        started = time.perf_counter()
        plan, fingerprint = await in_thread(planned, query)
        with observed(self._hook, "storage.retrieve", plan.data_type) as counts:
            answer = await self._answers.retrieve(plan, fingerprint, started)
            self.usage.note(plan)
            counts.update(counts_of(answer))
            return answer

    async def scan(self, query: DataQuery | QueryPlan) -> AsyncGenerator[pa.RecordBatch, None]:
        started = time.perf_counter()
        plan = await in_thread(self._optimizer.optimize, query)
        with observed(self._hook, "storage.scan", plan.data_type) as counts:
            bound, snapshot = await self._bound(plan)
            async with aclosing(self._executor.scan(bound, snapshot, counts)) as batches:
                with suppress(GeneratorExit):  # the caller has seen enough: no failure
                    async for batch in batches:
                        yield batch
            self.queries.add(bound, counts, time.perf_counter() - started)
            self.usage.note(plan)

    async def delete_data(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | Expression | None = None,
        date_range: Mapping[str, Any] | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> DeleteResult:
        if filters is None and date_range is None:
            raise InvalidQueryError(
                f"delete_data({data_type!r}) does not say which rows: give filters or date_range; filters={{}} is all"
            )
        plan = self._optimizer.optimize(DataQuery(data_type, filters, date_range))
        with observed(self._hook, "storage.delete", data_type) as counts:
            bound, snapshot = await self._bound(plan)
            if bound.is_empty and idempotency_key is None:
                return DeleteResult(data_type, snapshot.version, 0)
            table = await self.table(data_type)
            writer = TableWriter(table, bound.contract, self._executor, self.known)
            if not bound.stored >= columns_of(bound.predicate):
                await self.known.admit(table, bound.contract)
                bound, _ = await self._bound(plan)
            done = await writer.delete(bound, idempotency_key)
            counts["rows_deleted"] = done.deleted
            return DeleteResult(data_type, done.version, done.deleted)

    async def list_data_types(self) -> list[str]:
        root = f"{self._prefix}/" if self._prefix else ""
        names = [prefix.removeprefix(root).rstrip("/") for prefix in (await self._store.list_prefixes(root)).prefixes]

        async def is_table(name: str) -> bool:
            listing = await self._store.list_prefixes(f"{root}{name}/")
            return f"{root}{name}/_delta_log/" in listing.prefixes

        found = await gather([partial(is_table, name) for name in names])
        return sorted(name for name, there in zip(names, found, strict=True) if there)

    async def describe(self, data_type: str) -> DataTypeDescription:
        table = await self.table(data_type)
        snapshot = await table.refresh()
        contract = await self.known.reader(data_type, snapshot)
        files = await in_thread(snapshot.with_statistics, [contract.event_time])
        low, high = (f"{bound}.{contract.event_time}" for bound in ("min", "max"))
        url = f"{self._store.url.rstrip('/')}/{table.path}"
        return DataTypeDescription(
            data_type=data_type,
            url=url,
            table_version=snapshot.version,
            schema=snapshot.schema,
            schema_version=contract.version,
            schema_versions=tuple(self.schemas.versions(data_type)),
            key=contract.key,
            event_time=contract.event_time,
            revisions=contract.revisions,
            rows=pc.sum(files["num_records"]).as_py() or 0,
            files=files.num_rows,
            bytes=pc.sum(files["size"]).as_py() or 0,
            start=pc.min(files[low]).as_py() if low in files.column_names else None,
            end=pc.max(files[high]).as_py() if high in files.column_names else None,
            read_with=read_with(url, contract.revisions, contract.key),
        )

    async def table(self, data_type: str) -> DeltaTable:
        try:
            async with self._locks[data_type]:
                if data_type not in self._tables:
                    self._tables[data_type] = await self._opened(data_type)
                return self._tables[data_type]
        except TableNotFoundError as error:
            await self.known.contract(data_type)  # or there is no such data type at all
            stored = await self.list_data_types()
            there = f"stored are {', '.join(stored)}" if stored else "nothing is stored yet"
            raise TableNotFoundError(
                f"no {data_type} in {self._store.url}: {there}; store_data({data_type!r}, ...) makes the table",
                key=data_type,
            ) from error

    async def table_for(self, contract: Contract) -> DeltaTable:
        """Return the table that takes rows of this contract, made if need be; it is the storage's, which closes it."""
        return await self._table_for(contract)

    async def contract(self, data_type: str, version: str | None = None) -> Contract:
        """Return a contract: of this program, else of the store."""
        return await self.known.contract(data_type, version)

    async def _version_of(self, data_type: str) -> int:
        """Return the version of the table; -1 where there is none."""
        try:
            return (await self.table(data_type)).version
        except TableNotFoundError:
            return -1

    async def aclose(self) -> None:
        await self._answers.aclose()
        tables = list(self._tables.values())
        self._tables.clear()
        for table in tables:
            await table.aclose()
        await self.files.aclose()

    async def _replaced(
        self, table: DeltaTable, contract: Contract, mode: WriteMode | None, where: Mapping[str, Any] | None
    ) -> Expression | None:
        """Return which stored rows an overwrite replaces; None is all."""
        if where is None:
            return None
        if mode != "overwrite":
            raise InvalidInputError(f"replace_where={where!r} goes with mode='overwrite', not with mode={mode!r}")
        plan = self._optimizer.optimize(DataQuery(contract.data_type, where))
        await self.known.admit(table, contract)
        conversion = (await self.known.reading(contract.data_type, table.snapshot, contract.version)).conversion
        bound = await in_thread(bind, plan, contract, table.schema, conversion=conversion)
        others = sorted(columns_of(bound.predicate) - set(contract.key))
        if bound.merge and others:
            raise InvalidQueryError(
                f"replace_where names {', '.join(others)}: {contract.data_type} keeps revisions, which are replaced "
                f"by key alone ({', '.join(contract.key)})"
            )
        return bound.predicate if conversion is None else conversion.exactly_on_stored(bound.predicate, bound.stored)

    async def _bound(self, plan: QueryPlan) -> tuple[BoundPlan, Snapshot]:
        return await self._answers.bound(plan)

    def _path(self, data_type: str) -> str:
        return f"{self._prefix}/{data_type}" if self._prefix else data_type

    async def _opened(self, data_type: str) -> DeltaTable:
        path = self._path(data_type)
        return await DeltaTable.open(self._store, path, formatter=self._formatter, hook=self._hook)

    async def _table_for(self, contract: Contract) -> DeltaTable:
        """Return the table that takes rows of this contract, created if need be."""
        own = contract.data_type
        async with self._locks[own]:
            table = self._tables.get(own)
            if table is None:
                table, listed = await self.known.opened(partial(self._opened, own), own)
                if table is None:
                    table = await self._created(contract, await self.known.first_configuration(contract, listed))
                self._tables[own] = table
            return table

    async def _created(self, contract: Contract, versions: Mapping[str, str]) -> DeltaTable:
        path = self._path(contract.data_type)
        try:
            configuration = await in_thread(table_configuration, contract, versions, constraints=self._has_constraints)
            return await DeltaTable.create(
                self._store, path, **facts_of(contract, configuration), formatter=self._formatter, hook=self._hook
            )
        except AlreadyExistsError:  # somebody else was first, and made the same
            return await self._opened(contract.data_type)
