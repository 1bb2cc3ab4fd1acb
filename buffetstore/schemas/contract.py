"""What a data type promises, as one frozen value compiled from its pydantic model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from buffetstore.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    import pyarrow as pa

    from buffetstore.expressions import Expression
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.fill import Fill
    from buffetstore.schemas.quality_check import QualityCheck
    from buffetstore.schemas.upcasts import Upcast

CustomKind: TypeAlias = Literal["validator", "fill", "spelling", "upcast"]
Severity: TypeAlias = Literal["error", "warning"]
Revisions: TypeAlias = Literal["replace", "keep", "append"]
Granularity: TypeAlias = Literal["hour", "day", "month", "year"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule across columns of one row. It is broken where `holds` is false; unknown (null) passes.

    Parameters
    ----------
    name:
        The `error_type` of its findings, e.g. `low_above_open`.
    field:
        The column that a finding points at.
    holds:
        What must be true of the row.
    message:
        What is wrong, in words; `{column}` places are filled with the row's values.
    severity:
        `error` refuses the row, `warning` stores and counts it.
    """

    name: str
    field: str
    holds: Expression
    message: str
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class ServiceLevels:
    """What readers of a data type may rely on.

    Parameters
    ----------
    freshness:
        The newest row is never older than this.
    completeness:
        The share of the rows expected that are there, 0 to 1.
    """

    freshness: timedelta | None = None
    completeness: float | None = None

    def __post_init__(self) -> None:
        if self.freshness is not None and not self.freshness.total_seconds() > 0:
            raise ConfigurationError(f"freshness {self.freshness} is no time: write timedelta(hours=1)")
        if self.completeness is not None and not 0 <= self.completeness <= 1:
            raise ConfigurationError(f"completeness {self.completeness!r} is no share from 0 to 1: write 0.99")


@dataclass(frozen=True, slots=True, order=True)
class Custom:
    """Code of a record class that is no data: a stored contract names it, but cannot run it.

    Parameters
    ----------
    kind:
        What the code does: `validator`, `fill`, `spelling` or `upcast`.
    name:
        The function's name, or the annotation's.
    field:
        The field that it is of; empty where it is of the whole row.
    """

    kind: CustomKind
    name: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}" + (f" of field {self.field!r}" if self.field else "")


@dataclass(frozen=True, slots=True)
class Contract:
    """A data type at one schema version.

    All that validation needs is here as data: a contract that was stored judges rows without its class.

    Parameters
    ----------
    data_type, version:
        `market_data`, `1.2.0`.
    model:
        The record class that the contract was compiled from; None where it was loaded from its stored document.
    schema:
        The Arrow schema of the fields; required fields are not nullable.
    fields:
        What the annotations demand of each column, in the schema's order.
    key:
        The columns that identify a fact; rows are sorted by them in a file.
    revisions:
        `replace`: storing a key again replaces the row. `keep`: every revision stays. `append`: keys are not compared.
    event_time:
        The column whose time buckets lay out the files.
    availability:
        `observed`: `available_at` is stamped by the store. `asserted`: it is the vendor's word.
    symbol:
        The column whose value names a file that holds one symbol only; None keeps names opaque.
    category:
        The word for the data type in file names: `market`.
    partition_by:
        True Delta partition columns; empty (the default) means time buckets.
    rules:
        Rules across columns; constraints of single fields are in `fields`.
    fills:
        Steps that complete rows, in order, before they are checked.
    upcasts:
        How columns of older versions become this one's, where a cast does not do.
    custom:
        Code of the class that no kernel runs.
    sort_by:
        The order of rows in a file; the key by default.
    owner:
        Who answers for it: a team, an address.
    service_levels:
        What readers may rely on.
    quality:
        Checks beyond a row, which a storage evaluates.
    description:
        What a row is: the class's docstring.
    """

    data_type: str
    version: str
    model: type[Any] | None
    schema: pa.Schema
    fields: tuple[FieldSpec, ...]
    key: tuple[str, ...]
    revisions: Revisions = "replace"
    event_time: str = "timestamp"
    availability: Literal["observed", "asserted"] = "asserted"
    symbol: str | None = "symbol"
    category: str = ""
    partition_by: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    fills: tuple[Fill, ...] = ()
    upcasts: tuple[Upcast, ...] = ()
    custom: tuple[Custom, ...] = ()
    sort_by: tuple[str, ...] = ()
    owner: str | None = None
    service_levels: ServiceLevels = ServiceLevels()
    quality: tuple[QualityCheck, ...] = ()
    description: str = ""

    @property
    def unenforced(self) -> tuple[Custom, ...]:
        """What the contract's class would do and its stored document cannot: empty where the class is at hand."""
        return self.custom if self.model is None else ()
