"""`StorageManager` for callers that cannot await: every call is the async manager's, run on one loop thread."""

# ruff: noqa: D102 - the awaited methods' docstrings are assigned

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any, Literal, Self

from buffetstore import manager as awaited
from buffetstore.schemas import ValidationLevel
from buffetstore.sync.face import BlockingFace
from buffetstore.sync.loop import LOOP, blocking
from buffetstore.sync.upkeep import BlockingUpkeep

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from buffetstore.config import Config, GCSConfig
    from buffetstore.engines.duckdb import SqlAnswer
    from buffetstore.expressions import Expression
    from buffetstore.monitoring import StorageMetrics
    from buffetstore.query import DataQuery, QueryAnswer, QueryPlan
    from buffetstore.schemas import Mapping as SourceMapping
    from buffetstore.schemas import SchemaManager, ValidationResult
    from buffetstore.storage import DataTypeDescription, DeleteResult, StoreResult
    from buffetstore.storage.base import OnInvalid, WriteMode
    from buffetstore.storage.lineage import TableVersion
    from buffetstore.storage.quality import QualityChecks
    from buffetstore.storage.quarantine import QuarantineTables
    from buffetstore.storage.registry import StoredSchemas
    from buffetstore.tables.idempotency import IdempotencyKey


class StorageManager(BlockingUpkeep):
    """The async manager's face, blocking. May be used from several threads, and inside a running loop (Jupyter).

    Make one with `open`, or a `GCSStorageManager`; end it with `close` or `with`. Ctrl-C cancels the call that runs.
    """

    def __init__(self, where: str | Config, **options: Any) -> None:
        self._start(awaited.StorageManager(where, **options))

    def _start(self, manager: awaited.StorageManager) -> None:
        self._awaited = manager
        LOOP.lease()
        try:
            LOOP.run(_entered(manager))
        except BaseException:
            LOOP.release()
            raise
        self._closed = False

    def store_data(
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
        return LOOP.run(
            self._awaited.store_data(
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
        )

    def retrieve_data(self, query: DataQuery | QueryPlan) -> QueryAnswer:
        return LOOP.run(self._awaited.retrieve_data(query))

    def scan(self, query: DataQuery | QueryPlan) -> Iterator[pa.RecordBatch]:
        return blocking(self._awaited.scan(query))

    def sql(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        known_at: datetime | str | None = None,
        as_of: datetime | str | None = None,
    ) -> SqlAnswer:
        return LOOP.run(self._awaited.sql(statement, parameters, known_at=known_at, as_of=as_of))

    def delete_data(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | Expression | None = None,
        date_range: Mapping[str, Any] | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> DeleteResult:
        return LOOP.run(
            self._awaited.delete_data(
                data_type, filters=filters, date_range=date_range, idempotency_key=idempotency_key
            )
        )

    def validate(self, data: Any, data_type: str, version: str | None = None, **options: Any) -> ValidationResult:
        return LOOP.run(self._awaited.validate(data, data_type, version, **options))

    def list_data_types(self) -> list[str]:
        return LOOP.run(self._awaited.list_data_types())

    def describe(self, data_type: str) -> DataTypeDescription:
        return LOOP.run(self._awaited.describe(data_type))

    def get_cache_metrics(self) -> dict[str, Any]:
        return self._awaited.get_cache_metrics()

    @property
    def registry(self) -> BlockingFace[StoredSchemas]:
        """The versions of every data type, stored with the data: who registered what, and what may come next.

        `schema_manager` holds those of this program. What is evolved there is registered by its first write; what is
        registered or evolved here is known there from then on.
        """
        return BlockingFace(self._awaited.registry)

    @property
    def quarantine(self) -> BlockingFace[QuarantineTables]:
        """The rows that were refused: looked at, mended and replayed, or discarded."""
        return BlockingFace(self._awaited.quarantine)

    @property
    def quality(self) -> BlockingFace[QualityChecks]:
        """Checks beyond a row, and what they found."""
        return BlockingFace(self._awaited.quality)

    @property
    def url(self) -> str:
        """Where the data is."""
        return self._awaited.url

    @property
    def schema_manager(self) -> SchemaManager:
        """The data types."""
        return self._awaited.schema_manager

    @property
    def metrics(self) -> StorageMetrics:
        """What has been done so far."""
        return self._awaited.metrics

    def close(self) -> None:
        """Free what is held. May be called twice."""
        if not self._closed:
            self._closed = True
            try:
                LOOP.run(self._awaited.aclose())
            finally:
                LOOP.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self._closed = True
            warnings.warn(
                f"{type(self).__name__} was not closed: call close(), or use it in a `with` block",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            LOOP.leave(self._awaited.aclose())


for _kind in (StorageManager, BlockingUpkeep):
    for _name, _method in vars(_kind).items():
        if inspect.isfunction(_method) and hasattr(awaited.StorageManager, _name) and not _name.startswith("_"):
            _method.__doc__ = inspect.getdoc(getattr(awaited.StorageManager, _name))


class GCSStorageManager(StorageManager):
    """`StorageManager` on the data bucket of a `GCSConfig`; options are those of the async `GCSStorageManager`."""

    def __init__(self, config: GCSConfig, schema_manager: SchemaManager | None = None, **options: Any) -> None:
        self._start(awaited.GCSStorageManager(config, schema_manager, **options))


def open(where: str | Config, **options: Any) -> StorageManager:  # noqa: A001 - `sync.open(url)` is the point
    """Open the store at a URL; options are those of the async `StorageManager`.

    >>> from buffetstore import sync
    >>> with sync.open("memory://") as storage:
    ...     storage.list_data_types()
    []
    """
    return StorageManager(where, **options)


async def _entered(manager: awaited.StorageManager) -> awaited.StorageManager:
    return await manager
