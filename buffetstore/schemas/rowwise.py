"""What no kernel can run: validator functions of a user's model, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from buffetstore.resilience.threads import give_way
from buffetstore.schemas.arrow import fields_of, has_validators
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.record import OWN_VALIDATORS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract

CHUNK = 500  # rows at a time; other threads run in between (2,000 held the event loop up three times as long)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The table, with what the validators made of its values, and what they refused."""

    table: pa.Table
    findings: Findings


def needs_rows(contract: Contract) -> bool:
    """Tell whether the contract's model has validators of its own."""
    return has_validators(contract.model, but=OWN_VALIDATORS) or any(spec.custom for spec in fields_of(contract.model))


def validate_rows(contract: Contract, table: pa.Table, rows: NDArray[np.int64]) -> Verdict:
    """Run the model on these rows of the table."""
    findings = Findings()
    changed: dict[int, dict[str, Any]] = {}
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        for row, record in zip(some.tolist(), table.take(pa.array(some)).to_pylist(), strict=True):
            try:
                made = contract.model.model_validate(record).model_dump()
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    place = ".".join(map(str, detail["loc"])) or contract.key[0]
                    findings.add(place, detail["type"], _message(place, detail), row)
            else:
                if made != record:
                    changed[row] = made
        give_way()
    return Verdict(_with_rows(table, changed) if changed else table, findings)


def _message(place: str, detail: Any) -> str:
    value = detail.get("input")
    given = "" if isinstance(value, dict) else f" {str(value)[:80]}"
    return f"{place}{given}: {detail['msg']}"


def _with_rows(table: pa.Table, changed: dict[int, dict[str, Any]]) -> pa.Table:
    """Return the table with these rows in the place of its own."""
    places = np.arange(table.num_rows)
    places[list(changed)] = table.num_rows + np.arange(len(changed))
    made = [
        pa.Table.from_pylist(list(changed.values())[start : start + CHUNK], table.schema)
        for start in range(0, len(changed), CHUNK)
    ]
    return pa.concat_tables([table, *made]).take(pa.array(places)).combine_chunks()
