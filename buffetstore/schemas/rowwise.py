"""What no kernel can run: validator functions of a user's model, row by row, on the columns that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from buffetstore.resilience.threads import give_way
from buffetstore.schemas.findings import Findings
from buffetstore.schemas.result import RowwiseRule
from buffetstore.schemas.validators import Part, parts_of
from buffetstore.schemas.values import UnfitValueError, converter, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from numpy.typing import NDArray

    from buffetstore.schemas.contract import Contract

    Rows = NDArray[np.int64]

CHUNK = 500  # rows at a time; other threads run in between (2,000 held the event loop up three times as long)
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The table, with what the validators made of its values, what they refused, and what that took."""

    table: pa.Table
    findings: Findings
    rules: tuple[RowwiseRule, ...]


def needs_rows(contract: Contract) -> bool:
    """Tell whether the contract's class is at hand and has validators of its own."""
    return contract.model is not None and any(custom.kind == "validator" for custom in contract.custom)


def validate_rows(
    contract: Contract, table: pa.Table, bad: Mapping[str, Rows], *, clock: Callable[[], float] = perf_counter
) -> Verdict:
    """Run the validators of the contract's class.

    Parameters
    ----------
    bad:
        For a column, the rows of which it is known that their value is wrong: no validator of the column sees them,
        and none of the whole row does.
    """
    assert contract.model is not None, "a stored contract has no validators to run"
    findings = Findings()
    rules = []
    for part in parts_of(cast("Hashable", contract.model)):
        start = clock()
        run = _Run(contract, part, bad, findings)
        table = run.over(table)
        rules.append(RowwiseRule(part.name, part.columns, run.rows, clock() - start))
    return Verdict(table, findings, tuple(rules))


class _Run:
    """One part of a model over a table."""

    def __init__(self, contract: Contract, part: Part, bad: Mapping[str, Rows], findings: Findings) -> None:
        self.rows = 0
        self._part = part
        self._key = contract.key[0]
        self._kinds = {name: converter(contract.schema.field(name).type) for name in part.columns}
        self._bad = {name: frozenset(rows.tolist()) for name, rows in bad.items() if name in part.columns}
        self._findings = findings

    def over(self, table: pa.Table) -> pa.Table:
        columns = list(self._part.columns)
        given = table.select(columns)
        changed: dict[int, dict[str, Any]] = {}
        for start in range(0, table.num_rows, CHUNK):
            for row, record in enumerate(given.slice(start, CHUNK).to_pylist(), start):
                wrong = {name for name, rows in self._bad.items() if row in rows}
                if wrong and not self._part.is_whole:
                    continue
                made = self._validated(record, row, wrong)
                if made is not None and made != record:
                    changed[row] = made
            give_way()
        for name in columns if changed else ():
            table = _replaced(table, name, {row: made[name] for row, made in changed.items()})
        return table

    def _validated(self, record: dict[str, Any], row: int, wrong: set[str]) -> dict[str, Any] | None:
        self.rows += 1
        try:
            made = self._part.model.model_validate(record).model_dump(warnings=False)
        except ValidationError as error:
            self._note(error, row, wrong)
            return None
        except Exception as error:  # noqa: BLE001 a user's function may raise anything; the row is refused, and it is said
            if not wrong:
                place = self._part.columns[0] if len(self._part.columns) == 1 else self._key
                message = f"{place}: {self._part.name} failed: {type(error).__name__}: {error}"
                self._findings.add(place, "validator_failed", message, row)
            return None
        if wrong:
            return None
        return record if made == record else self._fitted(made, row)

    def _note(self, error: ValidationError, row: int, wrong: set[str]) -> None:
        for detail in error.errors(include_url=False):
            if (str(detail["loc"][0]) in wrong) if detail["loc"] else wrong:
                continue  # said already, or a consequence of it
            place = ".".join(map(str, detail["loc"])) or self._key
            self._findings.add(place, detail["type"], _message(place, detail), row)

    def _fitted(self, made: dict[str, Any], row: int) -> dict[str, Any] | None:
        """Return what the validators made in the columns' types."""
        fitted = {}
        for name, convert in self._kinds.items():
            try:
                fitted[name] = convert(made[name])
            except UnfitValueError as error:
                message = f"{name}: {self._part.name} made of it what does not fit: {error}"
                self._findings.add(name, error.error_type, message, row)
                return None
        return fitted


def _message(place: str, detail: Any) -> str:
    value = detail.get("input")
    given = "" if isinstance(value, dict) else f" {shown(value)}"
    return f"{place}{given}: {detail['msg']}"


def _replaced(table: pa.Table, name: str, changed: dict[int, Any]) -> pa.Table:
    """Return the table with these values in the place of its own."""
    at = table.schema.get_field_index(name)
    field = table.schema.field(at)
    places = np.arange(table.num_rows)
    places[list(changed)] = table.num_rows + np.arange(len(changed))
    both = pa.chunked_array([*table[name].chunks, pa.array(changed.values(), field.type)])
    return table.set_column(at, field, both.take(pa.array(places)))
