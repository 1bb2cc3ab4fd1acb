"""`SchemaManager`: which data types there are, and whether data keeps their contracts."""

from __future__ import annotations

from collections.abc import Mapping as Fields
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from buffetstore.errors import InvalidInputError, MappingError
from buffetstore.schemas.breaches import Breach, first_findings, rows_of
from buffetstore.schemas.checks import breaches, missing
from buffetstore.schemas.columns import Columns
from buffetstore.schemas.intake import TypedRows, take_in
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.record import Record, contract_of
from buffetstore.schemas.registry import BUILT_IN, Registry
from buffetstore.schemas.result import ValidationLevel, ValidationResult
from buffetstore.schemas.rowwise import needs_rows, validate_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract
    from buffetstore.schemas.intake import Extra


class SchemaManager:
    """The data types: the built-in ones, and those given.

    Parameters
    ----------
    types:
        Record classes of your own. A subclass of a built-in class without keywords takes its place.
    """

    def __init__(self, types: Iterable[type[Record]] = ()) -> None:
        self._registry = Registry([*BUILT_IN, *types])

    def register(self, model: type[Record]) -> Contract:
        """Add a record class and return its contract.

        Raises
        ------
        ConfigurationError
            Another class holds its data type and version.
        """
        return self._registry.add(model)

    def contract(self, data_type: str, version: str | None = None) -> Contract:
        """Return a contract, by default the newest; 'v1.2.0' is '1.2.0'.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            The message lists what is known, and what is nearest.
        """
        return self._registry.get(data_type, version)

    def data_types(self) -> list[str]:
        """Return the names of all data types, sorted."""
        return self._registry.data_types()

    def versions(self, data_type: str) -> list[str]:
        """Return the versions of a data type, oldest first."""
        return self._registry.versions(data_type)

    def validate_data(
        self,
        data: Any,
        data_type: str,
        version: str | None = None,
        *,
        level: ValidationLevel | str = ValidationLevel.STRICT,
        mapping: Mapping | None = None,
        tz: str | None = None,
        extra: Extra = "error",
        available_at: str | datetime | None = None,
        now: datetime | None = None,
        **constants: Any,
    ) -> ValidationResult:
        """Hold data against a data type's contract. It blocks: in async code use ``await storage.validate(...)``.

        Parameters
        ----------
        data:
            A list of dicts or records, one of them, an Arrow table, a pandas or polars frame.
        version:
            The schema version; by default the one that the data states, else the newest.
        level:
            How findings are judged.
        mapping, tz, constants:
            How the source's columns become fields: a `Mapping`, the zone of times that do not say theirs, and
            fields that are the same in every row (``data_source='yahoo'``).
        extra:
            ``'error'`` refuses columns that are no fields, ``'ignore'`` leaves them out and names them.
        available_at:
            When the facts could be known: ``'timestamp+1d'`` or one instant.
        now:
            When the write began; the clock by default.

        Returns
        -------
        ValidationResult
            The verdict, and the rows in the contract's types.

        Raises
        ------
        InvalidInputError
            There is no data, or it is of a kind that is not taken in; there is no such level.
        UnknownDataTypeError, UnknownSchemaVersionError
            There is no such contract.
        MappingError
            The mapping fits neither contract nor data.
        """
        wanted = _level(level)
        stated = version if version is not None else self._stated_version(data, data_type)
        contract = self.contract(data_type, stated)
        typed = take_in(
            data,
            contract,
            mapping=_mapping(mapping, tz, constants),
            extra=extra,
            available_at=available_at,
            now=now or datetime.now(UTC),
        )
        return judge(contract, typed, wanted)

    def _stated_version(self, data: Any, data_type: str) -> str | None:
        """Return the schema version that the first row states, in itself or by its class."""
        first = data[0] if isinstance(data, list | tuple) and data else data
        if isinstance(first, Record):
            own = contract_of(type(first))
            return first.version or (own.version if own.data_type == data_type else None)
        if isinstance(first, BaseModel):
            found = getattr(first, "version", None)
        else:
            found = first["version"] if "version" in _names(first) else None
        return _first_text(found)


def _names(data: Any) -> list[Any]:
    """Return the names of a dict's, an Arrow table's or a frame's columns."""
    if isinstance(data, Fields):
        return list(data)
    if isinstance(data, pa.Table | pa.RecordBatch):
        return list(data.schema.names)
    return list(data.columns) if hasattr(data, "columns") else []


def _first_text(value: Any) -> str | None:
    """Return the value, or a column's first, where it is text."""
    if not isinstance(value, str):
        column = getattr(value, "iloc", value)
        try:
            value = column[0]
        except (LookupError, TypeError):
            return None
        value = value.as_py() if isinstance(value, pa.Scalar) else value
    return value if isinstance(value, str) else None


def _level(level: ValidationLevel | str) -> ValidationLevel:
    try:
        return ValidationLevel(level)
    except ValueError:
        raise InvalidInputError(f"level {level!r} is none of {', '.join(ValidationLevel)}") from None


def _mapping(given: Any, tz: str | None, constants: dict[str, Any]) -> Mapping:
    if given is not None and not isinstance(given, Mapping):
        raise MappingError(f"mapping is a {type(given).__name__}: write Mapping(columns={{'price': 'Close'}})")
    mapping: Mapping = given or Mapping()
    if constants:
        mapping = replace(mapping, constants={**mapping.constants, **constants})
    return mapping if tz is None else replace(mapping, tz=tz)


def judge(contract: Contract, typed: TypedRows, level: ValidationLevel) -> ValidationResult:
    """Check typed rows against the contract's rules."""
    found = list(missing(contract, typed.table, typed.misfits))
    if level is not ValidationLevel.DISABLED:
        found += breaches(contract, Columns(typed.table))
    strict = level is ValidationLevel.STRICT
    errors = [breach for breach in found if breach.structural or (strict and breach.severity == "error")]
    warnings = [breach for breach in found if breach not in errors]
    table = typed.table
    rejected = rows_of(errors, typed.rejected)
    known, noted = list(typed.errors), list(typed.warnings)
    error_count, warning_count = typed.error_count + _count(errors), typed.warning_count + _count(warnings)
    if level is not ValidationLevel.DISABLED and needs_rows(contract):
        suspect = rows_of([breach for breach in found if breach.severity == "error"], typed.rejected)
        verdict = validate_rows(contract, table, np.setdiff1d(np.arange(table.num_rows), suspect))
        table = verdict.table
        if strict:
            known += verdict.findings.kept
            error_count += verdict.findings.count
            rejected = np.union1d(rejected, verdict.findings.rows)
        else:
            noted += verdict.findings.kept
            warning_count += verdict.findings.count
    return ValidationResult(
        contract=contract,
        accepted=_accepted(contract, table, rejected),
        rows=table.num_rows,
        errors=first_findings(errors, known),
        warnings=first_findings(warnings, noted),
        error_count=error_count,
        warning_count=warning_count,
        rejected=rejected.tolist(),
        rounded=typed.rounded,
        ignored_columns=typed.ignored_columns,
    )


def _count(found: list[Breach]) -> int:
    return sum(len(breach.rows) for breach in found)


def _accepted(contract: Contract, table: pa.Table, rejected: NDArray[np.int64]) -> pa.Table:
    columns = table.columns
    if len(rejected):
        keep = np.ones(table.num_rows, bool)
        keep[rejected] = False
        mask, rows = pa.array(keep), table.num_rows - len(rejected)
        columns = [
            pa.chunked_array([pa.nulls(rows, column.type)]) if column.null_count == len(column) else column.filter(mask)
            for column in columns
        ]
    return pa.Table.from_arrays(columns, schema=contract.schema)
