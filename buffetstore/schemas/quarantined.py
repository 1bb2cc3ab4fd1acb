"""The contract of refused rows: the data type ``<type>_quarantine`` beside each data type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from buffetstore.schemas.markers import Sensitivity
from buffetstore.schemas.record import Record, contract_of
from buffetstore.schemas.types import Timestamp

if TYPE_CHECKING:
    from buffetstore.schemas.arrow import FieldSpec
    from buffetstore.schemas.contract import Contract

SUFFIX = "_quarantine"
OPEN, REPLAYED, DISCARDED = "open", "replayed", "discarded"
Status = Literal["open", "replayed", "discarded"]


class Reason(BaseModel):
    """One thing that is wrong with a refused row."""

    model_config = ConfigDict(extra="forbid")

    field: Annotated[str, Field(description="The field.")]
    rule: Annotated[str, Field(description="The rule that it breaks.")]
    message: Annotated[str, Field(description="In words; without the values of confidential fields.")]


class Quarantined(
    Record,
    data_type="quarantine",
    version="1.0.0",
    key=("quarantine_id",),
    event_time="quarantined_at",
    symbol=None,
    category="quarantine",
):
    """A row that was refused, as it was given, with the reasons; mended rows are replayed, others discarded.

    `record` holds the row's own data, confidential columns too: who may not read the data type may not read this one.
    """

    quarantine_id: Annotated[str, Field(description="The day of the row's event time, and a digest of the row.")]
    data_type: Annotated[str, Field(description="What it was given as.")]
    schema_version: Annotated[str, Field(description="The contract's version that it was held against.")]
    quarantined_at: Annotated[Timestamp, Field(description="When it was refused.")]
    status: Annotated[Status, Field(description="Whether something has been done about it.")]
    field: Annotated[str, Field(description="Of the first reason.")]
    rule: Annotated[str, Field(description="Of the first reason.")]
    broken_rules: Annotated[list[str], Field(description="All rules that it breaks.")]
    reasons: Annotated[list[Reason], Field(description="All that is wrong with it.")]
    record: Annotated[str, Field(description="The row as it was given: JSON, values that JSON has not tagged.")]
    reading: Annotated[str, Field(description="How it was read: mapping, zone, constants, as JSON.")]
    record_index: Annotated[int, Field(description="Its place in the data that was given; 0 is the first.")]
    job: Annotated[str | None, Field(description="The job that gave it.")] = None
    inputs: Annotated[list[str], Field(description="What the data was made of.")]
    decided_at: Annotated[Timestamp | None, Field(description="When it was replayed or discarded.")] = None
    note: Annotated[str | None, Field(description="Why it was discarded; where its replay went.")] = None
    replay: Annotated[str | None, Field(description="The replay that took it up.")] = None


def quarantine_of(data_type: str) -> str:
    """Return the name of a data type's quarantine."""
    return f"{data_type}{SUFFIX}"


def quarantined_type(name: str) -> str | None:
    """Return the data type whose quarantine has this name; None where it is no such name.

    >>> quarantined_type("market_data_quarantine")
    'market_data'
    """
    return name.removesuffix(SUFFIX) if name.endswith(SUFFIX) and name != SUFFIX else None


def key_columns(contract: Contract) -> dict[str, str]:
    """Return for each key column of a contract the column of its quarantine that has its values as text."""
    return {name: f"key_{name}" if hasattr(Quarantined, name) or _is_own(name) else name for name in contract.key}


def _is_own(name: str) -> bool:
    return name in Quarantined.model_fields


def quarantine_contract(contract: Contract) -> Contract:
    """Return the contract of a data type's refused rows: `Quarantined`, and the key columns as text, to filter by."""
    secret = {spec.name: spec.sensitivity for spec in contract.fields if spec.sensitivity is not None}
    fields: dict[str, Any] = {
        column: (Annotated[str | None, *_marks(secret.get(name)), Field(description=f"The row's {name}.")], None)
        for name, column in key_columns(contract).items()
    }
    most = max(
        (level for spec in contract.fields for level in _levels(spec)), key=list(Sensitivity).index, default=None
    )
    fields["record"] = (Annotated[str, *_marks(most), Quarantined.model_fields["record"]], ...)
    name = quarantine_of(contract.data_type)
    description = f"Rows that {contract.data_type} refused, as they were given, with the reasons."
    made = create_model(
        "Quarantined", __base__=Quarantined, __cls_kwargs__={"data_type": name, "description": description}, **fields
    )
    return contract_of(made)


def _marks(sensitivity: Sensitivity | None) -> tuple[Sensitivity, ...]:
    return () if sensitivity is None else (sensitivity,)


def _levels(spec: FieldSpec) -> list[Sensitivity]:
    own = [] if spec.sensitivity is None else [spec.sensitivity]
    return [*own, *(level for child in spec.children for level in _levels(child))]
