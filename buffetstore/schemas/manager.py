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
from buffetstore.schemas.changes import diff
from buffetstore.schemas.checks import DUPLICATE_KEY, breaches, missing
from buffetstore.schemas.columns import Columns, constant, decoded, repeats_block
from buffetstore.schemas.compatibility import CompatibilityReport, Mode
from buffetstore.schemas.contract import Contract
from buffetstore.schemas.detail import Detail
from buffetstore.schemas.evolving import Schema, check_next, evolve
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.given import Given, Reading
from buffetstore.schemas.intake import TypedRows, take_in
from buffetstore.schemas.mapping import Mapping
from buffetstore.schemas.quarantined import quarantine_contract, quarantined_type
from buffetstore.schemas.record import Record, contract_of
from buffetstore.schemas.registry import BUILT_IN, Registry
from buffetstore.schemas.result import RowwiseRule, ValidationLevel, ValidationResult
from buffetstore.schemas.rowwise import needs_rows, validate_rows
from buffetstore.schemas.stored import load_contract
from buffetstore.schemas.withheld import root_of, withheld

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from buffetstore.schemas.change import Change

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
        self._quarantines: dict[str, tuple[Contract, Contract]] = {}

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

        Each data type has a quarantine, ``<data_type>_quarantine``, whose contract follows from its own.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            The message lists what is known, and what is nearest.
        """
        return self._quarantine(data_type) or self._registry.get(data_type, version)

    def data_types(self) -> list[str]:
        """Return the names of all data types, sorted."""
        return self._registry.data_types()

    def versions(self, data_type: str) -> list[str]:
        """Return the versions of a data type, oldest first."""
        quarantine = self._quarantine(data_type)
        return self._registry.versions(data_type) if quarantine is None else [quarantine.version]

    def diff(self, data_type: str, old_version: str, new_version: str | None = None) -> list[Change]:
        """Return what differs between two versions (the newer one by default the newest), in words and in effect.

        Raises
        ------
        UnknownDataTypeError, UnknownSchemaVersionError
            There is no such contract.
        """
        return diff(self.contract(data_type, old_version), self.contract(data_type, new_version))

    def check_compatibility(self, new_schema: Schema, mode: Mode | str = Mode.BACKWARD) -> CompatibilityReport:
        """Return whether a schema may follow the versions that are registered, and what stands against it.

        Parameters
        ----------
        new_schema:
            A record class, a `Contract`, or a contract's document.

        Raises
        ------
        InvalidInputError
            There is no such mode.
        CorruptFileError
            The document is no contract.
        """
        return check_next(self._registry, new_schema, mode)

    def evolve_schema(
        self,
        *,
        data_type: str,
        current_version: str,
        new_schema: Schema,
        new_version: str,
        mode: Mode | str = Mode.BACKWARD,
    ) -> Contract:
        """Register the next version of a data type, if it is compatible, and return its contract.

        It is this program that knows the version from then on. The first rows that are stored in it register it with
        the data, where the table's own mode judges it again; ``await storage.registry.evolve(...)``, which takes the
        same words with who and why, does so at once and for everybody.

        Parameters
        ----------
        current_version:
            The newest version, which the new one was made from.
        new_schema:
            A record class, a `Contract`, or a contract's document; it states `data_type` and `new_version`.
        mode:
            What must hold between old and new; ``'NONE'`` lets any change pass, with the version that it needs.

        Raises
        ------
        IncompatibleSchemaError
            The schema breaks what the mode promises, or its version says too little; `reasons` lists why.
        InvalidInputError
            It is of another data type, or states another version.
        ConflictError
            There is a newer version than `current_version` by now.
        UnknownDataTypeError, UnknownSchemaVersionError
            There is no such current version.
        """
        return evolve(
            self._registry, data_type, current_version=current_version, new=new_schema, version=new_version, mode=mode
        )

    def register_stored(self, stored: Contract | bytes | str | dict[str, Any], *, found: bool = False) -> Contract:
        """Add a version that this code has no class of, from its document, and return what is registered.

        Parameters
        ----------
        found:
            It was met in a store: rows are not written in it unless that is asked for by `version`, as long as there
            are versions of the data type that were chosen.

        Raises
        ------
        CorruptFileError
            The document is no contract.
        ConfigurationError
            The version is registered already and demands something else.
        """
        contract = stored if isinstance(stored, Contract) else load_contract(stored)
        return self._registry.add_stored(contract, found=found)

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
        if isinstance(data, pa.RecordBatchReader):  # which can be read once only
            data = data.read_all()
        reading = Reading(_mapping(mapping, tz, constants), extra, available_at, wanted.value)
        began = now or datetime.now(UTC)
        typed = take_in(data, contract, mapping=reading.mapping, extra=extra, available_at=available_at, now=began)
        return judge(contract, typed, wanted, Given(data, reading))

    def _quarantine(self, data_type: str) -> Contract | None:
        """Return the contract of a data type's refused rows; None where the name is of something else."""
        base = quarantined_type(data_type)
        if base is None or data_type in self._registry.data_types():
            return None
        contract = self._registry.get(base)
        known = self._quarantines.get(data_type)
        if known is None or known[0] is not contract:
            known = self._quarantines[data_type] = (contract, quarantine_contract(contract))
        return known[1]

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
    if type(data).__name__ == "LazyFrame":  # to name its columns would run half of it
        return []
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


def judge(contract: Contract, typed: TypedRows, level: ValidationLevel, given: Given | None = None) -> ValidationResult:
    """Check typed rows against the contract's rules.

    Parameters
    ----------
    given:
        What the rows were read from.
    """
    by_row = level is not ValidationLevel.DISABLED and needs_rows(contract)
    table = decoded(typed.table) if by_row else typed.table
    found = _found(contract, typed, table, level)
    refused, rules = Findings(), tuple[RowwiseRule, ...]()
    if by_row:
        verdict = validate_rows(contract, table, _bad_values(contract, typed, found))
        refused, rules = verdict.findings, verdict.rules
        if verdict.table is not table:  # what validators made of the values is held to the rules again
            table = verdict.table
            found = _found(contract, typed, table, level)
    strict = level is ValidationLevel.STRICT
    errors = [breach for breach in found if breach.structural or (strict and breach.severity == "error")]
    warnings = [breach for breach in found if breach not in errors]
    rejected = rows_of(errors, typed.rejected)
    known, noted = list(typed.errors), list(typed.warnings)
    (known if strict else noted).extend(refused.kept)
    if strict:
        rejected = np.union1d(rejected, refused.rows)
    detail = None
    if found or refused.count or typed.error_count or typed.warning_count:
        first: list[Breach | Findings] = [*errors, typed.error_findings]
        second: list[Breach | Findings] = [*warnings, typed.warning_findings]
        (first if strict else second).append(refused)
        keys = decoded(table.select(list(dict.fromkeys((*contract.key, contract.event_time)))).take(pa.array(rejected)))
        detail = Detail(contract, first, second, rejected, given=given if len(rejected) else None, keys=keys)
    return ValidationResult(
        contract=contract,
        encoded=_accepted(table, rejected),
        rows=table.num_rows,
        errors=withheld(contract, first_findings(errors, known)),
        warnings=withheld(contract, first_findings(warnings, noted)),
        error_count=typed.error_count + _count(errors) + strict * refused.count,
        warning_count=typed.warning_count + _count(warnings) + (not strict) * refused.count,
        rejected=rejected.tolist(),
        rounded=typed.rounded,
        ignored_columns=typed.ignored_columns,
        rowwise=rules,
        detail=detail,
    )


def _found(contract: Contract, typed: TypedRows, table: pa.Table, level: ValidationLevel) -> list[Breach]:
    found = list(missing(contract, table, typed.misfits))
    if level is not ValidationLevel.DISABLED:
        found += breaches(contract, Columns(table, typed.ranges))
    return found


def _bad_values(contract: Contract, typed: TypedRows, found: list[Breach]) -> dict[str, NDArray[np.int64]]:
    """Return for each column the rows whose value is wrong by itself."""
    across = {rule.name for rule in contract.rules} | {DUPLICATE_KEY}
    rows: dict[str, list[NDArray[np.int64]]] = {name: [misfits] for name, misfits in typed.misfits.items()}
    for breach in found:
        if breach.error_type not in across:
            rows.setdefault(root_of(breach.field), []).append(breach.rows)
    return {name: np.unique(np.concatenate(parts)) for name, parts in rows.items()}


def _count(found: list[Breach]) -> int:
    return sum(len(breach.rows) for breach in found)


def _accepted(table: pa.Table, rejected: NDArray[np.int64]) -> pa.Table:
    if not len(rejected):
        return table
    keep = np.ones(table.num_rows, bool)
    keep[rejected] = False
    mask, rows = pa.array(keep), table.num_rows - len(rejected)
    columns = [
        constant(column[0], rows) if _is_one_value(column) else column.filter(mask) for column in table.itercolumns()
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _is_one_value(column: pa.ChunkedArray) -> bool:
    return column.null_count == len(column) or (repeats_block(column) and len(column.chunk(0).unique()) == 1)
