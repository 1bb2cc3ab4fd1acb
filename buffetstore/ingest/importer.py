"""A file's rows into a data type: read, validated and stored batch by batch; bad rows are set aside."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from buffetstore.errors import InvalidInputError, SchemaValidationError
from buffetstore.ingest.commits import Commits
from buffetstore.ingest.rejected import RejectedRows, reasons_of
from buffetstore.ingest.result import ImportResult, Rejection
from buffetstore.ingest.source import Source
from buffetstore.ingest.text import typed
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas import Mapping, SchemaManager, ValidationLevel

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence
    from collections.abc import Mapping as Fields

    from numpy.typing import NDArray

    from buffetstore.ingest.source import Batch
    from buffetstore.schemas import Contract, ValidationResult
    from buffetstore.storage.base import DataStorage, WriteMode

Rejected: TypeAlias = Literal["file", "quarantine", "drop", "raise"]
ON_INVALID = ("file", "quarantine", "drop", "raise")
_SHOWN, _SHOWN_IN_ERROR = 20, 3
_MILLISECONDS = pa.int64()


async def import_file(
    storage: DataStorage,
    data_type: str,
    file: Source | str | os.PathLike[str],
    *,
    mapping: Mapping | None = None,
    version: str | None = None,
    level: ValidationLevel | str = ValidationLevel.STRICT,
    extra: Literal["error", "ignore"] = "ignore",
    available_at: Any = None,
    on_invalid: Rejected = "file",
    rejected_file: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    mode: WriteMode | None = None,
    replace_where: Fields[str, Any] | None = None,
    idempotency_key: str | None = None,
    inputs: Sequence[str] = (),
    code_version: str | None = None,
    job: str | None = None,
    parameters: Fields[str, Any] | None = None,
    on_progress: Callable[[float, ImportResult], None] | None = None,
) -> ImportResult:
    r"""Store the rows of a file that keep their contract, and set the others aside, with the reasons for each.

    About 500,000 rows (`Source.batch_rows`) are in memory at a time and become one commit, so that a file may be of
    any size. A run that broke off can be repeated: rows that are stored already are unchanged, or, where `mode` says
    not to look, known by their `idempotency_key`.

    Parameters
    ----------
    storage:
        Where to.
    data_type, version:
        The contract of the rows; by default the newest version.
    file:
        A path, or a `Source` that says more: delimiter, encoding, how numbers are spelled.
    mapping:
        How the file's columns become fields; `mapping.header` names the columns of a file that does not.
    level, extra, available_at:
        As in `DataStorage.store_data`; columns that are no fields are by default left out, and named in the result.
    on_invalid:
        What becomes of rows that break the contract. ``"file"`` writes them to a file beside this one, to be mended and
        ingested. ``"quarantine"`` puts them into the store's quarantine (lines that are no rows at all still go to the
        file). ``"drop"`` counts them. ``"raise"`` judges the whole file before anything of it is stored.
    rejected_file:
        Where rejected rows go, instead of ``<name>.rejected.csv`` beside the file (`.zip` for an archive, `.parquet`
        for Parquet). A file that is there is replaced.
    dry_run:
        Judge the rows, and write nothing.
    mode, replace_where:
        As in `DataStorage.store_data`. An overwrite is one commit: its rows, two gigabytes at most, are in memory.
    idempotency_key:
        Names this import, so that it lands once however often it is sent, and wherever it was cut off before: each
        commit is known by it and its number, for seven days. It goes with one file and one way to read it.
    inputs, code_version, job, parameters:
        Lineage, as in `DataStorage.store_data`; the file's name is always among the inputs.
    on_progress:
        Told after every batch how much of the file is done (0 to 1), and the counts so far.

    Raises
    ------
    NotFoundError, PermissionDeniedError, CorruptFileError
        The file cannot be read; batches stored before stay.
    MappingError, InvalidInputError
        The mapping does not fit the file or the contract, or the call cannot be right.
    SchemaValidationError
        With ``on_invalid="raise"``: a row breaks the contract; nothing was stored.
    IdempotencyKeyReusedError
        Another file was stored under the key.
    StorageError
        As `DataStorage.store_data` raises it; batches stored before stay.

    >>> import asyncio, tempfile
    >>> from decimal import Decimal
    >>> from pathlib import Path
    >>> from buffetstore import Mapping, StorageManager
    >>> async def example() -> int:
    ...     with tempfile.TemporaryDirectory() as folder:
    ...         path = Path(folder, "20240102_aapl.csv")
    ...         path.write_text("34200000,1856400,100")
    ...         mapping = Mapping(
    ...             header=("ms", "price", "volume"), milliseconds="ms", tz="America/New_York", scale=Decimal("0.0001"),
    ...             file_pattern=r"(?P<date>\d{8})_(?P<symbol>[a-z]+)", upper=("symbol",),
    ...             constants={"data_source": "example", "interval": "1m"},
    ...         )
    ...         async with StorageManager.open("memory://") as storage:
    ...             return (await import_file(storage, "market_data", path, mapping=mapping)).inserted
    >>> asyncio.run(example())
    1
    """
    mapping = mapping or Mapping()
    source = file if isinstance(file, Source) else Source(Path(file))
    if mapping.header and not source.header:
        source = replace(source, header=mapping.header)
    if on_invalid not in ON_INVALID:
        raise InvalidInputError(f"on_invalid={on_invalid!r} is none of {', '.join(map(repr, ON_INVALID))}")
    run = _Import(
        storage=storage,
        contract=_contract(storage, data_type, version),
        source=source,
        mapping=mapping,
        reading={"level": level, "extra": extra, "available_at": available_at},
        result=ImportResult(str(source.path), data_type, dry_run=dry_run),
        on_invalid=on_invalid,
        rejected=RejectedRows(source, None if rejected_file is None else Path(rejected_file)),
    )
    lineage = {
        "inputs": (source.path.name, *inputs),
        "code_version": code_version,
        "job": job,
        "parameters": parameters,
    }
    terms = {"mode": mode, "replace_where": replace_where, **lineage}
    commits = Commits(storage, run.result, source.batch_rows, idempotency_key, terms)
    return await run.run(None if dry_run else commits, on_progress)


@dataclass(slots=True)
class _Import:
    """One run."""

    storage: DataStorage
    contract: Contract
    source: Source
    mapping: Mapping
    reading: dict[str, Any]
    result: ImportResult
    on_invalid: Rejected
    rejected: RejectedRows

    async def run(
        self, commits: Commits | None, on_progress: Callable[[float, ImportResult], None] | None
    ) -> ImportResult:
        await in_thread(self._check_names)
        if self.on_invalid == "raise":
            await self._check_rows()
        try:
            if commits is not None:
                await in_thread(self.rejected.discard_older)
            async with aclosing(self._batches()) as batches:
                async for batch, parts in batches:
                    await self._take(batch, parts, commits)
                    if on_progress is not None:
                        on_progress(batch.share, self.result)
            if commits is not None:
                await commits.flush()
        finally:
            await in_thread(self.rejected.close)
        return self.result

    def _check_names(self) -> None:
        """Find out what the names do not say before anything is stored."""
        self.mapping.check(self.contract)
        for member in self.source.names():
            self._mapping_of(member).values(self.contract)

    async def _check_rows(self) -> None:
        async with aclosing(self._batches()) as batches:
            async for batch, parts in batches:
                for line in batch.malformed:
                    raise InvalidInputError(
                        f"row {line.record + 1} of {batch.member} has {line.reason}: {line.text!r}; nothing was stored"
                    )
                for part in parts:
                    check = await self._judged(part)
                    if not check.is_valid:
                        raise self._refusal(batch, part, check)

    def _refusal(self, batch: Batch, part: _Part, check: ValidationResult) -> SchemaValidationError:
        shown = "; ".join(
            f"row {found.record_index + 1}, {found.field}: {found.message}"
            for found in _rejections(batch, part, check)[:_SHOWN_IN_ERROR]
        )
        return SchemaValidationError(
            f"{len(check.rejected):,} of {check.rows:,} rows of {batch.member} break {check.data_type} "
            f"{check.schema_version}, so nothing was stored: {shown}. error.result has all findings of these rows",
            result=check,
            key=check.data_type,
        )

    async def _batches(self) -> AsyncGenerator[tuple[Batch, Sequence[_Part]], None]:
        """Yield what the file has, and its rows typed."""
        batches = self.source.batches()
        try:
            while (found := await in_thread(self._next, batches)) is not None:
                yield found
        finally:
            await in_thread(batches.close)

    def _next(self, batches: Generator[Batch, None, None]) -> tuple[Batch, Sequence[_Part]] | None:
        batch = next(batches, None)
        if batch is None:
            return None
        mapping = self._mapping_of(batch.member)
        if not batch.is_text or not len(batch.rows):
            parts = [(batch.rows, np.arange(len(batch.rows)))] if len(batch.rows) else []
            return batch, [_Part(*part, mapping) for part in parts]
        source = self.source
        found = typed(
            batch.rows, column_kinds(self.contract, mapping), decimal=source.decimal, thousands=source.thousands
        )
        self.result.rounded += found.rounded
        return batch, [_Part(*part, mapping) for part in found.parts]

    def _mapping_of(self, member: str) -> Mapping:
        path = self.source.path
        names = [member, path.name, (path / member if self.source.is_archive else path).as_posix()]
        return self.mapping.for_file(*names, *(name.replace(".rejected", "") for name in names))

    async def _judged(self, part: _Part) -> ValidationResult:
        contract = self.contract
        return await self.storage.validate(
            part.rows, contract.data_type, contract.version, mapping=part.mapping, **self.reading
        )

    async def _take(self, batch: Batch, parts: Sequence[_Part], commits: Commits | None) -> None:
        result, aside = self.result, self.on_invalid == "file"
        if batch.malformed:
            result.malformed(batch)
            if commits is not None and self.on_invalid in {"file", "quarantine"}:
                await self._set_aside(partial(self.rejected.add_lines, batch, batch.malformed))
        for part in parts:
            check = await self._judged(part)
            result.judged(check)
            if not check.is_valid:
                result.findings += _rejections(batch, part, check)[: _SHOWN - len(result.findings)]
            if commits is None:
                continue
            if not check.is_valid and self.on_invalid == "quarantine":
                await commits.quarantine(check)
                continue
            if not check.is_valid and aside:
                await self._set_aside(partial(_write_rejected, self.rejected, batch, part, check))
            await commits.add(check)

    async def _set_aside(self, write: Callable[[], None]) -> None:
        await in_thread(write)
        self.result.rejected_file = str(self.rejected.path)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a batch, their positions in it, and how to read them."""

    rows: pa.Table
    positions: NDArray[np.int64]
    mapping: Mapping


def _write_rejected(rejected: RejectedRows, batch: Batch, part: _Part, check: ValidationResult) -> None:
    rejected.add(batch, part.positions[list(check.rejected)], reasons_of(check))


def _rejections(batch: Batch, part: _Part, check: ValidationResult) -> list[Rejection]:
    """Return the first errors, with the numbers that their rows have in the file."""
    return [
        Rejection(
            found.field,
            found.error_type,
            found.message,
            int(batch.numbers[part.positions[found.record_index]]),
            batch.member,
        )
        for found in check.errors[:_SHOWN]
    ]


def column_kinds(contract: Contract, mapping: Mapping) -> dict[str, pa.DataType]:
    """Return file's column -> the Arrow type in which the field that it becomes reads it.

    A column of which two fields of different types are made is left out: each reads the text as it needs it.
    """
    found: dict[str, set[pa.DataType]] = {}
    taken = {*mapping.columns.values(), mapping.milliseconds}
    for column in contract.schema:
        source = mapping.columns.get(column.name, None if column.name in taken else column.name)
        if source is None:
            continue
        kind, power = column.type, mapping.shift(column.name, column.type)
        found.setdefault(source, set()).add(pa.decimal128(kind.precision, kind.scale + power) if power else kind)
    if mapping.milliseconds is not None:
        found[mapping.milliseconds] = {_MILLISECONDS}
    return {name: kinds.pop() for name, kinds in found.items() if len(kinds) == 1}


def _contract(storage: DataStorage, data_type: str, version: str | None) -> Contract:
    for name in ("schemas", "schema_manager"):
        schemas = getattr(storage, name, None)
        if isinstance(schemas, SchemaManager):
            return schemas.contract(data_type, version)
    raise InvalidInputError(f"{storage!r} does not tell its contracts: give a StorageManager or a LakeStorage")
