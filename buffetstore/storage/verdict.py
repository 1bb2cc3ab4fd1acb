"""Whether a verdict lets rows in, and what becomes of those that it refuses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, get_args

from buffetstore.errors import InvalidInputError, SchemaValidationError
from buffetstore.schemas import ValidationLevel, ValidationResult
from buffetstore.schemas.types import canonical_version
from buffetstore.storage.base import OnInvalid, StoreResult

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import pyarrow as pa

    from buffetstore.storage.writing import Written

SHOWN = 3


def check_on_invalid(on_invalid: Any) -> None:
    """Raise `InvalidInputError` for a fate that there is not."""
    if on_invalid not in get_args(OnInvalid):
        raise InvalidInputError(
            f"on_invalid={on_invalid!r} is none of {', '.join(map(repr, get_args(OnInvalid)))}: what is to become of "
            "rows that break the contract?"
        )


async def judged(
    validate: Callable[..., Awaitable[ValidationResult]],
    data: Any,
    data_type: str,
    version: str | None,
    on_invalid: OnInvalid,
    *,
    level: ValidationLevel | str,
    **options: Any,
) -> ValidationResult:
    """Return the verdict on rows, or the one that they come with.

    Parameters
    ----------
    validate:
        The storage's `validate`.
    options:
        How to read the data, as the call states it: they come too late for rows that were judged before.

    Raises
    ------
    InvalidInputError
        The verdict is of another data type or version, or options come too late.
    """
    lax = on_invalid == "warn"
    if not isinstance(data, ValidationResult):
        strict = level == ValidationLevel.STRICT
        return await validate(
            data, data_type, version, level=ValidationLevel.WARNING if lax and strict else level, **options
        )
    _check_verdict(data, data_type, version, options)
    if not lax or data.is_valid or data.detail is None or data.detail.given is None:
        return data
    given = data.detail.given
    if given.reading.level != ValidationLevel.STRICT:
        return data
    return await validate(
        given.data,
        data_type,
        data.schema_version,
        level=ValidationLevel.WARNING,
        mapping=given.reading.mapping,
        extra=given.reading.extra,
        available_at=given.reading.available_at,
    )


def _check_verdict(verdict: ValidationResult, data_type: str, version: str | None, options: Mapping[str, Any]) -> None:
    if verdict.data_type != data_type:
        raise InvalidInputError(
            f"the rows were validated as {verdict.data_type}, not as {data_type}: store them as what they are, or "
            "validate them again"
        )
    if version is not None and canonical_version(version) != verdict.schema_version:
        raise InvalidInputError(
            f"the rows were validated as {data_type} {verdict.schema_version}, not as version {version}"
        )
    late = sorted(name for name, value in options.items() if value is not None and (name, value) != ("extra", "error"))
    if late:
        raise InvalidInputError(f"the rows were validated already: give {', '.join(late)} to the validation instead")


def rows_to_store(verdict: ValidationResult, on_invalid: OnInvalid) -> pa.Table:
    """Return the rows to store.

    Raises
    ------
    SchemaValidationError
        Rows have errors, and may not be left out.
    """
    if not verdict.is_valid and on_invalid in {"raise", "warn"}:
        raise SchemaValidationError(_message(verdict), result=verdict, key=verdict.data_type)
    return verdict.accepted


def stored_result(
    verdict: ValidationResult, quarantined: int, started: float, written: Written | None = None, path: str = ""
) -> StoreResult:
    """Return what a store call did.

    Parameters
    ----------
    started:
        When the call began, by `time.perf_counter`.
    written:
        What was written to the table at `path`; None where every row was refused.
    """
    files = () if written is None else written.files
    return StoreResult(
        data_type=verdict.data_type,
        table_version=-1 if written is None else written.version,
        rows=verdict.accepted.num_rows,
        inserted=0 if written is None else written.inserted,
        updated=0 if written is None else written.updated,
        unchanged=0 if written is None else written.unchanged,
        rejected=len(verdict.rejected),
        quarantined=quarantined,
        rounded=verdict.rounded,
        warnings=verdict.warnings,
        file_paths=tuple(f"{path}/{file.path}" for file in files),
        bytes_written=sum(file.size for file in files),
        schema_version=verdict.schema_version,
        seconds=time.perf_counter() - started,
        done_before=written is not None and written.done_before,
    )


def _message(verdict: ValidationResult) -> str:
    shown = [f"row {found.record_index}, {found.field}: {found.message}" for found in verdict.errors[:SHOWN]]
    more = f"; and {verdict.error_count - len(shown):,} more" if verdict.error_count > len(shown) else ""
    return (
        f"{len(verdict.rejected):,} of {verdict.rows:,} rows break {verdict.data_type} {verdict.schema_version}, so "
        f"none was stored: {'; '.join(shown)}{more}. error.result has all findings, and the good rows as `accepted`"
    )
