"""What a data type promises, as one frozen value compiled from its pydantic model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

    from buffetstore.expressions import Expression

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
class Contract:
    """A data type at one schema version.

    Parameters
    ----------
    data_type, version:
        `market_data`, `1.2.0`.
    model:
        The pydantic model: the source of truth for fields, types and constraints.
    schema:
        The Arrow schema compiled from the model; required fields are not nullable.
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
        Rules across columns; constraints of single fields are in the model.
    """

    data_type: str
    version: str
    model: type[Any]
    schema: pa.Schema
    key: tuple[str, ...]
    revisions: Revisions = "replace"
    event_time: str = "timestamp"
    availability: Literal["observed", "asserted"] = "asserted"
    symbol: str | None = "symbol"
    category: str = ""
    partition_by: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
