"""One import: every batch judged, its good rows stored, its bad ones set aside."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from buffetstore.errors import InvalidInputError, MappingError, SchemaValidationError
from buffetstore.ingest.rejected import RejectedRows, reasons_of
from buffetstore.ingest.result import ImportResult, Rejection
from buffetstore.ingest.text import Typed, typed
from buffetstore.resilience.threads import in_thread
from buffetstore.schemas.mapping import nearest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from numpy.typing import NDArray

    from buffetstore.ingest.commits import Commits
    from buffetstore.ingest.source import Batch, Source
    from buffetstore.schemas import Contract, Mapping, ValidationResult
    from buffetstore.storage.base import DataStorage

OnInvalid: TypeAlias = Literal["file", "quarantine", "drop", "raise"]
"""``"file"``: bad rows are written to a file beside the one they come from, to be mended and brought in like it.
``"quarantine"``: they are in the store's quarantine; lines that are no rows at all still go to the file. ``"drop"``:
they are counted. ``"raise"``: the whole file is judged before anything of it is stored."""
Progress: TypeAlias = "Callable[[float, ImportResult], None]"

_SHOWN, _SHOWN_IN_ERROR = 20, 3
_MILLISECONDS = pa.int64()
MISSING = "missing"
"""The error of a required field without a value."""


@dataclass(slots=True)
class Import:
    """One run."""

    storage: DataStorage
    contract: Contract
    source: Source
    mapping: Mapping
    reading: dict[str, Any]
    result: ImportResult
    on_invalid: OnInvalid
    rejected: RejectedRows

    async def run(self, commits: Commits | None, on_progress: Progress | None) -> ImportResult:
        """Judge the rows, and store them where there are commits to be made."""
        await in_thread(self._check_names)
        if self.on_invalid == "raise":
            await self._check_rows()
        try:
            if commits is not None:
                await in_thread(self.rejected.discard_older)
            async with aclosing(self._batches()) as batches:
                async for read in batches:
                    await self._take(read, commits)
                    if on_progress is not None:
                        on_progress(read.batch.share, self.result)
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
            async for read in batches:
                batch = read.batch
                for line in batch.malformed:
                    raise InvalidInputError(
                        f"row {line.record + 1} of {batch.member} has {line.reason}: {line.text!r}; nothing was stored"
                    )
                for part in read.parts:
                    check = await self._judged(part)
                    self._check_columns(part, check)
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

    def _check_columns(self, part: _Part, check: ValidationResult) -> None:
        """Raise MappingError where the file has no column of a field that every row must have."""
        if self.result.rows or len(check.rejected) < check.rows:
            return
        columns = part.rows.column_names
        absent = [each.field for each in check.counts if (each.error_type, each.rows) == (MISSING, check.rows)]
        # Where one has a column that is empty, another may be what would have been made of it.
        if absent and not any(part.mapping.columns.get(name, name) in columns for name in absent):
            hints = [f"{name!r}{nearest(name, columns)}" for name in absent]
            raise MappingError(
                f"no column of {self.source.path.name} is mapped to {', '.join(hints)} of {check.data_type} "
                f"{check.schema_version}; columns are {', '.join(columns)}. Map one to each, or set a constant"
            )

    async def _batches(self) -> AsyncGenerator[_Read, None]:
        """Yield what the file has, and its rows typed."""
        batches = self.source.batches()
        try:
            while (found := await in_thread(self._next, batches)) is not None:
                yield found
        finally:
            await in_thread(batches.close)

    def _next(self, batches: Generator[Batch, None, None]) -> _Read | None:
        batch = next(batches, None)
        if batch is None:
            return None
        mapping, source = self._mapping_of(batch.member), self.source
        found = Typed([(batch.rows, np.arange(len(batch.rows)))] if len(batch.rows) else [])
        if batch.is_text and found.parts:
            kinds = column_kinds(self.contract, mapping)
            found = typed(batch.rows, kinds, decimal=source.decimal, thousands=source.thousands)
        return _Read(batch, [_Part(*part, mapping) for part in found.parts], found.rounded)

    def _mapping_of(self, member: str) -> Mapping:
        path = self.source.path
        names = [member, path.name, (path / member if self.source.is_archive else path).as_posix()]
        return self.mapping.for_file(*names, *(name.replace(".rejected", "") for name in names))

    async def _judged(self, part: _Part) -> ValidationResult:
        contract = self.contract
        return await self.storage.validate(
            part.rows, contract.data_type, contract.version, mapping=part.mapping, **self.reading
        )

    async def _take(self, read: _Read, commits: Commits | None) -> None:
        batch, result = read.batch, self.result
        result.rounded += read.rounded
        if batch.malformed:
            result.malformed(batch)
            if commits is not None and self.on_invalid in {"file", "quarantine"}:
                await self._set_aside(partial(self.rejected.add_lines, batch, batch.malformed))
        for part in read.parts:
            check = await self._judged(part)
            self._check_columns(part, check)
            result.judged(check)
            if not check.is_valid:
                result.findings += _rejections(batch, part, check)[: _SHOWN - len(result.findings)]
            if commits is None:
                continue
            if not check.is_valid and self.on_invalid == "quarantine":
                await commits.quarantine(check)
                continue
            if not check.is_valid and self.on_invalid == "file":
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


@dataclass(frozen=True, slots=True)
class _Read:
    """A batch, its rows in parts, and how many numbers were rounded."""

    batch: Batch
    parts: Sequence[_Part]
    rounded: int


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
