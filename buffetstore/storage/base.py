"""The contract of a data storage: governed data types, stored and asked for by name.

Rules that hold for every backend (`buffetstore.testing.DataStorageContract` proves them):

* Rows are stored all or none. Once `store_data` returns, every later `retrieve_data` sees them.
* What is stored has been validated against its contract; what breaks it raises `SchemaValidationError` and leaves the
  data type as it was.
* Storing the same rows again changes nothing and counts them `unchanged`; a key that is stored again with other values
  follows the contract's `revisions`.
* `aclose` may be called twice. Cancelling a call leaves no half-made state that a reader could see.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from buffetstore.schemas.result import ValidationLevel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.query import DataQuery, QueryAnswer, QueryPlan
    from buffetstore.schemas.mapping import Mapping as SourceMapping
    from buffetstore.schemas.result import Finding, ValidationResult
    from buffetstore.storage.lineage import TableVersion
    from buffetstore.tables.idempotency import IdempotencyKey

WriteMode: TypeAlias = Literal["upsert", "append", "overwrite"]
"""How rows join those that are stored. ``"upsert"`` replaces whatever is stored under each key, all revisions of it.
``"append"`` skips the comparison with stored keys: for rows that the caller knows to be new (what is stored already is
there twice then). ``"overwrite"`` replaces all rows of the data type."""
OnInvalid: TypeAlias = Literal["raise", "quarantine", "drop", "warn"]
"""What becomes of rows that break the contract. ``"raise"`` stores nothing. ``"quarantine"`` stores the good rows, and
the bad ones with their reasons in ``<data_type>_quarantine``, to be looked at, mended and replayed. ``"drop"`` leaves
the bad rows out and counts them. ``"warn"`` stores rows that break a rule and counts a warning for each, as
``level="warning"`` does; rows that do not fit the types raise still."""


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What a store call did; a failure is an exception, never a result.

    Parameters
    ----------
    data_type, table_version:
        What was stored, and the version of the table that holds it; -1 where all rows were refused and there is none.
    rows:
        Rows that were accepted: ``inserted + updated + unchanged``.
    inserted, updated, unchanged:
        New keys (or revisions), replaced rows, and rows that were stored already, equal but for `created_at` and
        `version`.
    rejected, quarantined:
        Rows that were left out because they break the contract, and those of them that lie in the quarantine.
    rounded:
        Values rounded to their column's scale.
    warnings:
        Odd but stored: at most the first 1,000 findings.
    file_paths:
        The keys of the files that were written, below the store's URL.
    bytes_written:
        Their size.
    schema_version:
        The contract's version that was applied.
    seconds:
        How long it took.
    done_before:
        These rows had been stored under the same idempotency key: nothing was written, and all count as `unchanged`.
    """

    data_type: str
    table_version: int
    rows: int
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    quarantined: int = 0
    rounded: int = 0
    warnings: Sequence[Finding] = ()
    file_paths: Sequence[str] = ()
    bytes_written: int = 0
    schema_version: str = ""
    seconds: float = 0.0
    done_before: bool = False

    @property
    def file_path(self) -> str | None:
        """The first of `file_paths`; None when nothing had to be written."""
        return self.file_paths[0] if self.file_paths else None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """What a delete call did. `rows` counts stored rows, every revision of them."""

    data_type: str
    table_version: int
    rows: int


@dataclass(frozen=True, slots=True)
class DataTypeDescription:
    """What is stored of a data type, and how to read it without us.

    `start` and `end` are the first and last event time; `bytes` is the size of the current files.
    """

    data_type: str
    url: str
    table_version: int
    schema: pa.Schema
    schema_version: str
    schema_versions: Sequence[str]
    key: Sequence[str]
    event_time: str
    revisions: str
    rows: int
    files: int
    bytes: int
    start: datetime | None
    end: datetime | None
    read_with: Mapping[str, str] = field(default_factory=dict)


class DataStorage(ABC):
    """Governed data types by name. See the module's rules."""

    @abstractmethod
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
        """Validate rows and store them.

        Parameters
        ----------
        data:
            Dicts or records, one or many, an Arrow table, a pandas or polars frame; or the `ValidationResult` of rows
            that were validated already, whose verdict is used.
        data_type, version:
            The contract's name, and the schema version the rows are given in; None is the newest.
        mapping, tz, constants:
            How to read the data: columns, units, the zone of naive times, values for columns that are not in it.
        level:
            How findings are judged.
        on_invalid:
            What becomes of rows that break the contract: see `OnInvalid`.
        mode, replace_where:
            How rows join those that are stored, see `WriteMode`; None does what the contract's `revisions` say. With
            ``"overwrite"`` the rows that the filters `replace_where` find are replaced alone; all given must be such.
        extra, available_at:
            Whether a column that the contract does not have is an error or left out; when the facts could be known, a
            moment or ``"timestamp+1d"``.
        idempotency_key:
            Names this write, so that it can be sent again after a lost answer and lands once (`done_before`): a text,
            remembered for seven days; or a source with the growing number of its write, remembered for ever.
        inputs, code_version, job, parameters:
            Lineage, kept with the commit: what the rows were made of (files, ``"market_data@12"``, the answer that was
            read), by which code, in which job, with which parameters.

        Raises
        ------
        SchemaValidationError
            Rows have errors; `result` holds them all, nothing was stored.
        IdempotencyKeyReusedError
            Other rows were stored under the key; nothing was stored.
        UnknownDataTypeError, UnknownSchemaVersionError, IncompatibleSchemaError, MappingError, InvalidInputError
            The call cannot be right, or its version may not stand beside those stored (`reasons`); nothing was stored.
        CommitConflictError, CommitUnknownError
            As the table's commit raises them; after the latter send the same again under the same key.
        """

    @abstractmethod
    async def retrieve_data(self, query: DataQuery | QueryPlan) -> QueryAnswer:
        """Return the rows that the query asks for, with what was read and pruned for it.

        Raises
        ------
        InvalidQueryError
            A column is unknown, or a constant has not its column's type.
        TableNotFoundError, TableVersionNotFoundError, UnknownDataTypeError, UnknownSchemaVersionError
            There is no such thing to ask.
        CorruptFileError, CorruptLogError
            What is stored cannot be read.
        """

    @abstractmethod
    def scan(self, query: DataQuery | QueryPlan) -> AsyncGenerator[pa.RecordBatch, None]:
        """Yield the rows that the query asks for in batches, never more of them in memory than a few files' worth.

        Batches come in order of time bucket, and in order of key within a file. Raises as `retrieve_data` does.
        """

    @abstractmethod
    async def delete_data(
        self,
        data_type: str,
        *,
        filters: Mapping[str, Any] | Expression | None = None,
        date_range: Mapping[str, Any] | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> DeleteResult:
        """Delete the rows that `filters` and `date_range` find, all revisions of their keys.

        Earlier table versions still hold them until they are vacuumed. `idempotency_key` names the call as it does for
        `store_data`: sent again, it deletes nothing that was stored since.

        Raises
        ------
        InvalidQueryError
            Neither was given (``filters={}`` is every row), or as `retrieve_data`.
        """

    @abstractmethod
    async def list_data_types(self) -> list[str]:
        """Return the names of the data types that hold something, or did, sorted."""

    @abstractmethod
    async def describe(self, data_type: str) -> DataTypeDescription:
        """Return what is stored of a data type.

        Raises
        ------
        UnknownDataTypeError, TableNotFoundError
            There is no such contract; nothing was stored under it.
        """

    @abstractmethod
    async def validate(self, data: Any, data_type: str, version: str | None = None, **options: Any) -> ValidationResult:
        """Judge rows as `store_data` would, in threads, and store nothing. Options are those of `store_data`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free what is held. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
