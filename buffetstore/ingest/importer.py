"""A file's rows into a data type: read, validated and stored batch by batch; bad rows are set aside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from buffetstore.ingest.quarantine import Quarantine, reasons_of
from buffetstore.ingest.text import typed_parts
from buffetstore.resilience.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from buffetstore.ingest.source import Batch, Source
    from buffetstore.schemas import Mapping, ValidationResult
    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.result import Finding
    from buffetstore.storage.base import DataStorage, StoreResult

_SHOWN = 20
_MILLISECONDS = pa.int64()


@dataclass(slots=True)
class ImportResult:
    """What became of a file's rows.

    Parameters
    ----------
    rows:
        Rows read, the rejected ones included.
    inserted, updated, unchanged:
        Of the rows that were good.
    rejected:
        Rows that were set aside.
    rounded, warnings:
        Values rounded to their column's scale; odd rows that were stored.
    ignored_columns:
        Columns of the file that are no fields.
    findings:
        The first errors, with `record_index` counted in the file.
    quarantine:
        Where the rejected rows are; None when there are none, or nothing was to be written.
    table_version:
        The table's version after the last batch; None when nothing was stored.
    """

    file: str
    data_type: str
    dry_run: bool = False
    rows: int = 0
    accepted: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    rounded: int = 0
    warnings: int = 0
    bytes_written: int = 0
    files_written: int = 0
    table_version: int | None = None
    quarantine: str | None = None
    ignored_columns: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return plain values, for ``--json``."""
        return asdict(self)

    def judged(self, check: ValidationResult) -> None:
        """Count a verdict."""
        self.rows += check.rows
        self.accepted += len(check.accepted)
        self.rejected += len(check.rejected)
        self.rounded += check.rounded
        self.warnings += check.warning_count
        self.ignored_columns += [name for name in check.ignored_columns if name not in self.ignored_columns]

    def stored(self, result: StoreResult) -> None:
        """Count what was stored."""
        self.inserted += result.inserted
        self.updated += result.updated
        self.unchanged += result.unchanged
        self.bytes_written += result.bytes_written
        self.files_written += len(result.file_paths)
        self.table_version = result.table_version


async def import_file(
    storage: DataStorage,
    contract: Contract,
    source: Source,
    *,
    mapping: Mapping,
    dry_run: bool = False,
    on_progress: Callable[[float, ImportResult], None] | None = None,
    **options: Any,
) -> ImportResult:
    """Store the good rows of a file, and set the bad ones aside in a file beside it.

    Every batch is one commit, so memory is bounded by a batch. A run that broke off can be repeated: rows that are
    stored already are unchanged.

    Parameters
    ----------
    storage:
        Where to.
    contract:
        Of the data type, at the version in which the rows are given.
    source, mapping:
        The file, and how its columns become fields.
    dry_run:
        Judge the rows, and write nothing.
    on_progress:
        Told after every batch how much of the file is done (0 to 1), and the counts so far.
    options:
        Passed to `DataStorage.store_data`: `extra`, `available_at`, `level`.

    Raises
    ------
    StorageError
        The file cannot be read, the mapping does not fit it, or the store fails; batches stored before stay.
    """
    return await _Import(storage, contract, source, mapping, dry_run, options).run(on_progress)


class _Import:
    """One run."""

    def __init__(
        self,
        storage: DataStorage,
        contract: Contract,
        source: Source,
        mapping: Mapping,
        dry_run: bool,
        options: dict[str, Any],
    ) -> None:
        self._storage, self._contract, self._source, self._mapping = storage, contract, source, mapping
        self._options = {"extra": "ignore", **options}
        self._dry_run = dry_run
        self._result = ImportResult(str(source.path), contract.data_type, dry_run=dry_run)
        self._quarantine = Quarantine(_beside(source))

    async def run(self, on_progress: Callable[[float, ImportResult], None] | None) -> ImportResult:
        batches = self._source.batches()
        try:
            if not self._dry_run:
                await in_thread(self._quarantine.discard_older)
            while (batch := await in_thread(_next, batches)) is not None:
                await self._take(batch)
                if on_progress is not None:
                    on_progress(batch.share, self._result)
        finally:
            await in_thread(self._close, batches)
        return self._result

    async def _take(self, batch: Batch) -> None:
        result = self._result
        if batch.malformed:
            result.rows += len(batch.malformed)
            result.rejected += len(batch.malformed)
            await self._set_aside(lambda: self._quarantine.add_lines(batch.rows.schema, batch.malformed))
        if not len(batch.rows):
            return
        mapping = self._mapping.for_file(Path(batch.member).name)
        for rows, positions in await in_thread(self._parts, batch, mapping):
            await self._judge_and_store(rows, batch.rows, positions, batch.first, mapping)

    def _parts(self, batch: Batch, mapping: Mapping) -> list[tuple[pa.Table, np.ndarray[Any, Any]]]:
        kinds = {} if self._source.is_parquet else column_kinds(self._contract, mapping)
        return typed_parts(batch.rows, kinds)

    async def _judge_and_store(
        self, rows: pa.Table, original: pa.Table, positions: np.ndarray[Any, Any], first: int, mapping: Mapping
    ) -> None:
        result, contract = self._result, self._contract
        check = await self._storage.validate(
            rows, contract.data_type, contract.version, mapping=mapping, **self._options
        )
        result.judged(check)
        if not check.is_valid:
            refused = positions[list(check.rejected)]
            for finding in check.errors[: _SHOWN - len(result.findings)]:
                result.findings.append(replace(finding, record_index=int(first + positions[finding.record_index])))
            await self._set_aside(
                lambda: self._quarantine.add(original.take(refused), (first + 1 + refused).tolist(), reasons_of(check))
            )
        if len(check.accepted) and not self._dry_run:
            inputs = (self._source.path.name,)
            result.stored(await self._storage.store_data(contract.data_type, _good_rows(check), inputs=inputs))

    async def _set_aside(self, write: Callable[[], None]) -> None:
        if not self._dry_run:
            await in_thread(write)
            self._result.quarantine = str(self._quarantine.path)

    def _close(self, batches: Iterator[Batch]) -> None:
        self._quarantine.close()
        batches.close()  # type: ignore[attr-defined]  # a generator's own


def _good_rows(check: ValidationResult) -> ValidationResult:
    return replace(check, rows=len(check.accepted), errors=(), error_count=0, rejected=())


def column_kinds(contract: Contract, mapping: Mapping) -> dict[str, pa.DataType]:
    """Return file's column -> the Arrow type of the field that it becomes."""
    kinds: dict[str, pa.DataType] = {
        mapping.columns.get(column.name, column.name): column.type for column in contract.schema
    }
    if mapping.milliseconds is not None:
        kinds[mapping.milliseconds] = _MILLISECONDS
    return kinds


def _beside(source: Source) -> Path:
    stem = source.path.name
    for suffix in (".gz", ".zip", source.path.suffix, ".csv", ".tsv"):
        stem = stem.removesuffix(suffix)
    return source.path.with_name(f"{stem}.rejected{'.parquet' if source.is_parquet else '.csv'}")


def _next(batches: Iterator[Batch]) -> Batch | None:
    return next(batches, None)
