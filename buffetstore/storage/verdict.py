"""Whether a verdict lets rows in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from buffetstore.errors import InvalidInputError, SchemaValidationError
from buffetstore.schemas.types import canonical_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from buffetstore.schemas import ValidationResult

SHOWN = 3


def accepted(
    verdict: ValidationResult,
    data_type: str,
    version: str | None,
    options: Mapping[str, Any],
) -> pa.Table:
    """Return the rows to store.

    Parameters
    ----------
    options:
        How to read the data, as the call states it: they come too late for rows that were judged before.

    Raises
    ------
    SchemaValidationError
        Rows have errors.
    InvalidInputError
        The verdict is of another data type or version, or options come too late.
    """
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
    if not verdict.is_valid:
        raise SchemaValidationError(_message(verdict), result=verdict, key=data_type)
    return verdict.accepted


def _message(verdict: ValidationResult) -> str:
    shown = [f"row {found.record_index}, {found.field}: {found.message}" for found in verdict.errors[:SHOWN]]
    more = f"; and {verdict.error_count - len(shown):,} more" if verdict.error_count > len(shown) else ""
    return (
        f"{len(verdict.rejected):,} of {verdict.rows:,} rows break {verdict.data_type} {verdict.schema_version}, so "
        f"none was stored: {'; '.join(shown)}{more}. error.result has all findings, and the good rows as `accepted`"
    )
